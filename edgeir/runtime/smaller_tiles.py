"""Going on with smaller tiles when the GPU's memory is not enough, on the network's size grid and never silently."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from edgeir.runtime.gpu_device import OutOfDeviceMemory
from edgeir.runtime.restore import GraphInput

Restored = TypeVar("Restored")


@dataclass(frozen=True, slots=True)
class FallBack:
    """One step down: sizes (h, w) of the tiles before and after, in pixels."""

    tile: tuple[int, int]
    smaller: tuple[int, int]

    def to_dict(self) -> dict[str, list[int]]:
        """JSON-ready form."""
        return {"tile": list(self.tile), "smaller": list(self.smaller)}


class SmallerTiles:
    """Restores pictures, and takes smaller tiles from then on where memory runs out.

    Each step leaves about half the area of a tile, or less of one whose sides differ. What has failed once is not tried
    again with the next picture.

    Args:
        graph: which batches the network accepts.
        tile_px: side of the tiles the user asked for.
        say: told of each step.
    """

    def __init__(self, graph: GraphInput, tile_px: int | None, say: Callable[[str], None]) -> None:
        self._graph = graph
        self._asked_px = tile_px
        self._limit_px: int | None = None
        self._say = say
        self.steps: list[FallBack] = []

    def restore(self, height: int, width: int, attempt: Callable[[int | None], Restored]) -> Restored:
        """What ``attempt`` gives with the largest tile that fits.

        Args:
            height, width: of the picture in pixels.
            attempt: restores it with tiles of a side, ``None`` for the largest the graph takes.

        Raises:
            OutOfDeviceMemory: the graph takes no smaller tile; the message says what to do.
        """
        tile_px = self._tile_px(height, width)
        while True:
            try:
                return attempt(tile_px)
            except OutOfDeviceMemory as error:
                tile = self._graph.tile_for(height, width, tile_px)
                smaller = self._next(tile)
                if smaller is None:
                    raise self._the_end(tile, error) from error
                self.steps.append(FallBack(tile, (smaller, smaller)))
                memory = f"{error.memory[0].upper()}{error.memory[1:]}"
                self._say(f"{memory} is not enough for tiles of {_size(tile)}: going on with {_size((smaller,) * 2)}.")
                tile_px = self._limit_px = smaller

    def _tile_px(self, height: int, width: int) -> int | None:
        if self._limit_px is None:
            return self._asked_px
        wanted = self._graph.tile_for(height, width, self._asked_px)
        return self._limit_px if math.prod(wanted) > self._limit_px**2 else self._asked_px

    def _next(self, tile: tuple[int, int]) -> int | None:
        """A side on the grid for about half the area, ``None`` where the graph takes none below ``tile``."""
        rule = self._graph.rule
        lowest = rule.near(max(self._graph.minimum))
        most = min(self._graph.maximum) // rule.multiple * rule.multiple
        half = int(math.sqrt(math.prod(tile) / 2)) // rule.multiple * rule.multiple
        side = max(min(half, most), lowest)
        return side if side <= most and side**2 < math.prod(tile) else None

    def _the_end(self, tile: tuple[int, int], error: OutOfDeviceMemory) -> OutOfDeviceMemory:
        if self._graph.static:
            fix = "Export again with a smaller --size or --batch, or with --dynamic, or stop other work on the GPU."
        else:
            fix = "Export again with a smaller least size (--dynamic) or --batch, or stop other work on the GPU."
        return OutOfDeviceMemory(
            f"{error.memory} is not enough for tiles of {_size(tile)}, and the graph takes no smaller ones",
            where=error.where,
            expected=error.expected,
            got=error.got,
            fix=fix,
        )


def _size(tile: tuple[int, ...]) -> str:
    return f"{tile[0]}x{tile[1]}"
