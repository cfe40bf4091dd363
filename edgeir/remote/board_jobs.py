"""Commands on a device that outlive the connection they were started through: one folder each, below ``jobs/``.

::

    jobs/KEY/job.json    what runs, its number, and a token that tells one start from the next
             lock        held (flock) by the process that watches over the command: alive or not, whatever its number
             pid         of the command's process group
             log         its stderr, which is its progress            out     its stdout, which is its result
             ending      room for the exit code, so that a full disk cannot swallow it
             exit        its exit code, written last                  taken   somebody has had the result
             stop        somebody asked for its end

A job that runs is attached to, one that ended and was not taken is taken, anything else is started. Which job was the
later one is told by their numbers: boards without a battery do not know what time it is.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgeir.errors import UsageError
from edgeir.storage import alone, atomic_write_bytes
from edgeir.subprocesses import run_module

KEPT_JOBS = 20
KEPT_S = 7 * 24 * 3600.0
_POLL_S = 0.2
_STOP_POLL_S = 0.5
_ENDS_WITHIN_S = 10.0
_LOG_BLOCK = 1 << 16
_EXIT_BYTES = 16
_KEY = re.compile(r"(build|bench|run)-(.+)-[0-9a-f]{8}-[0-9a-f]{8,12}")


def start(root: Path, *, key: str, command: Sequence[str]) -> dict[str, Any]:
    """Start a command, or find it started.

    Args:
        root: edgeir's folder.
        key: what makes two calls the same; a folder name.
        command: program and arguments.

    Returns:
        ``token`` of the job, and ``found``: ``"started"``, ``"running"`` or ``"ended"``.
    """
    jobs = root / "jobs"
    folder = jobs / key
    jobs.mkdir(parents=True, exist_ok=True)
    with alone(jobs / ".lock"):  # two calls at once must not start the same job twice
        if is_running(folder) and not (folder / "exit").is_file():
            return {"token": _token(folder), "found": "running"}
        if (folder / "exit").is_file() and not (folder / "taken").exists() and not (folder / "stop").exists():
            return {"token": _token(folder), "found": "ended"}
        number = 1 + max(map(_number, jobs.iterdir()), default=0)
        _prune(root, key)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        token = secrets.token_hex(8)
        (folder / "log").touch()
        told = {"token": token, "command": list(command), "number": number}
        atomic_write_bytes(folder / "job.json", json.dumps(told).encode())
        # Held from now on and handed over, so that nobody sees a moment in which nobody watches over the job.
        lock = os.open(folder / "lock", os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            words = json.dumps({"nonce": token, "root": str(root), "key": key, "lock": lock})
            subprocess.Popen(
                [sys.executable, "-c", run_module("edgeir.remote.board"), "supervise", words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # the end of the connection ends nothing of it
                cwd=root,
                pass_fds=(lock,),
            )
        finally:
            os.close(lock)
    return {"token": token, "found": "started"}


def supervise(root: Path, *, key: str, lock: int) -> dict[str, Any]:
    """Run the command of a job and write down how it ended; runs detached and holds ``lock`` until then."""
    folder = root / "jobs" / key
    fcntl.flock(lock, fcntl.LOCK_EX)  # on NFS it is not handed over; elsewhere this changes nothing
    os.set_inheritable(lock, False)  # the command may leave processes behind: they are not the job
    command = json.loads((folder / "job.json").read_text(encoding="utf-8"))["command"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "NO_COLOR": "1"}
    with (folder / "out").open("wb") as out, (folder / "log").open("ab") as log:
        try:
            _write_whole(folder / "ending", b" " * _EXIT_BYTES)
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
            with contextlib.suppress(OSError):
                log.write(f"edgeir: {error}\n".encode())
            code = 127
        else:
            with contextlib.suppress(OSError):  # a full disk must not end the command
                (folder / "pid").write_text(f"{process.pid}\n", encoding="utf-8")
            code = _watched(process, folder / "stop")
    with contextlib.suppress(OSError):
        _write_whole(folder / "ending", f"{code}".ljust(_EXIT_BYTES - 1).encode() + b"\n")
        (folder / "ending").rename(folder / "exit")
    os.close(lock)
    return {}


def follow(root: Path, *, key: str, token: str, offset: int) -> dict[str, Any]:
    """Print the log from a byte on as it grows, until the job ends.

    Returns:
        ``state``: ``"ended"`` with ``exit``; ``"stopped"``, see `stop`; ``"died"``: its processes are gone and left
        no exit code, as after a power cut, with ``free_bytes`` of the disk; ``"another"``: the folder holds another
        job by now.
    """
    folder = root / "jobs" / key
    position = offset
    while True:
        # In this order: who held the lock let go of it after the end was written. And both before the log is read:
        # what was written before the end is then read below.
        alive = is_running(folder)
        over = (folder / "exit").is_file()
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
        if over and (code := _exit(folder)) is not None:
            stopped = code != 0 and (folder / "stop").exists()
            return {"state": "stopped"} if stopped else {"state": "ended", "exit": code}
        if not alive:
            return {"state": "died", "free_bytes": shutil.disk_usage(root).free}
        time.sleep(_POLL_S)


def read(root: Path, *, key: str, token: str, limit_bytes: int = 32 << 20) -> dict[str, Any]:
    """The stdout of a job that ended; ``None`` if another took its place."""
    folder = root / "jobs" / key
    if _token(folder) != token:
        return {"output": None}
    with (folder / "out").open("rb") as out:
        return {"output": out.read(limit_bytes).decode("utf-8", "replace")}


def mark(root: Path, *, key: str, token: str) -> dict[str, Any]:
    """Count the result of a job as taken: the same command starts anew from then on."""
    folder = root / "jobs" / key
    if _token(folder) == token:
        with contextlib.suppress(OSError):
            (folder / "taken").touch()
    return {}


def results(root: Path, *, prefix: str, limit_bytes: int = 32 << 20) -> dict[str, Any]:
    """The stdout of the latest job that ended well, of those whose key begins with ``prefix``.

    Returns:
        ``output``, ``None`` without one; ``key`` and ``command`` of the job; ``id``: this folder's own word.
    """
    ended = [path.parent for path in (root / "jobs").glob("*/exit") if path.parent.name.startswith(prefix)]
    well = [folder for folder in ended if _exit(folder) == 0]
    if not well:
        return {"output": None}
    last = max(well, key=_number)
    with (last / "out").open("rb") as out:
        output = out.read(limit_bytes).decode("utf-8", "replace")
    return {"output": output, "key": last.name, "command": _told(last).get("command", []), "id": _identity(root)}


def running(root: Path, *, name: str | None = None) -> dict[str, Any]:
    """Jobs that run: ``jobs``, a list of ``key`` and ``command``; those of the bundle called ``name``, if given."""
    found = []
    for folder in sorted((root / "jobs").glob("*/")):
        of = _KEY.fullmatch(folder.name)
        if (name is None or (of and of[2] == name)) and is_running(folder) and not (folder / "exit").exists():
            found.append({"key": folder.name, "command": list(_told(folder).get("command", []))})
    return {"jobs": found}


def stop(root: Path, *, keys: Sequence[str]) -> dict[str, Any]:
    """End running jobs and wait until they are gone; ``left``: keys of those that are not."""
    waiting = []
    for key in keys:
        folder = root / "jobs" / key
        if Path(key).name != key:
            raise UsageError("no name of a job", where=repr(key))
        if is_running(folder):
            (folder / "stop").touch()
            waiting.append(folder)
    deadline = time.monotonic() + 2 * _ENDS_WITHIN_S
    while (waiting := [folder for folder in waiting if is_running(folder)]) and time.monotonic() < deadline:
        time.sleep(_POLL_S)
    return {"left": [folder.name for folder in waiting]}


def is_running(folder: Path) -> bool:
    """Whether a process watches over the command of this job."""
    try:
        handle = os.open(folder / "lock", os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: two who ask must not take each other for a job
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


def _watched(process: subprocess.Popen[bytes], stop_file: Path) -> int:
    """Wait for the end of a command, or bring it about where that is asked for; gives its exit code."""
    over = threading.Event()
    asked = False

    def watch() -> None:
        nonlocal asked
        while not over.wait(_STOP_POLL_S):
            if stop_file.exists():
                asked = True
                _end(process, signal.SIGTERM)
                if not over.wait(_ENDS_WITHIN_S):
                    _end(process, signal.SIGKILL)
                return

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    code = process.wait()  # asleep: nothing may disturb what is measured meanwhile
    over.set()
    thread.join()
    if asked:
        _end(process, signal.SIGKILL)  # those of its group that did not listen
    return code


def _end(process: subprocess.Popen[bytes], number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def _write_whole(path: Path, data: bytes) -> None:
    """Write over what is there, so that no room is asked for, and see it to the disk."""
    handle = os.open(path, os.O_CREAT | os.O_WRONLY, 0o600)
    try:
        os.write(handle, data)
        os.fsync(handle)
    finally:
        os.close(handle)


def _told(folder: Path) -> dict[str, Any]:
    try:
        told = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


def _token(folder: Path) -> str:
    return str(_told(folder).get("token", ""))


def _number(folder: Path) -> int:
    number = _told(folder).get("number", 0)
    return number if isinstance(number, int) else 0


def _exit(folder: Path) -> int | None:
    try:
        return int((folder / "exit").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _identity(root: Path) -> str:
    """What tells this folder's results from those of another device of the same kind: random, without a meaning."""
    path = root / "id"
    if not path.is_file():
        atomic_write_bytes(path, f"{secrets.token_hex(8)}\n".encode())
    return path.read_text(encoding="utf-8").strip()


def _prune(root: Path, key: str) -> None:
    """Forget the oldest jobs that are over, however they ended, and what nobody came back for in a week."""
    over = [folder for folder in (root / "jobs").iterdir() if folder.is_dir() and not is_running(folder)]
    over = sorted((folder for folder in over if folder.name != key), key=_number)
    for folder in over[: max(len(over) - KEPT_JOBS + 1, 0)]:
        shutil.rmtree(folder, ignore_errors=True)
    now = time.time()
    for folder in [*(root / "runs").glob("*/"), *(root / "incoming").glob("*/")]:
        with contextlib.suppress(OSError):
            newest = max(path.stat().st_mtime for path in [folder, *folder.rglob("*")])
            if folder.name != key and now - newest > KEPT_S and not is_running(root / "jobs" / folder.name):
                shutil.rmtree(folder, ignore_errors=True)
