"""Restoring a picture of any size with an opened network: pad, tile, batch, blend, crop."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from edgeir.errors import UsageError
from edgeir.imaging.blending import TileBlender
from edgeir.imaging.padding import crop, pad_to_at_least, padded_size
from edgeir.imaging.tiling import Tile, plan_tiles
from edgeir.manifest import Tiling
from edgeir.runtime.byte_session import Bytes, ByteSession, run_filled_bytes
from edgeir.runtime.session import Session, run_filled
from edgeir.spec import SizeRule

Pixels = NDArray[np.float32]
Value = TypeVar("Value", bound=np.generic)

# Wide enough for the ramp of the blend, for a bundle that does not say what was measured of its network.
DEFAULT_OVERLAP_PX = 32


@dataclass(frozen=True, slots=True)
class GraphInput:
    """Which batches a graph accepts.

    Attributes:
        batch: pictures per run, fixed.
        minimum, optimum, maximum: (H, W) in pixels, all equal for a static graph.
        rule: the network's size rule.
        scale: output pixels per input pixel along each side.
    """

    batch: int
    minimum: tuple[int, int]
    optimum: tuple[int, int]
    maximum: tuple[int, int]
    rule: SizeRule
    scale: int = 1

    @property
    def static(self) -> bool:
        """Whether the graph takes one size only."""
        return self.minimum == self.maximum

    def tile_for(self, height: int, width: int, tile_px: int | None = None) -> tuple[int, int]:
        """Size of the tiles for a picture of ``height`` x ``width``: the whole padded picture where the graph takes it.

        Args:
            height, width: of the picture in pixels.
            tile_px: side of the tiles the user asked for.

        Raises:
            UsageError: the graph does not take tiles of ``tile_px``.
        """
        if tile_px is not None:
            fits = all(low <= tile_px <= high for low, high in zip(self.minimum, self.maximum, strict=True))
            if not fits or not self.rule.accepts(tile_px, tile_px):
                one = "x".join(map(str, self.optimum))
                span = f"{'x'.join(map(str, self.minimum))} to {'x'.join(map(str, self.maximum))}"
                raise UsageError(
                    "the graph does not take tiles of this size",
                    where="--tile",
                    expected=one if self.static else f"{span} in steps of {self.rule.multiple}",
                    got=str(tile_px),
                    fix="Export again with --size, or with --dynamic MIN OPT MAX." if self.static else None,
                )
            return tile_px, tile_px
        if self.static:
            return self.optimum
        padded = padded_size(height, width, self.rule)
        if padded[0] <= self.maximum[0] and padded[1] <= self.maximum[1]:
            return max(padded[0], self.minimum[0]), max(padded[1], self.minimum[1])
        return self.optimum


@dataclass(frozen=True, slots=True)
class Overlap:
    """What neighbouring tiles share, and who says so.

    Attributes:
        px: in pixels.
        origin: ``"asked"`` by the user, ``"measured"`` when the bundle was made, or edgeir's ``"default"``.
    """

    px: int
    origin: Literal["asked", "measured", "default"]


def overlap_for(
    graph: GraphInput, *, tile_px: int | None = None, asked_px: int | None = None, measured_px: int | None = None
) -> Overlap:
    """The overlap to restore with: what was asked for, else what was measured, else `DEFAULT_OVERLAP_PX`.

    A measured overlap is taken for other tiles than it was measured with as well, up to half a tile, in steps of the
    network's size rule where half a tile has one: beyond that three tiles would share a pixel, and the work would grow
    without end. The default is at most a quarter of the graph's smallest input, in steps of the size rule as well: with
    others a network's windows fall on other pixels than those of the whole picture.

    Args:
        graph: which batches the network accepts.
        tile_px: side of the tiles the user asked for.
        asked_px: the user's overlap; it is judged where the tiles are planned, not here.
        measured_px: `edgeir.manifest.Tiling.overlap_px`.

    Raises:
        UsageError: the graph does not take tiles of ``tile_px``.
    """
    if asked_px is not None:
        return Overlap(asked_px, "asked")
    half = min(graph.tile_for(*graph.optimum, tile_px)) // 2
    if measured_px is not None:
        if measured_px <= half:
            return Overlap(measured_px, "measured")
        return Overlap(half // graph.rule.multiple * graph.rule.multiple or half, "measured")
    px = min(DEFAULT_OVERLAP_PX, min(graph.minimum) // 4)
    on_grid = -(-px // graph.rule.multiple) * graph.rule.multiple
    return Overlap(on_grid if on_grid <= half else px, "default")


def overlap_to_run(
    graph: GraphInput, tiling: Tiling | None, *, tile_px: int | None = None, asked_px: int | None = None
) -> Overlap:
    """The overlap that a bundle is restored with: `overlap_for`, with what its manifest says was measured.

    Args:
        graph: which batches its graphs accept.
        tiling: `edgeir.manifest.Manifest.tiling`.
        tile_px, asked_px: the user's, as in `overlap_for`.
    """
    measured_px = None if tiling is None else tiling.overlap_px
    return overlap_for(graph, tile_px=tile_px, asked_px=asked_px, measured_px=measured_px)


def restore_pixels(
    session: Session,
    graph: GraphInput,
    pixels: Pixels,
    *,
    tile_px: int | None = None,
    overlap_px: int = DEFAULT_OVERLAP_PX,
    progress: Callable[[int, int], None] | None = None,
) -> Pixels:
    """Restore one picture.

    Args:
        session: the opened network.
        graph: which batches it accepts.
        pixels: ``(H, W, 3) float32 in [0, 1]``, any H and W from 1.
        tile_px: side of the tiles, ``None`` for the largest the graph takes.
        overlap_px: what neighbouring tiles share at least; unused where one tile is enough.
        progress: told tiles done and tiles in all after each batch.

    Returns:
        ``(s*H, s*W, 3) float32``, not clipped.

    Raises:
        UsageError: tile or overlap do not fit the graph.
    """
    height, width = pixels.shape[:2]
    cut = _cut(graph, pixels, tile_px, overlap_px)
    blender = cut.blender(graph.scale)
    groups = cut.groups(graph.batch)
    batches = (
        (np.ascontiguousarray(cut.batch(group, graph.batch, axes=(2, 0, 1)), np.float32), len(group))
        for group in groups
    )  # one by one: a picture of many tiles is never there twice
    with closing(run_filled(session, batches)) as outputs:  # or one left in the middle would take no others
        for number, (group, restored) in enumerate(zip(groups, outputs, strict=True), start=1):
            for tile, output in zip(group, restored, strict=True):
                blender.add(tile, np.ascontiguousarray(output.transpose(1, 2, 0)))
            if progress is not None:
                progress(min(number * graph.batch, len(cut.tiles)), len(cut.tiles))
    return crop(blender.result(), height, width, graph.scale)


def restore_bytes(
    session: ByteSession,
    graph: GraphInput,
    pixels: Bytes,
    *,
    tile_px: int | None = None,
    overlap_px: int = DEFAULT_OVERLAP_PX,
    progress: Callable[[int, int], None] | None = None,
) -> Bytes:
    """Restore one picture of 8 bits through a graph that takes and gives bytes.

    In one piece (`in_one_piece`) the bytes are those that the float path's result is written as. Tiles are blended in
    float32 and rounded once more: half a step at most beside blending the tiles before they were rounded. The float
    path also blends what a network gives below 0 and above 1 before it clips; bytes of tiles are clipped already.

    Args:
        session: the opened network; not of NV12, which comes in whole frames.
        graph: which batches it accepts.
        pixels: ``(H, W, 3) uint8`` in the channel order of ``session.form``, any H and W from 1.
        tile_px, overlap_px, progress: as in `restore_pixels`.

    Returns:
        ``(s*H, s*W, 3) uint8`` in the same order.

    Raises:
        UsageError: tile or overlap do not fit the graph, the pixels are no bytes, or the graph takes NV12.
        PictureError: the network gave pixels that are not finite numbers.
    """
    if session.form.yuv is not None:
        raise UsageError(
            "a graph that takes NV12 restores whole frames",
            where=session.name,
            fix="Give it frames of its own size, or export with --io uint8.",
        )
    if pixels.dtype != np.uint8:
        raise UsageError("this graph takes bytes", expected="uint8", got=str(pixels.dtype))
    height, width = pixels.shape[:2]
    cut = _cut(graph, pixels, tile_px, overlap_px)
    if cut.whole:
        output = run_filled_bytes(session, cut.batch(cut.tiles, graph.batch), 1)[0]
        if progress is not None:
            progress(1, 1)
        return np.ascontiguousarray(crop(output, height, width, graph.scale))
    blender = cut.blender(graph.scale)
    for number, group in enumerate(cut.groups(graph.batch), start=1):
        restored = run_filled_bytes(session, cut.batch(group, graph.batch), len(group))
        for tile, output in zip(group, restored, strict=True):
            blender.add(tile, output.astype(np.float32))
        if progress is not None:
            progress(min(number * graph.batch, len(cut.tiles)), len(cut.tiles))
    # Means of bytes with positive weights: float32 may leave [0, 255] by its last place, which rounds back.
    return np.rint(crop(blender.result(), height, width, graph.scale)).astype(np.uint8)


def in_one_piece(graph: GraphInput, height: int, width: int, tile_px: int | None = None) -> bool:
    """Whether one tile holds a picture of ``height`` x ``width`` pixels, so that nothing is blended."""
    tile_h, tile_w = graph.tile_for(height, width, tile_px)
    grid_h, grid_w = padded_size(height, width, graph.rule)
    return grid_h <= tile_h and grid_w <= tile_w


@dataclass(frozen=True, slots=True)
class _Cut(Generic[Value]):
    """A padded picture ``(H, W, 3)``, and the tiles that cover it."""

    padded: NDArray[Value]
    tiles: tuple[Tile, ...]
    overlap_px: int
    whole: bool

    def blender(self, scale: int) -> TileBlender:
        return TileBlender(self.padded.shape[0], self.padded.shape[1], scale=scale, overlap_px=self.overlap_px)

    def groups(self, size: int) -> list[tuple[Tile, ...]]:
        """The tiles in batches."""
        return [self.tiles[start : start + size] for start in range(0, len(self.tiles), size)]

    def batch(self, group: tuple[Tile, ...], size: int, *, axes: tuple[int, int, int] = (0, 1, 2)) -> NDArray[Value]:
        """``(size, h, w, 3)`` in the order of ``axes``: a fixed batch is filled up, what comes of that is dropped."""
        batch = np.stack([self.padded[tile.slices()].transpose(axes) for tile in group])
        if len(group) < size:
            batch = np.concatenate([batch, np.repeat(batch[-1:], size - len(group), axis=0)])
        return batch


def _cut(graph: GraphInput, pixels: NDArray[Value], tile_px: int | None, overlap_px: int) -> _Cut[Value]:
    height, width = pixels.shape[:2]
    tile_h, tile_w = graph.tile_for(height, width, tile_px)
    # On the network's grid the last tile begins on it too, and its windows fall on the same pixels as the others'.
    grid_h, grid_w = padded_size(height, width, graph.rule)
    padded = pad_to_at_least(pixels, max(tile_h, grid_h), max(tile_w, grid_w))
    whole = padded.shape[:2] == (tile_h, tile_w)
    overlap_px = 0 if whole else overlap_px
    tiles = plan_tiles(padded.shape[0], padded.shape[1], tile_h, tile_w, overlap_px)
    return _Cut(padded, tiles, overlap_px, whole)
