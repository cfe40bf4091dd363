"""Pictures of any size through graphs of few sizes: pad, tile, batch, blend, crop."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeir.errors import UsageError
from edgeir.imaging.byte_formats import ByteFormat
from edgeir.imaging.colour import to_uint8
from edgeir.imaging.yuv import Yuv
from edgeir.manifest import Tiling
from edgeir.runtime.restore import (
    DEFAULT_OVERLAP_PX,
    GraphInput,
    Overlap,
    in_one_piece,
    overlap_for,
    overlap_to_run,
    restore_bytes,
    restore_pixels,
)
from edgeir.spec import SizeRule

RULE = SizeRule(8, 8)
STATIC = GraphInput(batch=1, minimum=(32, 40), optimum=(32, 40), maximum=(32, 40), rule=RULE)
SQUARE = GraphInput(batch=1, minimum=(32, 32), optimum=(32, 32), maximum=(32, 32), rule=RULE)
DYNAMIC = GraphInput(batch=1, minimum=(16, 16), optimum=(32, 40), maximum=(64, 64), rule=RULE)
# Two float32 weights, a product each and a division: blending rounds by a few units in the last place of 1.
BLEND_ABS = 1e-6


class Fake:
    """A network of known output that notes what it is given."""

    name = "fake"

    def __init__(self, graph: GraphInput) -> None:
        self.graph = graph
        self.batches: list[np.ndarray] = []

    def run(self, pictures: np.ndarray) -> np.ndarray:
        assert pictures.dtype == np.float32
        assert pictures.flags.c_contiguous
        batch, channels, height, width = pictures.shape
        assert (batch, channels) == (self.graph.batch, 3)
        assert self.graph.rule.accepts(height, width)
        low, high = self.graph.minimum, self.graph.maximum
        assert low[0] <= height <= high[0]
        assert low[1] <= width <= high[1]
        self.batches.append(pictures.copy())
        return pictures.repeat(self.graph.scale, axis=2).repeat(self.graph.scale, axis=3)


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * 1000 + width).random((height, width, 3), dtype=np.float32)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(1, 70), st.integers(1, 90), st.sampled_from([STATIC, SQUARE, DYNAMIC]), st.integers(0, 15))
def test_the_identity_restores_every_size(height: int, width: int, graph: GraphInput, overlap_px: int) -> None:
    picture = noise(height, width)
    session = Fake(graph)
    restored = restore_pixels(session, graph, picture, overlap_px=overlap_px)
    assert restored.shape == picture.shape
    if len(session.batches) == 1:
        assert np.array_equal(restored, picture)
    else:
        assert float(np.abs(restored - picture).max()) <= BLEND_ABS


@pytest.mark.parametrize("size", [(1, 1), (1, 90), (70, 1), (32, 40), (33, 41), (70, 90)])
def test_the_identity_at_the_ends(size: tuple[int, int]) -> None:
    picture = noise(*size)
    restored = restore_pixels(Fake(STATIC), STATIC, picture, overlap_px=8)
    assert float(np.abs(restored - picture).max()) <= BLEND_ABS


class Windowed(Fake):
    """Every pixel becomes the mean of its window of 8 by 8: a network whose answer depends on where a tile begins."""

    def run(self, pictures: np.ndarray) -> np.ndarray:
        super().run(pictures)
        batch, channels, height, width = pictures.shape
        windows = pictures.reshape(batch, channels, height // 8, 8, width // 8, 8)
        means = windows.mean(axis=(3, 5), keepdims=True)
        return np.asarray(np.broadcast_to(means, windows.shape).reshape(pictures.shape), np.float32)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(1, 70), st.integers(1, 90), st.sampled_from([0, 8, 16]))
def test_every_tile_begins_on_the_networks_grid(height: int, width: int, overlap_px: int) -> None:
    whole = GraphInput(batch=1, minimum=(8, 8), optimum=(96, 96), maximum=(96, 96), rule=RULE)
    picture = noise(height, width)
    expected = restore_pixels(Windowed(whole), whole, picture)
    restored = restore_pixels(Windowed(SQUARE), SQUARE, picture, overlap_px=overlap_px)
    assert float(np.abs(restored - expected).max()) <= BLEND_ABS


def test_what_the_network_gives_is_not_clipped() -> None:
    picture = np.full((20, 20, 3), 1.5, np.float32)
    assert np.array_equal(restore_pixels(Fake(SQUARE), SQUARE, picture), picture)


def test_a_fixed_batch_is_filled_up_and_the_filling_dropped() -> None:
    graph = GraphInput(batch=4, minimum=(16, 16), optimum=(16, 16), maximum=(16, 16), rule=RULE)
    session, picture = Fake(graph), noise(16, 16 * 6)
    steps: list[tuple[int, int]] = []
    restored = restore_pixels(session, graph, picture, overlap_px=0, progress=lambda *step: steps.append(step))
    assert [batch.shape[0] for batch in session.batches] == [4, 4]
    assert np.array_equal(session.batches[1][2], session.batches[1][1])
    assert np.array_equal(session.batches[1][3], session.batches[1][1])
    assert np.array_equal(restored, picture)
    assert steps == [(4, 6), (6, 6)]


def test_scale_two() -> None:
    graph = GraphInput(batch=2, minimum=(16, 16), optimum=(16, 16), maximum=(16, 16), rule=RULE, scale=2)
    picture = noise(21, 43)
    restored = restore_pixels(Fake(graph), graph, picture, overlap_px=4)
    assert restored.shape == (42, 86, 3)
    assert float(np.abs(restored - picture.repeat(2, axis=0).repeat(2, axis=1)).max()) <= BLEND_ABS


@pytest.mark.parametrize(
    ("graph", "size", "tile"),
    [
        (STATIC, (5, 5), (32, 40)),
        (STATIC, (500, 500), (32, 40)),
        (DYNAMIC, (5, 5), (16, 16)),
        (DYNAMIC, (17, 33), (24, 40)),
        (DYNAMIC, (64, 64), (64, 64)),
        (DYNAMIC, (57, 20), (64, 24)),
        (DYNAMIC, (65, 20), (32, 40)),
        (DYNAMIC, (5, 500), (32, 40)),
    ],
)
def test_tiles_are_the_whole_picture_where_the_graph_takes_it(
    graph: GraphInput, size: tuple[int, int], tile: tuple[int, int]
) -> None:
    assert graph.tile_for(*size) == tile


def test_the_users_tile() -> None:
    assert DYNAMIC.tile_for(500, 500, 48) == (48, 48)
    assert SQUARE.tile_for(500, 500, 32) == (32, 32)
    session = Fake(DYNAMIC)
    restore_pixels(session, DYNAMIC, noise(20, 100), tile_px=24, overlap_px=8)
    assert {batch.shape for batch in session.batches} == {(1, 3, 24, 24)}


@pytest.mark.parametrize(
    ("graph", "tile_px", "sentence"),
    [
        (SQUARE, 40, "--tile: .*expected 32x32, got 40.*Export again with --size"),
        (STATIC, 32, "expected 32x40, got 32"),
        (DYNAMIC, 8, "expected 16x16 to 64x64 in steps of 8, got 8"),
        (DYNAMIC, 72, "got 72"),
        (DYNAMIC, 36, "got 36"),
        (DYNAMIC, 0, "got 0"),
        (DYNAMIC, -16, "got -16"),
    ],
)
def test_a_tile_the_graph_does_not_take(graph: GraphInput, tile_px: int, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        restore_pixels(Fake(graph), graph, noise(20, 20), tile_px=tile_px)


@pytest.mark.parametrize("overlap_px", [32, -1])
def test_an_overlap_that_does_not_fit(overlap_px: int) -> None:
    with pytest.raises(UsageError, match="overlap does not fit"):
        restore_pixels(Fake(SQUARE), SQUARE, noise(20, 80), overlap_px=overlap_px)
    assert restore_pixels(Fake(SQUARE), SQUARE, noise(20, 20), overlap_px=overlap_px).shape == (20, 20, 3)


TILE_256 = GraphInput(batch=1, minimum=(256, 256), optimum=(256, 256), maximum=(256, 256), rule=RULE)
WINDOWED = GraphInput(batch=1, minimum=(64, 64), optimum=(160, 160), maximum=(256, 256), rule=SizeRule(32, 32))


@pytest.mark.parametrize(
    ("graph", "given", "overlap"),
    [
        (TILE_256, {}, Overlap(DEFAULT_OVERLAP_PX, "default")),
        (SQUARE, {}, Overlap(8, "default")),
        (DYNAMIC, {"tile_px": 64}, Overlap(8, "default")),  # a quarter of the smallest, on the network's grid
        (dataclasses.replace(TILE_256, rule=SizeRule(64, 64)), {}, Overlap(64, "default")),
        (TILE_256, {"measured_px": 64}, Overlap(64, "measured")),
        (TILE_256, {"measured_px": 0}, Overlap(0, "measured")),
        (TILE_256, {"measured_px": 64, "asked_px": 0}, Overlap(0, "asked")),
        (TILE_256, {"asked_px": 999}, Overlap(999, "asked")),  # refused where the tiles are planned
        # Measured with larger tiles than these: half a tile, on the network's grid where that has one.
        (SQUARE, {"measured_px": 64}, Overlap(16, "measured")),
        (STATIC, {"measured_px": 17}, Overlap(16, "measured")),
        (WINDOWED, {"measured_px": 64}, Overlap(64, "measured")),
        (WINDOWED, {"measured_px": 96}, Overlap(64, "measured")),
        (WINDOWED, {"measured_px": 64, "tile_px": 96}, Overlap(32, "measured")),
        (dataclasses.replace(SQUARE, rule=SizeRule(32, 32)), {"measured_px": 64}, Overlap(16, "measured")),
    ],
)
def test_the_overlap_and_where_it_comes_from(graph: GraphInput, given: dict[str, int], overlap: Overlap) -> None:
    assert overlap_for(graph, **given) == overlap
    if overlap.origin != "asked":
        tile_px = given.get("tile_px")
        picture = noise(graph.optimum[0] + 8, graph.optimum[1] * 2)
        restored = restore_pixels(Fake(graph), graph, picture, tile_px=tile_px, overlap_px=overlap.px)
        assert float(np.abs(restored - picture).max()) <= BLEND_ABS


def test_a_tile_the_graph_does_not_take_is_refused_with_a_measured_overlap_as_well() -> None:
    with pytest.raises(UsageError, match="--tile"):
        overlap_for(SQUARE, tile_px=40, measured_px=16)


def test_static_is_one_size() -> None:
    assert STATIC.static
    assert not DYNAMIC.static


def test_the_overlap_of_a_bundle() -> None:
    tiling = Tiling(overlap_px=16, tile_px=(32, 32), fidelity_db=None, border_ratio=1.0, pictures=1)
    assert overlap_to_run(SQUARE, tiling) == Overlap(16, "measured")
    assert overlap_to_run(SQUARE, None) == Overlap(8, "default")
    assert overlap_to_run(SQUARE, tiling, asked_px=3) == Overlap(3, "asked")
    assert overlap_to_run(DYNAMIC, tiling, tile_px=24) == Overlap(8, "measured")


class Waves(Fake):
    """A network whose tiles disagree, within [0, 1]: a wave over the tile is added to the picture."""

    def run(self, pictures: np.ndarray) -> np.ndarray:
        wave = np.float32(0.3) * np.sin(np.arange(pictures.shape[3], dtype=np.float32))
        return np.asarray(super().run(pictures) * np.float32(0.4) + wave.repeat(self.graph.scale) + 0.3, np.float32)


class InBytes:
    """A network of floats as a graph of bytes runs it: clipped, scaled, rounded half to even."""

    name = "bytes"
    form = ByteFormat("uint8")

    def __init__(self, network: Fake) -> None:
        self.network = network
        self.batches = 0

    def run_bytes(self, pictures: np.ndarray) -> np.ndarray:
        assert pictures.dtype == np.uint8
        self.batches += 1
        floats = pictures.astype(np.float32) / np.float32(255)
        return to_uint8(self.network.run(np.ascontiguousarray(floats.transpose(0, 3, 1, 2))).transpose(0, 2, 3, 1))


class Rounded:
    """A network whose tiles are whole steps, 0 to 255, as floats: what blending bytes begins with."""

    name = "rounded"

    def __init__(self, network: Fake) -> None:
        self.network = network

    def run(self, pictures: np.ndarray) -> np.ndarray:
        return to_uint8(self.network.run(pictures)).astype(np.float32)


def some_bytes(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * 1000 + width).integers(0, 256, (height, width, 3), dtype=np.uint8)


SCALED = dataclasses.replace(SQUARE, scale=2)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(1, 64), st.integers(1, 64), st.sampled_from([STATIC, SQUARE, DYNAMIC, SCALED]))
def test_bytes_in_one_piece_are_those_that_floats_are_written_as(height: int, width: int, graph: GraphInput) -> None:
    picture = some_bytes(height, width)
    floats = restore_pixels(Waves(graph), graph, picture.astype(np.float32) / np.float32(255), overlap_px=0)
    session = InBytes(Waves(graph))
    found = restore_bytes(session, graph, picture, overlap_px=0)
    assert found.dtype == np.uint8
    assert found.shape == (height * graph.scale, width * graph.scale, 3)
    assert in_one_piece(graph, height, width) == (session.batches == 1)
    if in_one_piece(graph, height, width):
        np.testing.assert_array_equal(found, to_uint8(floats))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(1, 90), st.integers(33, 90), st.sampled_from([SQUARE, SCALED]), st.integers(0, 15))
def test_tiles_of_bytes_are_half_a_step_off_and_round_to_one(
    height: int, width: int, graph: GraphInput, overlap_px: int
) -> None:
    """Each byte is half a step off, a weighted mean of them no more; rounding it costs another half."""
    picture = some_bytes(height, width)
    pixels = picture.astype(np.float32) / np.float32(255)
    floats = restore_pixels(Waves(graph), graph, pixels, overlap_px=overlap_px)
    session = InBytes(Waves(graph))
    found = restore_bytes(session, graph, picture, overlap_px=overlap_px)
    # float32 blends values up to 255: a few units in the last place are 1e-4.
    blended = restore_pixels(Rounded(Waves(graph)), graph, pixels, overlap_px=overlap_px)
    assert float(np.abs(blended - floats * 255).max()) <= 0.5 + 1e-4
    np.testing.assert_array_equal(found, np.rint(blended).astype(np.uint8))
    assert int(np.abs(found.astype(np.int16) - to_uint8(floats)).max()) <= 1


def test_a_fixed_batch_of_bytes_is_filled_up_and_reports_progress() -> None:
    graph = GraphInput(batch=4, minimum=(16, 16), optimum=(16, 16), maximum=(16, 16), rule=RULE)
    session, picture = InBytes(Fake(graph)), some_bytes(16, 16 * 6)
    steps: list[tuple[int, int]] = []
    found = restore_bytes(session, graph, picture, overlap_px=0, progress=lambda *step: steps.append(step))
    np.testing.assert_array_equal(found, picture)
    assert (session.batches, steps) == (2, [(4, 6), (6, 6)])
    steps.clear()
    restore_bytes(session, graph, picture[:, :10], progress=lambda *step: steps.append(step))
    assert steps == [(1, 1)]


def test_what_takes_no_pieces_is_refused() -> None:
    session = InBytes(Fake(SQUARE))
    with pytest.raises(UsageError, match="expected uint8, got float32"):
        restore_bytes(session, SQUARE, noise(20, 20))
    session.form = ByteFormat("nv12", Yuv())
    with pytest.raises(UsageError, match="NV12 restores whole frames"):
        restore_bytes(session, SQUARE, some_bytes(20, 20))
