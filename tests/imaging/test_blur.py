"""Discs, tilted Gaussians and sinc filters: sums, moments, known values; and the two ways to filter compared."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeir.errors import UsageError
from edgeir.imaging import blur
from edgeir.imaging import degradations as d


def offsets(kernel: np.ndarray) -> np.ndarray:
    """Distance of each row (or column) from the middle."""
    return np.arange(kernel.shape[0]) - kernel.shape[0] // 2


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.floats(0.5, 20))
def test_a_disc_has_its_area(radius_px: float) -> None:
    coverage = blur.disc_coverage(radius_px).astype(np.float64)
    assert coverage.shape[0] % 2 == 1
    assert coverage.shape[0] <= 2 * radius_px + 2
    assert coverage.sum() == pytest.approx(math.pi * radius_px**2, rel=1.5e-2 if radius_px < 5 else 6e-4)
    assert coverage.min() >= 0
    assert coverage.max() <= 1 + 1e-6
    np.testing.assert_array_equal(coverage, coverage.T)
    np.testing.assert_allclose(coverage, coverage[::-1], atol=1e-6)
    if radius_px > 1:
        assert coverage[tuple(side // 2 for side in coverage.shape)] == pytest.approx(1)


def test_a_disc_of_known_radius() -> None:
    # Radius 1 about the middle pixel: the next pixel holds x from 0.5 on, between the lines y = +-0.5.
    beside = 2 * (0.5 * math.sqrt(0.75) + math.asin(0.5)) / 2 - 0.5  # integral of sqrt(1 - y**2) - 0.5 over |y| < 0.5
    coverage = blur.disc_coverage(1.0)
    assert coverage.shape == (3, 3)
    assert coverage[1, 1] == pytest.approx(1)
    assert coverage[1, 2] == pytest.approx(beside, abs=2e-3)
    assert coverage[0, 0] == pytest.approx((math.pi - 1 - 4 * beside) / 4, abs=2e-3)
    assert blur.disc_kernel(0).tolist() == [[1.0]]
    assert blur.disc_kernel(0.5).tolist() == [[1.0]]


@pytest.mark.parametrize("radius_px", [1.2, 2.5, 6.0, 11.3])
def test_defocus_spreads_a_dot_into_a_disc(radius_px: float) -> None:
    dot = np.zeros((41, 41, 3), np.float32)
    dot[20, 20] = 1
    spread = blur.defocus_blur(dot, radius_px=radius_px)[..., 1].astype(np.float64)
    assert spread.sum() == pytest.approx(1, abs=1e-5)
    variance = spread.sum(axis=0) @ (np.arange(41) - 20.0) ** 2
    assert variance == pytest.approx(radius_px**2 / 4 + 1 / 12, rel=0.02, abs=0.05)  # a disc's, and a pixel's
    inside = spread[20, 20 : 20 + max(int(radius_px - 1), 1)]
    np.testing.assert_allclose(inside, 1 / (math.pi * radius_px**2), rtol=3e-3)  # flat


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.floats(1, 5), st.floats(1, 5), st.floats(-360, 360))
def test_a_tilted_gaussian_has_its_covariance(along: float, across: float, angle_deg: float) -> None:
    kernel = blur.anisotropic_gaussian_kernel(along, across, angle_deg).astype(np.float64)
    x, y = offsets(kernel), -offsets(kernel)
    assert kernel.sum() == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(kernel, kernel[::-1, ::-1], atol=1e-7)
    cos, sin = math.cos(math.radians(angle_deg)), math.sin(math.radians(angle_deg))
    scale = max(along, across) ** 2
    # Cut off at four sigmas of the wider axis: 0.1 % of its variance is missing.
    assert kernel.sum(axis=0) @ x**2 == pytest.approx((along * cos) ** 2 + (across * sin) ** 2, abs=2e-3 * scale)
    assert kernel.sum(axis=1) @ y**2 == pytest.approx((along * sin) ** 2 + (across * cos) ** 2, abs=2e-3 * scale)
    assert y @ kernel @ x == pytest.approx((along**2 - across**2) * sin * cos, abs=2e-3 * scale)


def test_a_round_gaussian_is_the_separable_one() -> None:
    kernel = blur.anisotropic_gaussian_kernel(2.0, 2.0, 37)
    line = blur.gaussian_kernel(2.0)
    np.testing.assert_allclose(kernel, np.outer(line, line), atol=1e-7)
    picture = np.random.default_rng(0).random((50, 43, 3), dtype=np.float32)
    np.testing.assert_allclose(
        blur.anisotropic_gaussian_blur(picture, sigma_along_px=2, sigma_across_px=2, angle_deg=10),
        blur.gaussian_blur(picture, sigma_px=2),
        atol=1e-6,
    )
    rising = blur.anisotropic_gaussian_kernel(4.0, 0.5, 45)
    assert rising[14, 18] > 1e-3 > rising[14, 14]  # reach 16: up and to the right, not up and to the left


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 8), st.integers(0, 8), st.integers(0, 2**32 - 1))
def test_both_ways_to_filter_agree(height: int, width: int, reach_y: int, reach_x: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    picture = rng.random((height, width, 3), dtype=np.float32)
    kernel = rng.standard_normal((2 * reach_y + 1, 2 * reach_x + 1), dtype=np.float32)
    kernel /= np.abs(kernel).sum()
    dense, direct = blur.filter_mirrored_dense(picture, kernel), blur.filter_mirrored(picture, kernel)
    assert dense.dtype == np.float32
    np.testing.assert_allclose(dense, direct, atol=2e-6)  # 289 float32 products and sums of at most 1


def test_filter_inside_is_the_middle_of_filter_mirrored() -> None:
    rng = np.random.default_rng(0)
    picture, kernel = rng.random((20, 17, 3), dtype=np.float32), rng.random((5, 3), dtype=np.float32)
    np.testing.assert_array_equal(
        blur.filter_inside(picture, kernel), blur.filter_mirrored(picture, kernel)[2:-2, 1:-1]
    )
    flat = blur.filter_inside(picture[..., 0], kernel)
    np.testing.assert_array_equal(flat, blur.filter_inside(picture, kernel)[..., 0])


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.floats(0.3, 6), st.floats(0.3, 6), st.floats(-90, 90), st.floats(0, 1))
def test_constants_stay_and_blur_is_linear(one: float, other: float, angle_deg: float, value: float) -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.random((11, 6, 3), dtype=np.float32) for _ in range(2))
    constant = np.full((11, 6, 3), value, np.float32)
    for step in (d.DefocusBlur(one), d.AnisotropicBlur(one, other, angle_deg)):
        np.testing.assert_allclose(step.apply(constant, rng), constant, atol=1e-6)
        mixed = step.apply(0.3 * a + np.float32(value) * b, rng)
        np.testing.assert_allclose(mixed, 0.3 * step.apply(a, rng) + value * step.apply(b, rng), atol=2e-6)


def test_bessel_function_of_known_arguments() -> None:
    x = np.array([0.0, 1.0, 5.0, 10.0, 40.0, 66.0])  # a kernel of 21 pixels needs 45
    # scipy.special.j1 of SciPy 1.17.
    known = [0, 0.44005058574493355, -0.3275791375914653, 0.04347274616886141, 0.126038318037585, 0.06717547808897323]
    np.testing.assert_allclose(blur._bessel_j1(x), known, atol=1e-12)


@pytest.mark.parametrize("side", [7, 13, 21])
@pytest.mark.parametrize("cutoff", [math.pi / 3, 2.0, math.pi])
def test_sinc_kernel(cutoff: float, side: int) -> None:
    kernel = blur.sinc_kernel(cutoff, side).astype(np.float64)
    assert kernel.shape == (side, side)
    assert kernel.sum() == pytest.approx(1, abs=1e-5)
    assert kernel.min() < 0
    np.testing.assert_array_equal(kernel, kernel.T)
    np.testing.assert_array_equal(kernel, kernel[::-1])
    middle = side // 2
    ratio = cutoff / (2 * math.pi) * float(blur._bessel_j1(np.array(cutoff))) / (cutoff**2 / (4 * math.pi))
    assert kernel[middle, middle + 1] / kernel[middle, middle] == pytest.approx(ratio, rel=1e-5)


def test_sinc_kernel_is_a_low_pass() -> None:
    kernel = blur.sinc_kernel(math.pi / 2, 21).astype(np.float64)
    x = offsets(kernel)
    response = {w: float(kernel.sum(axis=0) @ np.cos(w * x)) for w in (0.3 * math.pi, 0.75 * math.pi)}
    assert response[0.3 * math.pi] == pytest.approx(1, abs=0.15)  # cut off to 21 pixels, it ripples
    assert response[0.75 * math.pi] == pytest.approx(0, abs=0.15)


@pytest.mark.parametrize(
    "make",
    [
        lambda: blur.disc_coverage(-1),
        lambda: blur.disc_kernel(math.nan),
        lambda: blur.squared_distance(3, 0, 1, 0),
        lambda: blur.anisotropic_gaussian_kernel(1, -1, 0),
        lambda: blur.sinc_kernel(0, 7),
        lambda: blur.sinc_kernel(1, 8),
    ],
)
def test_kernels_check_their_widths(make: object) -> None:
    with pytest.raises(UsageError, match=r"a disc needs a radius|a blur needs a width|needs a cutoff and a middle"):
        make()
