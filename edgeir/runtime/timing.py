"""Latency of several runners measured side by side, so that a shared, noisy machine slows them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Timing:
    """Latencies of one runner: ``samples_ms``, one per round, in the order they were taken."""

    samples_ms: NDArray[np.float64]
    warmup_ms: float

    def percentile_ms(self, percent: float) -> float:
        """The ``percent`` percentile in milliseconds."""
        return float(np.percentile(self.samples_ms, percent))


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


def speedup(timing: Timing, baseline: Timing) -> tuple[float, float, float]:
    """How many times as fast as ``baseline``: median, smallest and largest ratio over the rounds, pair by pair."""
    ratios = baseline.samples_ms / timing.samples_ms
    return float(np.median(ratios)), float(ratios.min()), float(ratios.max())


def _once_ms(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return (time.perf_counter() - started) * 1e3
