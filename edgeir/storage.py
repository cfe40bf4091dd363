"""Writing files so that a reader sees the old file or the new one, and a failed disk is one clear sentence.

The pattern is the same everywhere: write under a hidden name in the same folder, flush to the disk, rename.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path

from edgeir.errors import EdgeIRError, OutOfSpace, OutputError

SPACE_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_HASH_BLOCK_BYTES = 1 << 20

_REASONS = {
    errno.EACCES: ("no permission to write there", "Choose a folder that you own."),
    errno.EPERM: ("the system does not allow writing there", "Choose a folder that you own."),
    errno.EROFS: ("the file system is read-only", "Choose a folder on a disk that can be written."),
    errno.ENOENT: ("the folder does not exist", "Make the folder first, or choose another."),
    errno.ENOTDIR: ("a part of the path is a file, not a folder", "Choose another path."),
    errno.EISDIR: ("it is a folder, not a file", "Choose another path."),
    errno.EEXIST: ("it already exists", "Choose another path."),
    errno.ENAMETOOLONG: ("the name is too long for the file system", "Choose a shorter name."),
}


def storage_error(error: OSError, path: Path) -> EdgeIRError:
    """The edgeir error that says what ``error`` means to somebody who wanted to write ``path``."""
    if error.errno in SPACE_ERRNOS:
        return OutOfSpace(
            "the disk has no room left, or a quota or size limit is reached",
            where=str(path),
            fix="Free some space, or choose a folder on another disk.",
        )
    reason = error.strerror or type(error).__name__
    what, fix = _REASONS.get(error.errno or 0, (f"cannot be written: {reason}", "Choose another path."))
    if error.errno == errno.ENOENT and path.parent.is_dir():  # /proc and its like
        what, fix = "the file system takes no new files there", "Choose another path."
    return OutputError(what, where=str(path), fix=fix)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn every ``OSError`` of the block into the sentence about ``path``.

    Keep the block small: it must hold the writing of ``path`` and nothing that reads somewhere else.

    Raises:
        OutOfSpace: the disk, a quota or the largest file size is exhausted.
        OutputError: any other reason why ``path`` cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise storage_error(error, path) from error


def atomic_write_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path``, replacing it in one step; a failure leaves what was there.

    A symbolic link is followed, not replaced.

    Raises:
        OutOfSpace: no room.
        OutputError: the folder is missing, or ``path`` cannot be written.
    """
    with writing(path):
        target = Path(os.path.realpath(path))
        temporary = target.with_name(f".edgeir-{secrets.token_hex(6)}.tmp")  # short: the target's name may be long
        try:
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        flush_folder(target.parent)


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold the lock file ``path`` for the block, waiting for whoever holds it; nothing is left of it afterwards.

    Windows and file systems without locks let everybody in.

    Raises:
        OutOfSpace, OutputError: the file cannot be made.
    """
    if sys.platform == "win32":
        yield
        return
    handle = _locked(path)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()
        os.close(handle)


def _locked(path: Path) -> int:
    """A handle that holds the lock on ``path``; its last holder removed the file, so that it is made anew then."""
    import fcntl

    while True:
        with writing(path):
            handle = os.open(path, os.O_CREAT | os.O_RDWR, 0o666)
        try:
            with contextlib.suppress(OSError):  # no locks there
                fcntl.flock(handle, fcntl.LOCK_EX)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(path.stat(), os.fstat(handle)):
                    return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def flush_file(path: Path) -> None:
    """Ask the system to put the bytes of ``path`` on the disk; raises ``OSError``."""
    # Windows flushes only what may be written; elsewhere a read-only file of the user's can be flushed as well.
    with path.open("rb" if os.name == "posix" else "rb+") as file:
        os.fsync(file.fileno())


def flush_folder(path: Path) -> None:
    """Ask the system to put the names in folder ``path`` on the disk, where the system can do that."""
    if os.name != "posix":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOTSUP, errno.EBADF}:
            raise
    finally:
        os.close(handle)


def sha256_of(path: Path) -> tuple[int, str]:
    """Size in bytes and sha256 (hex) of one file, read once in blocks; raises ``OSError``."""
    digest = hashlib.sha256()
    size = 0
    with path.open("rb") as file:
        while block := file.read(_HASH_BLOCK_BYTES):
            digest.update(block)
            size += len(block)
    return size, digest.hexdigest()
