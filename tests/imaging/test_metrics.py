"""Each metric against scikit-image or against its formula written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from edgeir.errors import UsageError
from edgeir.imaging.metrics import (
    brightness_shift_8bit,
    fidelity_db,
    jaccard,
    max_abs,
    psnr_float,
    psnr_uint8,
    ssim_float,
    ssim_gaussian,
)

ORACLE = 1e-9  # both sides compute in float64


def pair(shape: tuple[int, ...] = (33, 40, 3), sigma: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    truth = rng.random(shape, dtype=np.float32)
    return truth + np.float32(sigma) * rng.standard_normal(shape, dtype=np.float32), truth


def test_psnr_float_clips_and_agrees_with_skimage() -> None:
    noisy, truth = pair()
    oracle = peak_signal_noise_ratio(truth.astype(float), np.clip(noisy, 0, 1).astype(float), data_range=1)
    assert psnr_float(noisy, truth) == pytest.approx(oracle, abs=ORACLE)
    assert fidelity_db(noisy, truth) == pytest.approx(
        -10 * math.log10(np.mean((noisy.astype(float) - truth) ** 2)), abs=ORACLE
    )
    assert fidelity_db(noisy, truth) < psnr_float(noisy, truth)


@pytest.mark.parametrize("border_px", [0, 4])
def test_psnr_uint8_agrees_with_skimage(border_px: int) -> None:
    noisy, truth = pair()
    inner = (slice(border_px, 33 - border_px), slice(border_px, 40 - border_px))
    eight = [(np.clip(p, 0, 1) * 255).round().astype(np.uint8)[inner] for p in (truth, noisy)]
    assert psnr_uint8(noisy, truth, border_px) == pytest.approx(peak_signal_noise_ratio(*eight), abs=ORACLE)


def test_psnr_of_one_grey_step() -> None:
    truth = np.full((8, 8, 3), 0.5, np.float32)
    # 20 log10(255); float32 stores 0.5 + 1/255 with an error of 3e-8, 7e-5 dB of the step.
    assert psnr_float(truth + np.float32(1 / 255), truth) == pytest.approx(20 * math.log10(255), abs=1e-4)


def test_equal_and_not_finite() -> None:
    _, truth = pair()
    broken = truth.copy()
    broken[0, 0, 0] = np.nan
    for metric in (psnr_float, psnr_uint8, fidelity_db):
        assert metric(truth, truth) == math.inf
        assert metric(broken, truth) == -math.inf
    assert max_abs(truth, truth) == 0
    assert max_abs(broken, truth) == math.inf
    assert math.isnan(ssim_float(broken, truth))
    with pytest.raises(UsageError, match="not finite"):
        ssim_gaussian(broken, truth)


@pytest.mark.parametrize("shape", [(33, 40, 3), (7, 9, 3), (21, 16)])
def test_ssim_float_is_skimages_default(shape: tuple[int, ...]) -> None:
    noisy, truth = pair(shape)
    oracle = structural_similarity(
        truth.astype(float),
        np.clip(noisy, 0, 1).astype(float),
        data_range=1.0,
        channel_axis=2 if len(shape) == 3 else None,
    )
    assert ssim_float(noisy, truth) == pytest.approx(oracle, abs=ORACLE)


@pytest.mark.parametrize("shape", [(33, 40, 3), (11, 12, 3), (21, 16)])
def test_ssim_gaussian_is_wangs(shape: tuple[int, ...]) -> None:
    noisy, truth = pair(shape)
    eight = [(np.clip(p, 0, 1) * 255).round() for p in (truth.astype(float), noisy.astype(np.float32))]
    oracle = structural_similarity(
        eight[0],
        eight[1].astype(float),
        data_range=255,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        channel_axis=2 if len(shape) == 3 else None,
    )
    assert ssim_gaussian(noisy, truth) == pytest.approx(oracle, abs=ORACLE)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(0, 2**32 - 1))
def test_symmetric_and_one_for_equal(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.random((2, 12, 13, 3), dtype=np.float32)
    for metric in (psnr_float, psnr_uint8, ssim_float, ssim_gaussian, max_abs, fidelity_db):
        assert metric(a, b) == pytest.approx(metric(b, a), abs=ORACLE)
    assert ssim_float(a, a) == pytest.approx(1, abs=ORACLE)
    assert ssim_gaussian(a, a) == pytest.approx(1, abs=ORACLE)
    assert brightness_shift_8bit(a, b) == pytest.approx(-brightness_shift_8bit(b, a), abs=ORACLE)


def test_brightness_shift_has_a_sign() -> None:
    _, truth = pair()
    # float32 sums round by up to 3e-8 per pixel, both ways: far below 1e-4 of a step.
    assert brightness_shift_8bit(truth + np.float32(2 / 255), truth) == pytest.approx(2, abs=1e-4)
    assert max_abs(truth + np.float32(0.25), truth) == pytest.approx(0.25, abs=1e-6)


def test_jaccard() -> None:
    a = np.array([True, True, False, False])
    b = np.array([True, False, True, False])
    assert jaccard(a, b) == pytest.approx(1 / 3)
    assert jaccard(a, a) == 1
    assert jaccard(a, ~a) == 0
    assert jaccard(a & ~a, a & ~a) == 1
    for other in (a[:2], a.astype(np.uint8)):
        with pytest.raises(UsageError, match="the masks cannot be compared"):
            jaccard(a, other)


def test_shapes_are_checked() -> None:
    _, truth = pair()
    for metric in (psnr_float, psnr_uint8, fidelity_db, max_abs, brightness_shift_8bit, ssim_float, ssim_gaussian):
        with pytest.raises(UsageError, match="cannot be compared"):
            metric(truth[1:], truth)
        with pytest.raises(UsageError, match="cannot be compared"):
            metric(truth[:0], truth[:0])
    with pytest.raises(UsageError, match="sides of at least 11"):
        ssim_gaussian(truth[:10], truth[:10])
    for border_px in (-1, 17):
        with pytest.raises(UsageError, match="the border leaves nothing"):
            psnr_uint8(truth, truth, border_px)
