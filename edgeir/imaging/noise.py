"""What a sensor adds: Gaussian noise, and the shot and read noise of a picture taken in the dark."""

from __future__ import annotations

import numpy as np

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


def _finished(noisy: Pixels, clip: bool) -> Pixels:
    return np.clip(noisy, np.float32(0), np.float32(1)) if clip else noisy
