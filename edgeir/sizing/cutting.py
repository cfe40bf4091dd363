"""How a picture would be cut: the tiles of `edgeir.imaging.tiling` and what they cost beyond the picture."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from edgeir.errors import UsageError
from edgeir.imaging.padding import padded_size
from edgeir.manifest import Tiling
from edgeir.runtime.restore import GraphInput, Overlap, overlap_to_run
from edgeir.runtime.tile_statistics import gathering
from edgeir.spec import SizeRule


@dataclass(frozen=True, slots=True)
class Cut:
    """A picture in tiles, all sizes (H, W) in input pixels.

    Attributes:
        picture: as it is.
        padded: as it is restored.
        tile: of each tile.
        overlap: what neighbours share; 0 pixels where one tile is the whole.
        tiles: how many.
        runs: how many batches.
        batch: tiles per run.
    """

    picture: tuple[int, int]
    padded: tuple[int, int]
    tile: tuple[int, int]
    overlap: Overlap
    tiles: int
    runs: int
    batch: int

    @property
    def tile_pixels(self) -> int:
        """Input pixels of one tile."""
        return self.tile[0] * self.tile[1]

    @property
    def padded_pixels(self) -> int:
        """Input pixels of the padded picture."""
        return self.padded[0] * self.padded[1]

    @property
    def repeated(self) -> float:
        """Share of the work that is done on pixels another tile restores as well, or that padding added."""
        return 1 - self.picture[0] * self.picture[1] / (self.runs * self.batch * self.tile_pixels)


def cut(
    graph: GraphInput,
    picture: tuple[int, int],
    *,
    tile_px: int | None = None,
    overlap_px: int | None = None,
    tiling: Tiling | None = None,
) -> Cut:
    """Cut ``picture`` as `edgeir.runtime.restore.restore_pixels` does.

    Args:
        graph: what the network accepts.
        picture: (H, W) in pixels, any size from 1.
        tile_px: side of the tiles the user asked for, ``None`` for the largest that the graph takes.
        overlap_px: the user's, ``None`` for what was measured, or else the default.
        tiling: what the bundle's manifest says of tiles.

    Raises:
        UsageError: the graph does not take such a tile, or the overlap does not fit it.
    """
    tile = graph.tile_for(*picture, tile_px)
    overlap = overlap_to_run(graph, tiling, tile_px=tile_px, asked_px=overlap_px)
    grid = padded_size(*picture, graph.rule)
    padded = max(tile[0], grid[0]), max(tile[1], grid[1])
    if padded == tile:
        overlap = Overlap(0, overlap.origin)
    elif not 0 <= overlap.px < min(tile):
        raise UsageError(
            "the overlap does not fit the tile",
            where="--overlap",
            expected=f"0 to {min(tile) - 1} pixels",
            got=str(overlap.px),
        )
    down, across = (_tiles_along(side, part, overlap.px) for side, part in zip(padded, tile, strict=True))
    tiles = down * across
    return Cut(picture, padded, tile, overlap, tiles, -(-tiles // graph.batch), graph.batch)


def fixed_size(rule: SizeRule, tile: tuple[int, int], scale: int, *, batch: int = 1) -> GraphInput:
    """What a graph exported at one size accepts."""
    return GraphInput(batch, tile, tile, tile, rule, scale)


def even_cut(
    picture: tuple[int, int], rule: SizeRule, scale: int, parts: tuple[int, int], *, overlap_px: int | None = None
) -> Cut:
    """Cut ``picture`` with the smallest tiles of which ``parts`` (rows, columns) cover it.

    The tile depends on the overlap, and the default overlap on the tile: smaller tiles share less. Beginning with what
    the whole would share, both shrink until they agree.

    Args:
        picture: (H, W) in pixels.
        rule: which tiles the network accepts; where it accepts none so small, there are fewer than ``parts``.
        scale: output pixels per input pixel along each side.
        parts: rows and columns, from 1.
        overlap_px: the user's, below both padded sides unless there is one part.

    Raises:
        UsageError: the overlap does not fit the tile.
    """
    padded = padded_size(*picture, rule)
    graph = fixed_size(rule, padded, scale)
    while True:
        shared = overlap_to_run(graph, None, asked_px=overlap_px).px
        tile = _side(padded[0], parts[0], shared, rule), _side(padded[1], parts[1], shared, rule)
        if tile[0] >= graph.optimum[0] and tile[1] >= graph.optimum[1]:
            return cut(graph, picture, overlap_px=overlap_px)
        graph = fixed_size(rule, tile, scale)


def gathering_runs(graph: GraphInput, made: Cut) -> int:
    """Runs for the statistics of a picture in tiles before it is restored (`edgeir.runtime.tile_statistics.gather`)."""
    if made.tiles == 1:
        return 0
    tiles, passes = gathering(made.padded, graph.optimum)
    return len(tiles) * passes


def square_tiles(low: int, high: int, step: int) -> Iterator[tuple[int, int]]:
    """Square tiles between two sides in pixels, the largest first."""
    for side in range(high // step * step, low - 1, -step):
        yield side, side


def _side(length: int, parts: int, overlap_px: int, rule: SizeRule) -> int:
    """The smallest accepted side of which ``parts`` cover ``length`` pixels with ``overlap_px`` shared."""
    return min(length, rule.near(-(-(length + (parts - 1) * overlap_px) // parts)))


def _tiles_along(length: int, part: int, overlap_px: int) -> int:
    """How many tiles `edgeir.imaging.tiling.plan_tiles` puts along one side; it would make an object of each."""
    return len(range(0, length - part, part - overlap_px)) + 1
