"""The fixed conditions of validation, and the seeding that makes any subset of them give the same pictures."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from edgeir.errors import UsageError, nearest
from edgeir.imaging.colour import Pixels
from edgeir.imaging.degradations import (
    Degradation,
    GaussianBlur,
    GaussianNoise,
    Haze,
    Jpeg,
    LowLight,
    Rain,
    apply_all,
)


@dataclass(frozen=True, slots=True)
class Condition:
    """A named sequence of degradations.

    Attributes:
        name: the name in reports and on the command line; part of the seed.
        steps: what is done to the clean picture, first to last.
    """

    name: str
    steps: tuple[Degradation, ...]

    def apply(self, image: Pixels, rng: np.random.Generator) -> Pixels:
        """All steps on ``(H, W, 3) float32``, drawing from ``rng`` in order."""
        return apply_all(self.steps, image, rng)


_RAIN = Rain(density=0.005, length_px=21, angle_deg=12, opacity=0.6)
_HAZE = Haze(beta=1.5, airlight=0.85)
_LOW_LIGHT = LowLight(gain=0.3, gamma=1.2, full_well_electrons=2000, read_sigma_8bit=1.5)

# Changing a number here changes every drift table that was ever published: add a condition under a new name instead.
VALIDATION_CONDITIONS: tuple[Condition, ...] = (
    Condition("clean", ()),
    Condition("noise-15", (GaussianNoise(15),)),
    Condition("noise-25", (GaussianNoise(25),)),
    Condition("noise-50", (GaussianNoise(50),)),
    Condition("rain", (_RAIN,)),
    Condition("haze", (_HAZE,)),
    Condition("blur", (GaussianBlur(1.6),)),
    Condition("low-light", (_LOW_LIGHT,)),
    Condition("jpeg-20", (Jpeg(20),)),
    Condition("rain+haze", (_RAIN, _HAZE)),
    Condition("low-light+noise", (_LOW_LIGHT, GaussianNoise(10))),
)


def condition_named(name: str) -> Condition:
    """The validation condition of this name; ``UsageError`` with the nearest name if there is none."""
    known = {condition.name: condition for condition in VALIDATION_CONDITIONS}
    if name not in known:
        raise UsageError("unknown condition", where=name, fix=nearest(name, known))
    return known[name]


def condition_seed(condition_name: str, picture_name: str, seed: int = 0) -> int:
    """A 128-bit seed from sha256 of the three: the same on every machine, in every process, in any order."""
    text = "\0".join((str(int(seed)), condition_name, picture_name))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "big")


def degrade(condition: Condition, clean: Pixels, picture_name: str, seed: int = 0) -> Pixels:
    """The degraded form of one picture; which others are measured beside it changes nothing.

    Args:
        condition: one of `VALIDATION_CONDITIONS`, or the caller's own.
        clean: ``(H, W, 3) float32`` in [0, 1]; not changed.
        picture_name: name of the picture, without folder and suffix.
        seed: another one gives other noise, rain and haze.

    Returns:
        ``(H, W, 3) float32``; noise is neither clipped nor rounded, so values may lie beyond [0, 1].
    """
    rng = np.random.default_rng(condition_seed(condition.name, picture_name, seed))
    return condition.apply(clean, rng)
