"""Each metric against scikit-image or against its formula written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from edgeir.errors import UsageError
from edgeir.imaging.metrics import (
    brightness_shift_8bit,
    fidelity_db,
    jaccard,
    luma,
    luma_studio,
    max_abs,
    psnr_float,
    psnr_uint8,
    psnr_uint8_y,
    ssim_float,
    ssim_gaussian,
    ssim_gaussian_y,
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


@pytest.mark.parametrize("border_px", [0, 4])
def test_psnr_uint8_y_agrees_with_skimage(border_px: int) -> None:
    noisy, truth = pair()
    inner = (slice(border_px, 33 - border_px), slice(border_px, 40 - border_px))
    planes = [rgb2ycbcr((np.clip(p, 0, 1) * 255).round().astype(np.uint8))[..., 0][inner] for p in (truth, noisy)]
    oracle = peak_signal_noise_ratio(*planes, data_range=255)
    assert psnr_uint8_y(noisy, truth, border_px) == pytest.approx(oracle, abs=ORACLE)


def test_conventions_by_hand() -> None:
    # One pixel of 64 is off by (30, 60, 90)/255 and a little that 8 bits round away; the border holds larger errors.
    truth = np.full((10, 10, 3), 100 / 255, np.float32)
    output = truth.copy()
    output[4, 5] += np.array([30.2, 59.9, 90.3], np.float32) / np.float32(255)
    output[0] = 0
    output[:, -1] = 1
    rgb = (30**2 + 60**2 + 90**2) / (64 * 3)
    assert psnr_uint8(output, truth, border_px=1) == pytest.approx(10 * math.log10(255**2 / rgb), abs=ORACLE)
    y = (65.481 * 30 + 128.553 * 60 + 24.966 * 90) / 255
    assert psnr_uint8_y(output, truth, border_px=1) == pytest.approx(10 * math.log10(255**2 / (y * y / 64)), abs=ORACLE)
    inner = (slice(1, -1), slice(1, -1))
    floats = (30.2**2 + 59.9**2 + 90.3**2) / (64 * 3)
    # float32 holds these values to 3e-8: 1e-5 dB of an error of 0.1
    assert psnr_float(output[inner], truth[inner]) == pytest.approx(10 * math.log10(255**2 / floats), abs=1e-5)


def test_luma_studio() -> None:
    corners = np.array([[[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)
    assert luma_studio(corners)[0] == pytest.approx([16, 235, 81.481, 144.553, 40.966], abs=ORACLE)
    full = luma(corners.astype(np.float32))
    assert luma_studio(corners) == pytest.approx(16 + full * 219 / 255, abs=1e-2)  # the weights have three decimals
    with pytest.raises(UsageError, match="Y channel needs an RGB picture"):
        luma_studio(corners[..., 0])


def test_ssim_of_flat_pictures_by_hand() -> None:
    # Without variance SSIM is its luminance term (2ab + C1) / (a^2 + b^2 + C1).
    a, b = np.full((12, 13, 3), 51 / 255, np.float32), np.full((12, 13, 3), 102 / 255, np.float32)
    c1 = (0.01 * 255) ** 2
    assert ssim_gaussian(a, b) == pytest.approx((2 * 51 * 102 + c1) / (51**2 + 102**2 + c1), abs=ORACLE)
    y = [16 + 219 / 255 * grey for grey in (51, 102)]
    assert ssim_gaussian_y(a, b) == pytest.approx((2 * y[0] * y[1] + c1) / (y[0] ** 2 + y[1] ** 2 + c1), abs=ORACLE)
    # float32 stores a and b with errors of 1e-8, which C2 / C1 = 9 does not magnify
    assert ssim_float(a, b) == pytest.approx((2 * 0.2 * 0.4 + 1e-4) / (0.2**2 + 0.4**2 + 1e-4), abs=1e-6)


def test_equal_and_not_finite() -> None:
    _, truth = pair()
    broken = truth.copy()
    broken[0, 0, 0] = np.nan
    for metric in (psnr_float, psnr_uint8, psnr_uint8_y, fidelity_db):
        assert metric(truth, truth) == math.inf
        assert metric(broken, truth) == -math.inf
    assert max_abs(truth, truth) == 0
    assert max_abs(broken, truth) == math.inf
    assert math.isnan(ssim_float(broken, truth))
    for metric in (ssim_gaussian, ssim_gaussian_y):
        with pytest.raises(UsageError, match="not finite"):
            metric(broken, truth)


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


def wang(eight: list[np.ndarray]) -> float:
    """Scikit-image with the settings of the authors of SSIM, on values in [0, 255]."""
    value: float = structural_similarity(
        *eight,
        data_range=255,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        channel_axis=2 if eight[0].ndim == 3 else None,
    )
    return value


@pytest.mark.parametrize("border_px", [0, 3])
@pytest.mark.parametrize("shape", [(33, 40, 3), (17, 18, 3), (21, 17)])
def test_ssim_gaussian_is_wangs(shape: tuple[int, ...], border_px: int) -> None:
    noisy, truth = pair(shape)
    inner = (slice(border_px, shape[0] - border_px), slice(border_px, shape[1] - border_px))
    eight = [(np.clip(p, 0, 1) * 255).round().astype(float)[inner] for p in (truth, noisy)]
    assert ssim_gaussian(noisy, truth, border_px) == pytest.approx(wang(eight), abs=ORACLE)
    if len(shape) == 3:
        planes = [rgb2ycbcr(p.astype(np.uint8))[..., 0] for p in eight]
        assert ssim_gaussian_y(noisy, truth, border_px) == pytest.approx(wang(planes), abs=ORACLE)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(0, 2**32 - 1))
def test_symmetric_and_one_for_equal(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.random((2, 12, 13, 3), dtype=np.float32)
    metrics = (psnr_float, psnr_uint8, psnr_uint8_y, ssim_float, ssim_gaussian, ssim_gaussian_y, max_abs, fidelity_db)
    for metric in metrics:
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
    for metric in (
        psnr_float,
        psnr_uint8,
        psnr_uint8_y,
        fidelity_db,
        max_abs,
        brightness_shift_8bit,
        ssim_float,
        ssim_gaussian,
        ssim_gaussian_y,
    ):
        with pytest.raises(UsageError, match="cannot be compared"):
            metric(truth[1:], truth)
        with pytest.raises(UsageError, match="cannot be compared"):
            metric(truth[:0], truth[:0])
    with pytest.raises(UsageError, match="sides of at least 11"):
        ssim_gaussian(truth[:10], truth[:10])
    for border_px in (-1, 17):
        for bordered in (psnr_uint8, psnr_uint8_y, ssim_gaussian, ssim_gaussian_y):
            with pytest.raises(UsageError, match="the border leaves nothing"):
                bordered(truth, truth, border_px)
    with pytest.raises(UsageError, match="sides of at least 11"):
        ssim_gaussian(truth, truth, 12)
    for y_only in (psnr_uint8_y, ssim_gaussian_y):
        with pytest.raises(UsageError, match="needs an RGB picture"):
            y_only(truth[..., 0], truth[..., 0])
