"""Cameras, through the device formats of FFmpeg: v4l2 on Linux, dshow on Windows, avfoundation on macOS."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import av

from edgeir.errors import MissingDependency, PictureError, UsageError
from edgeir.video.source import TimedPixels, VideoSource

# sys.platform to FFmpeg's input format, and how it writes the camera that has a number.
DEVICES = {"linux": ("v4l2", "/dev/video{}"), "darwin": ("avfoundation", "{}:none"), "win32": ("dshow", "video={}")}
# A camera that gives nothing for this long will give nothing at all.
_TIMEOUT_S = 10.0


def open_camera(name: str) -> VideoSource:
    """Open a camera by number (``"0"``) or by the name that the system knows it by.

    Raises:
        MissingDependency: this system, or this PyAV, has no way to read cameras.
        PictureError: there is no such camera, or it gives no picture.
        UsageError: a number, where cameras have only names.
    """
    if sys.platform not in DEVICES:
        raise MissingDependency("edgeir knows no way to read a camera on this system", got=sys.platform)
    format, pattern = DEVICES[sys.platform]
    device = pattern.format(name) if name.isdecimal() or "/" not in pattern else name
    if format == "dshow" and name.isdecimal():
        device = pattern.format(_dshow_name(int(name)))
    where = f"camera:{name}"
    try:
        container = av.open(device, "r", format=format, timeout=_TIMEOUT_S)
    except ValueError as error:
        if isinstance(error, av.FFmpegError):
            raise _not_opened(where, error) from error
        raise MissingDependency(f"this PyAV was built without '{format}'", where=where) from error
    except (av.FFmpegError, OSError) as error:
        raise _not_opened(where, error) from error
    try:
        return VideoSource(container, where)
    except BaseException:
        container.close()
        raise


def camera_pictures(camera: VideoSource, seconds: float) -> Iterator[TimedPixels]:
    """What the camera gives for ``seconds``, by its own clock; times count from the first picture."""
    first: int | None = None
    for picture in camera.pictures():
        first = picture.pts if first is None else first
        moved = picture.pts - first
        if moved * camera.info.time_base >= seconds:
            return
        yield replace(picture, pts=moved)


def _not_opened(where: str, error: Any) -> PictureError:
    return PictureError("this camera cannot be opened", where=where, got=getattr(error, "strerror", None) or str(error))


def _dshow_name(number: int) -> str:
    """Name of a camera of Windows, which numbers none."""
    listed = getattr(av, "enumerate_input_devices", None)
    names = [] if listed is None else [one.name for one in listed("dshow") if "video" in one.media_types]
    if number >= len(names):
        raise UsageError("there is no camera of this number", where=f"camera:{number}", got=f"{len(names)} cameras")
    return str(names[number])
