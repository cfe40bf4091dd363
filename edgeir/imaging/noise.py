"""What a sensor adds: Gaussian noise, white or in blotches, shot noise, speckle, and a picture taken in the dark."""

from __future__ import annotations

import math

import numpy as np

from edgeir.imaging.blur import filter_inside, gaussian_kernel
from edgeir.imaging.colour import Pixels


def gaussian_noise(clean: Pixels, rng: np.random.Generator, *, sigma_8bit: float, clip: bool = False) -> Pixels:
    """White Gaussian noise of the same strength in every pixel and channel.

    Args:
        clean: ``(H, W, 3) float32`` in [0, 1].
        rng: draws ``H*W*3`` normal numbers.
        sigma_8bit: standard deviation, in steps of an 8-bit picture (of 255).
        clip: clip the result to [0, 1]. Validation does not (source: KAIR, FFDNet): clipped noise is no longer
            Gaussian in dark and bright places.

    Returns:
        ``(H, W, 3) float32``, beyond [0, 1] unless ``clip``.
    """
    noise = (sigma_8bit / 255.0) * rng.standard_normal(clean.shape)  # float64 draws: the published yardstick's
    return _finished((clean + noise).astype(np.float32), clip)


def low_light(
    clean: Pixels,
    rng: np.random.Generator,
    *,
    gain: float,
    gamma: float,
    full_well_electrons: float,
    read_sigma_8bit: float,
    clip: bool = False,
) -> Pixels:
    """A picture taken with too little light: darker, with shot noise and read noise.

    ``dark = gain * clean ** gamma``; ``Poisson(dark * full_well_electrons) / full_well_electrons`` is what the sensor
    counts; the amplifier adds Gaussian noise. The mean over the noise is ``dark``, its variance
    ``dark / full_well_electrons + (read_sigma_8bit / 255) ** 2`` (source: EMVA 1288, the linear sensor model).

    Args:
        clean: ``(H, W, 3) float32`` in [0, 1].
        rng: draws ``H*W*3`` Poisson and as many normal numbers.
        gain: exposure, 1 keeps white white, 0.25 is two stops less.
        gamma: above 1 darkens the shadows more than the lights.
        full_well_electrons: electrons that make white; fewer make more shot noise.
        read_sigma_8bit: standard deviation of the read noise, in steps of an 8-bit picture.
        clip: clip the result to [0, 1].

    Returns:
        ``(H, W, 3) float32``, beyond [0, 1] unless ``clip``.
    """
    dark = gain * np.clip(clean, 0.0, 1.0).astype(np.float64) ** gamma
    counted = rng.poisson(dark * full_well_electrons) / full_well_electrons
    read = (read_sigma_8bit / 255.0) * rng.standard_normal(clean.shape)
    return _finished((counted + read).astype(np.float32), clip)


def poisson_noise(clean: Pixels, rng: np.random.Generator, *, full_well_electrons: float, clip: bool = False) -> Pixels:
    """Shot noise: each pixel counts its photons, ``Poisson(clean * full_well_electrons) / full_well_electrons``.

    The mean over the noise is ``clean``, its variance ``clean / full_well_electrons`` (source: EMVA 1288, the linear
    sensor model without read noise).

    Args:
        clean: ``(H, W, 3) float32``, clipped to [0, 1] first: there is no negative light.
        rng: draws ``H*W*3`` Poisson numbers.
        full_well_electrons: electrons that make white; fewer make more noise.
        clip: clip the result to [0, 1].

    Returns:
        ``(H, W, 3) float32`` from 0 on, multiples of ``1 / full_well_electrons``; beyond 1 unless ``clip``.
    """
    light = np.clip(clean, 0.0, 1.0).astype(np.float64)
    counted = rng.poisson(light * full_well_electrons) / full_well_electrons
    return _finished(counted.astype(np.float32), clip)


def speckle_noise(clean: Pixels, rng: np.random.Generator, *, sigma_8bit: float, clip: bool = False) -> Pixels:
    """Multiplicative noise: ``clean + clean * n`` with white Gaussian ``n``, none in black, full in white.

    The mean over the noise is ``clean``, its standard deviation ``clean * sigma_8bit / 255``. Source: the usual
    model of coherent imaging with many looks (Lee, "Digital Image Enhancement and Noise Filtering by Use of Local
    Statistics", PAMI 1980).

    Args:
        clean: ``(H, W, 3) float32`` in [0, 1].
        rng: draws ``H*W*3`` float32 normal numbers.
        sigma_8bit: standard deviation where the picture is white, in steps of an 8-bit picture (of 255).
        clip: clip the result to [0, 1].

    Returns:
        ``(H, W, 3) float32``, beyond [0, 1] unless ``clip``.
    """
    factor = np.float32(sigma_8bit / 255.0) * rng.standard_normal(clean.shape, dtype=np.float32)
    return _finished(clean + clean * factor, clip)


def correlated_noise(
    clean: Pixels,
    rng: np.random.Generator,
    *,
    sigma_8bit: float,
    correlation_px: float,
    channel_correlation: float = 0.0,
    clip: bool = False,
) -> Pixels:
    """Gaussian noise in blotches, as demosaicking, scaling and denoising leave it.

    White noise, filtered with a Gaussian of ``correlation_px / sqrt(2)`` and scaled to its old strength: two places
    ``d`` pixels apart correlate by ``exp(-d**2 / (2 * correlation_px**2))`` (to 0.02 from 1 px on; the sampled filter
    of a smaller one reaches less far, and 0 is white noise). Any two channels of a pixel correlate by
    ``channel_correlation``. The noise is drawn beyond the edges too, so it is as strong there as in the middle.
    Source: Wiener-Khinchin; a Gaussian filter correlated with itself is a Gaussian sqrt(2) times as wide.

    Args:
        clean: ``(H, W, 3) float32`` in [0, 1].
        rng: draws one float32 normal number per channel and pixel of the picture grown by the filter's reach.
        sigma_8bit: standard deviation in every pixel and channel, in steps of an 8-bit picture (of 255).
        correlation_px: see above, in pixels.
        channel_correlation: 0 makes independent channels, 1 makes grey noise.
        clip: clip the result to [0, 1].

    Returns:
        ``(H, W, 3) float32``, beyond [0, 1] unless ``clip``.
    """
    kernel = gaussian_kernel(correlation_px / math.sqrt(2))
    kernel = kernel / np.float32(math.sqrt(float(np.square(kernel, dtype=np.float64).sum())))  # keeps the variance
    height, width, channels = clean.shape
    grown = (height + kernel.size - 1, width + kernel.size - 1, channels)
    white = rng.standard_normal(grown, dtype=np.float32)
    noise = filter_inside(filter_inside(white, kernel[:, None]), kernel[None, :])
    # The symmetric root of the matrix with 1 on its diagonal and channel_correlation elsewhere: own * I + shared * J.
    own = math.sqrt(1 - channel_correlation)
    shared = (math.sqrt(1 + (channels - 1) * channel_correlation) - own) / channels
    noise = np.float32(own) * noise + np.float32(shared) * noise.sum(axis=2, keepdims=True)
    return _finished(clean + np.float32(sigma_8bit / 255.0) * noise, clip)


def _finished(noisy: Pixels, clip: bool) -> Pixels:
    return np.clip(noisy, np.float32(0), np.float32(1)) if clip else noisy
