"""Joining restored tiles without seams, in the memory of the output picture alone."""

from __future__ import annotations

import numpy as np

from edgeir.errors import PictureError, UsageError
from edgeir.imaging.colour import Pixels
from edgeir.imaging.tiling import Tile


def edge_weights(length: int, ramp: int, *, rise: bool, fall: bool) -> Pixels:
    """Weights along one side of a tile: a raised cosine up over ``ramp`` pixels, one, and down again.

    ``sin^2(pi/2 (i + 1/2) / ramp)``: two tiles that overlap by exactly ``ramp`` have weights that sum to one, since
    sin^2 + cos^2 = 1. Every weight is positive. A side at the edge of the picture does not ramp.

    Args:
        length: pixels along the side.
        ramp: pixels over which the weight rises or falls, at most ``length``.
        rise: whether another tile joins at the beginning.
        fall: whether another tile joins at the end.

    Returns:
        ``(length,) float32`` in (0, 1].
    """
    weights = np.ones(length, dtype=np.float64)
    slope = np.sin(0.5 * np.pi * (np.arange(ramp) + 0.5) / max(ramp, 1)) ** 2
    if rise:
        weights[:ramp] = slope
    if fall:
        weights[length - ramp :] *= slope[::-1]
    return weights.astype(np.float32)


class TileBlender:
    """The weighted mean of overlapping tiles, added one after the other in any order.

    Holds two float32 arrays of the size of the output, ``(H*s, W*s, C)`` and ``(H*s, W*s)``, however many tiles come.

    Args:
        height: H of the input picture, in pixels.
        width: W of the input picture, in pixels.
        channels: C of the output.
        scale: s, output pixels per input pixel along each side.
        overlap_px: the overlap the tiles were planned with, in input pixels; the weights ramp over it.
    """

    def __init__(self, height: int, width: int, channels: int = 3, scale: int = 1, *, overlap_px: int = 0) -> None:
        if min(height, width, channels, scale) < 1 or overlap_px < 0:
            raise UsageError(
                "a blender needs positive sizes",
                got=f"{height}x{width}, {channels} channels, scale {scale}, overlap {overlap_px}",
            )
        self._height = height
        self._width = width
        self._scale = scale
        self._overlap_px = overlap_px
        self._sum = np.zeros((height * scale, width * scale, channels), dtype=np.float32)
        self._weight = np.zeros((height * scale, width * scale), dtype=np.float32)
        self._done = False

    def add(self, tile: Tile, output: Pixels) -> None:
        """Add what the network made of ``tile``: ``(h*s, w*s, C) float32``.

        Raises:
            UsageError: the tile leaves the picture, is not larger than the overlap, or ``output`` has another shape.
        """
        self._check(tile, output)
        ramp = self._overlap_px * self._scale
        bottom, right = tile.top + tile.height, tile.left + tile.width
        down = edge_weights(tile.height * self._scale, ramp, rise=tile.top > 0, fall=bottom < self._height)
        across = edge_weights(tile.width * self._scale, ramp, rise=tile.left > 0, fall=right < self._width)
        weights = down[:, None] * across[None, :]
        where = tile.slices(self._scale)
        self._sum[where] += output * weights[..., None]
        self._weight[where] += weights

    def result(self) -> Pixels:
        """The blended picture, ``(H*s, W*s, C) float32``, in the memory of the sums: it can be asked for once.

        Raises:
            PictureError: tiles are missing.
            UsageError: it was asked for before.
        """
        if self._done:
            raise UsageError("the blended picture was taken already", fix="Make another blender.")
        missing = int((self._weight == 0).sum())
        if missing:
            raise PictureError(
                "tiles are missing",
                expected=f"all of {self._weight.size} output pixels covered",
                got=f"{missing} that are not",
            )
        self._done = True
        np.divide(self._sum, self._weight[..., None], out=self._sum)
        return self._sum

    def _check(self, tile: Tile, output: Pixels) -> None:
        inside = (
            0 <= tile.top <= tile.top + tile.height <= self._height
            and 0 <= tile.left <= tile.left + tile.width <= self._width
        )
        if not inside or self._overlap_px >= min(tile.height, tile.width):
            raise UsageError(
                "the tile does not fit the picture or the overlap",
                expected=f"inside {self._height}x{self._width}, larger than an overlap of {self._overlap_px}",
                got=str(tile),
            )
        expected = (tile.height * self._scale, tile.width * self._scale, self._sum.shape[2])
        if output.shape != expected:
            raise UsageError("the output of a tile has the wrong shape", expected=str(expected), got=str(output.shape))
