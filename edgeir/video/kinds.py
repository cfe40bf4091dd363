"""What is a video, what is a camera, and whether PyAV is here. Imports neither PyAV nor NumPy."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from edgeir.errors import MissingDependency, PictureError, UsageError

VIDEO_SUFFIXES = frozenset(
    {
        ".mp4", ".m4v", ".mov", ".3gp", ".mkv", ".webm", ".avi", ".ts", ".m2ts", ".mts", ".mpg", ".mpeg", ".flv",
        ".wmv", ".ogv", ".y4m", ".nut", ".mxf",
    }
)  # fmt: skip
CAMERA_PREFIX = "camera:"

_SNIFFED_BYTES = 4 + 3 * 192
_PICTURE_BRANDS = (b"heic", b"heix", b"mif1", b"msf1", b"avif", b"avis")  # pictures in the container of MP4
_TS_SYNC, _TS_PACKET_BYTES = 0x47, 188


def camera_of(source: str) -> str | None:
    """Name of the camera in ``camera:NAME``, ``None`` if ``source`` is no camera.

    >>> camera_of("camera:0")
    '0'
    >>> camera_of("film.mp4") is None
    True

    Raises:
        UsageError: the name is missing.
    """
    if not source.startswith(CAMERA_PREFIX):
        return None
    name = source.removeprefix(CAMERA_PREFIX)
    if not name:
        raise UsageError("the camera has no name", where=source, fix="Such as camera:0, the first one.")
    return name


def is_video(path: Path) -> bool:
    """Whether the file ``path`` is a video: by its suffix, or else by how it begins."""
    if path.suffix.lower() in VIDEO_SUFFIXES:
        return True
    try:
        with path.open("rb") as file:
            head = file.read(_SNIFFED_BYTES)
    except OSError:
        return False
    return _begins_like_a_video(head)


def _begins_like_a_video(head: bytes) -> bool:
    if head[4:8] == b"ftyp":
        return head[8:12] not in _PICTURE_BRANDS
    if head.startswith((b"\x1aE\xdf\xa3", b"FLV\x01", b"YUV4MPEG2 ", b"nut/multimedia container\0")):
        return True
    if head.startswith(b"RIFF"):
        return head[8:12] == b"AVI "
    return len(head) > 2 * _TS_PACKET_BYTES and all(head[n * _TS_PACKET_BYTES] == _TS_SYNC for n in range(3))


def require_av() -> None:
    """Raise unless PyAV is installed.

    Raises:
        MissingDependency: it is not.
    """
    if importlib.util.find_spec("av") is None:
        raise MissingDependency(
            "videos and cameras need PyAV, which is not installed", fix="Run: pip install 'edgeir[video]'"
        )


def require_file(path: Path) -> None:
    """Raise unless ``path`` is a file that can be read.

    Raises:
        PictureError: it is missing, a folder, or not ours to read.
    """
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise PictureError("cannot be read", where=str(path), got=error.strerror or str(error)) from error
