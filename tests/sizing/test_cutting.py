"""The reckoned tiles are those that `edgeir.runtime.restore` cuts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeir.errors import UsageError
from edgeir.runtime.restore import GraphInput, overlap_to_run, restore_pixels
from edgeir.sizing.cutting import cut, even_tiles, fixed_size, square_tiles
from edgeir.spec import SizeRule


class Counting:
    """A session that enlarges pictures and counts what it is given."""

    name = "counting"

    def __init__(self, scale: int) -> None:
        self.scale = scale
        self.batches: list[tuple[int, ...]] = []

    def run(self, pictures: Any) -> Any:
        self.batches.append(pictures.shape)
        return pictures.repeat(self.scale, axis=2).repeat(self.scale, axis=3)


@settings(max_examples=60, deadline=None)
@given(
    picture=st.tuples(st.integers(1, 200), st.integers(1, 200)),
    tile=st.tuples(st.integers(2, 8), st.integers(2, 8)),
    overlap=st.none() | st.integers(0, 15),
    batch=st.integers(1, 3),
    scale=st.integers(1, 2),
)
def test_counts_are_those_of_a_run(
    picture: tuple[int, int], tile: tuple[int, int], overlap: int | None, batch: int, scale: int
) -> None:
    rule = SizeRule(8, 16)
    graph = fixed_size(rule, (8 * tile[0], 8 * tile[1]), scale, batch=batch)
    made = cut(graph, picture, overlap_px=overlap)
    session = Counting(scale)
    shared = overlap_to_run(graph, None, asked_px=overlap).px
    restore_pixels(session, graph, np.zeros((*picture, 3), np.float32), overlap_px=shared)
    assert session.batches == [(batch, 3, *made.tile)] * made.runs
    assert made.tiles <= made.runs * batch < made.tiles + batch
    assert 0 <= made.repeated < 1


def test_a_picture_of_one_tile() -> None:
    made = cut(fixed_size(SizeRule(16, 16), (64, 96), 1), (50, 90))
    assert (made.padded, made.tiles, made.overlap.px) == ((64, 96), 1, 0)
    assert made.repeated == pytest.approx(1 - 50 * 90 / (64 * 96))
    exact = cut(fixed_size(SizeRule(16, 16), (64, 96), 1), (64, 96))
    assert exact.repeated == 0


def test_a_dynamic_graph_takes_the_whole_where_it_can() -> None:
    graph = GraphInput(1, (64, 64), (128, 128), (256, 256), SizeRule(16, 16))
    assert cut(graph, (200, 250)).tile == (208, 256)
    assert cut(graph, (300, 300)).tile == (128, 128)
    assert cut(graph, (300, 300), tile_px=256).tiles == 4
    with pytest.raises(UsageError, match="--tile"):
        cut(graph, (300, 300), tile_px=100)


def test_an_overlap_that_does_not_fit() -> None:
    graph = fixed_size(SizeRule(16, 16), (64, 64), 1)
    with pytest.raises(UsageError, match=r"--overlap: .* \(expected 0 to 63 pixels, got 64\)"):
        cut(graph, (100, 100), overlap_px=64)
    assert cut(graph, (60, 60), overlap_px=64).tiles == 1  # one tile shares nothing


@settings(max_examples=60, deadline=None)
@given(
    picture=st.tuples(st.integers(1, 4000), st.integers(1, 4000)),
    multiple=st.sampled_from([8, 16, 32, 64]),
    overlap=st.integers(0, 96),
)
def test_even_tiles_shrink_from_the_whole(picture: tuple[int, int], multiple: int, overlap: int) -> None:
    rule = SizeRule(multiple, 2 * multiple)
    tiles = list(even_tiles(picture, rule, overlap))
    assert tiles[0] == (rule.near(picture[0]), rule.near(picture[1]))
    areas = [height * width for height, width in tiles]
    assert areas == sorted(areas, reverse=True)
    assert all(rule.accepts(*tile) for tile in tiles)


def test_even_tiles_waste_little() -> None:
    """1080p in up to 40 tiles that share 32 pixels: what is repeated is the overlap and a little rounding."""
    rule = SizeRule(16, 16)
    for tile in even_tiles((1080, 1920), rule, 32):
        made = cut(fixed_size(rule, tile, 1), (1080, 1920), overlap_px=32)
        if made.tiles > 40:
            break
        work = made.tiles * made.tile_pixels
        unavoidable = tile[0] * tile[1] / ((tile[0] - 32) * (tile[1] - 32))
        assert work / (1080 * 1920) < 1.15 * unavoidable


def test_squares() -> None:
    assert list(square_tiles(64, 200, 64)) == [(192, 192), (128, 128), (64, 64)]
    assert list(square_tiles(65, 127, 64)) == []
