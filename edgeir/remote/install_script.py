"""Making edgeir's environment on a device: this file is sent to the Python there, see `edgeir.remote.install`.

An environment is made under a name of its own and counts once its file ``ready`` is written: what a broken connection
or a full disk leaves is removed and made anew. When a connection breaks, pip goes on: whoever installs holds
``envs/.lock``, and a second one is told so. Progress goes to stderr, the answer is one line.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

READY = "ready"
LOCK = ".lock"
FULL = ("No space left on device", "Disk quota exceeded", "File too large")


def install_alone(given: dict[str, Any]) -> dict[str, object]:
    """`install`, and the removal of what is old, by nobody else at the same time."""
    import fcntl

    envs = Path(given["root"]) / "envs"
    try:
        envs.mkdir(parents=True, exist_ok=True)
        with (envs / LOCK).open("wb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return {"busy": True}
            answer = install(**given)
            if "python" in answer:
                forget_others(given["root"], given["name"])
            return answer
    except OSError as error:
        return {"words": str(error), "full": error.errno in (errno.ENOSPC, errno.EDQUOT)}


def install(
    root: str,
    name: str,
    wheel: str,
    extras: str,
    requirements: list[str],
    wheels: str | None,
    system: bool,
    again: bool,
) -> dict[str, object]:
    """Make ``root/envs/name`` with ``wheel`` and ``requirements`` in it; says what went wrong in a dict."""
    folder = Path(root) / "envs" / name
    python = folder / "bin" / "python"
    if (folder / READY).is_file() and not again:
        return {"python": str(python), "made": False}
    if (folder / READY).is_file() and a_job_runs(root):
        return {"working": True}
    shutil.rmtree(str(folder), ignore_errors=True)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        words = run([sys.executable, "-m", "venv", *(["--system-site-packages"] if system else []), str(folder)])
        pip = [str(python), "-m", "pip", "--disable-pip-version-check", "--no-input", "install"]
        if wheels:
            pip += ["--no-index", "--find-links", str(Path(root) / wheels)]
        # What the system's packages hold of edgeir must not stand in for the one that was sent.
        words = words or run([*pip, "--no-deps", "--force-reinstall", str(Path(root) / wheel)])
        words = words or run([*pip, str(Path(root) / wheel) + extras, *requirements])
        if not words:
            (folder / READY).write_text("")
            return {"python": str(python), "made": True}
    except OSError as error:
        words = str(error)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            words = FULL[0]
    shutil.rmtree(str(folder), ignore_errors=True)
    return {"words": words, "full": any(text in words for text in FULL)}


def run(command: list[str]) -> str:
    """Run a program; ``""``, or the end of what it said where it failed."""
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    text = done.stdout.decode("utf-8", "replace").strip()
    if done.returncode == 0:
        return ""
    errors = [line for line in text.splitlines() if "ERROR" in line or any(full in line for full in FULL)]
    return " | ".join(errors[:3] or text.splitlines()[-1:] or ["it said nothing"])


def forget_others(root: str, name: str) -> None:
    """Remove the wheels, and environments of earlier installations unless a job still runs in one."""
    shutil.rmtree(str(Path(root) / "wheels"), ignore_errors=True)
    if a_job_runs(root):
        return
    for path in (Path(root) / "envs").iterdir():
        if path.name not in (name, LOCK):
            shutil.rmtree(str(path), ignore_errors=True)


def a_job_runs(root: str) -> bool:
    """Whether one of the environments is in use."""
    return any(is_held(lock) for lock in Path(root).glob("jobs/*/lock"))


def is_held(lock: Path) -> bool:
    """Whether a job holds its lock, see `edgeir.remote.board_jobs`."""
    import fcntl

    try:
        with lock.open("rb+") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    return False


if __name__ == "__main__":
    request = json.loads(sys.argv[1])
    os.umask(0o077)
    answer = install_alone(request["arguments"])
    sys.stdout.write("\nedgeir-answer:%s %s\n" % (request["nonce"], json.dumps(answer)))  # noqa: UP031
