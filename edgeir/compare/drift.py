"""Drift: how much closer to the truth the reference comes than the engine, per degradation.

Drift of one picture = PSNR(reference, truth) - PSNR(engine, truth), both outputs clipped to [0, 1]: positive is a loss.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeir.compare.parity import Run
from edgeir.imaging.conditions import Condition, degrade
from edgeir.imaging.layout import nchw_from_hwc
from edgeir.imaging.look import Look, look
from edgeir.imaging.metrics import brightness_shift_8bit, fidelity_db, psnr_float
from edgeir.imaging.ssim import UNIFORM_PX, ssim_float

Picture = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class PictureDrift:
    """One picture under one degradation; PSNR in dB against the clean picture.

    Attributes:
        fidelity_db: PSNR of the engine's output against the reference's.
        brightness_shift_8bit: change of the mean, of 255.
        nonfinite: how many values of the engine's output are NaN or Inf.
        look: what an eye would notice, engine against reference.
        ssim: SSIM of the engine's output against the reference's; NaN where a side is shorter than its window.
        flat: the engine gave one colour, and the reference did not.
    """

    picture: str
    condition: str
    input_db: float
    reference_db: float
    engine_db: float
    fidelity_db: float
    brightness_shift_8bit: float
    nonfinite: int
    look: Look
    ssim: float
    flat: bool

    @property
    def drift_db(self) -> float:
        """Loss of the engine against the reference; 0 where both are perfect."""
        if np.isinf(self.reference_db) and np.isinf(self.engine_db):
            return 0.0
        return self.reference_db - self.engine_db


@dataclass(frozen=True, slots=True)
class ConditionDrift:
    """One degradation over all pictures: means in dB, the worst picture, of each change the largest, the least SSIM."""

    condition: str
    pictures: int
    input_db: float
    reference_db: float
    engine_db: float
    mean_drift_db: float
    worst_drift_db: float
    worst_picture: str
    fidelity_db: float
    brightness_shift_8bit: float
    look: Look
    ssim: float


@dataclass(frozen=True, slots=True)
class Sample:
    """One input and the truth it should be restored to, ``(H, W, 3)`` and ``(s*H, s*W, 3)`` float32 in [0, 1]."""

    picture: str
    condition: str
    degraded: Picture
    clean: Picture

    def batch(self) -> Picture:
        """The input as ``(1, 3, H, W)``."""
        return nchw_from_hwc(self.degraded)


def degraded_samples(
    pictures: Sequence[tuple[str, Picture]], conditions: Iterable[Condition], *, scale: int = 1
) -> Iterator[Sample]:
    """Inputs for `measure_drift`, one after the other.

    Args:
        pictures: name and clean picture, ``(s*H, s*W, 3)``.
        conditions: the degradations; each is seeded by its own name and the picture's, so that any subset agrees.
        scale: s; above 1 the input is the picture's box-filtered ``1/s`` and the conditions are not used; rows and
            columns beyond a multiple of s are cut off.
    """
    if scale > 1:
        for name, clean in pictures:
            height, width = clean.shape[0] // scale, clean.shape[1] // scale
            clean = clean[: height * scale, : width * scale]
            boxes = clean.reshape(height, scale, width, scale, 3)
            yield Sample(name, f"downsampled x{scale}", boxes.mean(axis=(1, 3), dtype=np.float32), clean)
        return
    for condition in conditions:
        for name, clean in pictures:
            yield Sample(name, condition.name, degrade(condition, clean, name), clean)


def measure_drift(
    samples: Iterable[Sample], reference: Run, engine: Run, *, on_sample: Callable[[], None] | None = None
) -> list[PictureDrift]:
    """Restore every sample with both networks.

    Args:
        samples: inputs of a size both networks accept.
        reference, engine: ``(1, 3, H, W) -> (1, 3, s*H, s*W)``.
        on_sample: called after each, for progress.
    """
    return measure_drifts(samples, reference, {"": engine}, on_sample=on_sample)[""]


def measure_drifts(
    samples: Iterable[Sample],
    reference: Run,
    engines: Mapping[str, Run],
    *,
    on_sample: Callable[[], None] | None = None,
) -> dict[str, list[PictureDrift]]:
    """`measure_drift` of several engines, by name; the reference restores each sample once."""
    results: dict[str, list[PictureDrift]] = {name: [] for name in engines}
    for sample in samples:
        batch = sample.batch()
        expected = reference(batch)
        for name, engine in engines.items():
            results[name].append(_compared(sample, engine(batch), expected))
        if on_sample is not None:
            on_sample()
    return results


def _compared(sample: Sample, of_engine: Picture, of_reference: Picture) -> PictureDrift:
    nonfinite = int(of_engine.size - np.isfinite(of_engine).sum())
    shown = np.nan_to_num(of_engine[0].transpose(1, 2, 0), nan=0.0, posinf=1.0, neginf=0.0)
    expected = of_reference[0].transpose(1, 2, 0)
    same_size = sample.degraded.shape == sample.clean.shape
    return PictureDrift(
        picture=sample.picture,
        condition=sample.condition,
        input_db=psnr_float(sample.degraded, sample.clean) if same_size else float("nan"),
        reference_db=psnr_float(expected, sample.clean),
        engine_db=psnr_float(shown, sample.clean),
        fidelity_db=fidelity_db(of_engine, of_reference) if not nonfinite else float("-inf"),
        brightness_shift_8bit=brightness_shift_8bit(shown, expected),
        nonfinite=nonfinite,
        look=look(shown, expected),
        ssim=ssim_float(shown, expected) if min(shown.shape[:2]) >= UNIFORM_PX else float("nan"),
        flat=_flat(shown) and not _flat(expected),
    )


def mean_drift_db(results: Sequence[PictureDrift]) -> float:
    """Over all pictures and degradations, dB."""
    return sum(row.drift_db for row in results) / len(results)


def worst_sample(results: Sequence[PictureDrift]) -> PictureDrift:
    """The picture under the degradation that loses most."""
    return max(results, key=lambda row: row.drift_db)


def worst_condition(results: Sequence[PictureDrift]) -> ConditionDrift:
    """The degradation whose mean drift is largest."""
    return max(by_condition(results), key=lambda row: row.mean_drift_db)


def by_condition(results: Sequence[PictureDrift]) -> list[ConditionDrift]:
    """Gather `measure_drift`'s rows per degradation, in their order."""
    names = dict.fromkeys(result.condition for result in results)
    return [_gather(name, [result for result in results if result.condition == name]) for name in names]


def _gather(name: str, rows: Sequence[PictureDrift]) -> ConditionDrift:
    worst = worst_sample(rows)

    def mean(values: Iterable[float]) -> float:
        return float(np.mean(list(values)))

    return ConditionDrift(
        condition=name,
        pictures=len(rows),
        input_db=mean(row.input_db for row in rows),
        reference_db=mean(row.reference_db for row in rows),
        engine_db=mean(row.engine_db for row in rows),
        mean_drift_db=mean(row.drift_db for row in rows),
        worst_drift_db=worst.drift_db,
        worst_picture=worst.picture,
        fidelity_db=min(row.fidelity_db for row in rows),
        brightness_shift_8bit=max((row.brightness_shift_8bit for row in rows), key=abs),
        look=Look(
            hue_shift_deg=max((row.look.hue_shift_deg for row in rows), key=abs),
            white_shift_8bit=max((row.look.white_shift_8bit for row in rows), key=abs),
            black_shift_8bit=max((row.look.black_shift_8bit for row in rows), key=abs),
            banding=max(row.look.banding for row in rows),
        ),
        ssim=min(row.ssim for row in rows),
    )


def _flat(picture: Picture) -> bool:
    """Whether a display would show one value only: everything lies within one step of 8 bits."""
    return bool(picture.max() - picture.min() < 1 / 255)
