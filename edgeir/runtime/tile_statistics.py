"""Tiles that share what the network finds in the whole picture, instead of each taking itself for the picture.

A graph of role ``"tiles"`` (`edgeir.export.tile_statistics`) gives its statistics beside the restored tile, and takes
others in their place. First some tiles are restored for their statistics alone; their mean is then given to all.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeir.errors import GraphError
from edgeir.imaging.padding import pad_to_at_least, padded_size
from edgeir.imaging.tiling import Tile, plan_tiles
from edgeir.runtime.ort_session import OrtSession
from edgeir.runtime.restore import GraphInput
from edgeir.runtime.session import Pictures
from edgeir.spec import INPUT_NAME, OUTPUT_NAME, STATISTICS_INPUT, STATISTICS_OUTPUT, USE_STATISTICS_INPUT

Statistics = NDArray[np.float32]
Pixels = NDArray[np.float32]

GATHERED_TILES = 16
"""Tiles that statistics are gathered from at most: spread over the picture, a sixteenth of the work of 256 tiles."""


class StatisticsSession:
    """A graph of role ``"tiles"`` in ONNX Runtime on the CPU.

    Args:
        model: the file, or its bytes.
        threads, arena, integer_kernels: see `edgeir.runtime.ort_session.OrtSession`.

    Raises:
        MissingDependency: onnxruntime is not installed.
        GraphError: ONNX Runtime refuses the file, or the graph has no statistics.
    """

    def __init__(
        self, model: Path | bytes, *, threads: int | None = None, arena: bool = True, integer_kernels: bool = True
    ) -> None:
        self._session = OrtSession(model, threads=threads, arena=arena, integer_kernels=integer_kernels)
        size = self._session.input_shapes().get(STATISTICS_INPUT)
        if size is None:
            raise GraphError("the graph takes no statistics", where=getattr(model, "name", "the graph in memory"))
        self._none = np.zeros(size, np.float32)
        self._shared: Statistics | None = None

    @property
    def name(self) -> str:
        """``"onnxruntime 1.31.1 CPU"``."""
        return self._session.name

    def run(self, pictures: Pictures) -> Pictures:
        """Restore a batch, see `edgeir.runtime.session.Session.run`: with its own statistics, or with those shared."""
        return np.asarray(self._run(pictures)[OUTPUT_NAME], np.float32)

    def own(self, pictures: Pictures) -> Statistics:
        """The statistics of a batch, ``(S,) float32``: means over its pictures."""
        return np.asarray(self._run(pictures)[STATISTICS_OUTPUT], np.float32)

    @contextmanager
    def sharing(self, statistics: Statistics) -> Iterator[None]:
        """Let every batch within the block be restored with these."""
        before, self._shared = self._shared, statistics
        try:
            yield
        finally:
            self._shared = before

    def _run(self, pictures: Pictures) -> dict[str, NDArray[np.generic]]:
        return self._session.run_values(
            {
                INPUT_NAME: np.ascontiguousarray(pictures, np.float32),
                STATISTICS_INPUT: self._none if self._shared is None else self._shared,
                USE_STATISTICS_INPUT: np.array([self._shared is not None]),
            }
        )


def gather(session: StatisticsSession, graph: GraphInput, pixels: Pixels, *, most: int = GATHERED_TILES) -> Statistics:
    """Mean statistics of a picture, of tiles that do not overlap, or of ``most`` of them spread over it.

    Args:
        session: restores tiles of the graph's optimum.
        graph: which batches it accepts.
        pixels: ``(H, W, 3) float32 in [0, 1]``.
        most: tiles at most, at least 1.

    Returns:
        ``(S,) float32``.
    """
    tile_h, tile_w = graph.optimum
    grid_h, grid_w = padded_size(pixels.shape[0], pixels.shape[1], graph.rule)
    padded = pad_to_at_least(pixels, max(tile_h, grid_h), max(tile_w, grid_w))
    tiles = _spread(plan_tiles(padded.shape[0], padded.shape[1], tile_h, tile_w, 0), most)
    total = np.zeros(0, np.float64)
    for tile in tiles:  # one at a time: a batch that is filled up would count its last picture twice
        batch = np.repeat(padded[tile.slices()].transpose(2, 0, 1)[None], graph.batch, axis=0)
        own = session.own(batch).astype(np.float64)
        total = own if not total.size else total + own
    return (total / len(tiles)).astype(np.float32)


def _spread(tiles: tuple[Tile, ...], most: int) -> tuple[Tile, ...]:
    """``most`` of the tiles, as far apart in their order as they can be; a row of tiles is not left out whole.

    >>> [tile.top for tile in _spread(tuple(Tile(top, 0, 1, 1) for top in range(10)), 4)]
    [1, 3, 6, 8]
    """
    if len(tiles) <= most:
        return tiles
    step = len(tiles) / most
    return tuple(tiles[int((index + 0.5) * step)] for index in range(most))
