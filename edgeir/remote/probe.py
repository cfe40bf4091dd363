"""What a device is, from the words that `edgeir.remote.probe_script` brings back."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import resources
from typing import Any

from edgeir.errors import MissingDependency
from edgeir.remote.connection import Connection, RemoteFailed
from edgeir.runtime.board_jetson import JETPACK_OF_L4T, parse_driver, parse_l4t, parse_power_mode
from edgeir.runtime.board_nvidia_smi import GpuReading, parse_nvidia_smi
from edgeir.runtime.power_tegrastats import parse_tegrastats

OLDEST_PYTHON = (3, 10)
_PRETTY_NAME = re.compile(r'^PRETTY_NAME="?([^"\n]*)"?$', re.MULTILINE)
_MEMORY = re.compile(r"^MemTotal:\s+(\d+) kB$", re.MULTILINE)
_VERSION = re.compile(r"\d+(?:\.\d+)+")


@dataclass(frozen=True, slots=True)
class Probe:
    """A device, as far as it says; ``None`` and empty where it does not.

    Attributes:
        python: the interpreter that answered.
        python_version: its version.
        venv: it can make virtual environments with pip in them.
        root: where edgeir keeps its things there.
        free_bytes: free on that disk, for this user.
        machine: instruction set (``"aarch64"``).
        system: ``"Linux"``.
        distribution: ``"Ubuntu 22.04.5 LTS"``.
        processors: logical ones.
        memory_bytes: main memory.
        model: of the board, by its device tree.
        l4t: release of Jetson Linux.
        jetpack: the JetPack that brought it.
        power_mode: name of the nvpmodel mode.
        driver: version of NVIDIA's kernel module.
        gpus: what nvidia-smi tells.
        gpu_mhz: clock of a Tegra's GPU at that moment.
        temperatures_c: degrees Celsius by sensor of a Tegra.
        tensorrt: version that this Python can import, else of the library that is installed.
        tensorrt_in_python: it can be imported.
        tensorrt_rtx: version of TensorRT-RTX that this Python sees.
        programs: of interest, those that are there.
    """

    python: str
    python_version: str
    venv: bool
    root: str
    free_bytes: int
    machine: str
    system: str
    distribution: str | None
    processors: int | None
    memory_bytes: int | None
    model: str | None
    l4t: str | None
    jetpack: str | None
    power_mode: str | None
    driver: str | None
    gpus: tuple[GpuReading, ...]
    gpu_mhz: int | None
    temperatures_c: Mapping[str, float]
    tensorrt: str | None
    tensorrt_in_python: bool
    tensorrt_rtx: str | None
    programs: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return asdict(self)

    @property
    def title(self) -> str:
        """One line: board, memory, JetPack, GPU."""
        parts = [self.model or self.distribution or self.system, self.machine]
        if self.memory_bytes:
            parts.append(f"{self.memory_bytes / 2**30:.0f} GiB")
        if self.l4t:
            parts.append(f"JetPack {self.jetpack} (L4T {self.l4t})" if self.jetpack else f"L4T {self.l4t}")
        parts += [gpu.name for gpu in self.gpus if not self.l4t]
        return ", ".join(parts)


def probe(connection: Connection, *, python: str = "python3", folder: str | None = None) -> Probe:
    """Ask a device what it is; nothing has to be installed there but a Python.

    Args:
        connection: to it.
        python: program there.
        folder: where edgeir shall keep its things, ``None`` for ``~/.local/share/edgeir``.

    Raises:
        Unreachable: see `Connection.run`.
        MissingDependency: there is no such Python, or the device is not a POSIX one.
    """
    source = resources.files("edgeir.remote").joinpath("probe_script.py").read_text(encoding="utf-8")
    try:
        words = connection.script(python, source, {"folder": folder}, timeout_s=60)
    except RemoteFailed as failed:
        raise no_python(connection, python, failed) from failed
    for key in ("root", "python") if words["system"] != "Windows" else ():  # that is refused later
        absolute(str(words[key]), name=connection.device.name)
    return read_probe(words)


def absolute(path: str, *, name: str) -> str:
    """``path`` of a device, if it is one that can be used in commands and shown.

    Raises:
        MissingDependency: it is not absolute, or holds what cannot be printed.
    """
    if not path.startswith("/") or not path.isprintable() or ".." in path.split("/"):
        raise MissingDependency(
            "the device names a folder that is none", where=name, expected="an absolute path", got=repr(path)
        )
    return path


def no_python(connection: Connection, python: str, failed: RemoteFailed) -> MissingDependency:
    """The error for a device whose Python did not run a script."""
    got = (failed.errors.strip().splitlines() or [f"exit status {failed.code}"])[-1].strip()
    if failed.code in (126, 127) or "not recognized" in failed.errors:
        return MissingDependency(
            f"the device has no program '{python}'",
            where=connection.device.name,
            got=got,
            fix="Install it there (sudo apt install python3 python3-venv), or name another with --python.",
        )
    return MissingDependency(f"'{python}' does not run there", where=connection.device.name, got=got)


def read_probe(words: Mapping[str, Any]) -> Probe:
    """Make sense of the answer of the script.

    Args:
        words: what `edgeir.remote.probe_script.collect` gives.
    """
    l4t = parse_l4t(str(words["nv_tegra_release"]))
    stats = parse_tegrastats(str(words["tegrastats"]))
    library = _VERSION.search(str(words["libnvinfer"]))
    memory = _MEMORY.search(str(words["meminfo"]))
    name = _PRETTY_NAME.search(str(words["os_release"]))
    return Probe(
        python=str(words["python"]),
        python_version=str(words["python_version"]),
        venv=bool(words["venv"]),
        root=str(words["root"]),
        free_bytes=int(words["free_bytes"]),
        machine=str(words["machine"]),
        system=str(words["system"]),
        distribution=name[1] if name else None,
        processors=words["processors"],
        memory_bytes=int(memory[1]) * 1024 if memory else None,
        model=str(words["model"]) or None,
        l4t=l4t,
        jetpack=JETPACK_OF_L4T.get(l4t or ""),
        power_mode=parse_power_mode(str(words["nvpmodel"])),
        driver=parse_driver(str(words["nvidia_version"])),
        gpus=parse_nvidia_smi(str(words["nvidia_smi"])),
        gpu_mhz=max(stats.gpu_mhz, default=None) if stats else None,
        temperatures_c=dict(stats.temperatures_c) if stats else {},
        tensorrt=str(words["tensorrt"]) or (library[0] if library else None),
        tensorrt_in_python=bool(words["tensorrt"]),
        tensorrt_rtx=str(words["tensorrt_rtx"]) or None,
        programs=tuple(words["programs"]),
    )


def require_usable(found: Probe, *, name: str) -> None:
    """Raise unless edgeir can be installed on a device.

    Raises:
        MissingDependency: its Python is too old or cannot make environments, or the system is not a POSIX one.
    """
    version = tuple(int(part) for part in found.python_version.split(".")[:2])
    oldest = ".".join(map(str, OLDEST_PYTHON))
    if version < OLDEST_PYTHON:
        raise MissingDependency(
            "the device's Python is too old",
            where=name,
            expected=f"{oldest} or later",
            got=found.python_version,
            fix="Name a newer one with --python; JetPack 6 and later bring one.",
        )
    if found.system == "Windows":
        raise MissingDependency("the device runs Windows", where=name, expected="Linux", fix="Use WSL 2 there.")
    if not found.venv:
        raise MissingDependency(
            "the device's Python cannot make virtual environments",
            where=name,
            fix="Install what is missing there: sudo apt install python3-venv.",
        )
