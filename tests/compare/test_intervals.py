"""Intervals hold the truth as often as they say; a difference of nothing is none, and a planted one is found."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeir.compare.intervals import Interval, least_for_median, mean_interval, median_interval
from edgeir.errors import UsageError

TRIALS = 1200
# Three standard errors of a share of 0.95 among TRIALS: a right interval misses this bound once in 700 seeds.
SLACK = 3 * math.sqrt(0.95 * 0.05 / TRIALS)


def share_held(intervals: list[Interval], truth: float) -> float:
    return float(np.mean([interval.low <= truth <= interval.high for interval in intervals]))


@pytest.mark.parametrize("count", [6, 9, 15, 40])
def test_the_interval_of_a_median_holds_at_its_stated_rate(count: int) -> None:
    """Latencies have a long tail: the samples are log-normal, their median is 1."""
    draw = np.random.default_rng(count)
    intervals = [median_interval(draw.lognormal(0, 0.4, count)) for _ in range(TRIALS)]
    assert share_held(intervals, 1.0) >= 0.95 - SLACK


def test_many_samples() -> None:
    interval = median_interval(np.random.default_rng(0).normal(5, 1, 2001))
    assert interval.low < 5 < interval.high
    assert interval.high - interval.low < 0.15


def test_the_interval_of_a_median_is_no_wider_than_it_must_be() -> None:
    """With 15 samples ranks 4 and 12 hold it with 0.965, ranks 5 and 11 with 0.882 only."""
    interval = median_interval(np.arange(1.0, 16.0))
    assert (interval.low, interval.estimate, interval.high) == (4, 8, 12)


@pytest.mark.parametrize(("count", "level"), [(5, 0.95), (6, 0.95), (11, 0.95), (24, 0.95), (11, 1 - 0.05 / 11)])
def test_the_interval_of_a_mean_holds_at_its_stated_rate(count: int, level: float) -> None:
    """Of normal samples; the second level is that of single degradations, eleven of which hold together."""
    draw = np.random.default_rng(count)
    intervals = [
        mean_interval(draw.normal(0.1, 0.3, count), level, resamples=800, seed=trial) for trial in range(TRIALS)
    ]
    held = share_held(intervals, 0.1)
    slack = 3 * math.sqrt(level * (1 - level) / TRIALS)
    assert held >= level - slack - 0.015  # 800 resamples instead of 4000: quantiles are rougher
    if count >= 11 and level == 0.95:
        assert held <= 0.98  # an interval of everything would hold always


def test_the_percentile_bootstrap_would_not_hold() -> None:
    """Why there is a studentised one: the plain one misses its rate by far more than chance."""
    draw = np.random.default_rng(3)
    held = 0
    for _ in range(TRIALS):
        values = draw.normal(0, 1, 11)
        means = values[draw.integers(11, size=(800, 11))].mean(axis=1)
        low, high = np.quantile(means, [0.025, 0.975])
        held += bool(low <= 0 <= high)
    assert held / TRIALS < 0.95 - SLACK


def test_a_planted_difference_is_found_and_none_is_not() -> None:
    draw = np.random.default_rng(5)
    noise = draw.normal(0, 0.05, 11)
    assert not mean_interval(noise + 0.1).holds_zero
    assert mean_interval(np.zeros(11)) == Interval(0, 0, 0)
    assert mean_interval(np.zeros(11)).holds_zero


@given(st.lists(st.floats(-1e3, 1e3), min_size=6, max_size=30), st.floats(-100, 100), st.floats(0.01, 100))
def test_intervals_move_and_stretch_with_the_samples(values: list[float], shift: float, factor: float) -> None:
    """Of ``factor * x + shift``; both are equivariant, up to rounding."""
    for interval_of in (median_interval, mean_interval):
        before, after = interval_of(values), interval_of(np.asarray(values) * factor + shift)
        assert before.low <= before.high
        expected = [factor * before.low + shift, factor * before.high + shift]
        assert [after.low, after.high] == pytest.approx(expected, abs=1e-5, rel=1e-5)


def test_relative_reach() -> None:
    assert Interval(2.0, 1.9, 2.1).relative_reach == pytest.approx(0.05)
    assert Interval(1.0, 0.96, 1.009).relative_reach == pytest.approx(0.04), "the longer side counts"
    assert Interval(0.0, -1, 1).relative_reach == math.inf


def test_too_few_samples_are_refused() -> None:
    assert least_for_median() == 6
    with pytest.raises(UsageError, match=r"interval of the median \(expected 6 or more, got 5"):
        median_interval([1.0] * 5)
    with pytest.raises(UsageError, match=r"interval of the mean \(expected 5 or more, got 4"):
        mean_interval([1.0] * 4)


def test_samples_that_are_not_finite_are_refused() -> None:
    for interval_of in (median_interval, mean_interval):
        with pytest.raises(UsageError, match=r"needs finite samples \(got inf"):
            interval_of([1.0] * 8 + [math.inf])
