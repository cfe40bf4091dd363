"""Pictures to files: the format by the suffix, everything the source had kept where the format can hold it."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgeir.errors import PictureError, UsageError, nearest
from edgeir.imaging.colour import Pixels, luma, to_uint8, to_uint16
from edgeir.imaging.picture import Picture
from edgeir.imaging.png16 import encode_png16
from edgeir.storage import atomic_write_bytes

FORMAT_BY_SUFFIX = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".bmp": "BMP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}
JPEG_QUALITY = 95  # with full chroma: the coder should add less error than the network

_WITHOUT_ALPHA = frozenset({"JPEG", "BMP"})
_WITHOUT_GREY = frozenset({"WEBP"})  # WebP stores RGB only
_OPTIONS: dict[str, dict[str, Any]] = {
    "PNG": {},
    "JPEG": {"quality": JPEG_QUALITY, "subsampling": "4:4:4"},
    "WEBP": {"lossless": True, "exact": True},  # exact: colours under transparent pixels are kept
    "BMP": {},
    "TIFF": {"compression": "tiff_adobe_deflate"},
}


def write_picture(picture: Picture, path: str | os.PathLike[str]) -> None:
    """Write ``picture`` in the format that the suffix of ``path`` names.

    Values are clipped to [0, 1] and rounded, ``(x * 255).round()``. A grey source is written grey (BT.601 luma of
    its pixels). PNG keeps 16 bits; the other formats get 8. The ICC profile is kept unless it describes another
    kind of colour than is written. WebP is lossless, JPEG has quality 95 and full chroma. The file appears whole or
    not at all.

    Raises:
        UsageError: no format has this suffix, or the format cannot hold the alpha channel.
        PictureError: a pixel is not a number, or the format cannot hold a picture of this size.
        OutOfSpace, OutputError: the file cannot be written.
    """
    file = Path(path)
    name = format_of(file)
    _check(picture, name, file)
    try:
        data = _encode(picture, name)
    except (OSError, ValueError) as error:  # in memory: no disk is involved
        raise PictureError(
            f"the picture cannot be stored as {name}",
            where=str(file),
            got=f"{picture.height}x{picture.width} pixels: {error}",
            fix="Write a PNG.",
        ) from error
    atomic_write_bytes(file, data)


def png_bytes(pixels: Pixels) -> bytes:
    """``(H, W, 3) float32`` in [0, 1] as the content of a PNG file of 8 bits."""
    return _encode_8bit(to_uint8(pixels), "PNG", None)


def format_of(path: Path) -> str:
    """Pillow's name of the format that the suffix of ``path`` stands for; raises ``UsageError`` if none does."""
    name = FORMAT_BY_SUFFIX.get(path.suffix.lower())
    if name is None:
        fix = nearest(path.suffix.lower(), FORMAT_BY_SUFFIX)
        raise UsageError("no picture format has this suffix", where=str(path), got=repr(path.suffix), fix=fix)
    return name


def _check(picture: Picture, name: str, file: Path) -> None:
    """Refuse what cannot be stored."""
    if picture.alpha is not None and name in _WITHOUT_ALPHA:
        raise UsageError(
            f"{name} cannot hold the transparency of this picture",
            where=str(file),
            fix="Write a .png, .webp or .tif file.",
        )
    for what, values in (("pixels", picture.pixels), ("alpha values", picture.alpha)):
        wrong = 0 if values is None else int(values.size - np.isfinite(values).sum())
        if wrong:
            raise PictureError(
                f"{wrong} {what} are not finite numbers",
                where=str(file),
                fix="The network overflowed: run it in a higher precision.",
            )


def _encode(picture: Picture, name: str) -> bytes:
    """The bytes of the file."""
    grey = picture.grey and name not in _WITHOUT_GREY
    profile = picture.icc_profile
    if profile is not None and profile[16:20] != (b"GRAY" if grey else b"RGB "):  # ICC.1: 7.2.6, data colour space
        profile = None
    planes = [luma(picture.pixels)[..., None] if grey else picture.pixels]
    if picture.alpha is not None:
        planes.append(picture.alpha[..., None])
    values = planes[0] if len(planes) == 1 else np.concatenate(planes, axis=2)
    if picture.bits == 16 and name == "PNG":
        return encode_png16(to_uint16(values), profile)
    return _encode_8bit(to_uint8(values), name, profile)


def _encode_8bit(values: NDArray[np.uint8], name: str, profile: bytes | None) -> bytes:
    """One file of ``(H, W, 1..4) uint8`` by Pillow."""
    image = Image.fromarray(values[..., 0] if values.shape[2] == 1 else np.ascontiguousarray(values))
    options = dict(_OPTIONS[name])
    if profile is not None and name != "BMP":
        options["icc_profile"] = profile
    file = io.BytesIO()
    image.save(file, format=name, **options)
    return file.getvalue()
