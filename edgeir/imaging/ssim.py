"""Structural similarity in the two conventions of the literature.

Source of the formula: Wang, Bovik, Sheikh, Simoncelli, "Image quality assessment: from error visibility to structural
similarity", IEEE TIP 13(4), 2004, equation 13.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgeir.errors import UsageError
from edgeir.imaging.colour import Pixels, to_uint8

K1, K2 = 0.01, 0.03
UNIFORM_PX = 7
GAUSSIAN_PX, GAUSSIAN_SIGMA_PX = 11, 1.5

_Plane: TypeAlias = NDArray[np.float64]


def ssim_float(output: Pixels, truth: Pixels) -> float:
    """SSIM of float pictures clipped to [0, 1]: the defaults of scikit-image with ``data_range=1``.

    A uniform window of 7 x 7, sample variances (n - 1), only windows inside the picture, mean over channels.

    Args:
        output: ``(H, W)`` or ``(H, W, C) float32``, H and W at least 7.
        truth: the same shape.

    Returns:
        SSIM in [-1, 1], 1 if equal; ``nan`` if a value is not a number.

    Raises:
        UsageError: the shapes differ, or a side is shorter than the window.
    """
    taps = np.full(UNIFORM_PX, 1.0 / UNIFORM_PX)
    count = UNIFORM_PX * UNIFORM_PX
    return _mean_ssim(
        np.clip(output, 0.0, 1.0), np.clip(truth, 0.0, 1.0), taps, peak=1.0, variance_factor=count / (count - 1)
    )


def ssim_gaussian(output: Pixels, truth: Pixels, border_px: int = 0) -> float:
    """SSIM after rounding both to 8 bits, with a Gaussian window of 11 x 11, sigma 1.5, mean over channels.

    The authors' own settings and those of KAIR (``utils_image.calculate_ssim``); only windows inside the picture, from
    which ``border_px`` pixels are cut off on every side first.

    Args:
        output: ``(H, W)`` or ``(H, W, C) float32`` in [0, 1], H and W at least 11 without the border; clipped.
        truth: the same shape.
        border_px: pixels to leave out.

    Returns:
        SSIM in [-1, 1], 1 if equal.

    Raises:
        UsageError: the shapes differ, a side is shorter than the window, or a value is not a finite number.
    """
    return _gaussian_ssim(*_eight_bits(output, truth, border_px))


def ssim_gaussian_y(output: Pixels, truth: Pixels, border_px: int = 0) -> float:
    """`ssim_gaussian` of the Y channel of RGB pictures, `luma_studio` of both after rounding to 8 bits.

    The super-resolution papers report this (source: KAIR ``main_test_swinir.py``).

    Args:
        output: ``(H, W, 3) float32`` in [0, 1], H and W at least 11 without the border; clipped.
        truth: the same shape.
        border_px: pixels to leave out; by custom the scale of the super-resolution.

    Returns:
        SSIM in [-1, 1], 1 if equal.

    Raises:
        UsageError: like `ssim_gaussian`, or the pictures are not RGB.
    """
    first, second = _eight_bits(output, truth, border_px)
    return _gaussian_ssim(luma_studio(first), luma_studio(second))


def luma_studio(eight: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Y of YCbCr, ITU-R BT.601 studio range: ``16 + (65.481 R + 128.553 G + 24.966 B) / 255``, not rounded.

    219/255 of the full-range `edgeir.imaging.colour.luma`, plus 16: its PSNR is ``20 log10(255/219)`` = 1.32 dB higher.

    Args:
        eight: ``(H, W, 3) uint8`` RGB.

    Returns:
        ``(H, W)`` in [16, 235].

    Raises:
        UsageError: the last axis is not RGB.
    """
    if eight.ndim != 3 or eight.shape[2] != 3:
        raise UsageError("the Y channel needs an RGB picture", expected="shape (H, W, 3)", got=str(eight.shape))
    weights = np.array([65.481, 128.553, 24.966])
    y: _Plane = 16.0 + np.asarray(eight, np.float64) @ weights / 255.0
    return y


def without_border(pixels: Pixels, border_px: int) -> Pixels:
    """The picture without ``border_px`` pixels on every side.

    Raises:
        UsageError: the border is negative or leaves nothing.
    """
    height, width = pixels.shape[:2]
    if border_px < 0 or 2 * border_px >= min(height, width):
        raise UsageError(
            "the border leaves nothing to measure",
            expected=f"0 <= border < {min(height, width) / 2:g} pixels",
            got=str(border_px),
        )
    return pixels[border_px : height - border_px, border_px : width - border_px]


def _eight_bits(output: Pixels, truth: Pixels, border_px: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Both pictures rounded to 8 bits, without the border."""
    if not (np.isfinite(output).all() and np.isfinite(truth).all()):
        raise UsageError("a picture holds values that are not finite numbers and have no 8-bit form")
    if border_px:
        output, truth = without_border(output, border_px), without_border(truth, border_px)
    return to_uint8(output), to_uint8(truth)


def _gaussian_ssim(output: NDArray[np.generic], truth: NDArray[np.generic]) -> float:
    """SSIM of pictures with values in [0, 255] under the Gaussian window."""
    offsets = np.arange(GAUSSIAN_PX) - GAUSSIAN_PX // 2
    taps = np.exp(-0.5 * (offsets / GAUSSIAN_SIGMA_PX) ** 2)
    return _mean_ssim(output, truth, taps / taps.sum(), peak=255.0, variance_factor=1.0)


def _mean_ssim(
    output: NDArray[np.generic],
    truth: NDArray[np.generic],
    taps: _Plane,
    *,
    peak: float,
    variance_factor: float,
) -> float:
    """Mean SSIM over channels of two pictures, with the separable window ``taps``."""
    if output.shape != truth.shape or output.ndim not in (2, 3) or min(output.shape[:2]) < len(taps):
        raise UsageError(
            "the pictures cannot be compared",
            expected=f"two arrays (H, W) or (H, W, C) of one shape, sides of at least {len(taps)}",
            got=f"{output.shape} and {truth.shape}",
        )
    first = np.atleast_3d(np.asarray(output, np.float64))
    second = np.atleast_3d(np.asarray(truth, np.float64))
    values = [
        _ssim_map(first[..., channel], second[..., channel], taps, peak, variance_factor).mean()
        for channel in range(first.shape[2])
    ]
    return float(np.mean(values))


def _ssim_map(a: _Plane, b: _Plane, taps: _Plane, peak: float, variance_factor: float) -> _Plane:
    """SSIM of every window inside two planes ``(H, W)``: ``(H - n + 1, W - n + 1)``."""
    c1, c2 = (K1 * peak) ** 2, (K2 * peak) ** 2
    mean_a, mean_b = _windowed(a, taps), _windowed(b, taps)
    variance_a = variance_factor * (_windowed(a * a, taps) - mean_a * mean_a)
    variance_b = variance_factor * (_windowed(b * b, taps) - mean_b * mean_b)
    covariance = variance_factor * (_windowed(a * b, taps) - mean_a * mean_b)
    luminance = (2 * mean_a * mean_b + c1) / (mean_a * mean_a + mean_b * mean_b + c1)
    structure: _Plane = (2 * covariance + c2) / (variance_a + variance_b + c2)
    return luminance * structure


def _windowed(plane: _Plane, taps: _Plane) -> _Plane:
    """Weighted mean of every window inside ``plane``, rows first, then columns."""
    rows, columns = plane.shape[0] - len(taps) + 1, plane.shape[1] - len(taps) + 1
    down = np.zeros((rows, plane.shape[1]))
    for i, tap in enumerate(taps):
        down += tap * plane[i : i + rows]
    both = np.zeros((rows, columns))
    for i, tap in enumerate(taps):
        both += tap * down[:, i : i + columns]
    return both
