"""What a device says of itself: this file is sent to any Python 3.7 or later there, before edgeir is installed.

It only collects words, with the standard library; `edgeir.remote.probe` makes sense of them where they arrive. Its one
argument is ``{"nonce": ..., "arguments": {"folder": ...}}``, its answer one line.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys

QUERY = "name,driver_version,memory.total,temperature.gpu,power.draw,clocks.sm"
PROGRAMS = ("nvcc", "cmake", "trtexec", "nvpmodel", "jetson_clocks", "tegrastats", "nvidia-smi")
FOLDERS = "/usr/local/cuda/bin:/usr/src/tensorrt/bin:/usr/sbin:/sbin:/usr/bin:/bin"


def read(path: str) -> str:
    """Text of a small file, ``""`` where there is none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:  # noqa: PTH123
            return file.read(1 << 16)
    except OSError:
        return ""


def said(*command: str) -> str:
    """What a program prints within five seconds, ``""`` where it fails."""
    program = shutil.which(command[0]) or shutil.which(command[0], path=FOLDERS)
    if program is None:
        return ""
    try:
        done = subprocess.run(
            [program, *command[1:]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else ""


def first_line(*command: str) -> str:
    """The first line that a program prints which never ends by itself."""
    program = shutil.which(command[0]) or shutil.which(command[0], path=FOLDERS)
    if program is None:
        return ""
    try:
        process = subprocess.Popen([program, *command[1:]], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    except OSError:
        return ""
    import threading

    watch = threading.Timer(5, process.kill)
    watch.start()
    try:
        line = process.stdout.readline() if process.stdout else b""
    finally:
        watch.cancel()
        process.kill()
        process.wait()
    return line.decode("utf-8", "replace")


def can_import(name: str) -> bool:
    """Whether this Python has a module."""
    import importlib.util

    return importlib.util.find_spec(name) is not None


def version_of(*names: str) -> str:
    """Version of the first of these distributions that this Python sees."""
    try:
        from importlib import metadata
    except ImportError:
        return ""
    for name in names:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return ""


def existing(folder: str) -> str:
    """The folder, or the nearest one above it that exists."""
    while not os.path.isdir(folder) and os.path.dirname(folder) != folder:  # noqa: PTH112, PTH120
        folder = os.path.dirname(folder)  # noqa: PTH120
    return folder


def collect(folder: str | None) -> dict[str, object]:
    """Everything, as words and numbers."""
    data = os.environ.get("XDG_DATA_HOME") or os.path.join(os.path.expanduser("~"), ".local", "share")  # noqa: PTH111, PTH118
    root = os.path.abspath(os.path.expanduser(folder or os.path.join(data, "edgeir")))  # noqa: PTH100, PTH111, PTH118
    query = ["--format=csv,noheader,nounits", "--query-gpu=" + QUERY]
    return {
        "python": sys.executable,
        "python_version": platform.python_version(),
        "venv": can_import("venv") and can_import("ensurepip"),
        "root": root,
        "free_bytes": shutil.disk_usage(existing(root)).free,
        "machine": platform.machine(),
        "system": platform.system(),
        "libc": " ".join(platform.libc_ver()),
        "processors": os.cpu_count(),
        "os_release": read("/etc/os-release"),
        "meminfo": read("/proc/meminfo"),
        "model": read("/proc/device-tree/model").strip("\0 \n"),
        "nv_tegra_release": read("/etc/nv_tegra_release"),
        "nvidia_version": read("/proc/driver/nvidia/version"),
        "nvpmodel": said("nvpmodel", "-q"),
        "tegrastats": first_line("tegrastats", "--interval", "500"),
        "nvidia_smi": said("nvidia-smi", *query),
        "tensorrt": version_of("tensorrt", "tensorrt-cu13", "tensorrt-cu12"),
        "tensorrt_rtx": version_of("tensorrt-rtx-cu13", "tensorrt-rtx-cu12", "tensorrt-rtx"),
        "libnvinfer": said("dpkg-query", "-W", "-f", "${Version}\n", "libnvinfer10", "libnvinfer8"),
        "programs": [name for name in PROGRAMS if shutil.which(name) or shutil.which(name, path=FOLDERS)],
    }


if __name__ == "__main__":
    request = json.loads(sys.argv[1])
    answer = collect(request["arguments"].get("folder"))
    sys.stdout.write("\nedgeir-answer:%s %s\n" % (request["nonce"], json.dumps(answer)))  # noqa: UP031
