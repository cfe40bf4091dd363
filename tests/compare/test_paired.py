"""A planted drift is found, a bundle against itself is no difference, and pictures are the samples."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from edgeir.compare.drift import PictureDrift
from edgeir.compare.paired import CEILING_DB, differences
from edgeir.errors import UsageError
from edgeir.imaging.look import Look

CONDITIONS = ("rain", "haze", "noise-25")


def rows(pictures: int, seed: int = 0) -> list[PictureDrift]:
    draw = np.random.default_rng(seed)
    return [
        PictureDrift(f"p{picture}", condition, 20, 30, float(draw.normal(30, 4)), 60, 0, 0, Look(0, 0, 0, 0), 1, False)
        for condition in CONDITIONS
        for picture in range(pictures)
    ]


def shifted(of: list[PictureDrift], mean_db: float, spread_db: float, seed: int) -> list[PictureDrift]:
    """Each picture loses its own amount under all degradations alike, and a little more or less under each."""
    draw = np.random.default_rng(seed)
    own = {row.picture: draw.normal(mean_db, spread_db) for row in of}
    return [replace(row, engine_db=row.engine_db - own[row.picture] - draw.normal(0, spread_db / 4)) for row in of]


def test_a_bundle_against_itself() -> None:
    found = differences(rows(11), rows(11))
    assert [row.condition for row in found] == ["all", *CONDITIONS]
    assert all(row.interval.low == row.interval.high == 0 and not row.real for row in found)


def test_a_planted_drift_of_a_tenth_of_a_decibel_is_found() -> None:
    """Pictures differ by 8 dB, the loss by 0.05: pairs make it visible, means of 30 dB would not."""
    first = rows(11)
    everything, *each = differences(first, shifted(first, 0.1, 0.05, seed=1))
    assert everything.real
    assert everything.interval.low <= 0.1 <= everything.interval.high
    assert all(row.real and row.interval.estimate > 0 for row in each)


def test_noise_alone_is_found_as_rarely_as_stated() -> None:
    """Samples are pictures, not rows: rows of one picture go together, and counted apart would find too much."""
    first = rows(11)
    runs = 300
    found = sum(differences(first, shifted(first, 0.0, 0.05, seed))[0].real for seed in range(runs))
    assert found / runs <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / runs)
    assert found  # an interval of everything would never find any


def test_perfect_and_broken_outputs_count_as_what_a_display_shows() -> None:
    first = [replace(row, engine_db=math.inf) for row in rows(5)]
    assert differences(first, first)[0].interval.estimate == 0
    broken = [replace(row, engine_db=-math.inf) for row in first]
    assert differences(first, broken)[0].interval.estimate == CEILING_DB


def test_refused() -> None:
    with pytest.raises(UsageError, match=r"not measured on the same pictures \(got p4 under haze in one only"):
        differences(rows(5), rows(4))
    with pytest.raises(UsageError, match=r"too few pictures .*expected 5 or more, got 4"):
        differences(rows(4), rows(4))
