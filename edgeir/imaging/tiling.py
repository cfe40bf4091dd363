"""Cutting a large picture into tiles of one size, so that one fixed-size engine restores any picture.

::

    0        stride        2 stride     W - w
    |--- tile 0 ---|                             each tile begins one stride = tile - overlap
              |--- tile 1 ---|                   after the one before it; the last is shifted
                        |--- tile 2 ---|         back to end with the picture
                            |--- tile 3 ---|
"""

from __future__ import annotations

from dataclasses import dataclass

from edgeir.errors import UsageError


@dataclass(frozen=True, slots=True)
class Tile:
    """A rectangle of the input picture; all numbers in input pixels."""

    top: int
    left: int
    height: int
    width: int

    def slices(self, scale: int = 1) -> tuple[slice, slice]:
        """Rows and columns to index ``(H*s, W*s, ...)`` pixels with."""
        return (
            slice(self.top * scale, (self.top + self.height) * scale),
            slice(self.left * scale, (self.left + self.width) * scale),
        )


def plan_tiles(height: int, width: int, tile_h: int, tile_w: int, overlap_px: int) -> tuple[Tile, ...]:
    """Full-size tiles that cover a picture, row by row.

    Neighbours share at least ``overlap_px`` pixels; the last of a row or column may share more. Every tile lies
    inside the picture and has the same size.

    Args:
        height: H of the picture, in pixels, at least ``tile_h`` (`edgeir.imaging.padding.pad_to` makes it so).
        width: W of the picture, likewise.
        tile_h: height of every tile, in pixels.
        tile_w: width of every tile, in pixels.
        overlap_px: what neighbours share at least, in pixels, below both sides of the tile.

    Raises:
        UsageError: the overlap is negative or not below the tile, or the picture is smaller than a tile.
    """
    if tile_h < 1 or tile_w < 1 or not 0 <= overlap_px < min(tile_h, tile_w):
        raise UsageError(
            "the overlap does not fit the tile",
            expected=f"0 <= overlap < {min(tile_h, tile_w)} pixels",
            got=f"overlap {overlap_px}, tile {tile_h}x{tile_w}",
            fix="Take a smaller overlap or a larger tile.",
        )
    if height < tile_h or width < tile_w:
        raise UsageError(
            "the picture is smaller than a tile",
            expected=f"at least {tile_h}x{tile_w}",
            got=f"{height}x{width}",
            fix="Pad it first (edgeir.imaging.padding.pad_to).",
        )
    return tuple(
        Tile(top, left, tile_h, tile_w)
        for top in _starts(height, tile_h, overlap_px)
        for left in _starts(width, tile_w, overlap_px)
    )


def _starts(side: int, tile: int, overlap_px: int) -> list[int]:
    """First pixels of the tiles along one side."""
    last = side - tile
    return [*range(0, last, tile - overlap_px), last]
