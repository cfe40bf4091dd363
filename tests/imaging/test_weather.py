"""Snow: its composition, how much of the picture it covers, and the shape of its flakes."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgeir.imaging.weather import _FLAKE_SIZES, flake_kernel, snow, snow_mask

FALL = {"size_px": 6.0, "motion_px": 5.0, "angle_deg": 10.0}


def scene(height: int = 40, width: int = 56) -> np.ndarray:
    """A gradient, in [0, 1]."""
    return np.linspace(0, 1, height * width * 3, dtype=np.float32).reshape(height, width, 3)


def test_snow_is_its_formula_and_brightens_only_under_its_mask() -> None:
    clean = scene()
    mask = snow_mask(40, 56, np.random.default_rng(1), density=0.02, **FALL)
    white = snow(clean, np.random.default_rng(1), density=0.02, opacity=0.8, **FALL)
    assert 0.02 < (mask > 0).mean() < 0.95
    assert (white >= clean).all()
    np.testing.assert_array_equal(white[mask == 0], clean[mask == 0])
    np.testing.assert_allclose(white, clean + 0.8 * mask[..., None] * (1 - clean), atol=1e-6)
    for nothing in ({"density": 0, "opacity": 1}, {"density": 0.1, "opacity": 0}):
        np.testing.assert_array_equal(snow(clean, np.random.default_rng(1), **nothing, **FALL), clean)


def test_all_of_the_picture_is_snow_where_it_is_thick() -> None:
    mask = snow_mask(30, 30, np.random.default_rng(0), density=1, size_px=20, motion_px=0, angle_deg=0)
    np.testing.assert_array_equal(mask, 1)


def test_snow_covers_what_its_density_says_and_the_edges_too() -> None:
    density = 0.0005  # flakes hardly meet, so that nothing is clipped
    masks = [snow_mask(64, 64, np.random.default_rng(seed), density=density, **FALL) for seed in range(300)]
    shares = np.array(_FLAKE_SIZES) ** -2.0
    shares /= shares.sum()
    areas = [math.pi * (size * FALL["size_px"] / 2) ** 2 for size in _FLAKE_SIZES]
    # 27, 64, 153 and 370 flakes of the four sizes, a quarter of the area each: it varies by 6 %, at the edges by 16 %.
    # A flake has 0.8 of the full brightness on average.
    assert np.mean(masks) == pytest.approx(0.8 * density * float(shares @ areas), rel=0.2)
    edge = [np.concatenate([mask[:3].ravel(), mask[-3:].ravel(), mask[:, :3].ravel()]) for mask in masks]
    assert np.mean(edge) == pytest.approx(np.mean(masks), rel=0.3)


@pytest.mark.parametrize("size_px", [1.5, 4.0, 9.0])
@pytest.mark.parametrize("motion_px", [0.0, 6.0])
def test_a_flake_has_its_area_soft_edges_and_its_motion(size_px: float, motion_px: float) -> None:
    kernel = flake_kernel(size_px, motion_px, 90)
    side = kernel.shape[0]
    assert kernel.shape == (side, side)
    assert side % 2 == 1
    assert kernel.sum() == pytest.approx(math.pi * size_px**2 / 4, rel=5e-3)
    assert kernel.max() <= 1 + 1e-6
    x = np.arange(side) - side // 2
    down, across = (kernel.sum(axis=axis) @ x**2 / kernel.sum() for axis in (1, 0))
    line = (max(motion_px, 1) ** 2 - 1) / 12  # the variance of a row of that many pixels
    assert down - across == pytest.approx(line, abs=0.7)
    if size_px == 9 and motion_px == 0:
        row = kernel[side // 2]
        assert np.abs(np.diff(row)).max() < 0.35  # a hard edge would step from 1 to 0 within a pixel


def test_an_empty_flake_covers_nothing() -> None:
    assert flake_kernel(0, 0, 0).tolist() == [[0.0]]
