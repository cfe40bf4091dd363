"""Does a picture that was put together from tiles show where they meet?

Two measures of ``tiled`` against ``whole``, the same picture restored in one piece, ``(s*H, s*W, C) float32``:

**Border error against interior error.** The root mean square of ``tiled - whole`` over the bands where tiles meet, as
a multiple of that over the rest, or of what rounding to 8 bits makes (`ROUNDING_RMS`) where the rest is closer than
that to the whole picture: what nobody sees does not stand out. Along one side, two neighbours share the pixels from
the beginning of the later one to the end of the earlier one; their band is what they share, widened about its middle to
`LEAST_BAND_PX` input pixels where it is narrower (without overlap it would be empty). The bands of both sides together
are the border, all else is the interior::

    |------ tile 0 ------|
                    |------ tile 1 ------|
    interior        |band|      interior

**Step.** What an eye notices: an edge along a border that the whole picture does not have. A border line runs, over
the full height or width of the picture, where a tile begins or ends inside it, and in the middle of the ramp over which
the blend goes from one tile to the next. E(line) is the mean square of the difference of the two pixels at its sides,
plus (1/255)^2: weaker gradients are not seen. The step of the picture is that of its worst line::

    max over border lines of   E_tiled(line) / E_whole(line) / gain - 1
    gain = mean of E_tiled / mean of E_whole, over the lines of the same direction outside the bands

0: no border is steeper than the rest of the picture is; 1: a line has twice the gradient energy that it would have
without tiles, or a step of one in 255 where the picture is flat. The gain is there because tiles may come out with more
contrast, or more noise, than the whole picture: that is an error, but no seam.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from edgeir.errors import UsageError
from edgeir.imaging.colour import Pixels
from edgeir.imaging.tiling import Tile

LEAST_BAND_PX = 16
ROUNDING_RMS = 1 / 255 / math.sqrt(12)  # of an error spread evenly over one step of an 8-bit picture; 58.9 dB
_VISIBLE_STEP = 1 / 255


@dataclass(frozen=True, slots=True)
class Seams:
    """How the error of a tiled picture lies around its borders.

    Attributes:
        border_rms: root mean square of ``tiled - whole`` where tiles meet, in the unit of the pictures.
        interior_rms: the same of all other pixels; 0 where tiles meet everywhere.
        step: extra gradient energy of the worst border line, see above; below 0 where every border line is smoother.
    """

    border_rms: float
    interior_rms: float
    step: float

    @property
    def border_ratio(self) -> float:
        """``border_rms / max(interior_rms, ROUNDING_RMS)``: 0 for equal pictures, 1 for an error that is everywhere."""
        return self.border_rms / max(self.interior_rms, ROUNDING_RMS)


def seams(tiled: Pixels, whole: Pixels, tiles: Sequence[Tile], *, overlap_px: int, scale: int = 1) -> Seams:
    """Measure the seams of one picture.

    Args:
        tiled: the blended tiles, ``(s*H, s*W, C)``; not clipped.
        whole: the same picture restored in one piece, of the same shape.
        tiles: as `edgeir.imaging.tiling.plan_tiles` made them; H and W may be cut below and at the right.
        overlap_px: the overlap they were planned with, in input pixels: the width of the blend's ramps.
        scale: s.

    Returns:
        the measures; all infinite if a value of either picture is not a finite number.

    Raises:
        UsageError: the shapes differ, or there is no border inside the picture.
    """
    if tiled.shape != whole.shape or tiled.ndim != 3 or tiled.size == 0:
        raise UsageError(
            "the pictures cannot be compared",
            expected="two arrays of one shape (H, W, C), not empty",
            got=f"{tiled.shape} and {whole.shape}",
        )
    if not (np.isfinite(tiled).all() and np.isfinite(whole).all()):
        return Seams(math.inf, math.inf, math.inf)
    one, other = np.asarray(tiled, np.float64), np.asarray(whole, np.float64)
    rows = _spans([(tile.top, tile.top + tile.height) for tile in tiles])
    columns = _spans([(tile.left, tile.left + tile.width) for tile in tiles])
    border_rows, border_columns = _border(rows, one.shape[0], scale), _border(columns, one.shape[1], scale)
    turned, turned_other = one.transpose(1, 0, 2), other.transpose(1, 0, 2)
    steps = _steps(one, other, _lines(rows, overlap_px, scale), border_rows)
    steps += _steps(turned, turned_other, _lines(columns, overlap_px, scale), border_columns)
    if not steps:
        raise UsageError("no two tiles meet inside the picture", got=f"{len(tiles)} tiles")
    border = border_rows[:, None] | border_columns[None, :]
    square = np.square(one - other).mean(axis=2)
    return Seams(
        border_rms=math.sqrt(square[border].mean()),
        interior_rms=0.0 if border.all() else math.sqrt(square[~border].mean()),
        step=max(steps),
    )


def _spans(sides: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """What neighbours along one side share: first pixel of the later tile, end of the earlier one."""
    return [(later[0], earlier[1]) for earlier, later in pairwise(sorted(set(sides)))]


def _border(spans: Sequence[tuple[int, int]], length: int, scale: int) -> NDArray[np.bool_]:
    """Which of ``length`` output pixels along one side lie in a band."""
    inside = np.zeros(length, dtype=np.bool_)
    for first, end in spans:
        wider = max(0.0, (LEAST_BAND_PX - (end - first)) / 2)
        low, high = math.floor((first - wider) * scale), math.ceil((end + wider) * scale)
        inside[max(low, 0) : max(high, 0)] = True
    return inside


def _lines(spans: Sequence[tuple[int, int]], overlap_px: int, scale: int) -> list[int]:
    """Border lines along one side, each by the output pixel after it."""
    half = overlap_px * scale // 2
    lines: set[int] = set()
    for first, end in spans:
        lines |= {first * scale, first * scale + half, end * scale - half, end * scale}
    return sorted(lines)


def _steps(
    tiled: NDArray[np.float64], whole: NDArray[np.float64], lines: Sequence[int], border: NDArray[np.bool_]
) -> list[float]:
    """The step at those of ``lines`` that run between two rows of the picture."""
    inside = [line for line in lines if 0 < line < len(border)]
    if not inside:
        return []
    of_tiled, of_whole = (np.square(np.diff(p, axis=0)).mean(axis=(1, 2)) + _VISIBLE_STEP**2 for p in (tiled, whole))
    outside = ~(border[1:] | border[:-1])
    gain = of_tiled[outside].mean() / of_whole[outside].mean() if outside.any() else 1.0
    return [float(of_tiled[line - 1] / of_whole[line - 1] / gain - 1) for line in inside]
