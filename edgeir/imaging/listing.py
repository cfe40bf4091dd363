"""The pictures in a folder."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from edgeir.errors import PictureError
from edgeir.imaging.writing import FORMAT_BY_SUFFIX


@dataclass(frozen=True, slots=True)
class PictureListing:
    """What a folder holds.

    Attributes:
        pictures: files with the suffix of a picture, sorted by their path in the folder; never empty.
        skipped: all other files and the hidden ones, sorted likewise, so that the caller can say how many there are.
    """

    pictures: tuple[Path, ...]
    skipped: tuple[Path, ...]


def list_pictures(folder: str | os.PathLike[str], *, recursive: bool = False) -> PictureListing:
    """List the pictures in ``folder``, and with ``recursive`` in the folders below it; nothing is opened.

    Hidden files (``.name``, which include what macOS and a killed edgeir leave) are skipped, hidden folders are not
    entered, links to folders are not followed.

    Raises:
        PictureError: ``folder`` is missing, is no folder, cannot be read, or holds no picture.
    """
    root = Path(folder)
    if not root.is_dir():
        what = "this is a file, not a folder" if root.exists() else "there is no such folder"
        raise PictureError(what, where=str(root), fix="Name a folder that holds pictures.")
    pictures: list[Path] = []
    skipped: list[Path] = []
    for file in _files(root, recursive):
        hidden = file.name.startswith(".")
        (pictures if file.suffix.lower() in FORMAT_BY_SUFFIX and not hidden else skipped).append(file)
    if not pictures:
        raise PictureError(
            "there is no picture in this folder",
            where=str(root),
            expected=f"files ending in {' '.join(FORMAT_BY_SUFFIX)}",
            got=f"{len(skipped)} other files",
            fix="Name another folder." if recursive else "Folders below it were not searched; name one of them.",
        )
    return PictureListing(tuple(pictures), tuple(skipped))


def _files(root: Path, recursive: bool) -> list[Path]:
    """Files in ``root``, sorted by relative path (bytes of the POSIX form: the same order on every system)."""

    def unreadable(error: OSError) -> None:
        raise PictureError(f"the folder cannot be read: {error.strerror}", where=str(error.filename)) from error

    found: list[Path] = []
    for parent, folders, names in os.walk(root, onerror=unreadable):
        folders[:] = [name for name in folders if recursive and not name.startswith(".")]
        found += [Path(parent, name) for name in names]
    return sorted(found, key=lambda file: file.relative_to(root).as_posix())
