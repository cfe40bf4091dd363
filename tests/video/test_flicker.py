"""The flicker of a clip: errors that stay have none, errors drawn anew have sqrt(2) times their RMS."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeir.errors import UsageError
from edgeir.imaging.metrics import fidelity_db
from edgeir.video.flicker import Flicker, FlickerMeter, decibels, summarise

SIZE = (40, 50, 3)


def clip(frames: int, seed: int = 0) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.random(SIZE, dtype=np.float32) for _ in range(frames)]


def measure(engine: list[np.ndarray], reference: list[np.ndarray]) -> Flicker:
    meter = FlickerMeter()
    for index, (ours, theirs) in enumerate(zip(engine, reference, strict=True)):
        meter.add(ours, theirs, time_s=index / 25)
    return summarise(meter.rows)


def test_by_the_formula() -> None:
    """Against the definition, written out in another way: differences of each side first."""
    reference = clip(5)
    engine = [frame + np.float32(0.01) * noise for frame, noise in zip(reference, clip(5, seed=1), strict=True)]
    found = measure(engine, reference)
    stacked = np.diff(np.stack(engine).astype(np.float64), axis=0) - np.diff(
        np.stack(reference).astype(np.float64), axis=0
    )
    of_pairs = np.sqrt((stacked**2).mean(axis=(1, 2, 3)))
    assert found.rms == pytest.approx(math.sqrt((of_pairs**2).mean()), rel=1e-9)
    assert found.worst == pytest.approx(of_pairs.max(), rel=1e-9)
    assert found.worst_frame == int(of_pairs.argmax()) + 1
    assert found.worst_brightness_step_8bit == pytest.approx(abs(stacked.mean((1, 2, 3))).max() * 255, rel=1e-9)
    change = np.diff(np.stack(reference).astype(np.float64), axis=0)
    assert found.change == pytest.approx(math.sqrt((change**2).mean()), rel=1e-9)
    assert (found.frames, found.nonfinite) == (5, 0)


def test_the_same_picture_has_none() -> None:
    found = measure(clip(3), clip(3))
    assert (found.rms, found.worst, found.renewal) == (0, 0, None)
    assert decibels(found.rms) == math.inf
    assert found.worst_fidelity_db == math.inf


def test_an_error_that_stays_does_not_flicker() -> None:
    error = np.float32(0.02) * np.random.default_rng(1).random(SIZE, dtype=np.float32)
    reference = clip(4)
    found = measure([frame + error for frame in reference], reference)
    assert found.rms < 1e-7  # float32 of sums near 1
    assert found.renewal == pytest.approx(0, abs=1e-5)
    assert 38 < found.worst_fidelity_db < 39.5


def test_an_error_drawn_anew_is_one() -> None:
    """sqrt(2) times its RMS; 24,000 samples of 6,000 pixels: within a per cent and a half."""
    random, reference = np.random.default_rng(2), clip(5)
    engine = [frame + random.normal(0, 0.01, SIZE).astype(np.float32) for frame in reference]
    found = measure(engine, reference)
    assert found.rms == pytest.approx(0.01 * math.sqrt(2), rel=0.015)
    assert found.renewal == pytest.approx(1, rel=0.015)


def test_one_bright_frame_is_the_worst_pair() -> None:
    reference = clip(6)
    engine = [frame.copy() for frame in reference]
    engine[3] += np.float32(0.01)
    found = measure(engine, reference)
    assert found.worst_frame in (3, 4)
    assert found.worst == pytest.approx(0.01, rel=1e-4)
    assert found.worst_brightness_step_8bit == pytest.approx(2.55, rel=1e-4)


def test_what_is_no_number() -> None:
    reference = clip(3)
    engine = [frame.copy() for frame in reference]
    engine[1][0, 0, 0] = np.nan
    found = measure(engine, reference)
    assert (found.nonfinite, found.rms, found.renewal) == (1, math.inf, None)
    assert decibels(found.rms) == found.worst_fidelity_db == -math.inf


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(1e-4, 0.2), st.floats(-1, 1))
def test_fidelity_bounds_flicker(seed: int, size: float, along: float) -> None:
    """At most 20 log10(2) = 6.02 dB worse than the worse of the two frames: what the report says."""
    random = np.random.default_rng(seed)
    first, noise = random.normal(0, size, (2, 8, 9, 3))
    second = along * first + math.sqrt(1 - along**2) * noise
    reference = [random.random((8, 9, 3)).astype(np.float32) for _ in range(2)]
    engine = [(frame + error).astype(np.float32) for frame, error in zip(reference, (first, second), strict=True)]
    found = measure(engine, reference)
    worst = min(fidelity_db(ours, theirs) for ours, theirs in zip(engine, reference, strict=True))
    assert decibels(found.rms) >= worst - 20 * math.log10(2) - 1e-6


def test_refused() -> None:
    with pytest.raises(UsageError, match="two frames or more"):
        measure(clip(1), clip(1))
    meter = FlickerMeter()
    meter.add(*clip(2), time_s=0)
    with pytest.raises(UsageError, match="frames of one clip have one size"):
        meter.add(np.zeros((4, 4, 3), np.float32), np.zeros((4, 4, 3), np.float32), time_s=1)
