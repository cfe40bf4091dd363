"""Latency of several runners measured side by side, so that a shared, noisy machine slows them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeir.compare.intervals import Interval, least_for_median, median_interval

CONCLUSIVE = 0.025
"""Share of a ratio that its interval may reach to each side: two such runs agree within 5 %."""
_WINDOW = 2  # rounds; a slow network takes a second each
_SETTLED = 0.03  # of the latency; a quiet machine varies by one or two hundredths


@dataclass(frozen=True, slots=True)
class Timing:
    """Latencies of one runner: ``samples_ms``, one per round, in the order they were taken."""

    samples_ms: NDArray[np.float64]
    warmup_ms: float

    def percentile_ms(self, percent: float) -> float:
        """The ``percent`` percentile in milliseconds."""
        return float(np.percentile(self.samples_ms, percent))


@dataclass(frozen=True, slots=True)
class WarmUp:
    """What happened before the counted rounds.

    Attributes:
        first_ms: the first call of each runner, by name: memory is laid out, kernels are chosen.
        rounds: how many there were.
        settled: whether every runner's latency had stopped moving; ``None`` where a number of rounds was asked for.
    """

    first_ms: Mapping[str, float]
    rounds: int
    settled: bool | None


def warm_up(runners: Mapping[str, Callable[[], object]], *, rounds: int | None = None, most: int = 12) -> WarmUp:
    """Run in turn until latencies no longer move, at most ``most`` rounds; or ``rounds`` of them, at least one.

    Settled is a runner whose median over the last `_WINDOW` rounds is within `_SETTLED` of the median over the
    `_WINDOW` before. A fixed number is too few for a runtime that compiles on first use, and wasted on others.
    """
    samples: dict[str, list[float]] = {name: [] for name in runners}
    settled: bool | None = None if rounds is not None else False
    done = 0
    while done < (most if rounds is None else max(rounds, 1)) and not settled:
        for name, run in runners.items():
            samples[name].append(_once_ms(run))
        done += 1
        if rounds is None:
            settled = all(_settled(values) for values in samples.values())
    return WarmUp({name: values[0] for name, values in samples.items()}, done, settled)


def _settled(samples: list[float]) -> bool:
    if len(samples) < 2 * _WINDOW:
        return False
    before, last = np.median(samples[-2 * _WINDOW : -_WINDOW]), np.median(samples[-_WINDOW:])
    return bool(abs(last - before) <= _SETTLED * before)


def time_together(
    runners: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    warmup: int = 1,
    on_round: Callable[[int], None] | None = None,
) -> dict[str, Timing]:
    """Time each runner once per round, in turn.

    Args:
        runners: what to time, by name.
        rounds: counted rounds, at least 1.
        warmup: rounds before that are run and not counted; the first call's time is kept as ``warmup_ms``.
        on_round: told the number of each finished round, for progress.
    """
    first: dict[str, float] = {}
    for _ in range(max(warmup, 1)):
        for name, run in runners.items():
            elapsed = _once_ms(run)
            first.setdefault(name, elapsed)
    samples: dict[str, list[float]] = {name: [] for name in runners}
    for index in range(rounds):
        for name, run in runners.items():
            samples[name].append(_once_ms(run))
        if on_round is not None:
            on_round(index + 1)
    return {name: Timing(np.asarray(values), first[name]) for name, values in samples.items()}


@dataclass(frozen=True, slots=True)
class Speedup:
    """How many times as fast as a baseline one runner is: a round's ratio is taken within the round.

    Attributes:
        median: of the rounds' ratios.
        lowest, highest: of the rounds.
        interval: what holds the true median in 95 of 100 runs; ``None`` for fewer rounds than that takes.
    """

    median: float
    lowest: float
    highest: float
    interval: Interval | None

    @property
    def conclusive(self) -> bool:
        """Whether the ratio is known well enough to be found again: its interval is within `CONCLUSIVE` each way."""
        return self.interval is not None and self.interval.relative_reach <= CONCLUSIVE


def speedup(timing: Timing, baseline: Timing) -> Speedup:
    """The ratio of two runners that were timed together, baseline divided by ``timing``, round by round."""
    ratios = baseline.samples_ms / timing.samples_ms
    enough = len(ratios) >= least_for_median()
    return Speedup(
        median=float(np.median(ratios)),
        lowest=float(ratios.min()),
        highest=float(ratios.max()),
        interval=median_interval(ratios) if enough else None,
    )


def _once_ms(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return (time.perf_counter() - started) * 1e3
