"""Bytes to a file that is either the old one or the whole new one, with storage errors in words."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from pathlib import Path

from edgeir.errors import EdgeIRError, OutOfSpace, OutputError

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_REASONS = {
    errno.EACCES: "there is no permission to write here",
    errno.EPERM: "there is no permission to write here",
    errno.EROFS: "the file system is read-only",
    errno.ENOENT: "the folder does not exist",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.EISDIR: "this is a folder",
    errno.ENAMETOOLONG: "the name is too long for this file system",
}


def write_atomically(path: Path, data: bytes) -> None:
    """Put ``data`` into ``path``: first under a temporary name in the same folder, then renamed over it.

    Readers see the old file or the whole new one. The temporary file goes away on every failure, Ctrl-C included. A
    symbolic link is followed, not replaced.

    Raises:
        OutOfSpace: the disk or the quota is full.
        OutputError: the place cannot be written to.
    """
    try:
        target = Path(os.path.realpath(path))
        temporary = target.with_name(f".edgeir-{secrets.token_hex(6)}.tmp")  # short: the target's name may be long
        try:
            with temporary.open("xb") as file:
                file.write(data)
            temporary.replace(target)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
    except OSError as error:
        raise _in_words(error, path) from error


def _in_words(error: OSError, path: Path) -> EdgeIRError:
    """The error a person can act on."""
    if error.errno in _FULL:
        return OutOfSpace("the disk or the quota is full", where=str(path), fix="Free some space, or write elsewhere.")
    reason = _REASONS.get(error.errno or 0, f"the file cannot be written: {error.strerror or error}")
    if error.errno == errno.ENOENT and path.parent.is_dir():  # /proc and its like
        reason = "the file system takes no new files there"
    return OutputError(reason, where=str(path), fix="Choose another output, or make this one writable.")
