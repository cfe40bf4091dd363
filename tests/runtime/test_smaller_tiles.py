"""Out of memory: a smaller tile on the grid where the graph takes one, else a sentence that says what to do."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeir.runtime.gpu_device import OutOfDeviceMemory, OutOfPinnedMemory
from edgeir.runtime.restore import GraphInput
from edgeir.runtime.smaller_tiles import SmallerTiles
from edgeir.spec import SizeRule

DYNAMIC = GraphInput(1, (64, 64), (256, 256), (512, 512), SizeRule(16, 16))
STATIC = GraphInput(1, (256, 256), (256, 256), (256, 256), SizeRule(16, 16))


def fits(graph: GraphInput, height: int, width: int, pixels: int) -> Callable[[int | None], tuple[int, int]]:
    """Gives the size of the tile it took, if that has at most so many pixels."""

    def attempt(tile_px: int | None) -> tuple[int, int]:
        tile = graph.tile_for(height, width, tile_px)
        if tile[0] * tile[1] > pixels:
            raise OutOfDeviceMemory("no", where="cuMemAlloc", expected="9.0 MiB", got="1 MiB free")
        return tile

    return attempt


def test_a_smaller_tile_is_taken_and_said() -> None:
    said: list[str] = []
    tiles = SmallerTiles(DYNAMIC, None, said.append)
    assert tiles.restore(400, 500, fits(DYNAMIC, 400, 500, 100 * 100)) == (96, 96)
    assert [step.to_dict() for step in tiles.steps] == [
        {"tile": [400, 512], "smaller": [320, 320]},
        {"tile": [320, 320], "smaller": [224, 224]},
        {"tile": [224, 224], "smaller": [144, 144]},
        {"tile": [144, 144], "smaller": [96, 96]},
    ]
    assert said[0] == "The GPU's memory is not enough for tiles of 400x512: going on with 320x320."
    assert len(said) == 4


def test_what_failed_is_not_tried_again() -> None:
    tiles = SmallerTiles(DYNAMIC, None, lambda text: None)
    tiles.restore(400, 500, fits(DYNAMIC, 400, 500, 150 * 150))
    before = len(tiles.steps)
    assert tiles.restore(2000, 2000, fits(DYNAMIC, 2000, 2000, 150 * 150)) == (144, 144)
    assert tiles.restore(80, 100, fits(DYNAMIC, 80, 100, 150 * 150)) == (80, 112), "a small picture stays whole"
    assert len(tiles.steps) == before


def test_the_users_tile_is_where_it_begins() -> None:
    tiles = SmallerTiles(DYNAMIC, 128, lambda text: None)
    assert tiles.restore(500, 500, fits(DYNAMIC, 500, 500, 1 << 20)) == (128, 128)
    assert tiles.restore(500, 500, fits(DYNAMIC, 500, 500, 100 * 100)) == (80, 80)


def test_a_static_graph_says_what_to_do() -> None:
    tiles = SmallerTiles(STATIC, None, lambda text: None)
    with pytest.raises(
        OutOfDeviceMemory,
        match=r"cuMemAlloc: the GPU's memory is not enough for tiles of 256x256, and the graph takes no smaller ones "
        r"\(expected 9\.0 MiB, got 1 MiB free\)\. Export again with a smaller --size or --batch, or with --dynamic",
    ) as caught:
        tiles.restore(100, 100, fits(STATIC, 100, 100, 0))
    assert caught.value.exit_code == 3
    assert tiles.steps == []


def test_the_smallest_tile_is_the_end() -> None:
    tiles = SmallerTiles(DYNAMIC, None, lambda text: None)
    with pytest.raises(OutOfDeviceMemory, match=r"tiles of 64x64.*smaller least size"):
        tiles.restore(600, 600, fits(DYNAMIC, 600, 600, 0))
    assert tiles.steps[-1].smaller == (64, 64)


def _graph(multiple: int, low_h: int, low_w: int, more_h: int, more_w: int) -> GraphInput:
    minimum = (low_h * multiple, low_w * multiple)
    maximum = (minimum[0] + more_h * multiple, minimum[1] + more_w * multiple)
    return GraphInput(1, minimum, maximum, maximum, SizeRule(multiple, multiple))


sides = st.integers(1, 40)
graphs = st.builds(_graph, st.integers(1, 24), sides, sides, sides, sides)


@given(graphs, st.integers(1, 3000), st.integers(1, 3000), st.integers(0, 10**6))
def test_every_step_is_a_tile_that_the_graph_takes_and_smaller(
    graph: GraphInput, height: int, width: int, pixels: int
) -> None:
    tiles = SmallerTiles(graph, None, lambda text: None)
    with contextlib.suppress(OutOfDeviceMemory):
        tiles.restore(height, width, fits(graph, height, width, pixels))
    for step in tiles.steps:
        side = step.smaller[0]
        assert graph.tile_for(height, width, side) == (side, side)  # raises where the graph refuses it
        assert side * side < step.tile[0] * step.tile[1]
    assert len(tiles.steps) < 40


@given(graphs, st.integers(1, 3000), st.integers(1, 3000), st.integers(0, 10**6))
def test_it_gives_up_only_where_no_smaller_tile_fits(graph: GraphInput, height: int, width: int, pixels: int) -> None:
    """With all squares that the graph takes at hand: the end is at the smallest of them, or none is smaller."""
    tiles = SmallerTiles(graph, None, lambda text: None)
    squares = range(max(graph.minimum), min(graph.maximum) + 1, graph.rule.multiple)
    begun = graph.tile_for(height, width)
    possible = [side for side in squares if side**2 < begun[0] * begun[1]]
    try:
        found = tiles.restore(height, width, fits(graph, height, width, pixels))
    except OutOfDeviceMemory:
        assert not any(side**2 <= pixels for side in possible)
    else:
        assert found[0] * found[1] <= pixels


def test_maxima_whose_sides_differ() -> None:
    graph = GraphInput(1, (128, 128), (256, 1024), (256, 4096), SizeRule(16, 16))
    tiles = SmallerTiles(graph, None, lambda text: None)
    assert tiles.restore(256, 4096, fits(graph, 256, 4096, 128 * 128 * 4)) == (256, 256)


def test_memory_of_the_host_is_called_so() -> None:
    def attempt(tile_px: int | None) -> int:
        if tile_px is None:
            raise OutOfPinnedMemory("no", where="cuMemHostAlloc")
        return tile_px

    said: list[str] = []
    SmallerTiles(DYNAMIC, None, said.append).restore(400, 500, attempt)
    assert said == [
        "The memory that the host can lock for the GPU is not enough for tiles of 400x512: going on with 320x320."
    ]
    with pytest.raises(OutOfDeviceMemory, match="the memory that the host can lock for the GPU is not enough for"):
        SmallerTiles(STATIC, None, said.append).restore(100, 100, attempt)
