"""Files to pictures: every usual kind of PNG, JPEG, WebP, BMP and TIFF, whole or not at all."""

from __future__ import annotations

import io
import os
import struct
import threading
import warnings
import zlib
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from edgeir.errors import PictureError
from edgeir.imaging.colour import Pixels
from edgeir.imaging.picture import Picture
from edgeir.imaging.png16 import decode_png16, png16_channels

_Integers: TypeAlias = NDArray[np.uint8] | NDArray[np.uint16]

READABLE_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")
_OPENING = threading.Lock()  # catch_warnings changes the whole process: one thread at a time
_ORIENTATION_TAG = 0x0112
_TIFF_BITS_TAG = 258

# What Pillow and its plugins raise for damaged files, by its own tests: there is no common base class.
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, struct.error, zlib.error)


def read_picture(path: str | os.PathLike[str]) -> Picture:
    """Read one picture file.

    Grey, grey with alpha, RGB, RGBA, palette (with transparency), one bit, CMYK and YCbCr; 8 bits of any format and
    16 bits of grey TIFF and of every PNG. The EXIF orientation is applied. CMYK is converted by Pillow's plain
    formula and its profile dropped. A JPEG that carries more pictures than one (MPO, from phones) gives the first.

    Returns:
        The picture; ``pixels`` are ``(H, W, 3) float32`` in [0, 1], RGB.

    Raises:
        PictureError: no such file, no picture, damaged or cut short, too large to be true, animated, or of a depth
            that cannot be kept.
    """
    file = Path(path)
    data = _file_bytes(file)
    try:
        with _opened(data) as image:
            return _decode(image, data, str(file))
    except Image.DecompressionBombError as error:
        raise PictureError(
            "the picture claims to be so large that it may be a decompression bomb",
            where=str(file),
            expected=f"at most {2 * (Image.MAX_IMAGE_PIXELS or 0)} pixels",
            fix="Cut it into parts if it is genuine.",
        ) from error
    except UnidentifiedImageError as error:
        raise PictureError(
            "this is not a picture that edgeir reads",
            where=str(file),
            expected="PNG, JPEG, WebP, BMP or TIFF",
            fix="Convert it to PNG if it is a picture of another kind; otherwise the file is damaged or misnamed.",
        ) from error
    except _DAMAGE as error:
        raise PictureError(
            "the picture is damaged or cut short",
            where=str(file),
            got=str(error) or type(error).__name__,
            fix="Copy or download the file again.",
        ) from error


def _file_bytes(file: Path) -> bytes:
    """The content of ``file``, never empty."""
    try:
        data = file.read_bytes()
    except FileNotFoundError as error:
        raise PictureError("there is no such file", where=str(file), fix="Check the path.") from error
    except IsADirectoryError as error:
        raise PictureError("this is a folder, not a picture", where=str(file), fix="Name a file in it.") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise PictureError(f"the file cannot be read: {reason}", where=str(file)) from error
    if not data:
        raise PictureError("the file is empty", where=str(file), fix="Copy or download the file again.")
    return data


def _opened(data: bytes) -> Image.Image:
    """The header of a picture, read without Pillow's warnings: beyond twice its size limit it raises an error."""
    with _OPENING, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Image.open(io.BytesIO(data), formats=READABLE_FORMATS)


def _decode(image: Image.Image, data: bytes, where: str) -> Picture:
    """Pixels and all else of an opened ``image``, whose file holds ``data``."""
    name = "JPEG" if image.format == "MPO" else str(image.format)
    _refuse_what_would_be_lost(image, name, where)
    image.load()  # before the orientation is asked: Pillow turns a TIFF while it loads
    profile = image.info.get("icc_profile") or None
    if image.mode in ("CMYK", "LAB"):
        profile = None  # it describes numbers that are gone after the conversion
    values: _Integers
    if image.mode.startswith("I;16") and "transparency" not in image.info:
        values, grey, bits = np.asarray(image, dtype=np.uint16)[..., None], True, 16
    elif png16_channels(data) is not None:
        values = decode_png16(data)
        grey, bits = values.shape[2] < 3, 16
    else:
        values, grey = _eight_bit_values(image)
        bits = 8
    values = _upright(values, _orientation(image))
    pixels, alpha = _split(values, 65535 if bits == 16 else 255)
    return Picture(pixels, alpha, grey=grey, bits=bits, icc_profile=profile, format=name)


def _refuse_what_would_be_lost(image: Image.Image, name: str, where: str) -> None:
    """Raise ``PictureError`` for animations and for depths that Pillow would cut down without a word."""
    frames = int(getattr(image, "n_frames", 1))
    if frames > 1 and image.format != "MPO":
        raise PictureError(
            "the picture has more than one frame or page",
            where=where,
            expected="one",
            got=str(frames),
            fix="Extract the frames first, or give a video file.",
        )
    deep_tiff = name == "TIFF" and len(image.getbands()) > 1 and max(_tiff_bits(image), default=8) > 8
    if deep_tiff or (image.mode in ("I", "F") and name != "PNG"):
        raise PictureError(
            "the depth of this picture cannot be kept",
            where=where,
            expected="8 bits per channel, or a 16-bit PNG or grey 16-bit TIFF",
            got=f"{name} of mode {image.mode}" + (", more than 8 bits per channel" if deep_tiff else ""),
            fix="Convert it to a 16-bit PNG.",
        )


def _tiff_bits(image: Image.Image) -> tuple[int, ...]:
    tags = getattr(image, "tag_v2", {})
    return tuple(tags.get(_TIFF_BITS_TAG, (8,)))


def _eight_bit_values(image: Image.Image) -> tuple[NDArray[np.uint8], bool]:
    """``(H, W, 1..4) uint8`` and whether the source was grey."""
    transparent = image.has_transparency_data
    if image.mode in ("1", "L", "LA", "La"):
        values = np.asarray(image.convert("LA" if transparent else "L"))
        return (values if transparent else values[..., None]), True
    values = np.asarray(image.convert("RGBA" if transparent else "RGB"))
    if image.mode in ("P", "PA"):  # a palette of greys is how many tools store a grey picture
        colour = values[..., :3]
        if bool((colour == colour[..., :1]).all()):
            return np.delete(values, (1, 2), axis=2), True
    return values, False


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 to 8; 1 where there is none or where the EXIF block is damaged."""
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 1)
    except _DAMAGE:
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _upright(values: _Integers, orientation: int) -> _Integers:
    """``(H, W, C)`` turned and mirrored as EXIF ``orientation`` asks (source: EXIF 2.32, tag 0x0112)."""
    if orientation in (5, 6, 7, 8):  # stored lying: the rows of the file are columns of the scene
        values = values.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    return values


def _split(values: _Integers, most: int) -> tuple[Pixels, Pixels | None]:
    """Integers of 1 to 4 channels to RGB and alpha floats in [0, 1]; ``most`` is the integer of white."""
    scaled = np.divide(values, np.float32(most), dtype=np.float32)  # without a second picture of floats in between
    channels = scaled.shape[2]
    alpha = np.ascontiguousarray(scaled[..., -1]) if channels in (2, 4) else None
    colour = scaled[..., :3] if channels >= 3 else scaled[..., :1].repeat(3, axis=2)
    return np.ascontiguousarray(colour), alpha
