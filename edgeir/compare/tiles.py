"""A picture in tiles held against the whole picture: how much overlap the tiles of a network need.

The whole picture is two tiles high and two wide, restored in one piece. Two tiles in its top left corner, which meet
with exactly the overlap in question, are restored as tiles and blended::

    0       w - o   w      2w - o   2w
    +--------+------+--------+------+
    |  tile 0       |        :      |       compared is all but the last quarter of a tile below and at the right,
    |        |      tile 1   :      |       where the tiles lack what the whole picture goes on with
    |- - - - compared - - -| :      |
    +--------+------+--------+      |
    |                               |
    |                     the whole |
    +-------------------------------+

So every overlap has the same whole picture, four times as large as a tile, and no tile is shifted back. One border is
enough: a network that treats rows unlike columns is none of ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeir.compare.drift import Sample
from edgeir.errors import UsageError
from edgeir.imaging.metrics import fidelity_db, psnr_float
from edgeir.imaging.seams import seams
from edgeir.imaging.tiling import plan_tiles

Picture = NDArray[np.float32]
Whole = Callable[[Picture], Picture]
Tiled = Callable[[Picture, int], Picture]

# The gate of the design (section 5): a picture in tiles is the whole picture, and no seam stands out of its error.
TILED_FIDELITY_DB = 50.0
TILED_BORDER_RATIO = 1.1
# Where no overlap passes: what more overlap must buy to be worth its work.
WORTH_DB = 0.5
WORTH_RATIO = 0.1
WORTH_STEP = 0.1


@dataclass(frozen=True, slots=True)
class TileAgreement:
    """One picture under one degradation, in tiles of one size with one overlap, against the whole picture.

    Attributes:
        picture, condition: which.
        tile_px: (h, w) of a tile.
        overlap_px: what neighbouring tiles share.
        tiles: how many were restored.
        fidelity_db: PSNR of the tiles against the whole, peak 1, nothing clipped; ``inf`` for equal pictures.
        border_ratio: error where tiles meet over error elsewhere, `edgeir.imaging.seams.Seams.border_ratio`.
        step: extra gradient energy of the worst border line, see `edgeir.imaging.seams`.
        drift_db: PSNR(whole, truth) - PSNR(tiles, truth): positive is what tiling loses.
    """

    picture: str
    condition: str
    tile_px: tuple[int, int]
    overlap_px: int
    tiles: int
    fidelity_db: float
    border_ratio: float
    step: float
    drift_db: float


@dataclass(frozen=True, slots=True)
class OverlapAgreement:
    """One overlap over all pictures: of each figure the worst.

    Attributes:
        tile_px, overlap_px: as in `TileAgreement`.
        pictures: how many were compared.
        fidelity_db, border_ratio, step, drift_db: as there.
    """

    tile_px: tuple[int, int]
    overlap_px: int
    pictures: int
    fidelity_db: float
    border_ratio: float
    step: float
    drift_db: float

    @property
    def passes(self) -> bool:
        """Whether it is within the gate."""
        return self.fidelity_db >= TILED_FIDELITY_DB and self.border_ratio <= TILED_BORDER_RATIO

    @property
    def work(self) -> float:
        """Pixels restored per pixel of a large picture: ``h w / ((h - o) (w - o))``."""
        height, width = self.tile_px
        return height * width / ((height - self.overlap_px) * (width - self.overlap_px))


@dataclass(frozen=True, slots=True)
class OverlapChoice:
    """The overlap that was chosen, and why, in one sentence."""

    chosen: OverlapAgreement
    reason: str


def whole_size(tile_px: tuple[int, int]) -> tuple[int, int]:
    """(H, W) in pixels of the whole picture for tiles of ``tile_px``: twice both."""
    return 2 * tile_px[0], 2 * tile_px[1]


def compare_tiles(
    sample: Sample,
    whole: Whole,
    tiled: Tiled,
    *,
    tile_px: tuple[int, int],
    overlaps_px: Sequence[int],
    scale: int = 1,
    on_overlap: Callable[[], None] | None = None,
) -> list[TileAgreement]:
    """Restore one picture whole and in tiles, one row per overlap.

    Args:
        sample: its ``degraded`` picture is of `whole_size`.
        whole: ``(H, W, 3) -> (s*H, s*W, 3)``, in one piece.
        tiled: the same for any size from a tile on, in tiles of ``tile_px`` with the overlap it is given, in pixels.
        tile_px: (h, w) of the tiles.
        overlaps_px: each from 0 to half the smaller side of a tile; beyond that three tiles share a pixel.
        scale: s.
        on_overlap: called after each, for progress.

    Raises:
        UsageError: the picture is not of `whole_size`, or an overlap is out of range.
    """
    if sample.degraded.shape[:2] != whole_size(tile_px):
        raise UsageError(
            "the whole picture does not fit the tiles",
            where=sample.picture,
            expected=f"{2 * tile_px[0]}x{2 * tile_px[1]} pixels",
            got="x".join(map(str, sample.degraded.shape[:2])),
        )
    if out := [overlap for overlap in overlaps_px if not 0 <= overlap <= min(tile_px) // 2]:
        raise UsageError(
            "the overlap cannot be compared",
            expected=f"0 to {min(tile_px) // 2} pixels, half a tile of {tile_px[0]}x{tile_px[1]}",
            got=str(out[0]),
        )
    expected = whole(sample.degraded)
    rows = []
    for overlap in overlaps_px:
        sides = tile_px[0], 2 * tile_px[1] - overlap
        block = np.ascontiguousarray(sample.degraded[: sides[0], : sides[1]])
        judged = tuple(slice((end - side // 4) * scale) for end, side in zip(sides, tile_px, strict=True))
        got, wanted, truth = tiled(block, overlap)[judged], expected[judged], sample.clean[judged]
        tiles = plan_tiles(*sides, *tile_px, overlap)
        found = seams(got, wanted, tiles, overlap_px=overlap, scale=scale)
        rows.append(
            TileAgreement(
                picture=sample.picture,
                condition=sample.condition,
                tile_px=tile_px,
                overlap_px=overlap,
                tiles=len(tiles),
                fidelity_db=fidelity_db(got, wanted),
                border_ratio=found.border_ratio,
                step=found.step,
                drift_db=_drift_db(got, wanted, truth),
            )
        )
        if on_overlap is not None:
            on_overlap()
    return rows


def by_overlap(rows: Sequence[TileAgreement]) -> list[OverlapAgreement]:
    """Gather `compare_tiles`'s rows of one tile size per overlap, smallest overlap first.

    Raises:
        UsageError: there is no row, or the rows are of several tile sizes.
    """
    sizes = {row.tile_px for row in rows}
    if len(sizes) != 1:
        raise UsageError("overlaps are compared at one tile size", got=f"{len(sizes)} sizes")
    return [
        _gather([row for row in rows if row.overlap_px == overlap])
        for overlap in sorted({row.overlap_px for row in rows})
    ]


def _gather(rows: Sequence[TileAgreement]) -> OverlapAgreement:
    return OverlapAgreement(
        tile_px=rows[0].tile_px,
        overlap_px=rows[0].overlap_px,
        pictures=len(rows),
        fidelity_db=min(row.fidelity_db for row in rows),
        border_ratio=_largest(row.border_ratio for row in rows),
        step=_largest(row.step for row in rows),
        drift_db=_largest(row.drift_db for row in rows),
    )


def _largest(values: Iterable[float]) -> float:
    """NaN if one is: it must not pass for a number."""
    return float(np.max(list(values)))


def _drift_db(tiled: Picture, whole: Picture, truth: Picture) -> float:
    of_whole, of_tiled = psnr_float(whole, truth), psnr_float(tiled, truth)
    return 0.0 if of_whole == of_tiled else of_whole - of_tiled


def choose_overlap(rows: Sequence[TileAgreement]) -> OverlapChoice:
    """The smallest overlap that passes the gate on every picture.

    Where none does, the smallest that no larger one beats by `WORTH_DB` of fidelity, or by `WORTH_STEP` of the step or
    `WORTH_RATIO` of the border ratio (while that is above the gate) without losing `WORTH_DB`.

    Raises:
        UsageError: as `by_overlap`.
    """
    gathered = by_overlap(rows)
    gate = f"{TILED_FIDELITY_DB:g} dB with a border error of at most {TILED_BORDER_RATIO:g}"
    for row in gathered:
        if row.passes:
            return OverlapChoice(row, f"{row.overlap_px} pixels are the least that reach {gate}.")
    for index, row in enumerate(gathered):
        if not any(_worth_it(row, larger) for larger in gathered[index + 1 :]):
            break
    return OverlapChoice(
        row,
        f"No overlap reaches {gate}; beyond {row.overlap_px} pixels none gains {WORTH_DB:g} dB, or lowers the border "
        f"error by {WORTH_RATIO:g} or the step by {WORTH_STEP:g}.",
    )


def _worth_it(row: OverlapAgreement, larger: OverlapAgreement) -> bool:
    gain_db = larger.fidelity_db - row.fidelity_db
    if not -WORTH_DB < gain_db < WORTH_DB:
        return gain_db > 0
    stands_out = row.border_ratio > TILED_BORDER_RATIO
    return larger.step <= row.step - WORTH_STEP or (
        stands_out and larger.border_ratio <= row.border_ratio - WORTH_RATIO
    )
