"""Tiles that share what the network finds in the whole picture, instead of each taking itself for the picture.

A graph of role ``"tiles"`` (`edgeir.export.tile_statistics`) gives its statistics beside the restored tile, and takes
others in their place. First some tiles are restored for their statistics alone; their mean is then given to all.

What a layer finds depends on what the layers before it found. In a first pass all of that is the tile's own; every
further pass is given what the one before gathered, and is right for some layers more.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from edgeir.errors import GraphError
from edgeir.imaging.padding import pad_to_at_least, padded_size
from edgeir.imaging.tiling import Tile
from edgeir.runtime.restore import GraphInput
from edgeir.runtime.session import Pictures
from edgeir.spec import INPUT_NAME, OUTPUT_NAME, STATISTICS_INPUT, STATISTICS_OUTPUT, USE_STATISTICS_INPUT

Statistics = NDArray[np.float32]
Pixels = NDArray[np.float32]

GATHERED_TILES = 16
"""Tiles that statistics are gathered from at most, spread over the picture."""
GATHERING_PASSES = 4
"""Passes over them at most."""
_MOST_WORK = 2  # times the tiles that cover the picture


class SharingRuntime(Protocol):
    """A runtime that has opened a graph, or an engine of one, whose tiles can share statistics."""

    @property
    def name(self) -> str:
        """Runtime, version and device, for reports."""
        ...

    def run_values(self, values: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Every output by name."""
        ...

    def input_shapes(self) -> dict[str, tuple[int, ...]]:
        """The sides of every input by name."""
        ...


@runtime_checkable
class OverlappingRuntime(Protocol):
    """A `SharingRuntime` that copies one batch while it executes another."""

    def run_values_many(self, batches: Iterable[Mapping[str, NDArray[Any]]]) -> Iterator[dict[str, NDArray[Any]]]:
        """As many outputs, in order."""
        ...


class StatisticsSession:
    """A network whose tiles take their own statistics, or those they are given.

    Args:
        session: has opened a graph of role ``"tiles"``, or an engine that was built from one.

    Raises:
        GraphError: it takes no statistics.
    """

    def __init__(self, session: SharingRuntime) -> None:
        self._session = session
        size = session.input_shapes().get(STATISTICS_INPUT)
        if size is None:
            raise GraphError("the graph takes no statistics", where=session.name)
        self._none = np.zeros(size, np.float32)
        self._shared: Statistics | None = None

    @property
    def name(self) -> str:
        """``"onnxruntime 1.31.1 CPU"``."""
        return self._session.name

    def run(self, pictures: Pictures) -> Pictures:
        """Restore a batch, see `edgeir.runtime.session.Session.run`: with its own statistics, or with those shared."""
        return np.asarray(self._session.run_values(self._values(pictures))[OUTPUT_NAME], np.float32)

    def run_many(self, batches: Iterable[Pictures]) -> Iterator[Pictures]:
        """As `edgeir.runtime.session.run_many`: overlapped where the runtime can."""
        if isinstance(self._session, OverlappingRuntime):
            for outputs in self._session.run_values_many(map(self._values, batches)):
                yield np.asarray(outputs[OUTPUT_NAME], np.float32)
        else:
            yield from map(self.run, batches)

    def own(self, pictures: Pictures) -> Statistics:
        """The statistics of a batch, ``(S,) float32``: means over its pictures."""
        return np.asarray(self._session.run_values(self._values(pictures))[STATISTICS_OUTPUT], np.float32)

    @contextmanager
    def sharing(self, statistics: Statistics) -> Iterator[None]:
        """Let every batch within the block be restored with these."""
        before, self._shared = self._shared, statistics
        try:
            yield
        finally:
            self._shared = before

    def _values(self, pictures: Pictures) -> dict[str, NDArray[Any]]:
        return {
            INPUT_NAME: np.ascontiguousarray(pictures, np.float32),
            STATISTICS_INPUT: self._none if self._shared is None else self._shared,
            USE_STATISTICS_INPUT: np.array([self._shared is not None]),
        }


def gather(
    session: StatisticsSession,
    graph: GraphInput,
    pixels: Pixels,
    *,
    most: int = GATHERED_TILES,
    passes: int = GATHERING_PASSES,
) -> Statistics:
    """Mean statistics of a picture, of tiles spread evenly over it.

    Args:
        session: restores tiles of the graph's optimum.
        graph: which batches it accepts.
        pixels: ``(H, W, 3) float32 in [0, 1]``.
        most: tiles at most, at least 1; no more than cover the picture are taken.
        passes: over these tiles at most, at least 1; two where the tiles cover the picture, more where they are fewer.

    Returns:
        ``(S,) float32``; where a tile's are not finite, neither are these.
    """
    tile_h, tile_w = graph.optimum
    grid_h, grid_w = padded_size(pixels.shape[0], pixels.shape[1], graph.rule)
    padded = pad_to_at_least(pixels, max(tile_h, grid_h), max(tile_w, grid_w))
    size = padded.shape[0], padded.shape[1]
    tiles, passes = gathering(size, graph.optimum, most=most, passes=passes, step=graph.rule.multiple)
    # One at a time: a batch that is filled up would count its last picture twice.
    batches = [np.repeat(padded[tile.slices()].transpose(2, 0, 1)[None], graph.batch, axis=0) for tile in tiles]
    found = _mean([session.own(batch) for batch in batches])
    for _ in range(passes - 1):
        with session.sharing(found):
            found = _mean([session.own(batch) for batch in batches])
    return found


def _mean(statistics: list[Statistics]) -> Statistics:
    return np.asarray(np.mean(statistics, axis=0, dtype=np.float64), np.float32)


def gathering(
    size: tuple[int, int],
    tile: tuple[int, int],
    *,
    most: int = GATHERED_TILES,
    passes: int = GATHERING_PASSES,
    step: int = 1,
) -> tuple[tuple[Tile, ...], int]:
    """The tiles that `gather` restores, and how often.

    Args:
        size: (H, W) of the padded picture, in pixels.
        tile: (h, w) of the tiles.
        most, passes: as in `gather`.
        step: see `spread_tiles`.
    """
    tiles = spread_tiles(*size, *tile, most, step=step)
    covering = math.ceil(size[0] / tile[0]) * math.ceil(size[1] / tile[1])
    return tiles, min(passes, _MOST_WORK * covering // len(tiles))


def spread_tiles(height: int, width: int, tile_h: int, tile_w: int, most: int, *, step: int = 1) -> tuple[Tile, ...]:
    """Tiles that stand for a picture of ``height`` x ``width`` pixels: a grid of them, at equal distances.

    As many as cover the picture where these are no more than ``most``, else so many that the grid is of the picture's
    own shape: rows and columns that were left out in steps could be always the same ones. They begin at multiples of
    ``step``, as the network sees the picture when it sees it whole.

    >>> [(tile.top, tile.left) for tile in spread_tiles(32, 24, 16, 16, 16)]
    [(0, 0), (0, 8), (16, 0), (16, 8)]
    >>> [(tile.top, tile.left) for tile in spread_tiles(256, 256, 16, 16, 4)]
    [(56, 56), (56, 184), (184, 56), (184, 184)]
    """
    rows, columns = -(-height // tile_h), -(-width // tile_w)
    if rows * columns > most:
        columns = min(columns, most, max(1, round(math.sqrt(most * columns / rows))))
        rows = min(rows, most // columns)
    return tuple(
        Tile(top, left, tile_h, tile_w)
        for top in _centred(height, tile_h, rows, step)
        for left in _centred(width, tile_w, columns, step)
    )


def _centred(side: int, tile: int, count: int, step: int) -> list[int]:
    """First pixels of ``count`` tiles, each in the middle of its part of the side as far as it fits."""
    middles = (((2 * at + 1) * side // count - tile) // 2 for at in range(count))
    return [min(max(0, middle), side - tile) // step * step for middle in middles]
