"""How a picture would be cut: the tiles of `edgeir.imaging.tiling` and what they cost beyond the picture."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from edgeir.errors import UsageError
from edgeir.imaging.padding import padded_size
from edgeir.imaging.tiling import plan_tiles
from edgeir.manifest import Tiling
from edgeir.runtime.restore import GraphInput, Overlap, overlap_to_run
from edgeir.spec import SizeRule

_MOST_TILES = 4096  # of a candidate: beyond that the tiles are far too small for the picture


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
    tiles = len(plan_tiles(*padded, *tile, overlap.px))
    return Cut(picture, padded, tile, overlap, tiles, -(-tiles // graph.batch), graph.batch)


def fixed_size(rule: SizeRule, tile: tuple[int, int], scale: int, *, batch: int = 1) -> GraphInput:
    """What a graph exported at one size accepts."""
    return GraphInput(batch, tile, tile, tile, rule, scale)


def even_tiles(picture: tuple[int, int], rule: SizeRule, overlap_px: int) -> Iterator[tuple[int, int]]:
    """Tiles (h, w) that divide ``picture`` evenly and that ``rule`` accepts: the whole first, then more and more."""
    height, width = padded_size(*picture, rule)
    rows, columns = 1, 1
    previous = None
    while rows * columns <= _MOST_TILES:
        tile = _side(height, rows, overlap_px, rule), _side(width, columns, overlap_px, rule)
        if tile != previous:
            yield tile
        previous = tile
        if tile[0] >= tile[1]:  # the longer side is divided further, so that tiles come near a square
            rows += 1
        else:
            columns += 1


def square_tiles(low: int, high: int, step: int) -> Iterator[tuple[int, int]]:
    """Square tiles between two sides in pixels, the largest first."""
    for side in range(high // step * step, low - 1, -step):
        yield side, side


def _side(length: int, parts: int, overlap_px: int, rule: SizeRule) -> int:
    """The smallest accepted side of which ``parts`` cover ``length`` pixels with ``overlap_px`` shared."""
    return min(length, rule.near(-(-(length + (parts - 1) * overlap_px) // parts)))
