"""Drift against numbers worked out by hand, and losses planted where they must be found."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from edgeir.compare.drift import (
    PictureDrift,
    Sample,
    by_condition,
    degraded_samples,
    mean_drift_db,
    measure_drift,
    measure_drifts,
    worst_condition,
    worst_sample,
)
from edgeir.compare.gates import GATES
from edgeir.imaging.conditions import VALIDATION_CONDITIONS, Condition, condition_named
from edgeir.imaging.look import Look
from edgeir.precision import Precision

# PSNR of constant differences in float32: 6e-8 of rounding on 0.1 moves 20 dB by 5e-6 dB.
DB = 1e-4
GREY = np.full((8, 8, 3), 0.5, np.float32)


def plus(step: float) -> object:
    return lambda batch: batch + np.float32(step)


def identity(batch: np.ndarray) -> np.ndarray:
    return batch


def sample(picture: str = "grey", condition: str = "clean", degraded: np.ndarray = GREY) -> Sample:
    return Sample(picture, condition, degraded, GREY)


def test_the_formulas() -> None:
    (row,) = measure_drift([sample(degraded=GREY + np.float32(0.4))], plus(-0.3), plus(-0.2))  # type: ignore[arg-type]
    assert row.input_db == pytest.approx(-20 * math.log10(0.4), abs=DB)
    assert row.reference_db == pytest.approx(20, abs=DB)
    assert row.engine_db == pytest.approx(-20 * math.log10(0.2), abs=DB)
    assert row.drift_db == pytest.approx(20 * math.log10(2), abs=DB)
    assert row.fidelity_db == pytest.approx(20, abs=DB)
    assert row.brightness_shift_8bit == pytest.approx(25.5, abs=DB)
    assert row.nonfinite == 0


def test_psnr_clips_what_is_shown_and_fidelity_does_not() -> None:
    white = np.ones((4, 4, 3), np.float32)
    (row,) = measure_drift([Sample("white", "clean", white, white)], identity, plus(0.1))  # type: ignore[arg-type]
    assert row.engine_db == math.inf
    assert row.drift_db == 0
    assert row.fidelity_db == pytest.approx(20, abs=DB)


def test_an_engine_that_is_better_has_negative_drift() -> None:
    (row,) = measure_drift([sample()], plus(0.2), plus(0.1))  # type: ignore[arg-type]
    assert row.drift_db == pytest.approx(-20 * math.log10(2), abs=DB)
    assert row.brightness_shift_8bit == pytest.approx(-25.5, abs=DB)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_counted(value: float) -> None:
    def broken(batch: np.ndarray) -> np.ndarray:
        output = batch.copy()
        output[0, :, 0, :2] = value
        return output

    (row,) = measure_drift([sample()], identity, broken)
    assert row.nonfinite == 6
    assert row.fidelity_db == -math.inf
    assert row.drift_db == math.inf  # the reference is perfect
    # Shown as black or white, six of 192 values are half a step of brightness off at most.
    assert row.engine_db == pytest.approx(-10 * math.log10(0.25 * 6 / 192), abs=DB)


def test_a_planted_loss_is_found_where_it_is() -> None:
    conditions = [condition_named("noise-15"), condition_named("haze")]
    rng = np.random.default_rng(3)
    pictures = [(name, rng.random((16, 16, 3), dtype=np.float32)) for name in ("a", "b", "c")]
    samples = list(degraded_samples(pictures, conditions))
    assert [(s.condition, s.picture) for s in samples] == [(c.name, p) for c in conditions for p in "abc"]
    planted = next(s for s in samples if (s.condition, s.picture) == ("haze", "b"))

    def engine(batch: np.ndarray) -> np.ndarray:
        harmed = np.array_equal(batch[0].transpose(1, 2, 0), planted.degraded)
        return batch + np.float32(0.3 if harmed else 0)

    seen: list[None] = []
    rows = measure_drift(samples, identity, engine, on_sample=lambda: seen.append(None))
    assert len(seen) == 6
    noise, haze = by_condition(rows)
    assert (noise.condition, noise.worst_drift_db, noise.mean_drift_db) == ("noise-15", 0, 0)
    assert (haze.condition, haze.worst_picture, haze.pictures) == ("haze", "b", 3)
    assert haze.worst_drift_db > 1
    assert haze.mean_drift_db == pytest.approx(haze.worst_drift_db / 3)
    assert haze.brightness_shift_8bit == pytest.approx(0.3 * 255, rel=1e-4)
    assert haze.fidelity_db == pytest.approx(-20 * math.log10(0.3), abs=DB)


def test_the_mean_is_over_pictures_and_the_worst_keeps_its_sign() -> None:
    def row(picture: str, reference_db: float, engine_db: float, brightness: float) -> PictureDrift:
        look = Look(0, 0, 0, 0)
        return PictureDrift(picture, "haze", 10, reference_db, engine_db, 60, brightness, 0, look, 1.0, False)

    (gathered,) = by_condition([row("a", 30, 29, 0.1), row("b", 20, 22, -0.4), row("c", 25, 25, 0.2)])
    assert gathered.mean_drift_db == pytest.approx(-1 / 3)
    assert (gathered.worst_drift_db, gathered.worst_picture) == (1, "a")
    assert (gathered.input_db, gathered.reference_db) == (10, 25)
    assert gathered.engine_db == pytest.approx(76 / 3)
    assert gathered.brightness_shift_8bit == -0.4


def test_any_subset_of_the_samples_is_the_same() -> None:
    picture = np.random.default_rng(0).random((16, 16, 3), dtype=np.float32)
    alone = next(degraded_samples([("b", picture)], [condition_named("noise-25")]))
    among = list(degraded_samples([("a", picture), ("b", picture)], VALIDATION_CONDITIONS))
    same = next(s for s in among if (s.condition, s.picture) == ("noise-25", "b"))
    other = next(s for s in among if (s.condition, s.picture) == ("noise-25", "a"))
    assert np.array_equal(alone.degraded, same.degraded)
    assert not np.array_equal(alone.degraded, other.degraded)


@pytest.mark.parametrize("size", [(8, 12), (9, 13)])
def test_super_resolution_samples(size: tuple[int, int]) -> None:
    clean = np.random.default_rng(1).random((*size, 3), dtype=np.float32)
    (only,) = degraded_samples([("a", clean)], [Condition("unused", ())], scale=2)
    assert only.condition == "downsampled x2"
    assert only.degraded.shape == (4, 6, 3)
    assert only.degraded[1, 2] == pytest.approx(clean[2:4, 4:6].mean(axis=(0, 1)), abs=1e-6)
    assert np.array_equal(only.clean, clean[:8, :12])

    def nearest(batch: np.ndarray) -> np.ndarray:
        return batch.repeat(2, axis=2).repeat(2, axis=3)

    (row,) = measure_drift([only], nearest, nearest)
    assert math.isnan(row.input_db)
    assert (row.drift_db, row.fidelity_db) == (0, math.inf)


def test_gates_are_those_of_the_design() -> None:
    assert (GATES[Precision.FP32].max_abs, GATES[Precision.FP32].fidelity_db) == (1e-4, 90)
    half = GATES[Precision.FP16]
    assert (half.fidelity_db, half.mean_drift_db, half.worst_drift_db) == (55, 0.02, 0.10)
    for kind in (Precision.INT8, Precision.FP8):
        low = GATES[kind]
        assert (low.mean_drift_warn_db, low.mean_drift_db, low.worst_degradation_db) == (0.15, 0.30, 0.50)
        assert low.brightness_shift_8bit == 0.25


def test_a_flat_output_is_seen_and_a_flat_reference_is_no_fault() -> None:
    picture = np.random.default_rng(2).random((16, 16, 3), dtype=np.float32)
    grey = np.full_like(picture, 0.5)

    def flat(batch: np.ndarray) -> np.ndarray:
        return np.full_like(batch, 0.5)

    (broken,) = measure_drift([Sample("a", "clean", picture, picture)], identity, flat)
    assert broken.flat
    assert broken.ssim < 0.2
    (sky,) = measure_drift([Sample("a", "clean", grey, grey)], identity, flat)
    assert not sky.flat
    assert sky.ssim == pytest.approx(1)


def test_ssim_against_the_reference_and_the_least_of_a_degradation() -> None:
    from edgeir.imaging.ssim import ssim_float

    draw = np.random.default_rng(3)
    pictures = [draw.random((16, 16, 3), dtype=np.float32) for _ in range(2)]
    samples = [Sample(name, "haze", picture, picture) for name, picture in zip("ab", pictures, strict=True)]
    rows = measure_drift(samples, identity, plus(0.1))  # type: ignore[arg-type]
    expected = [ssim_float(np.clip(picture + np.float32(0.1), 0, None), picture) for picture in pictures]
    assert [row.ssim for row in rows] == pytest.approx(expected, abs=1e-6)
    (gathered,) = by_condition(rows)
    assert gathered.ssim == min(row.ssim for row in rows)


ROW = PictureDrift("a", "rain", 20, 30, 30, 60, 0, 0, Look(0, 0, 0, 0), 1.0, False)


def test_several_engines_share_one_reference() -> None:
    draw = np.random.default_rng(4)
    samples = [Sample(name, "haze", *[draw.random((16, 16, 3), dtype=np.float32)] * 2) for name in "ab"]
    restored: list[np.ndarray] = []

    def reference(batch: np.ndarray) -> np.ndarray:
        restored.append(batch)
        return batch

    engines = {"one": plus(0.1), "two": plus(-0.2)}
    together = measure_drifts(samples, reference, engines)  # type: ignore[arg-type]
    assert len(restored) == len(samples)
    for name, engine in engines.items():
        assert together[name] == measure_drift(samples, identity, engine)  # type: ignore[arg-type]


def test_the_worst_and_the_mean_of_all() -> None:
    losses = (("rain", 1.0), ("rain", 4.0), ("haze", 3.0), ("haze", 3.0))
    rows = [replace(ROW, condition=condition, engine_db=30 - loss) for condition, loss in losses]
    assert mean_drift_db(rows) == 2.75
    assert worst_sample(rows) is rows[1]
    assert (worst_condition(rows).condition, worst_condition(rows).mean_drift_db) == ("haze", 3.0)
