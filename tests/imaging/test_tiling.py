"""Tiles cover the picture, blending is a partition of unity, and the joint shows no seam."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeir.errors import PictureError, UsageError
from edgeir.imaging.blending import TileBlender, edge_weights
from edgeir.imaging.padding import crop, pad_to
from edgeir.imaging.tiling import Tile, plan_tiles

# w * x / w with float32 sums of at most four tiles around values of at most 1: a few units of 2^-24 (6e-8).
IDENTITY = 1e-6


@st.composite
def plans(draw: st.DrawFn) -> tuple[int, int, int, int, int]:
    tile_h, tile_w = draw(st.integers(1, 24)), draw(st.integers(1, 24))
    overlap_px = draw(st.integers(0, min(tile_h, tile_w) - 1))
    return draw(st.integers(1, 70)), draw(st.integers(1, 70)), tile_h, tile_w, overlap_px


@settings(max_examples=80, deadline=None, derandomize=True)
@given(plans())
def test_plan_covers_with_full_tiles(plan: tuple[int, int, int, int, int]) -> None:
    height, width, tile_h, tile_w, overlap_px = plan
    height, width = max(height, tile_h), max(width, tile_w)
    tiles = plan_tiles(height, width, tile_h, tile_w, overlap_px)
    covered = np.zeros((height, width), int)
    for tile in tiles:
        assert (tile.height, tile.width) == (tile_h, tile_w)
        assert covered[tile.slices()].shape == (tile_h, tile_w)
        covered[tile.slices()] += 1
    assert covered.min() >= 1
    assert len(set(tiles)) == len(tiles)
    for starts, side in (({t.top for t in tiles}, tile_h), ({t.left for t in tiles}, tile_w)):
        ordered = sorted(starts)
        assert all(after - before <= side - overlap_px for before, after in itertools.pairwise(ordered))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(plans(), st.integers(1, 3))
def test_identity_network_gives_the_picture_back(plan: tuple[int, int, int, int, int], scale: int) -> None:
    height, width, tile_h, tile_w, overlap_px = plan
    pixels = np.random.default_rng(height * width).random((height, width, 3), dtype=np.float32)

    def enlarge(tile: np.ndarray) -> np.ndarray:
        assert tile.shape == (tile_h, tile_w, 3)
        return tile.repeat(scale, axis=0).repeat(scale, axis=1)

    padded = pad_to(pixels, max(height, tile_h), max(width, tile_w))
    blender = TileBlender(*padded.shape[:2], scale=scale, overlap_px=overlap_px)
    for tile in plan_tiles(*padded.shape[:2], tile_h, tile_w, overlap_px):
        blender.add(tile, enlarge(padded[tile.slices()]))
    result = crop(blender.result(), height, width, scale)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, enlarge_whole(pixels, scale), atol=IDENTITY)


def enlarge_whole(pixels: np.ndarray, scale: int) -> np.ndarray:
    return pixels.repeat(scale, axis=0).repeat(scale, axis=1)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(1, 40), st.data())
def test_weights_are_positive_and_partition_unity(length: int, data: st.DataObject) -> None:
    ramp = data.draw(st.integers(0, length))
    falling = edge_weights(length, ramp, rise=False, fall=True)
    rising = edge_weights(length, ramp, rise=True, fall=False)
    assert falling.min() > 0
    assert edge_weights(length, ramp, rise=True, fall=True).min() > 0
    # float32 rounding of two numbers that sum to one.
    np.testing.assert_allclose(falling[length - ramp :] + rising[:ramp], 1.0, atol=2e-7)
    np.testing.assert_array_equal(falling, rising[::-1])


def test_a_disagreement_fades_without_a_step() -> None:
    tiles = plan_tiles(32, 80, 32, 48, overlap_px=16)
    blender = TileBlender(32, 80, channels=1, overlap_px=16)
    for value, tile in zip((0.0, 1.0), tiles, strict=True):
        blender.add(tile, np.full((32, 48, 1), value, np.float32))
    row = blender.result()[5, :, 0]
    assert row[:32].max() == 0
    assert row[48:].min() == 1
    steps = np.diff(row)
    assert steps.min() >= 0
    assert steps.max() < np.pi / 2 / 16 + 1e-6  # the steepest slope of sin^2 over 16 pixels
    assert steps[31] < 0.01  # it begins softly


def test_order_of_tiles_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    tiles = plan_tiles(40, 40, 24, 24, 8)
    outputs = [rng.random((24, 24, 3), dtype=np.float32) for _ in tiles]
    forward, backward = TileBlender(40, 40, overlap_px=8), TileBlender(40, 40, overlap_px=8)
    for tile, output in zip(tiles, outputs, strict=True):
        forward.add(tile, output)
    for tile, output in zip(reversed(tiles), reversed(outputs), strict=True):
        backward.add(tile, output)
    np.testing.assert_allclose(forward.result(), backward.result(), atol=IDENTITY)


@pytest.mark.parametrize(("tile_px", "overlap_px"), [(16, 16), (16, 20), (16, -1), (0, 0)])
def test_overlap_must_be_below_the_tile(tile_px: int, overlap_px: int) -> None:
    with pytest.raises(UsageError, match="the overlap does not fit the tile"):
        plan_tiles(64, 64, tile_px, tile_px, overlap_px)


def test_picture_below_the_tile() -> None:
    with pytest.raises(UsageError, match=r"smaller than a tile.*Pad it first"):
        plan_tiles(64, 15, 16, 16, 4)


def test_blender_refusals() -> None:
    blender = TileBlender(20, 20, overlap_px=4)
    good = np.zeros((10, 10, 3), np.float32)
    for tile in (Tile(11, 0, 10, 10), Tile(-1, 0, 10, 10), Tile(0, 0, 4, 10)):
        with pytest.raises(UsageError, match="does not fit the picture or the overlap"):
            blender.add(tile, good)
    with pytest.raises(UsageError, match=r"wrong shape \(expected \(10, 10, 3\), got \(10, 10\)\)"):
        blender.add(Tile(0, 0, 10, 10), good[..., 0])
    blender.add(Tile(0, 0, 10, 10), good)
    with pytest.raises(PictureError, match="got 300 that are not"):
        blender.result()
    with pytest.raises(UsageError, match="positive sizes"):
        TileBlender(0, 20)


def test_the_blended_picture_is_given_once() -> None:
    """It lies in the memory of the sums: a second division would change it."""
    blender = TileBlender(4, 4)
    blender.add(Tile(0, 0, 4, 4), np.ones((4, 4, 3), np.float32))
    assert blender.result().min() == 1
    with pytest.raises(UsageError, match="was taken already"):
        blender.result()
