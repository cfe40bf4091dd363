"""The reckoned tiles are those that `edgeir.runtime.restore` cuts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeir.errors import UsageError
from edgeir.runtime.restore import GraphInput, overlap_to_run, restore_pixels
from edgeir.runtime.tile_statistics import StatisticsSession, gather
from edgeir.sizing.cutting import cut, even_cut, fixed_size, gathering_runs, square_tiles
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

    def own(self, pictures: Any) -> Any:
        self.batches.append(pictures.shape)
        return np.zeros(1, np.float32)

    @contextmanager
    def sharing(self, statistics: Any) -> Iterator[None]:
        yield


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


@settings(max_examples=40, deadline=None)
@given(
    picture=st.tuples(st.integers(1, 500), st.integers(1, 500)), tile=st.tuples(st.integers(1, 4), st.integers(1, 4))
)
def test_gathering_runs_are_those_of_a_run(picture: tuple[int, int], tile: tuple[int, int]) -> None:
    graph = fixed_size(SizeRule(8, 8), (16 * tile[0], 16 * tile[1]), 1)
    session = Counting(1)
    gather(cast("StatisticsSession", session), graph, np.zeros((*picture, 3), np.float32))
    made = cut(graph, picture)
    assert gathering_runs(graph, made) == (0 if made.tiles == 1 else len(session.batches))


def test_a_picture_of_absurd_size() -> None:
    made = cut(fixed_size(SizeRule(16, 16), (64, 64), 1), (999_999, 999_999), overlap_px=16)
    assert made.tiles == 20_833**2  # 20 832 steps of 48 pixels bring the last one to 999 936, the end of 1 000 000


@settings(max_examples=100, deadline=None)
@given(
    picture=st.tuples(st.integers(1, 4000), st.integers(1, 4000)),
    multiple=st.sampled_from([8, 16, 32, 64]),
    parts=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    overlap=st.none() | st.integers(0, 15),
)
def test_even_tiles(picture: tuple[int, int], multiple: int, parts: tuple[int, int], overlap: int | None) -> None:
    """As many tiles as there are parts, with the overlap that such tiles get, and no smaller ones would do."""
    rule = SizeRule(multiple, 2 * multiple)
    made = even_cut(picture, rule, 1, parts, overlap_px=overlap)
    assert rule.accepts(*made.tile)
    assert made.tiles <= parts[0] * parts[1]
    graph = fixed_size(rule, made.tile, 1)
    assert made == cut(graph, picture, overlap_px=overlap)
    shared = overlap_to_run(graph, None, asked_px=overlap).px
    for length, part, count in zip(made.padded, made.tile, parts, strict=True):
        smaller = part - multiple
        if smaller >= rule.minimum:
            assert smaller + (count - 1) * (smaller - shared) < length


@settings(max_examples=60, deadline=None)
@given(
    picture=st.tuples(st.integers(1, 4000), st.integers(1, 4000)),
    multiple=st.sampled_from([8, 16, 64]),
    rows=st.integers(1, 12),
    columns=st.integers(1, 12),
)
def test_more_parts_never_make_larger_tiles(picture: tuple[int, int], multiple: int, rows: int, columns: int) -> None:
    """What the search for the fewest tiles that fit goes by."""
    rule = SizeRule(multiple, multiple)
    made = even_cut(picture, rule, 1, (rows, columns))
    for more in ((rows + 1, columns), (rows, columns + 1)):
        assert even_cut(picture, rule, 1, more).tile_pixels <= made.tile_pixels


def test_even_tiles_waste_little() -> None:
    """1080p in up to 40 tiles that share 32 pixels: what is repeated is the overlap and a little rounding."""
    rule = SizeRule(16, 16)
    for parts in ((1, 1), (1, 2), (2, 2), (2, 3), (3, 4), (4, 6), (5, 8)):
        made = even_cut((1080, 1920), rule, 1, parts, overlap_px=32)
        work = made.tiles * made.tile_pixels
        unavoidable = made.tile_pixels / ((made.tile[0] - 32) * (made.tile[1] - 32))
        assert work / (1080 * 1920) < 1.15 * unavoidable


def test_squares() -> None:
    assert list(square_tiles(64, 200, 64)) == [(192, 192), (128, 128), (64, 64)]
    assert list(square_tiles(65, 127, 64)) == []
