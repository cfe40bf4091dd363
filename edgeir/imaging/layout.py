"""From the picture layout H W C to the network layout N C H W, and back; the middle of a picture."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from edgeir.errors import UsageError
from edgeir.imaging.colour import Pixels

Value = TypeVar("Value", bound=np.generic)


def nchw_from_hwc(pixels: Pixels) -> Pixels:
    """A batch of one: ``(H, W, C) float32`` to ``(1, C, H, W) float32``, contiguous, same values.

    Raises:
        UsageError: ``pixels`` has not three axes.
    """
    if pixels.ndim != 3:
        raise UsageError("a picture needs three axes", expected="shape (H, W, C)", got=str(pixels.shape))
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)[None], dtype=np.float32)


def hwc_from_nchw(batch: Pixels) -> Pixels:
    """The only picture of a batch of one: ``(1, C, H, W)`` to ``(H, W, C) float32``, contiguous, same values.

    Raises:
        UsageError: ``batch`` has not four axes, or holds more than one picture.
    """
    if batch.ndim != 4 or batch.shape[0] != 1:
        raise UsageError("this is not a batch of one picture", expected="shape (1, C, H, W)", got=str(batch.shape))
    return np.ascontiguousarray(batch[0].transpose(1, 2, 0), dtype=np.float32)


def middle_of(pixels: NDArray[Value], height: int, width: int) -> NDArray[Value]:
    """The middle ``(height, width, C)`` of ``(H, W, C)``, contiguous, same values and type.

    Of an odd difference the larger part is cut off below or at the right.

    Raises:
        UsageError: the picture is smaller.
    """
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    if top < 0 or left < 0:
        raise UsageError(
            "the picture is smaller than the crop",
            expected=f"at least {height}x{width} pixels",
            got=f"{pixels.shape[0]}x{pixels.shape[1]}",
        )
    return np.ascontiguousarray(pixels[top : top + height, left : left + width])
