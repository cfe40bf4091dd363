"""Statistics gathered from the tiles of a picture, and shared by them."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from edgeir.export.tile_statistics import with_tile_statistics
from edgeir.runtime.restore import GraphInput, restore_pixels
from edgeir.runtime.tile_statistics import StatisticsSession, gather
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
    return StatisticsSession(ir.to_proto(graph).SerializeToString(), threads=1)


def picture(height: int, width: int) -> np.ndarray:
    ramp = np.linspace(0, 1, height * width * 3, dtype=np.float32)
    return np.asarray(ramp.reshape(height, width, 3), np.float32)


@pytest.mark.parametrize("size", [(32, 32), (16, 48), (16, 16)])
def test_of_all_tiles_it_is_that_of_the_picture(session: StatisticsSession, size: tuple[int, int]) -> None:
    pixels = picture(*size)
    np.testing.assert_allclose(gather(session, GRAPH, pixels), pixels.mean((0, 1)), atol=1e-6)


def test_of_some_tiles_it_is_close(session: StatisticsSession) -> None:
    pixels = picture(64, 64)
    some = gather(session, GRAPH, pixels, most=4)
    assert 1e-4 < np.abs(some - pixels.mean((0, 1))).max() < 0.1  # four of sixteen tiles of a ramp


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
