"""Commands on a device that outlive the connection they were started through: one folder each, below ``jobs/``.

::

    jobs/KEY/job.json    what runs, and a token that tells one start from the next
             lock        held (flock) by the process that watches over the command: alive or not, whatever its number
             pid         of the command's process group, to end it by hand
             log         its stderr, which is its progress            out     its stdout, which is its result
             exit        its exit code, written last                  taken   somebody has had the result

A job that runs is attached to, one that ended and was not taken is taken, anything else is started.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from edgeir.storage import atomic_write_bytes
from edgeir.subprocesses import run_module

KEPT_JOBS = 20
_POLL_S = 0.2
_STARTS_WITHIN_S = 20.0
_LOG_BLOCK = 1 << 16


def start(root: Path, *, key: str, command: Sequence[str], fresh: bool = False) -> dict[str, Any]:
    """Start a command, or find it started.

    Args:
        root: edgeir's folder.
        key: what makes two calls the same; a folder name.
        command: program and arguments.
        fresh: start anew unless it is running.

    Returns:
        ``token`` of the job, and ``found``: ``"started"``, ``"running"`` or ``"ended"``.
    """
    folder = root / "jobs" / key
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _alone(folder.parent):
        over = (folder / "exit").is_file()  # what watched over it may take a moment more to be gone
        if not over and is_running(folder):
            return {"token": _token(folder), "found": "running"}
        if not fresh and over and not (folder / "taken").exists():
            return {"token": _token(folder), "found": "ended"}
        _prune(folder.parent)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        token = secrets.token_hex(8)
        (folder / "log").touch()
        atomic_write_bytes(folder / "job.json", json.dumps({"token": token, "command": list(command)}).encode())
        words = json.dumps({"nonce": token, "root": str(root), "key": key})
        subprocess.Popen(
            [sys.executable, "-c", run_module("edgeir.remote.board"), "supervise", words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # the end of the connection ends nothing of it
            cwd=root,
        )
        deadline = time.monotonic() + _STARTS_WITHIN_S
        while not is_running(folder) and not (folder / "exit").is_file() and time.monotonic() < deadline:
            time.sleep(0.02)
    return {"token": token, "found": "started"}


def supervise(root: Path, *, key: str) -> dict[str, Any]:
    """Run the command of a job and write down how it ended; runs detached, see `start`."""
    folder = root / "jobs" / key
    handle = os.open(folder / "lock", os.O_CREAT | os.O_RDWR, 0o600)
    fcntl.flock(handle, fcntl.LOCK_EX)
    command = json.loads((folder / "job.json").read_text(encoding="utf-8"))["command"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "NO_COLOR": "1"}
    with (folder / "out").open("wb") as out, (folder / "log").open("ab") as log:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=log,
                env=environment,
                cwd=root,
                start_new_session=True,
            )
        except OSError as error:
            log.write(f"edgeir: {error}\n".encode())
            code = 127
        else:
            with contextlib.suppress(OSError):  # a full disk must not end the command
                (folder / "pid").write_text(f"{process.pid}\n", encoding="utf-8")
            code = process.wait()
    with contextlib.suppress(OSError, Exception):
        atomic_write_bytes(folder / "exit", f"{code}\n".encode())
    os.close(handle)
    return {}


def follow(root: Path, *, key: str, token: str, offset: int) -> dict[str, Any]:
    """Print the log from a byte on as it grows, until the job ends.

    Returns:
        ``state``: ``"ended"`` with ``exit``; ``"died"``: its processes are gone and left no exit code, as after a
        power cut; ``"another"``: the folder holds another job by now.
    """
    folder = root / "jobs" / key
    position = offset
    while True:
        # Asked before the log is read: what was written before the end is then read below.
        over, alive = (folder / "exit").is_file(), is_running(folder)
        if _token(folder) != token:
            return {"state": "another"}
        with (folder / "log").open("rb") as log:
            log.seek(position)
            while block := log.read(_LOG_BLOCK):
                sys.stdout.buffer.write(block)
                position += len(block)
        try:
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            return {"state": "another"}
        if over:
            return {"state": "ended", "exit": int((folder / "exit").read_text(encoding="utf-8"))}
        if not alive:
            return {"state": "died"}
        time.sleep(_POLL_S)


def take(root: Path, *, key: str, token: str, limit_bytes: int = 32 << 20) -> dict[str, Any]:
    """The stdout of a job that ended; it counts as taken from then on."""
    folder = root / "jobs" / key
    if _token(folder) != token:
        return {"output": ""}
    with (folder / "out").open("rb") as out:
        output = out.read(limit_bytes).decode("utf-8", "replace")
    with contextlib.suppress(OSError):
        (folder / "taken").touch()
    return {"output": output}


def results(root: Path, *, prefix: str, limit_bytes: int = 32 << 20) -> dict[str, Any]:
    """The stdout of the job that ended well last, of those whose key begins with ``prefix``; ``None`` without one."""
    ended = [path for path in (root / "jobs").glob("*/exit") if path.parent.name.startswith(prefix)]
    well = [path for path in ended if path.read_text(encoding="utf-8").strip() == "0"]
    if not well:
        return {"output": None}
    last = max(well, key=lambda path: path.stat().st_mtime_ns)
    with (last.parent / "out").open("rb") as out:
        return {"output": out.read(limit_bytes).decode("utf-8", "replace")}


def is_running(folder: Path) -> bool:
    """Whether a process watches over the command of this job."""
    try:
        handle = os.open(folder / "lock", os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


def _token(folder: Path) -> str:
    try:
        return str(json.loads((folder / "job.json").read_text(encoding="utf-8"))["token"])
    except (OSError, ValueError, KeyError):
        return ""


@contextlib.contextmanager
def _alone(jobs: Path) -> Iterator[None]:
    """Two calls at once must not start the same job twice."""
    handle = os.open(jobs / ".lock", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _prune(jobs: Path) -> None:
    """Forget the oldest jobs that ended."""
    ended = [folder for folder in jobs.iterdir() if (folder / "exit").is_file()]
    ended.sort(key=lambda folder: (folder / "exit").stat().st_mtime)
    for folder in ended[: max(len(ended) - KEPT_JOBS + 1, 0)]:
        shutil.rmtree(folder, ignore_errors=True)
