"""The degradations as values: what happens to a clean picture, with its parameters, in one frozen object each.

Training draws the parameters at random and makes such objects; validation has fixed ones
(`edgeir.imaging.conditions`). Both go through the same functions, so what is trained is what is measured.

>>> steps = (Rain(density=0.01, length_px=15, angle_deg=10, opacity=0.7), GaussianNoise(sigma_8bit=15))
>>> apply_all(steps, np.zeros((8, 8, 3), np.float32), np.random.default_rng(0)).shape
(8, 8, 3)
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from edgeir.imaging import blur, compression, noise, resampling, weather
from edgeir.imaging.colour import Pixels
from edgeir.imaging.ranges import require
from edgeir.imaging.shuffles import BsrganShuffle as BsrganShuffle
from edgeir.imaging.shuffles import RealEsrganShuffle as RealEsrganShuffle


class Degradation(Protocol):
    """One step; the same picture and an equal ``rng`` give the same result."""

    def apply(self, image: Pixels, rng: np.random.Generator) -> Pixels:
        """``(H, W, 3) float32`` to the same shape and type; ``image`` is not changed."""
        ...


def apply_all(steps: Iterable[Degradation], image: Pixels, rng: np.random.Generator) -> Pixels:
    """Apply ``steps`` one after the other to ``(H, W, 3) float32``; without steps, ``image`` itself."""
    for step in steps:
        image = step.apply(image, rng)
    return image


@dataclass(frozen=True, slots=True)
class GaussianNoise:
    """`noise.gaussian_noise`."""

    sigma_8bit: float
    clip: bool = False

    def __post_init__(self) -> None:
        require("noise", "sigma_8bit", self.sigma_8bit, 0, math.inf)

    def apply(self, image: Pixels, rng: np.random.Generator) -> Pixels:
        """Add the noise."""
        return noise.gaussian_noise(image, rng, sigma_8bit=self.sigma_8bit, clip=self.clip)


@dataclass(frozen=True, slots=True)
class LowLight:
    """`noise.low_light`."""

    gain: float
    gamma: float
    full_well_electrons: float
    read_sigma_8bit: float
    clip: bool = False

    def __post_init__(self) -> None:
        require("low light", "gain", self.gain, 0, 1)
        require("low light", "gamma", self.gamma, 1e-3, math.inf)
        require("low light", "full_well_electrons", self.full_well_electrons, 1, 1e9)
        require("low light", "read_sigma_8bit", self.read_sigma_8bit, 0, math.inf)

    def apply(self, image: Pixels, rng: np.random.Generator) -> Pixels:
        """Take the picture again, in the dark."""
        return noise.low_light(
            image,
            rng,
            gain=self.gain,
            gamma=self.gamma,
            full_well_electrons=self.full_well_electrons,
            read_sigma_8bit=self.read_sigma_8bit,
            clip=self.clip,
        )


@dataclass(frozen=True, slots=True)
class Rain:
    """`weather.rain`."""

    density: float
    length_px: float
    angle_deg: float
    opacity: float

    def __post_init__(self) -> None:
        require("rain", "density", self.density, 0, 1)
        require("rain", "length_px", self.length_px, 0, 4096)
        require("rain", "opacity", self.opacity, 0, 1)

    def apply(self, image: Pixels, rng: np.random.Generator) -> Pixels:
        """Let it rain."""
        return weather.rain(
            image,
            rng,
            density=self.density,
            length_px=self.length_px,
            angle_deg=self.angle_deg,
            opacity=self.opacity,
        )


@dataclass(frozen=True, slots=True)
class Haze:
    """`weather.haze`."""

    beta: float
    airlight: float
    near: float = 0.0
    span: float = 1.0

    def __post_init__(self) -> None:
        require("haze", "beta", self.beta, 0, math.inf)
        require("haze", "airlight", self.airlight, 0, 1)
        require("haze", "near", self.near, 0, 1)
        require("haze", "span", self.span, 0, 1)

    def apply(self, image: Pixels, rng: np.random.Generator) -> Pixels:
        """Put haze between the camera and the scene."""
        return weather.haze(image, rng, beta=self.beta, airlight=self.airlight, near=self.near, span=self.span)


@dataclass(frozen=True, slots=True)
class GaussianBlur:
    """`blur.gaussian_blur`."""

    sigma_px: float

    def __post_init__(self) -> None:
        require("blur", "sigma_px", self.sigma_px, 0, 1024)

    def apply(self, image: Pixels, rng: np.random.Generator) -> Pixels:
        """Put the picture out of focus; draws no random number."""
        return blur.gaussian_blur(image, sigma_px=self.sigma_px)


@dataclass(frozen=True, slots=True)
class MotionBlur:
    """`blur.motion_blur`."""

    length_px: float
    angle_deg: float

    def __post_init__(self) -> None:
        require("motion blur", "length_px", self.length_px, 0, 4096)

    def apply(self, image: Pixels, rng: np.random.Generator) -> Pixels:
        """Shake the camera; draws no random number."""
        return blur.motion_blur(image, length_px=self.length_px, angle_deg=self.angle_deg)


@dataclass(frozen=True, slots=True)
class Jpeg:
    """`compression.jpeg`."""

    quality: int

    def __post_init__(self) -> None:
        require("jpeg", "quality", self.quality, 1, 95)

    def apply(self, image: Pixels, rng: np.random.Generator) -> Pixels:
        """Code and decode; draws no random number."""
        return compression.jpeg(image, quality=self.quality)


@dataclass(frozen=True, slots=True)
class PoissonNoise:
    """`noise.poisson_noise`."""

    full_well_electrons: float
    clip: bool = False

    def __post_init__(self) -> None:
        require("poisson noise", "full_well_electrons", self.full_well_electrons, 1, 1e9)

    def apply(self, image: Pixels, rng: np.random.Generator) -> Pixels:
        """Count photons."""
        return noise.poisson_noise(image, rng, full_well_electrons=self.full_well_electrons, clip=self.clip)


@dataclass(frozen=True, slots=True)
class SpeckleNoise:
    """`noise.speckle_noise`."""

    sigma_8bit: float
    clip: bool = False

    def __post_init__(self) -> None:
        require("speckle noise", "sigma_8bit", self.sigma_8bit, 0, math.inf)

    def apply(self, image: Pixels, rng: np.random.Generator) -> Pixels:
        """Add the noise, in proportion to the light."""
        return noise.speckle_noise(image, rng, sigma_8bit=self.sigma_8bit, clip=self.clip)


@dataclass(frozen=True, slots=True)
class CorrelatedNoise:
    """`noise.correlated_noise`."""

    sigma_8bit: float
    correlation_px: float
    channel_correlation: float = 0.0
    clip: bool = False

    def __post_init__(self) -> None:
        require("correlated noise", "sigma_8bit", self.sigma_8bit, 0, math.inf)
        require("correlated noise", "correlation_px", self.correlation_px, 0, 64)
        require("correlated noise", "channel_correlation", self.channel_correlation, 0, 1)

    def apply(self, image: Pixels, rng: np.random.Generator) -> Pixels:
        """Add the blotches."""
        return noise.correlated_noise(
            image,
            rng,
            sigma_8bit=self.sigma_8bit,
            correlation_px=self.correlation_px,
            channel_correlation=self.channel_correlation,
            clip=self.clip,
        )


@dataclass(frozen=True, slots=True)
class Snow:
    """`weather.snow`."""

    density: float
    size_px: float
    motion_px: float
    angle_deg: float
    opacity: float

    def __post_init__(self) -> None:
        require("snow", "density", self.density, 0, 1)
        require("snow", "size_px", self.size_px, 0, 64)
        require("snow", "motion_px", self.motion_px, 0, 256)
        require("snow", "angle_deg", self.angle_deg, -360, 360)
        require("snow", "opacity", self.opacity, 0, 1)

    def apply(self, image: Pixels, rng: np.random.Generator) -> Pixels:
        """Let it snow."""
        return weather.snow(
            image,
            rng,
            density=self.density,
            size_px=self.size_px,
            motion_px=self.motion_px,
            angle_deg=self.angle_deg,
            opacity=self.opacity,
        )


@dataclass(frozen=True, slots=True)
class DefocusBlur:
    """`blur.defocus_blur`."""

    radius_px: float

    def __post_init__(self) -> None:
        require("defocus blur", "radius_px", self.radius_px, 0, 256)

    def apply(self, image: Pixels, rng: np.random.Generator) -> Pixels:
        """Turn the lens out of focus; draws no random number."""
        return blur.defocus_blur(image, radius_px=self.radius_px)


@dataclass(frozen=True, slots=True)
class AnisotropicBlur:
    """`blur.anisotropic_gaussian_blur`; a sigma below 0.2 px would fall between the pixels at most angles."""

    sigma_along_px: float
    sigma_across_px: float
    angle_deg: float

    def __post_init__(self) -> None:
        require("anisotropic blur", "sigma_along_px", self.sigma_along_px, 0.2, 64)
        require("anisotropic blur", "sigma_across_px", self.sigma_across_px, 0.2, 64)
        require("anisotropic blur", "angle_deg", self.angle_deg, -360, 360)

    def apply(self, image: Pixels, rng: np.random.Generator) -> Pixels:
        """Blur more along one direction than across it; draws no random number."""
        return blur.anisotropic_gaussian_blur(
            image,
            sigma_along_px=self.sigma_along_px,
            sigma_across_px=self.sigma_across_px,
            angle_deg=self.angle_deg,
        )


@dataclass(frozen=True, slots=True)
class Downsample:
    """`resampling.low_resolution`."""

    scale: float

    def __post_init__(self) -> None:
        require("downsample", "scale", self.scale, 1, 64)

    def apply(self, image: Pixels, rng: np.random.Generator) -> Pixels:
        """Shrink and enlarge again; draws no random number."""
        return resampling.low_resolution(image, scale=self.scale)


# What recipes and condition files call them.
KINDS: dict[str, type[Degradation]] = {
    "gaussian-noise": GaussianNoise,
    "low-light": LowLight,
    "rain": Rain,
    "haze": Haze,
    "gaussian-blur": GaussianBlur,
    "motion-blur": MotionBlur,
    "jpeg": Jpeg,
    "poisson-noise": PoissonNoise,
    "speckle-noise": SpeckleNoise,
    "correlated-noise": CorrelatedNoise,
    "snow": Snow,
    "defocus-blur": DefocusBlur,
    "anisotropic-blur": AnisotropicBlur,
    "downsample": Downsample,
    "bsrgan-shuffle": BsrganShuffle,
    "real-esrgan-shuffle": RealEsrganShuffle,
}
