"""What TensorRT-RTX compiled on this GPU, kept on disk, so that the next run need not compile it again.

The cache is machine code. A file that is not its user's, that others can write or that lies in a folder where they can,
or whose bytes are not those that were written is not given to the runtime: a sentence says so, and the kernels are
compiled again. Folders above that one are taken as they are. The runtime in turn refuses what another version, GPU or
driver made.
"""

from __future__ import annotations

import hashlib
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path

from edgeir.errors import EdgeIRError
from edgeir.storage import atomic_write_bytes

_MAGIC = b"edgeir runtime cache 1\n"
_DIGEST_BYTES = 32
_SUFFIX = ".rtxcache"


def cache_folder() -> Path:
    """Where edgeir keeps what can be made again: the place that the system's convention has, in the user's home.

    Raises:
        RuntimeError: it is in the home, and this user has none.
    """
    if sys.platform == "win32":
        named = os.environ.get("LOCALAPPDATA", "")
        base = Path(named) if named else Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        named = os.environ.get("XDG_CACHE_HOME", "")
        # The convention ignores paths that are not absolute.
        base = Path(named) if named and Path(named).is_absolute() else Path.home() / ".cache"
    return base / "edgeir"


def open_cache(key: tuple[str, ...], say: Callable[[str], None]) -> RuntimeCacheFile | None:
    """The file of one engine on one GPU in `cache_folder`; ``None``, and a sentence, where the user has no home."""
    try:
        return RuntimeCacheFile(key, say, cache_folder())
    except RuntimeError:
        say("There is no home folder to keep compiled kernels in: they are compiled at every start.")
        return None


class RuntimeCacheFile:
    """The file of one engine on one GPU.

    Args:
        key: all that makes another file necessary: the engine's hash, the runtime's version, the GPU, and the CUDA
            version of its driver.
        say: told why a file is not used or could not be written; neither stops anything.
        folder: where, such as `cache_folder`.
    """

    def __init__(self, key: tuple[str, ...], say: Callable[[str], None], folder: Path) -> None:
        name = hashlib.sha256("\0".join(key).encode()).hexdigest()[:32]
        self.path = folder / "runtime" / f"{name}{_SUFFIX}"
        self._say = say
        self._read: bytes | None = None

    def read(self) -> bytes | None:
        """What was kept, ``None`` where there is nothing or nothing to be trusted."""
        try:
            with self.path.open("rb") as file:
                if reason := _untrusted(self.path, os.fstat(file.fileno())):
                    return self._ignored(reason)
                data = file.read()
        except FileNotFoundError:
            return None
        except OSError as error:
            return self._ignored(error.strerror or "it cannot be read")
        head = len(_MAGIC) + _DIGEST_BYTES
        if not data.startswith(_MAGIC) or hashlib.sha256(data[head:]).digest() != data[len(_MAGIC) : head]:
            return self._ignored("it is damaged")
        self._read = data[head:]
        return self._read

    def refused(self) -> None:
        """The runtime did not take what `read` gave: it is written anew at the end."""
        self._read = None
        self._ignore("the runtime refuses them")

    def write(self, data: bytes) -> None:
        """Keep ``data``, unless it is what was read. What cannot be written is said, and no error."""
        if data == self._read:
            return
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            atomic_write_bytes(self.path, _MAGIC + hashlib.sha256(data).digest() + data)
            self.path.chmod(0o600)
        except (EdgeIRError, OSError) as error:
            self._say(f"The compiled kernels could not be kept for the next run: {error}")
        else:
            self._read = data

    def _ignored(self, reason: str) -> bytes | None:
        self._ignore(reason)
        return None

    def _ignore(self, reason: str) -> None:
        self._say(f"The kept kernels in {self.path.name} are ignored: {reason}. They are compiled again.")


def _untrusted(path: Path, status: os.stat_result) -> str | None:
    """Why a file is nobody's word, or ``None``."""
    if path.is_symlink():
        return "it is a link"
    if not stat.S_ISREG(status.st_mode):
        return "it is no regular file"
    if os.name != "posix":
        return None
    for what, writing, one in (("it", "it", status), ("its folder", "into its folder", path.parent.stat())):
        if one.st_uid != os.getuid():
            return f"{what} belongs to somebody else"
        if one.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return f"others may write {writing}"
    return None
