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

from edgeir.errors import UsageError
from edgeir.imaging import blur, compression, noise, weather
from edgeir.imaging.colour import Pixels


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
        _require("noise", "sigma_8bit", self.sigma_8bit, 0, math.inf)

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
        _require("low light", "gain", self.gain, 0, 1)
        _require("low light", "gamma", self.gamma, 1e-3, math.inf)
        _require("low light", "full_well_electrons", self.full_well_electrons, 1, 1e9)
        _require("low light", "read_sigma_8bit", self.read_sigma_8bit, 0, math.inf)

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
        _require("rain", "density", self.density, 0, 1)
        _require("rain", "length_px", self.length_px, 0, 4096)
        _require("rain", "opacity", self.opacity, 0, 1)

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

    def __post_init__(self) -> None:
        _require("haze", "beta", self.beta, 0, math.inf)
        _require("haze", "airlight", self.airlight, 0, 1)

    def apply(self, image: Pixels, rng: np.random.Generator) -> Pixels:
        """Put haze between the camera and the scene."""
        return weather.haze(image, rng, beta=self.beta, airlight=self.airlight)


@dataclass(frozen=True, slots=True)
class GaussianBlur:
    """`blur.gaussian_blur`."""

    sigma_px: float

    def __post_init__(self) -> None:
        _require("blur", "sigma_px", self.sigma_px, 0, 1024)

    def apply(self, image: Pixels, rng: np.random.Generator) -> Pixels:
        """Put the picture out of focus; draws no random number."""
        return blur.gaussian_blur(image, sigma_px=self.sigma_px)


@dataclass(frozen=True, slots=True)
class MotionBlur:
    """`blur.motion_blur`."""

    length_px: float
    angle_deg: float

    def __post_init__(self) -> None:
        _require("motion blur", "length_px", self.length_px, 0, 4096)

    def apply(self, image: Pixels, rng: np.random.Generator) -> Pixels:
        """Shake the camera; draws no random number."""
        return blur.motion_blur(image, length_px=self.length_px, angle_deg=self.angle_deg)


@dataclass(frozen=True, slots=True)
class Jpeg:
    """`compression.jpeg`."""

    quality: int

    def __post_init__(self) -> None:
        _require("jpeg", "quality", self.quality, 1, 95)

    def apply(self, image: Pixels, rng: np.random.Generator) -> Pixels:
        """Code and decode; draws no random number."""
        return compression.jpeg(image, quality=self.quality)


# What recipes and condition files call them.
KINDS: dict[str, type[Degradation]] = {
    "gaussian-noise": GaussianNoise,
    "low-light": LowLight,
    "rain": Rain,
    "haze": Haze,
    "gaussian-blur": GaussianBlur,
    "motion-blur": MotionBlur,
    "jpeg": Jpeg,
}


def _require(where: str, name: str, value: float, low: float, high: float) -> None:
    """Raise ``UsageError`` unless ``low <= value <= high`` (``high`` may be infinite, ``value`` may not)."""
    if not (low <= value <= high and math.isfinite(value)):
        raise UsageError(f"{name} is out of range", where=where, expected=f"{low:g} to {high:g}", got=f"{value:g}")
