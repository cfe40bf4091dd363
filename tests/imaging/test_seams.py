"""Seams that were planted are found, errors that know nothing of the tiles are not."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeir.errors import UsageError
from edgeir.imaging.blending import TileBlender
from edgeir.imaging.seams import LEAST_BAND_PX, ROUNDING_RMS, Seams, seams
from edgeir.imaging.tiling import Tile, plan_tiles

# Sums of float64 in another order.
EXACT = 1e-12


@st.composite
def layouts(draw: st.DrawFn) -> tuple[int, int, tuple[Tile, ...], int, int]:
    """Height, width, at least two tiles each way, their overlap, and a scale."""
    tile_h, tile_w = draw(st.integers(40, 64)), draw(st.integers(40, 64))
    overlap_px = draw(st.integers(0, 20))
    height, width = draw(st.integers(tile_h + 24, 130)), draw(st.integers(tile_w + 24, 130))
    return height, width, plan_tiles(height, width, tile_h, tile_w, overlap_px), overlap_px, draw(st.integers(1, 2))


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((height, width, 3), dtype=np.float32)


def flat(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), 0.5, np.float32)


def in_tiles(height: int, width: int, tiles: tuple[Tile, ...], overlap_px: int, values: list[float]) -> np.ndarray:
    """A flat picture of which every tile has another brightness, blended."""
    blender = TileBlender(height, width, overlap_px=overlap_px)
    for value, tile in zip(values, tiles, strict=True):
        blender.add(tile, np.full((tile.height, tile.width, 3), value, np.float32))
    return blender.result()


@settings(max_examples=25, deadline=None, derandomize=True)
@given(layouts())
def test_no_difference_is_no_seam(layout: tuple[int, int, tuple[Tile, ...], int, int]) -> None:
    height, width, tiles, overlap_px, scale = layout
    whole = picture(height * scale, width * scale)
    found = seams(whole, whole, tiles, overlap_px=overlap_px, scale=scale)
    assert found == Seams(0.0, 0.0, 0.0)
    assert found.border_ratio == 0.0


@settings(max_examples=25, deadline=None, derandomize=True)
@given(layouts(), st.integers(0, 2**31))
def test_an_even_error_has_ratio_one(layout: tuple[int, int, tuple[Tile, ...], int, int], seed: int) -> None:
    height, width, tiles, overlap_px, scale = layout
    whole = picture(height * scale, width * scale)
    noise = np.random.default_rng(seed).normal(0, 0.01, whole.shape).astype(np.float32)
    found = seams(whole + noise, whole, tiles, overlap_px=overlap_px, scale=scale)
    # The smallest region has 16 rows of 64 pixels of 3 values: their RMS is known to 1/sqrt(2 * 3072), 1.3 %; 5 sigma.
    assert found.border_ratio == pytest.approx(1.0, abs=0.065)
    assert found.interior_rms == pytest.approx(0.01, rel=0.065)
    # Noise of 0.01 on a picture of noise of 0.29 moves the energy of a line of 64 pixels by a percent or two.
    assert abs(found.step) < 0.1


@settings(max_examples=25, deadline=None, derandomize=True)
@given(layouts(), st.integers(0, 2**31))
def test_turning_the_picture_changes_nothing(layout: tuple[int, int, tuple[Tile, ...], int, int], seed: int) -> None:
    height, width, tiles, overlap_px, scale = layout
    tiled, whole = (picture(height * scale, width * scale, seed + add) for add in (0, 1))
    turned = tuple(Tile(tile.left, tile.top, tile.width, tile.height) for tile in tiles)
    found = seams(tiled, whole, tiles, overlap_px=overlap_px, scale=scale)
    other = seams(tiled.transpose(1, 0, 2), whole.transpose(1, 0, 2), turned, overlap_px=overlap_px, scale=scale)
    assert found.border_rms == pytest.approx(other.border_rms, rel=EXACT)
    assert found.interior_rms == pytest.approx(other.interior_rms, rel=EXACT)
    assert found.step == pytest.approx(other.step, rel=EXACT)


@pytest.mark.parametrize("overlap_px", [0, 8, 24])
def test_an_error_where_tiles_meet_is_found(overlap_px: int) -> None:
    side = 128 - overlap_px
    tiles = plan_tiles(side, side, 64, 64, overlap_px)
    band = max(overlap_px, LEAST_BAND_PX)
    first = side // 2 - band // 2
    whole = picture(side, side)
    tiled = whole.copy()
    tiled[:, first : first + band] += 0.01
    tiled[first : first + band] += 0.01
    found = seams(tiled, whole, tiles, overlap_px=overlap_px)
    assert found.interior_rms == 0
    assert found.border_ratio == pytest.approx(found.border_rms * 255 * math.sqrt(12))
    share = band / (2 * side - band)  # of the cross, where both were added
    assert found.border_rms == pytest.approx(0.01 * math.sqrt(1 + 3 * share), rel=1e-4)


def test_what_rounding_hides_does_not_stand_out() -> None:
    tiles = plan_tiles(128, 128, 64, 64, 0)
    whole = flat(128, 128)
    tiled = whole.copy()
    tiled[:, 56:72] += np.float32(0.5 * ROUNDING_RMS)
    tiled[56:72] += np.float32(0.5 * ROUNDING_RMS)
    assert 0 < seams(tiled, whole, tiles, overlap_px=0).border_ratio < 1


def test_a_step_between_two_tiles_is_found_and_a_ramp_hides_it() -> None:
    found = {}
    for overlap_px in (0, 16, 32):
        side = 128 - overlap_px
        tiles = plan_tiles(side, side, 64, 64, overlap_px)
        tiled = in_tiles(side, side, tiles, overlap_px, [0.5, 0.52, 0.5, 0.52])
        found[overlap_px] = seams(tiled, flat(side, side), tiles, overlap_px=overlap_px).step
    assert found[0] == pytest.approx((0.02 * 255) ** 2, rel=1e-4)  # on a flat picture: in steps of 8 bits, squared
    # The ramp is steepest in its middle: pi/2 / overlap per pixel (of sin^2), here between two pixels.
    for overlap_px in (16, 32):
        assert found[overlap_px] == pytest.approx((0.02 * 255 * np.pi / 2 / overlap_px) ** 2, rel=0.01)


def test_more_contrast_everywhere_is_no_step() -> None:
    tiles = plan_tiles(128, 128, 64, 64, 0)
    whole = picture(128, 128)
    contrast = seams(whole * 1.5, whole, tiles, overlap_px=0)
    assert contrast.step == pytest.approx(0.0, abs=1e-3)
    assert contrast.border_rms > 0.1


def test_the_pictures_own_edge_on_a_border_is_no_step() -> None:
    tiles = plan_tiles(128, 128, 64, 64, 0)
    whole = flat(128, 128)
    whole[:, 64:] = 0.9
    assert seams(whole, whole, tiles, overlap_px=0).step == 0
    blurred = whole.copy()
    blurred[:, 63:65] = 0.7
    # No more than the line between the upper and the lower tiles, which is flat in both.
    assert seams(blurred, whole, tiles, overlap_px=0).step == 0
    side_by_side = plan_tiles(128, 128, 128, 64, 0)
    assert seams(blurred, whole, side_by_side, overlap_px=0).step == pytest.approx(-1, abs=1e-3)


def test_the_last_tile_that_was_shifted_back() -> None:
    tiles = plan_tiles(64, 150, 64, 64, 16)  # 0, 48, 86: the last two share 26 pixels, and ramp over 16 of them
    assert sorted(tile.left for tile in tiles) == [0, 48, 86]
    whole = flat(64, 150)
    for line in (48, 56, 64, 86, 94, 104, 112):
        tiled = whole.copy()
        tiled[:, line:] += 0.02
        assert seams(tiled, whole, tiles, overlap_px=16).step == pytest.approx(26.0, rel=1e-3), line
    tiled = whole.copy()
    tiled[:, 75:] += 0.02  # in the middle of a tile there is no border
    assert seams(tiled, whole, tiles, overlap_px=16).step <= 0


def test_borders_everywhere_leave_no_interior() -> None:
    tiles = plan_tiles(16, 16, 8, 8, 0)
    found = seams(picture(16, 16, 1), picture(16, 16), tiles, overlap_px=0)
    assert found.border_rms > 0
    assert found.interior_rms == 0
    assert found.border_ratio > 1


def test_what_is_not_finite_never_passes() -> None:
    tiles = plan_tiles(128, 128, 64, 64, 0)
    broken = flat(128, 128)
    broken[3, 3] = np.nan
    found = seams(broken, flat(128, 128), tiles, overlap_px=0)
    assert found == Seams(math.inf, math.inf, math.inf)
    assert math.isnan(found.border_ratio)


def test_refusals() -> None:
    whole = flat(64, 64)
    with pytest.raises(UsageError, match="no two tiles meet"):
        seams(whole, whole, plan_tiles(64, 64, 64, 64, 0), overlap_px=0)
    with pytest.raises(UsageError, match=r"cannot be compared \(expected two arrays of one shape"):
        seams(whole, whole[1:], plan_tiles(64, 64, 32, 32, 0), overlap_px=0)
    with pytest.raises(UsageError, match="cannot be compared"):
        seams(whole[..., 0], whole[..., 0], plan_tiles(64, 64, 32, 32, 0), overlap_px=0)
