"""Looks against what was done to a picture on purpose."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgeir.imaging.colour import Pixels
from edgeir.imaging.look import (
    Look,
    amplified_difference,
    banding,
    black_shift_8bit,
    hue_shift_deg,
    look,
    to_lay_over,
    white_shift_8bit,
)


@pytest.fixture
def picture() -> Pixels:
    rng = np.random.default_rng(0)
    return rng.uniform(0.2, 0.8, (40, 50, 3)).astype(np.float32)


def turned(picture: Pixels, degrees: float) -> Pixels:
    """The chroma plane of BT.601 turned around grey; luma stays."""
    y = picture @ np.array([0.299, 0.587, 0.114])
    z = (picture[..., 2] - y) / 1.772 + 1j * (picture[..., 0] - y) / 1.402
    z = z * np.exp(1j * math.radians(degrees))
    blue, red = y + 1.772 * z.real, y + 1.402 * z.imag
    green = (y - 0.299 * red - 0.114 * blue) / 0.587
    return np.stack([red, green, blue], axis=2).astype(np.float32)


@pytest.mark.parametrize("degrees", [0.0, 3.0, -40.0, 170.0])
def test_hue(picture: Pixels, degrees: float) -> None:
    assert hue_shift_deg(turned(picture, degrees), picture) == pytest.approx(degrees, abs=1e-3)
    # less colourful, the same hue
    assert hue_shift_deg(0.5 * turned(picture, degrees), picture) == pytest.approx(
        degrees, abs=1e-3
    )  # no colourfulness


def test_grey_has_no_hue(picture: Pixels) -> None:
    grey = picture.mean(axis=2, keepdims=True).repeat(3, axis=2)
    assert hue_shift_deg(picture, grey) == 0


def test_white_and_black_points() -> None:
    ramp = np.linspace(0, 1, 1001, dtype=np.float32)[None, :, None].repeat(3, axis=2)
    clipped = np.clip(ramp, 10 / 255, 235 / 255)
    # The percentiles of an even ramp are 0.999 and 0.001.
    assert white_shift_8bit(clipped, ramp) == pytest.approx(235 - 255 * 0.999, abs=1e-3)
    assert black_shift_8bit(clipped, ramp) == pytest.approx(10 - 255 * 0.001, abs=1e-3)
    assert white_shift_8bit(ramp, ramp) == black_shift_8bit(ramp, ramp) == 0


@pytest.mark.parametrize("steps", [128, 64, 32])
def test_banding(steps: int) -> None:
    width = 510  # half a step of an 8-bit picture from one pixel to the next
    ramp = (
        np.linspace(0, 1, width, endpoint=False, dtype=np.float64)[None, :, None].repeat(20, axis=0).repeat(3, axis=2)
    )
    coarse = (np.floor(ramp * steps) / steps).astype(np.float32)
    ramp = ramp.astype(np.float32)
    # Of the pairs in a row, one per step is left; the pairs in a column were flat before.
    assert banding(coarse, ramp) == pytest.approx(1 - (steps - 1) / (width - 1), abs=1e-9)
    assert banding(ramp, ramp) == 0


def test_hardly_any_slope_is_no_banding() -> None:
    flat = np.full((20, 20, 3), 0.5, np.float32)
    flat[0, 0] += np.float32(0.5 / 255)
    assert banding(np.full((20, 20, 3), 0.5, np.float32), flat) == 0


def test_all_at_once(picture: Pixels) -> None:
    assert look(picture, picture) == Look(pytest.approx(0, abs=1e-9), 0, 0, 0)  # type: ignore[arg-type]
    broken = picture.copy()
    broken[3, 3] = np.nan
    assert all(math.isfinite(value) for value in (look(broken, picture).hue_shift_deg, look(broken, picture).banding))
    brighter = look(np.clip(picture + np.float32(2 / 255), 0, 1), picture)
    assert brighter.white_shift_8bit == pytest.approx(2, abs=0.01)
    assert brighter.black_shift_8bit == pytest.approx(2, abs=0.01)


def test_the_difference_is_amplified_as_far_as_it_fits(picture: Pixels) -> None:
    difference, gain = amplified_difference(picture + np.float32(0.01), picture)
    assert (difference.shape, difference.dtype, gain) == ((40, 50, 3), np.float32, 32)  # 64 times is beyond 0.5
    np.testing.assert_allclose(difference, 0.5 + 32 * 0.01, atol=1e-5)
    same, gain = amplified_difference(picture, picture)
    assert gain == 4096
    assert (same == 0.5).all()


def test_what_is_laid_over_has_one_size(picture: Pixels) -> None:
    layers = to_lay_over(picture - 1, picture, picture + np.float32(0.01))
    assert list(layers) == ["input", "reference", "engine", "difference times 32"]
    assert (layers["input"] == 0).all()
    enlarged = picture.repeat(2, axis=0).repeat(2, axis=1)
    assert list(to_lay_over(picture, enlarged, enlarged)) == ["reference", "engine", "difference times 4096"]
