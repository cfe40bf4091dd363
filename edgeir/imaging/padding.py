"""Growing a picture to a size the network accepts, by mirroring, and cutting it back."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from edgeir.errors import UsageError
from edgeir.spec import SizeRule

Value = TypeVar("Value", bound=np.generic)


def padded_size(height: int, width: int, rule: SizeRule) -> tuple[int, int]:
    """The smallest ``(height, width)`` that ``rule`` accepts and the picture fits in, in pixels."""
    return rule.near(height), rule.near(width)


def pad_to(pixels: NDArray[Value], height: int, width: int) -> NDArray[Value]:
    """Grow a picture at its bottom and right edge to ``height`` x ``width`` by mirroring it.

    The edge pixel is not repeated (``abcd`` grows to ``abcdcba``), so a gradient has no step. The mirror image is
    mirrored again where the picture is smaller than what is missing, and an axis of one pixel is repeated, so every
    size works.

    Args:
        pixels: ``(H, W)`` or ``(H, W, C)``, floats or bytes.
        height: H of the result, in pixels, at least that of ``pixels``.
        width: W of the result, likewise.

    Returns:
        ``(height, width)`` or ``(height, width, C)`` of the same type, ``pixels`` itself if nothing is missing.

    Raises:
        UsageError: the picture is empty or larger than the size asked for.
    """
    have_height, have_width = pixels.shape[:2]
    below, right = height - have_height, width - have_width
    if below < 0 or right < 0 or 0 in pixels.shape:
        raise UsageError(
            "the picture cannot be padded to this size",
            expected=f"a picture of at most {height}x{width} pixels, not empty",
            got=f"{have_height}x{have_width}",
        )
    if below == right == 0:
        return pixels
    rows, columns = _mirrored(have_height, height), _mirrored(have_width, width)
    return np.ascontiguousarray(pixels[rows[:, None], columns[None, :]])


def crop(pixels: NDArray[Value], height: int, width: int, scale: int = 1) -> NDArray[Value]:
    """Undo `pad_to` on a network's output: the top left ``height*scale`` x ``width*scale`` pixels, as a view.

    Raises:
        UsageError: the output is smaller than that.
    """
    if pixels.shape[0] < height * scale or pixels.shape[1] < width * scale:
        raise UsageError(
            "the output is smaller than the picture it belongs to",
            expected=f"at least {height * scale}x{width * scale}",
            got=f"{pixels.shape[0]}x{pixels.shape[1]}",
        )
    return pixels[: height * scale, : width * scale]


def _mirrored(have: int, want: int) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    """Source index of each of ``want`` positions: 0 1 2 3 2 1 0 1 ... for ``have`` = 4."""
    if have == 1:
        return np.zeros(want, dtype=np.intp)
    period = 2 * (have - 1)
    phase = np.arange(want, dtype=np.intp) % period
    return np.minimum(phase, period - phase)


def pad_to_at_least(pixels: NDArray[Value], height: int, width: int) -> NDArray[Value]:
    """`pad_to` the sides that are smaller than ``height`` and ``width``; larger ones stay as they are."""
    return pad_to(pixels, max(height, pixels.shape[0]), max(width, pixels.shape[1]))
