"""Statistics gathered from the tiles of a picture, and shared by them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeir.export.tile_statistics import with_tile_statistics
from edgeir.runtime.ort_session import OrtSession
from edgeir.runtime.restore import GraphInput, restore_pixels
from edgeir.runtime.tile_statistics import StatisticsSession, gather, spread_tiles
from edgeir.spec import SizeRule

LESS_ITS_MEAN = """
    <ir_version: 9, opset_import: ["" : 20]> g (float[2,3,16,16] image) => (float[2,3,16,16] restored) {
        a = Constant<value_ints = [2, 3]>() mean = ReduceMean(image, a) restored = Sub(image, mean)
    }
"""
GRAPH = GraphInput(2, (16, 16), (16, 16), (16, 16), SizeRule(8, 8))


@pytest.fixture(scope="module")
def session() -> StatisticsSession:
    """Of a network that takes the mean colour away: the simplest that has a statistic."""
    graph = with_tile_statistics(ir.from_proto(onnx.parser.parse_model(LESS_ITS_MEAN)))
    assert graph is not None
    return StatisticsSession(OrtSession(ir.to_proto(graph).SerializeToString(), threads=1))


def picture(height: int, width: int) -> np.ndarray:
    ramp = np.linspace(0, 1, height * width * 3, dtype=np.float32)
    return np.asarray(ramp.reshape(height, width, 3), np.float32)


@pytest.mark.parametrize("size", [(32, 32), (16, 48), (16, 16), (16, 24)])
def test_of_all_tiles_it_is_that_of_the_picture(session: StatisticsSession, size: tuple[int, int]) -> None:
    pixels = picture(*size)
    own = gather(session, GRAPH, pixels)
    shifted = pixels.shape[1] % 16 > 0  # tiles that overlap count what they share twice, in the middle of a ramp
    np.testing.assert_allclose(own, pixels.mean((0, 1)), atol=1e-2 if shifted else 1e-6)


def test_of_some_tiles_it_is_close(session: StatisticsSession) -> None:
    pixels = picture(64, 64) ** 2
    some = gather(session, GRAPH, pixels, most=4)
    assert 1e-4 < np.abs(some - pixels.mean((0, 1))).max() < 0.1  # four of sixteen tiles of a parabola


@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    tile=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    most=st.integers(1, 16),
)
def test_tiles_are_spread_over_the_picture(height: int, width: int, tile: tuple[int, int], most: int) -> None:
    tile_h, tile_w = tile
    height, width = max(height, tile_h), max(width, tile_w)
    tiles = spread_tiles(height, width, tile_h, tile_w, most)
    tops, lefts = {one.top for one in tiles}, {one.left for one in tiles}
    assert len(tiles) == len(set(tiles)) == len(tops) * len(lefts) <= most
    assert min(tops) >= 0 and max(tops) + tile_h <= height
    assert min(lefts) >= 0 and max(lefts) + tile_w <= width
    for starts, side, length in ((tops, height, tile_h), (lefts, width, tile_w)):
        assert min(starts) + length + max(starts) in (side, side - 1)  # as far from one end as from the other
    if -(-height // tile_h) * -(-width // tile_w) <= most:  # they cover it
        covered = np.zeros((height, width), bool)
        for one in tiles:
            covered[one.slices()] = True
        assert covered.all()


@pytest.mark.parametrize(("side", "tile"), [(4096, 256), (2048, 128), (1024, 64)])
def test_neither_rows_nor_columns_are_left_out_in_step(side: int, tile: int) -> None:
    tiles = spread_tiles(side, side, tile, tile, 16)
    assert len({one.top for one in tiles}) == len({one.left for one in tiles}) == 4


def test_a_picture_whose_halves_differ(session: StatisticsSession) -> None:
    """Sixteen of 256 tiles know of the dark half."""
    pixels = picture(256, 256)
    pixels[:, 128:] *= 0.05
    np.testing.assert_allclose(gather(session, GRAPH, pixels), pixels.mean((0, 1)), rtol=0.1)


class Layers:
    """A session of three layers, each of which finds the sum of what it and the layers before were given."""

    def __init__(self) -> None:
        self.given = np.zeros(3, np.float32)
        self.runs = 0

    def own(self, pictures: np.ndarray) -> np.ndarray:
        self.runs += 1
        return np.array([1, 1 + self.given[0], 1 + self.given[:2].sum()], np.float32)

    @contextmanager
    def sharing(self, statistics: np.ndarray) -> Iterator[None]:
        before, self.given = self.given, statistics
        yield
        self.given = before


@pytest.mark.parametrize(
    ("side", "most", "passes", "found", "runs"),
    [
        (32, 16, 4, (1, 2, 3), 8),  # four tiles in all: a third pass would be too much work
        (32, 16, 1, (1, 1, 1), 4),
        (64, 12, 4, (1, 2, 3), 24),
        (64, 4, 2, (1, 2, 3), 8),
        (64, 4, 4, (1, 2, 4), 16),
    ],
)
def test_every_pass_is_right_for_a_layer_more(
    side: int, most: int, passes: int, found: tuple[int, ...], runs: int
) -> None:
    layers = Layers()
    got = gather(cast("StatisticsSession", layers), GRAPH, picture(side, side), most=most, passes=passes)
    assert tuple(got) == found
    assert layers.runs == runs


def test_tiles_that_share_are_the_whole_picture(session: StatisticsSession) -> None:
    """Without convolutions nothing else distinguishes a tile: the result is exact whatever the size and overlap."""
    pixels = picture(48, 32)
    expected = pixels - pixels.mean((0, 1))
    alone = restore_pixels(session, GRAPH, pixels, overlap_px=0)
    with session.sharing(gather(session, GRAPH, pixels)):
        shared = restore_pixels(session, GRAPH, pixels, overlap_px=0)
    assert np.abs(alone - expected).max() > 0.1
    np.testing.assert_allclose(shared, expected, atol=1e-6)
    np.testing.assert_array_equal(restore_pixels(session, GRAPH, pixels, overlap_px=0), alone)


def test_small_pictures_are_padded_as_they_are_restored(session: StatisticsSession) -> None:
    pixels = picture(9, 5)
    assert gather(session, GRAPH, pixels).shape == (3,)
    assert np.isfinite(gather(session, GRAPH, pixels)).all()


def test_an_error_within_leaves_nothing_shared(session: StatisticsSession) -> None:
    batch = np.zeros((2, 3, 16, 16), np.float32)
    with pytest.raises(RuntimeError), session.sharing(np.ones(3, np.float32)):
        raise RuntimeError
    np.testing.assert_array_equal(session.run(batch), batch)
