"""Any picture through a network of one fixed size: pad, tile, run, blend, crop."""

from __future__ import annotations

from collections.abc import Callable

from edgeir.imaging.blending import TileBlender
from edgeir.imaging.colour import Pixels
from edgeir.imaging.padding import crop, pad_to
from edgeir.imaging.tiling import plan_tiles


def run_tiled(
    network: Callable[[Pixels], Pixels],
    pixels: Pixels,
    *,
    tile_h: int,
    tile_w: int,
    overlap_px: int,
    scale: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Pixels:
    """Restore a picture of any size with a network that takes ``tile_h`` x ``tile_w`` pixels and nothing else.

    Args:
        network: ``(tile_h, tile_w, 3) float32`` to ``(tile_h*s, tile_w*s, C) float32``.
        pixels: ``(H, W, 3) float32``, any H and W.
        tile_h: height of every tile, in pixels.
        tile_w: width of every tile, in pixels.
        overlap_px: what neighbouring tiles share at least, in pixels.
        scale: s, output pixels per input pixel along each side.
        progress: called with the tiles done and their number, after each tile.

    Returns:
        ``(H*s, W*s, C) float32``.

    Raises:
        UsageError: the overlap does not fit the tile, or the network's output has another shape than it says.
    """
    height, width = pixels.shape[:2]
    padded = pad_to(pixels, max(height, tile_h), max(width, tile_w))
    tiles = plan_tiles(padded.shape[0], padded.shape[1], tile_h, tile_w, overlap_px)
    blender: TileBlender | None = None
    for done, tile in enumerate(tiles, start=1):
        output = network(padded[tile.slices()])
        if blender is None:
            channels = output.shape[2] if output.ndim == 3 else 1
            blender = TileBlender(padded.shape[0], padded.shape[1], channels, scale, overlap_px=overlap_px)
        blender.add(tile, output)
        if progress is not None:
            progress(done, len(tiles))
    assert blender is not None  # plan_tiles gives one tile at least
    return crop(blender.result(), height, width, scale)
