"""What a killed run leaves beside a bundle, and how the next run recognises and clears it.

A working folder is ``.NAME.PID.TOKEN.tmp``, a bundle that is being replaced ``.NAME.PID.TOKEN.old``. One is left over
when its process is gone *and* nobody holds its lock: process numbers alone are not enough where two containers share
a disk. Where the file system has no locks the process number decides.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import sys
import threading
from pathlib import Path

from edgeir.manifest import MANIFEST_NAME

TEMPORARY = ".tmp"
REPLACED = ".old"


# A folder that a thread has made and does not hold yet looks as if it were left over.
_MAKING = threading.Lock()


def make(folder: Path) -> int | None:
    """Make a working folder, and `hold` it before any thread can take it for one that is left over.

    Raises ``OSError`` when it cannot be made.
    """
    with _MAKING:
        folder.mkdir()
        return hold(folder)


def hold(folder: Path) -> int | None:
    """Lock ``folder`` for this process; the handle to close later, or ``None`` where that is not possible."""
    if sys.platform == "win32":
        return None
    import fcntl

    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle


def clear(destination: Path) -> None:
    """Remove what killed runs left beside ``destination``; a bundle caught halfway through a replacement is put back.

    Raises ``OSError`` when the folder that holds ``destination`` cannot be read.
    """
    with _MAKING:
        _clear(destination)


def _clear(destination: Path) -> None:
    prefix = f".{destination.name}."
    for path in sorted(destination.parent.iterdir()):
        name = path.name
        if not name.startswith(prefix) or not name.endswith((TEMPORARY, REPLACED)):
            continue
        pid, _, token = name[len(prefix) :].rsplit(".", 1)[0].partition(".")
        if not pid.isdecimal() or not token or path.is_symlink() or not path.is_dir() or _is_owned(path, int(pid)):
            continue
        if name.endswith(REPLACED) and not os.path.lexists(destination):
            path.rename(destination)
        else:
            remove(path)


def remove(folder: Path) -> None:
    """Remove a folder of ours and all in it; what cannot be removed stays, hidden, for the next run."""
    shutil.rmtree(folder, ignore_errors=True)


def is_replaceable(path: Path) -> bool:
    """Whether ``--force`` may remove ``path``: an empty folder, or one that is recognisably a bundle."""
    if not path.is_dir():
        return False
    manifest = path / MANIFEST_NAME
    if not manifest.is_file():
        return not any(path.iterdir())
    if path.name.endswith(".edgeir"):
        return True
    try:
        data = json.loads(manifest.read_bytes())
    except (ValueError, RecursionError):
        return False
    return isinstance(data, dict) and {"schema_version", "artifacts", "model"} <= data.keys()


def _is_owned(folder: Path, pid: int) -> bool:
    """Whether a living process may still be working in ``folder``."""
    locked = _is_locked(folder)
    if locked:
        return True
    if pid == os.getpid():  # our own writers hold their locks, so an unheld one is a namesake's
        return locked is None
    return _is_alive(pid)


def _is_locked(folder: Path) -> bool | None:
    """Whether somebody holds the lock on ``folder``; ``None`` where there are no locks."""
    if sys.platform == "win32":
        return None
    import fcntl

    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return True if error.errno in {errno.EWOULDBLOCK, errno.EACCES} else None
    finally:
        with contextlib.suppress(OSError):
            os.close(handle)
    return False


def _is_alive(pid: int) -> bool:
    if sys.platform == "win32":
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # somebody else's process, or not a process number
        return True
    return True
