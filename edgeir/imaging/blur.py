"""Blur: out of focus as a Gaussian or a disc, shaken as a line, astigmatic as a tilted Gaussian."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from edgeir.errors import UsageError
from edgeir.imaging.colour import Pixels

_SAMPLES_PER_PX = 8  # along a motion line; 64 moves no kernel weight by more than 0.01
_GAUSSIAN_REACH = 4.0  # in sigmas: the tail beyond holds 6e-5 of the mass
_DISC_SLICES_PER_PX = 16  # a disc's area is right to 1.4 % from a radius of 0.5 px on, to 0.06 % from 5 px
_BESSEL_SAMPLES = 96  # of its integral: right to 1e-12 up to x = 100
_DIRECT_TAPS = 48  # more non-zero weights than these are quicker in the frequency domain


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


def disc_coverage(radius_px: float) -> Pixels:
    """How much of each pixel a disc covers that is centred on a pixel's middle.

    Args:
        radius_px: radius of the disc, in pixels; 0.5 just fits into one pixel.

    Returns:
        Odd square, ``float32`` in [0, 1], symmetric; its sum is the area ``pi * radius_px ** 2`` in pixels, but for
        the sampling of the rim.
    """
    if not radius_px >= 0:
        raise UsageError("a disc needs a radius", expected="radius_px >= 0", got=str(radius_px))
    reach = max(math.ceil(radius_px - 0.5), 0)
    side, rows = 2 * reach + 1, np.arange(-reach, reach + 1)[:, None]
    slices = (np.arange(side * _DISC_SLICES_PER_PX) + 0.5) / _DISC_SLICES_PER_PX - side / 2
    half = np.sqrt(np.maximum(radius_px**2 - slices**2, 0.0))  # of the chord, in y exact, in x sampled
    inside = np.clip(np.minimum(rows + 0.5, half) - np.maximum(rows - 0.5, -half), 0.0, None)
    coverage = inside.reshape(side, side, _DISC_SLICES_PER_PX).mean(axis=2)
    return np.asarray((coverage + coverage.T) / 2, dtype=np.float32)


def disc_kernel(radius_px: float) -> Pixels:
    """Blur of a lens that is out of focus: `disc_coverage` with sum 1; a radius of 0 gives ``[[1]]``."""
    coverage = disc_coverage(radius_px)
    total = coverage.sum(dtype=np.float64)
    return np.asarray(coverage / total, dtype=np.float32) if total > 0 else np.ones((1, 1), dtype=np.float32)


def squared_distance(reach: int, sigma_along_px: float, sigma_across_px: float, angle_deg: float) -> Pixels:
    """Squared distance of each pixel from the middle, in sigmas: the ``q`` of a two-dimensional Gaussian.

    ``q = (u / sigma_along_px)**2 + (v / sigma_across_px)**2``, u along the direction and v across it.

    Args:
        reach: the result has ``2 * reach + 1`` rows and columns.
        sigma_along_px: standard deviation along ``angle_deg``, in pixels, above 0.
        sigma_across_px: standard deviation across it.
        angle_deg: 0 is horizontal, 90 vertical, 45 rises to the right.

    Returns:
        Odd square, ``float32``, 0 in the middle.
    """
    if not (sigma_along_px > 0 and sigma_across_px > 0):
        widths = f"{sigma_along_px} and {sigma_across_px}"
        raise UsageError("a blur needs a width", expected="two sigmas above 0", got=widths)
    x = np.arange(-reach, reach + 1)[None, :]
    y = -np.arange(-reach, reach + 1)[:, None]  # rows count downwards
    cos, sin = math.cos(math.radians(angle_deg)), math.sin(math.radians(angle_deg))
    along, across = x * cos + y * sin, y * cos - x * sin
    return np.asarray((along / sigma_along_px) ** 2 + (across / sigma_across_px) ** 2, dtype=np.float32)


def anisotropic_gaussian_kernel(sigma_along_px: float, sigma_across_px: float, angle_deg: float) -> Pixels:
    """Tilted two-dimensional Gaussian ``exp(-q / 2)``: odd square, ``float32``, sum 1 (see `squared_distance`)."""
    reach = math.ceil(_GAUSSIAN_REACH * max(sigma_along_px, sigma_across_px))
    weights = np.exp(-0.5 * squared_distance(reach, sigma_along_px, sigma_across_px, angle_deg).astype(np.float64))
    return np.asarray(weights / weights.sum(), dtype=np.float32)


def sinc_kernel(cutoff: float, side: int) -> Pixels:
    """Ideal low pass, cut off to a square: it rings, as sharpening and strong compression do.

    ``k(r) = cutoff / (2 pi r) * J1(cutoff * r)``, J1 the Bessel function of the first kind and order. Source: Wang,
    Xie, Dong, Shan, "Real-ESRGAN: Training Real-World Blind Super-Resolution with Pure Synthetic Data", ICCV
    Workshops 2021, section 3 (ringing and overshoot).

    Args:
        cutoff: highest frequency that passes, in radians per pixel, above 0; pi is the finest a row can hold.
        side: rows and columns, odd.

    Returns:
        ``(side, side) float32``, sum 1, partly negative, symmetric.
    """
    if not cutoff > 0 or side % 2 != 1:
        got = f"cutoff {cutoff}, side {side}"
        raise UsageError("a sinc kernel needs a cutoff and a middle", expected="cutoff > 0, side odd", got=got)
    reach = side // 2
    squares = np.arange(-reach, reach + 1)[:, None] ** 2 + np.arange(-reach, reach + 1) ** 2
    distinct, place = np.unique(squares, return_inverse=True)
    r = np.sqrt(np.maximum(distinct, 1))
    profile = np.where(distinct > 0, cutoff / (2 * np.pi * r) * _bessel_j1(cutoff * r), cutoff**2 / (4 * np.pi))
    weights = profile[place.reshape(squares.shape)]
    return np.asarray(weights / weights.sum(), dtype=np.float32)


def filter_inside(pixels: Pixels, kernel: Pixels) -> Pixels:
    """Correlate with a kernel, only where all of it lies inside the picture.

    Args:
        pixels: ``(H + h - 1, W + w - 1)`` or ``(H + h - 1, W + w - 1, C) float32``.
        kernel: ``(h, w) float32``. Only its non-zero entries cost time.

    Returns:
        ``(H, W)`` or ``(H, W, C) float32``.
    """
    height, width = pixels.shape[0] - kernel.shape[0] + 1, pixels.shape[1] - kernel.shape[1] + 1
    filtered = np.zeros((height, width, *pixels.shape[2:]), dtype=np.float32)
    for row, column in np.argwhere(kernel):
        filtered += kernel[row, column] * pixels[row : row + height, column : column + width]
    return filtered


def filter_mirrored(pixels: Pixels, kernel: Pixels) -> Pixels:
    """Correlate each channel with an odd ``(h, w)`` kernel; the picture is mirrored beyond its edges.

    Args:
        pixels: ``(H, W, C) float32``.
        kernel: ``(h, w) float32``, both odd. Only its non-zero entries cost time.

    Returns:
        ``(H, W, C) float32``; a constant picture stays as it is if the kernel sums to one.
    """
    return filter_inside(_mirrored_around(pixels, kernel), kernel)


def filter_mirrored_dense(pixels: Pixels, kernel: Pixels) -> Pixels:
    """`filter_mirrored`, quicker for a large kernel full of weights: by Fourier transform in float64.

    Both give the same up to float32 rounding (here a picture without light may get values of -1e-17).
    """
    if np.count_nonzero(kernel) <= _DIRECT_TAPS:
        return filter_mirrored(pixels, kernel)
    height, width = pixels.shape[:2]
    padded = _mirrored_around(pixels, kernel)
    size = (_quick_length(padded.shape[0]), _quick_length(padded.shape[1]))
    response = np.fft.rfft2(kernel, size).conj()  # the conjugate correlates; without it the kernel is turned round
    blurred = np.empty(pixels.shape, dtype=np.float32)
    for channel in range(pixels.shape[2]):
        spectrum = np.fft.rfft2(padded[..., channel].astype(np.float64), size)
        blurred[..., channel] = np.fft.irfft2(spectrum * response, size)[:height, :width]
    return blurred


def gaussian_blur(clean: Pixels, *, sigma_px: float) -> Pixels:
    """Isotropic Gaussian blur of ``(H, W, C) float32``, standard deviation ``sigma_px`` pixels, same range."""
    kernel = gaussian_kernel(sigma_px)
    return filter_mirrored(filter_mirrored(clean, kernel[:, None]), kernel[None, :])


def motion_blur(clean: Pixels, *, length_px: float, angle_deg: float) -> Pixels:
    """Blur of ``(H, W, C) float32`` along a line (`motion_kernel`), same range."""
    return filter_mirrored(clean, motion_kernel(length_px, angle_deg))


def defocus_blur(clean: Pixels, *, radius_px: float) -> Pixels:
    """Blur of ``(H, W, C) float32`` by a lens out of focus: the mean over a disc (`disc_kernel`), same range.

    Source: geometric optics, the image of a point is the aperture (Goodman, "Introduction to Fourier Optics",
    section 6.4).
    """
    return filter_mirrored_dense(clean, disc_kernel(radius_px))


def anisotropic_gaussian_blur(
    clean: Pixels, *, sigma_along_px: float, sigma_across_px: float, angle_deg: float
) -> Pixels:
    """Blur of ``(H, W, C) float32`` by a tilted Gaussian (`anisotropic_gaussian_kernel`), same range.

    Source: Zhang, Liang, Van Gool, Timofte, "Designing a Practical Degradation Model for Deep Blind Image
    Super-Resolution", ICCV 2021, section 3.1.
    """
    return filter_mirrored_dense(clean, anisotropic_gaussian_kernel(sigma_along_px, sigma_across_px, angle_deg))


def _bessel_j1(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """J1 by Bessel's integral, the mean of ``cos(t - x sin t)`` over [0, pi]; the midpoint rule converges quickly."""
    t = (np.arange(_BESSEL_SAMPLES) + 0.5) * (np.pi / _BESSEL_SAMPLES)
    values: NDArray[np.float64] = np.cos(t - x[..., None] * np.sin(t)).mean(axis=-1)
    return values


def _mirrored_around(pixels: Pixels, kernel: Pixels) -> Pixels:
    """``pixels`` grown by the reach of an odd ``kernel`` on every side, the edge pixel not repeated."""
    reach_y, reach_x = kernel.shape[0] // 2, kernel.shape[1] // 2
    return np.pad(pixels, ((reach_y, reach_y), (reach_x, reach_x), (0, 0)), mode="reflect")


def _quick_length(length: int) -> int:
    """The smallest number from ``length`` on that has no prime factor but 2, 3 and 5."""
    while True:
        rest = length
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return length
        length += 1
