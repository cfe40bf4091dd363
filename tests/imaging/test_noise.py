"""Shot noise, speckle and blotches against their formulas: mean, variance, correlation in space and of channels."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgeir.imaging.blur import gaussian_kernel
from edgeir.imaging.noise import correlated_noise, poisson_noise, speckle_noise


def grey(value: float, side: int = 128) -> np.ndarray:
    """One value everywhere."""
    return np.full((side, side, 3), value, np.float32)


@pytest.mark.parametrize(("value", "electrons"), [(0.6, 100), (0.1, 30), (1.0, 5000)])
def test_poisson_noise_has_the_variance_of_counting(value: float, electrons: float) -> None:
    image = poisson_noise(grey(value), np.random.default_rng(0), full_well_electrons=electrons)
    variance = value / electrons
    # Five standard errors of the mean and of the variance; the kurtosis 1 / (value * electrons) adds to the latter.
    assert image.mean() == pytest.approx(value, abs=5 * math.sqrt(variance / image.size))
    error = math.sqrt((2 + 1 / (value * electrons)) / image.size)
    assert image.var(dtype=np.float64) == pytest.approx(variance, rel=5 * error)
    counts = image.astype(np.float64) * electrons
    np.testing.assert_allclose(counts, np.rint(counts), atol=electrons * 1e-6)  # float32 of a value up to 1.x


def test_poisson_noise_of_black_is_black_and_of_negative_light_too() -> None:
    for value in (0.0, -0.5):
        assert not poisson_noise(grey(value, 9), np.random.default_rng(0), full_well_electrons=50).any()
    bright = poisson_noise(grey(1), np.random.default_rng(0), full_well_electrons=50)
    clipped = poisson_noise(grey(1), np.random.default_rng(0), full_well_electrons=50, clip=True)
    assert bright.max() > 1
    np.testing.assert_array_equal(clipped, np.minimum(bright, 1))


@pytest.mark.parametrize("value", [0.2, 0.8])
def test_speckle_grows_with_the_light(value: float) -> None:
    image = speckle_noise(grey(value), np.random.default_rng(0), sigma_8bit=40)
    deviation = value * 40 / 255
    assert image.mean() == pytest.approx(value, abs=5 * deviation / math.sqrt(image.size))
    assert image.std(dtype=np.float64) == pytest.approx(deviation, rel=5 / math.sqrt(2 * image.size))


def test_speckle_leaves_black_and_clips_when_asked() -> None:
    assert not speckle_noise(grey(0, 9), np.random.default_rng(0), sigma_8bit=200).any()
    wild = speckle_noise(grey(1), np.random.default_rng(0), sigma_8bit=300)
    clipped = speckle_noise(grey(1), np.random.default_rng(0), sigma_8bit=300, clip=True)
    assert wild.min() < 0 < 1 < wild.max()
    np.testing.assert_array_equal(clipped, np.clip(wild, 0, 1))


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Of two fields whose mean is known to be 0."""
    return float((a * b).mean() / math.sqrt((a * a).mean() * (b * b).mean()))


@pytest.mark.parametrize("correlation_px", [0, 1, 2.5])
def test_correlated_noise_has_its_deviation_and_its_correlation(correlation_px: float) -> None:
    clean = grey(0.5, 384)
    image = correlated_noise(clean, np.random.default_rng(0), sigma_8bit=25, correlation_px=correlation_px)
    noise = (image.astype(np.float64) - 0.5) * 255
    # n independent values: one per pi * correlation_px**2 pixels (the integral of the squared correlation).
    n = noise.size / max(math.pi * correlation_px**2, 1)
    assert noise.std() == pytest.approx(25, rel=5 / math.sqrt(2 * n))
    assert abs(noise.mean()) < 5 * 25 / math.sqrt(n / 2)  # the integral of the correlation itself is twice that
    for lag in (1, 2, 3, 5):
        wanted = math.exp(-(lag**2) / (2 * correlation_px**2)) if correlation_px else 0.0
        for one, other in ((noise[lag:], noise[:-lag]), (noise[:, lag:], noise[:, :-lag])):
            assert correlation(one, other) == pytest.approx(wanted, abs=0.02 + 5 / math.sqrt(n))
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert abs(correlation(noise[..., one], noise[..., other])) < 5 / math.sqrt(n / 3)


@pytest.mark.parametrize("correlation_px", [1.0, 1.3, 2.0, 4.0, 9.5])
def test_the_filter_has_the_promised_correlation(correlation_px: float) -> None:
    kernel = gaussian_kernel(correlation_px / math.sqrt(2)).astype(np.float64)
    measured = np.correlate(kernel, kernel, "full")[kernel.size - 1 :] / (kernel @ kernel)
    lags = np.arange(kernel.size)
    np.testing.assert_allclose(measured, np.exp(-(lags**2) / (2 * correlation_px**2)), atol=0.02)


def test_correlated_noise_is_as_strong_at_the_edge() -> None:
    draws = [
        correlated_noise(np.zeros((9, 9, 3), np.float32), np.random.default_rng(seed), sigma_8bit=255, correlation_px=3)
        for seed in range(1500)
    ]
    deviations = np.std(draws, axis=(0, 3))
    # 4500 values each: a standard error of 1 %, of which 81 pixels have 5 somewhere in one of 20000 tests.
    np.testing.assert_allclose(deviations, 1, atol=0.055)


@pytest.mark.parametrize("wanted", [0.0, 0.4, 1.0])
def test_channels_correlate_as_asked(wanted: float) -> None:
    image = correlated_noise(
        grey(0.5, 192), np.random.default_rng(1), sigma_8bit=20, correlation_px=1.5, channel_correlation=wanted
    )
    noise = image.astype(np.float64) - 0.5
    n = 192**2 / (math.pi * 1.5**2)
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert correlation(noise[..., one], noise[..., other]) == pytest.approx(wanted, abs=5 / math.sqrt(n))
    assert (noise.std(axis=(0, 1)) * 255).tolist() == pytest.approx([20] * 3, rel=5 / math.sqrt(2 * n))


def test_correlated_noise_clips_when_asked() -> None:
    wild = correlated_noise(grey(0.5, 32), np.random.default_rng(0), sigma_8bit=200, correlation_px=2)
    clipped = correlated_noise(grey(0.5, 32), np.random.default_rng(0), sigma_8bit=200, correlation_px=2, clip=True)
    np.testing.assert_array_equal(clipped, np.clip(wild, 0, 1))
