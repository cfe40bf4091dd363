"""Making a bundle: everything goes into a hidden folder beside the destination, which is renamed at the very end.

A killed export leaves the old bundle or none::

    .NAME.edgeir.PID.TOKEN.tmp/   ── files are written and hashed here
              │ commit: manifest.json last, flush, rename
              ▼
    NAME.edgeir/                  ── with force the old one waits as .NAME.edgeir.PID.TOKEN.old until then

The running writer holds a lock on its folder; the next writer of the same destination clears what nobody holds. Whoever
replaces a bundle holds ``.NAME.edgeir.lock`` while doing so, and to add to one from the last look at it on: of two
additions that end at once, the second adds to the first.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from edgeir import leftovers
from edgeir.errors import BundleError, OutputError
from edgeir.manifest import MANIFEST_NAME, Artifact, Manifest, safe_path
from edgeir.storage import SPACE_ERRNOS, alone, flush_file, flush_folder, sha256_of, storage_error, writing

# Where a file cannot be shared: another disk, somebody else's file, too many names, or a file system without links.
_NO_LINKS = frozenset(
    (errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP)
)


class BundleWriter:
    """Context manager that makes one bundle, all of it or nothing.

    Leaving the block without `commit`, with or without an exception, removes everything that was written.

    Args:
        destination: the folder to make; its parent must exist.
        force: replace a bundle that is already there.

    Raises:
        OutputError: the destination exists (or, with ``force``, is not a bundle), or its parent cannot be written;
            raised when the block is entered, before any work is done.
        OutOfSpace: the disk is full; also in place of an ``OSError`` that the block itself raises for that reason.
    """

    def __init__(self, destination: Path | str, *, force: bool = False) -> None:
        self.destination = Path(destination)
        self.force = force
        self._place = _named(self.destination)  # wherever the process stands later, and whatever it is called
        self._folder: Path | None = None
        self._is_alone = False
        self._lock: int | None = None
        self._artifacts: dict[str, Artifact] = {}
        self._stamps: dict[str, tuple[int, int]] = {}

    def __enter__(self) -> BundleWriter:
        if not self._place.name:
            raise OutputError("this is no folder that could be made", where=str(self.destination))
        with writing(self.destination):
            leftovers.clear(self._place)
            self._require_free()
            mark = f".{self._place.name}.{os.getpid()}.{secrets.token_hex(4)}"
            self._folder = self._place.with_name(f"{mark}{leftovers.TEMPORARY}")
            try:
                self._lock = leftovers.make(self._folder)
            except BaseException:
                self._discard()
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        folder = self._folder
        self._discard()
        if isinstance(error, OSError) and (error.errno in SPACE_ERRNOS or _concerns(error, folder)):
            raise storage_error(error, self.destination) from error

    @property
    def artifacts(self) -> tuple[Artifact, ...]:
        """What was added so far."""
        return tuple(self._artifacts.values())

    def path(self, relative: str) -> Path:
        """Where to write the file that will be ``relative`` in the bundle; makes its folders.

        Raises:
            BundleError: ``relative`` is absolute, contains ``..`` or cannot stand in a manifest.
        """
        if reason := safe_path(relative):
            raise BundleError("a path may not stand in a bundle", where=repr(relative), got=reason)
        path = self._open_folder() / relative
        with writing(self.destination / relative):
            path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def add(self, relative: str, role: str, parents: tuple[str, ...] = ()) -> Artifact:
        """List a finished file and hash it; it may not change afterwards.

        Args:
            relative: its path in the bundle.
            role: what it is for.
            parents: paths of the files it was made from, each already added.

        Raises:
            BundleError: there is no such file, it was added before, or a parent was not.
        """
        path = self.path(relative)
        if relative in self._artifacts:
            raise BundleError("the file was added to the bundle before", where=relative)
        for parent in parents:
            if parent not in self._artifacts:
                raise BundleError("a parent must be added before its child", where=relative, got=repr(parent))
        if path.is_symlink() or not path.is_file():
            raise BundleError("there is no such file to add to the bundle", where=relative)
        with writing(self.destination / relative):
            self._stamps[relative] = _stamp(path)
            size, digest = sha256_of(path)
        artifact = Artifact(relative, role, size, digest, parents)
        self._artifacts[relative] = artifact
        return artifact

    def adopt(self, source: Path, artifact: Artifact) -> None:
        """List a file as another manifest lists it, and share its bytes on the disk where that is possible.

        Args:
            source: the file, which nobody may write to any more.
            artifact: its path in this bundle, size and hash; the parents must have been added.

        Raises:
            BundleError: the file is not what that manifest vouches for, or its path was taken before.
            OutOfSpace: it has to be copied, and the disk is full.
        """
        path = self.path(artifact.path)
        # Never onto a file that lies there: it may be one that is shared with another bundle.
        if artifact.path in self._artifacts or os.path.lexists(path):
            raise BundleError("the file was added to the bundle before", where=artifact.path)
        with writing(self.destination / artifact.path):
            try:
                path.hardlink_to(source)
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                shutil.copyfile(source, path)
        added = self.add(artifact.path, artifact.role, artifact.parents)
        if added != artifact:
            raise BundleError(
                "the content is not what the manifest vouches for",
                where=str(source),
                fix="Copy or export the bundle again.",
            )

    def commit(self, manifest: Manifest) -> Path:
        """Write the manifest with the added files, flush and rename; returns the destination.

        Args:
            manifest: its ``artifacts`` are replaced by what was added.

        Raises:
            BundleError: a file was written and not added, or changed after it was added.
            OutputError: the destination appeared in the meantime, or cannot be written.
            OutOfSpace: the disk is full.
        """
        folder = self._open_folder()
        text = dataclasses.replace(manifest, artifacts=self.artifacts).to_json()
        Manifest.from_json(text, where=MANIFEST_NAME)
        with writing(self.destination):
            self._require_unchanged(folder)
            (folder / MANIFEST_NAME).write_text(text, encoding="utf-8", newline="\n")
            for path in sorted(folder.rglob("*"), reverse=True):
                if path.is_dir():
                    flush_folder(path)
                else:
                    flush_file(path)
            flush_folder(folder)
            with contextlib.nullcontext() if self._is_alone else self.alone():
                self._require_free()
                self._move_into_place(folder)
            flush_folder(self._place.parent)
        return self.destination

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Let nobody else replace the destination while the block lasts; waits for whoever is at it.

        Raises:
            OutOfSpace, OutputError: no file can be made beside the destination.
        """
        with alone(self._place.with_name(f".{self._place.name}.lock")):
            self._is_alone = True
            try:
                yield
            finally:
                self._is_alone = False

    def _move_into_place(self, folder: Path) -> None:
        old = folder.with_name(folder.name.removesuffix(leftovers.TEMPORARY) + leftovers.REPLACED)
        try:
            if self._place.exists():
                self._place.rename(old)
            folder.rename(self._place)
        except BaseException:
            if old.exists() and not self._place.exists():
                old.rename(self._place)
            raise
        self._folder = None
        leftovers.remove(old)

    def _require_unchanged(self, folder: Path) -> None:
        for path in folder.rglob("*"):
            relative = path.relative_to(folder).as_posix()
            if path.is_dir() and not path.is_symlink():
                continue
            if relative not in self._artifacts:
                raise BundleError("the file was written into the bundle but never added", where=relative)
            if _stamp(path) != self._stamps[relative]:
                raise BundleError("the file changed after it was added to the bundle", where=relative)

    def _require_free(self) -> None:
        """Refuse a destination that exists, unless it is a bundle and ``force`` was given."""
        where = str(self.destination)
        if self._place.is_symlink():
            raise OutputError("it is a symbolic link", where=where, fix="Name the folder itself.")
        if not self._place.exists():
            return
        if not self.force:
            raise OutputError("it already exists", where=where, fix="Pass --force to replace it, or choose another.")
        if not leftovers.is_replaceable(self._place):
            raise OutputError(
                "it exists and is not a bundle, so it will not be replaced", where=where, fix="Choose another path."
            )

    def _open_folder(self) -> Path:
        if self._folder is None:
            raise BundleError("the bundle is not open for writing", where=str(self.destination))
        return self._folder

    def _discard(self) -> None:
        folder, self._folder = self._folder, None
        if folder is not None:
            leftovers.remove(folder)
        if self._lock is not None:
            with contextlib.suppress(OSError):
                os.close(self._lock)
            self._lock = None


def _named(path: Path) -> Path:
    """``path`` absolute, ending in a name: ``"."`` is a folder like any other."""
    whole = path.absolute()
    return whole if whole.name not in ("", "..") else whole.resolve()


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat(follow_symlinks=False)
    return status.st_size, status.st_mtime_ns


def _concerns(error: OSError, folder: Path | None) -> bool:
    """Whether ``error`` is about writing a file in ``folder``; one that was expected there is another matter."""
    if folder is None or error.errno == errno.ENOENT or not isinstance(error.filename, (str, os.PathLike)):
        return False
    return folder in Path(error.filename).parents or folder == Path(error.filename)
