"""Pixel values: luma, and the one rounding from floats to integers."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgeir.errors import UsageError

Pixels: TypeAlias = NDArray[np.float32]
"""``float32`` pixels, ``(H, W, 3)`` RGB or ``(H, W)``; in [0, 1] where nothing else is said."""

_ROWS = 128

BT601_RED, BT601_GREEN, BT601_BLUE = 0.299, 0.587, 0.114


def luma(pixels: Pixels) -> Pixels:
    """Brightness of each pixel by ITU-R BT.601, full range: ``0.299 R + 0.587 G + 0.114 B``.

    The weights sum to one: a grey pixel keeps its value, up to float32 rounding.

    Args:
        pixels: ``(H, W, 3) float32``, RGB, any range.

    Returns:
        ``(H, W) float32`` in the range of ``pixels``.

    Raises:
        UsageError: the last axis is not RGB.
    """
    if pixels.ndim != 3 or pixels.shape[2] != 3:
        raise UsageError("luma needs an RGB picture", expected="shape (H, W, 3)", got=str(pixels.shape))
    red, green, blue = pixels[..., 0], pixels[..., 1], pixels[..., 2]
    return np.asarray(BT601_RED * red + BT601_GREEN * green + BT601_BLUE * blue, dtype=np.float32)


def to_uint8(pixels: Pixels) -> NDArray[np.uint8]:
    """``(clip(x, 0, 1) * 255).round()`` as ``uint8``: the integers that an 8-bit file stores.

    A metric on "uint8 pictures" and a written file agree because both use this function (source: KAIR
    ``utils_image.single2uint``). Not-a-number has no integer: callers check first.
    """
    rounded = np.empty(pixels.shape, np.uint8)
    _round_rows(pixels, 255, rounded)
    return rounded


def to_uint16(pixels: Pixels) -> NDArray[np.uint16]:
    """``(clip(x, 0, 1) * 65535).round()`` as ``uint16``; exact inverse of ``value / 65535`` in float32."""
    rounded = np.empty(pixels.shape, np.uint16)
    _round_rows(pixels, 65535, rounded)
    return rounded


def _round_rows(pixels: Pixels, most: int, rounded: NDArray[np.integer]) -> None:
    """Rows at a time: the floats in between would take as much memory as the picture, three times."""
    if pixels.ndim == 0:
        rounded[...] = np.rint(np.clip(pixels, 0.0, 1.0) * np.float32(most))
    for start in range(0, pixels.shape[0] if pixels.ndim else 0, _ROWS):
        rows = slice(start, start + _ROWS)
        rounded[rows] = np.rint(np.clip(pixels[rows], 0.0, 1.0) * np.float32(most)).astype(rounded.dtype)
