"""Resizing: bicubic, bilinear and by area, to any size, with the conventions of MATLAB's ``imresize``.

Pixel ``i`` covers ``[i, i + 1)``, so the middle of output pixel ``o`` lies at ``(o + 0.5) * have / want - 0.5`` of the
input. Beyond its edges a picture is mirrored with the edge pixel repeated (``cba abc cba``). When a picture shrinks,
the kernel is stretched by the same factor, so that details finer than the new pixels are averaged away and do not
alias. Weights are made in float64 and sum to one.

Pillow differs beyond the edges only: it drops what lies outside instead of mirroring.
"""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgeir.errors import UsageError, nearest
from edgeir.imaging.colour import Pixels

ResizeKernel: TypeAlias = Literal["bicubic", "bilinear", "area"]

_REACH = {"bicubic": 2.0, "bilinear": 1.0, "area": 0.5}  # half of a kernel's width, in pixels
_KEYS_A = -0.5


def resize(
    pixels: Pixels, height: int, width: int, kernel: ResizeKernel = "bicubic", *, antialias: bool = True
) -> Pixels:
    """Resize a picture to any size; a linear map, separable, that keeps constants.

    =========  =====================================================================================================
    bicubic    Keys' cubic convolution with a = -0.5, four pixels; overshoots at edges (Keys, "Cubic Convolution
               Interpolation for Digital Image Processing", IEEE Transactions on ASSP 1981)
    bilinear   the triangle, two pixels; stays between the values of its neighbours
    area       the exact mean over the area of the new pixel, fractions of pixels included
    =========  =====================================================================================================

    Args:
        pixels: ``(H, W)`` or ``(H, W, C) float32``, any range; not changed.
        height: H of the result, in pixels, at least 1.
        width: W of the result, likewise.
        kernel: see above.
        antialias: stretch the kernel when shrinking. Without, it samples: finer details alias, as OpenCV's and
            PyTorch's linear and cubic modes let them. ``area`` is a mean either way.

    Returns:
        ``(height, width)`` or ``(height, width, C) float32``; equal to ``pixels`` where its size is asked for.

    Raises:
        UsageError: a size is below 1, the picture is empty, or the kernel has no such name.
    """
    if kernel not in _REACH:
        raise UsageError("unknown resize kernel", where=kernel, fix=nearest(kernel, _REACH))
    if min(height, width) < 1 or 0 in pixels.shape:
        have = "x".join(str(side) for side in pixels.shape[:2])
        raise UsageError(
            "a picture cannot be empty", where="resize", expected=">= 1x1", got=f"{have} to {height}x{width}"
        )
    if pixels.shape[:2] == (height, width):
        return pixels.copy()
    upright = _rows_resized(pixels, height, kernel, antialias)
    lying = _rows_resized(np.ascontiguousarray(upright.swapaxes(0, 1)), width, kernel, antialias)
    return np.ascontiguousarray(lying.swapaxes(0, 1))


def downsample(clean: Pixels, scale: int) -> Pixels:
    """The low-resolution partner of a picture for super-resolution: bicubic, antialiased, clipped.

    Source: the bicubic degradation of the super-resolution literature, ``imresize(x, 1 / scale)`` (Timofte et al.,
    "NTIRE 2017 Challenge on Single Image Super-Resolution", track 1).

    Args:
        clean: ``(H, W, C) float32`` in [0, 1].
        scale: whole factor; H and W must be multiples of it, so that the two pictures stay aligned.

    Returns:
        ``(H / scale, W / scale, C) float32`` in [0, 1]: the overshoot of the kernel is cut off, as in a stored picture.

    Raises:
        UsageError: ``scale`` is no whole number from 1 on, or does not divide H and W.
    """
    height, width = clean.shape[:2]
    if not scale >= 1 or scale % 1:
        raise UsageError("a picture shrinks by a whole factor", where="downsample", expected=">= 1", got=f"{scale:g}")
    if height % scale or width % scale:
        raise UsageError(
            "the picture does not shrink to whole pixels",
            where="downsample",
            expected=f"multiples of {scale:g}",
            got=f"{height}x{width}",
            fix="Crop the picture first.",
        )
    return clipped(resize(clean, height // int(scale), width // int(scale)))


def low_resolution(clean: Pixels, *, scale: float) -> Pixels:
    """A picture that lost its resolution but kept its size: shrunk and enlarged again, both bicubic.

    Args:
        clean: ``(H, W, C) float32`` in [0, 1], of any size.
        scale: factor, from 1 on, whole or not; 1 changes nothing.

    Returns:
        ``(H, W, C) float32`` in [0, 1].
    """
    height, width = clean.shape[:2]
    small = clipped(resize(clean, shrunk(height, scale), shrunk(width, scale)))
    return clipped(resize(small, height, width))


def shrunk(length: int, scale: float) -> int:
    """``length / scale``, rounded (halves to even), in pixels; at least 1."""
    return max(1, round(length / scale))


def clipped(pixels: Pixels) -> Pixels:
    """``pixels`` within [0, 1]."""
    return np.clip(pixels, np.float32(0), np.float32(1))


def _rows_resized(pixels: Pixels, want: int, kernel: ResizeKernel, antialias: bool) -> Pixels:
    """Resize axis 0 of ``(N, ...) float32`` to ``want``."""
    if pixels.shape[0] == want:
        return pixels
    sources, weights = _taps(pixels.shape[0], want, kernel, antialias)
    column = (slice(None),) + (None,) * (pixels.ndim - 1)
    resized = np.zeros((want, *pixels.shape[1:]), dtype=np.float32)
    for source, weight in zip(sources, weights, strict=True):
        resized += weight[column] * pixels[source]
    return resized


def _taps(have: int, want: int, kernel: ResizeKernel, antialias: bool) -> tuple[NDArray[np.intp], Pixels]:
    """Which of ``have`` pixels each of ``want`` is made of, and the weights: both ``(taps, want)``."""
    step = have / want
    middles = (np.arange(want) + 0.5) * step - 0.5
    stretch = step if kernel == "area" else max(step, 1.0) if antialias else 1.0
    reach = _REACH[kernel] * stretch + (0.5 if kernel == "area" else 0.0)  # a pixel has an area of its own
    first = np.ceil(middles - reach - 1e-9).astype(np.intp)
    places = first + np.arange(math.floor(2 * reach + 1e-9) + 1)[:, None]
    offsets = np.abs(places - middles)
    if kernel == "bicubic":
        weights = _keys(offsets / stretch)
    elif kernel == "bilinear":
        weights = np.maximum(1.0 - offsets / stretch, 0.0)
    else:
        weights = np.clip((stretch + 1) / 2 - offsets, 0.0, min(stretch, 1.0))  # the length that two intervals share
        weights[weights < 1e-9] = 0.0
    weights /= weights.sum(axis=0)
    used = weights.any(axis=1)
    phase = places[used] % (2 * have)
    return np.minimum(phase, 2 * have - 1 - phase), weights[used].astype(np.float32)


def _keys(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys' cubic for ``x >= 0``: one piece up to 1, another up to 2, 0 beyond."""
    a = _KEYS_A
    near = ((a + 2) * x - (a + 3)) * x**2 + 1
    far = a * (((x - 5) * x + 8) * x - 4)
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))
