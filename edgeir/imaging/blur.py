"""Blur: out of focus as a Gaussian, shaken as a line."""

from __future__ import annotations

import math

import numpy as np

from edgeir.errors import UsageError
from edgeir.imaging.colour import Pixels

_SAMPLES_PER_PX = 8  # along a motion line; 64 moves no kernel weight by more than 0.01
_GAUSSIAN_REACH = 4.0  # in sigmas: the tail beyond holds 6e-5 of the mass


def gaussian_kernel(sigma_px: float) -> Pixels:
    """One-dimensional Gaussian of odd length, ``float32``, sum 1; ``sigma_px`` 0 gives ``[1]``."""
    if not sigma_px >= 0:
        raise UsageError("a blur needs a width", expected="sigma_px >= 0", got=str(sigma_px))
    reach = math.ceil(_GAUSSIAN_REACH * sigma_px)
    offsets = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * (offsets / max(sigma_px, 1e-12)) ** 2)
    return np.asarray(weights / weights.sum(), dtype=np.float32)


def motion_kernel(length_px: float, angle_deg: float) -> Pixels:
    """The line that a point draws while the camera moves: odd square, ``float32``, sum 1, centred.

    Args:
        length_px: length of the line, in pixels; at most 1 gives a single point.
        angle_deg: direction of the line; 0 is horizontal, 90 vertical, 45 rises to the right.
    """
    if not length_px >= 0:
        raise UsageError("a motion needs a length", expected="length_px >= 0", got=str(length_px))
    half = max(length_px - 1.0, 0.0) / 2.0  # from the centre of the first pixel to the centre of the last
    reach = math.ceil(half)
    side = 2 * reach + 1
    steps = np.linspace(-half, half, 2 * math.ceil(half * _SAMPLES_PER_PX) + 1)  # odd: the centre is one of them
    rows = reach - steps * math.sin(math.radians(angle_deg))  # rows count downwards
    columns = reach + steps * math.cos(math.radians(angle_deg))
    kernel = np.zeros((side + 1, side + 1))  # one more than needed: the right neighbour of the last pixel
    top, left = np.floor(rows).astype(int), np.floor(columns).astype(int)
    down, right = rows - top, columns - left
    for row, weight_row in ((top, 1 - down), (top + 1, down)):
        for column, weight_column in ((left, 1 - right), (left + 1, right)):
            np.add.at(kernel, (row, column), weight_row * weight_column)
    kernel = kernel[:side, :side]
    return np.asarray(kernel / kernel.sum(), dtype=np.float32)


def filter_mirrored(pixels: Pixels, kernel: Pixels) -> Pixels:
    """Correlate each channel with an odd ``(h, w)`` kernel; the picture is mirrored beyond its edges.

    Args:
        pixels: ``(H, W, C) float32``.
        kernel: ``(h, w) float32``, both odd. Only its non-zero entries cost time.

    Returns:
        ``(H, W, C) float32``; a constant picture stays as it is if the kernel sums to one.
    """
    height, width = pixels.shape[:2]
    reach_y, reach_x = kernel.shape[0] // 2, kernel.shape[1] // 2
    padded = np.pad(pixels, ((reach_y, reach_y), (reach_x, reach_x), (0, 0)), mode="reflect")
    blurred = np.zeros(pixels.shape, dtype=np.float32)
    for row, column in np.argwhere(kernel):
        blurred += kernel[row, column] * padded[row : row + height, column : column + width]
    return blurred


def gaussian_blur(clean: Pixels, *, sigma_px: float) -> Pixels:
    """Isotropic Gaussian blur of ``(H, W, C) float32``, standard deviation ``sigma_px`` pixels, same range."""
    kernel = gaussian_kernel(sigma_px)
    return filter_mirrored(filter_mirrored(clean, kernel[:, None]), kernel[None, :])


def motion_blur(clean: Pixels, *, length_px: float, angle_deg: float) -> Pixels:
    """Blur of ``(H, W, C) float32`` along a line (`motion_kernel`), same range."""
    return filter_mirrored(clean, motion_kernel(length_px, angle_deg))
