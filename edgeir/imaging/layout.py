"""From the picture layout H W C to the network layout N C H W, and back."""

from __future__ import annotations

import numpy as np

from edgeir.errors import UsageError
from edgeir.imaging.colour import Pixels


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
