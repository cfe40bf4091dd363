"""Timing under a clock of our own: turn by turn, warm-up apart, ratios pair by pair."""

from __future__ import annotations

import numpy as np
import pytest

from edgeir.runtime import timing
from edgeir.runtime.timing import Timing, speedup, time_together


class Clock:
    """Seconds that pass only inside the runners."""

    def __init__(self) -> None:
        self.now = 100.0
        self.calls: list[str] = []

    def runner(self, name: str, *seconds: float) -> object:
        """Takes the given seconds, the last of them from then on."""
        left = list(seconds)

        def run() -> None:
            self.calls.append(name)
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return run


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock.now)
    return clock


def test_runners_take_turns_and_warm_up_does_not_count(clock: Clock) -> None:
    rounds: list[int] = []
    runners = {"a": clock.runner("a", 9.0, 5.0, 1.0, 2.0, 3.0), "b": clock.runner("b", 7.0, 0.5)}
    timings = time_together(runners, rounds=3, warmup=2, on_round=rounds.append)  # type: ignore[arg-type]
    assert clock.calls == ["a", "b"] * 5
    assert timings["a"].samples_ms == pytest.approx([1000, 2000, 3000])
    assert timings["a"].warmup_ms == pytest.approx(9000)
    assert timings["b"].samples_ms == pytest.approx([500] * 3)
    assert timings["b"].warmup_ms == pytest.approx(7000)
    assert rounds == [1, 2, 3]


def test_there_is_always_one_round_of_warm_up(clock: Clock) -> None:
    timings = time_together({"a": clock.runner("a", 4.0, 1.0)}, rounds=1, warmup=0)  # type: ignore[dict-item]
    assert timings["a"].samples_ms == pytest.approx([1000])
    assert timings["a"].warmup_ms == pytest.approx(4000)


def test_percentiles() -> None:
    timing = Timing(np.arange(1.0, 102.0), 0)
    assert [timing.percentile_ms(p) for p in (0, 50, 90, 100)] == [1, 51, 91, 101]


def test_speedup_is_taken_round_by_round() -> None:
    """A machine that is twice as slow in one round slows both: the ratio must not see it."""
    ours, theirs = Timing(np.asarray([1.0, 2.0, 1.0, 1.0]), 0), Timing(np.asarray([3.0, 6.0, 3.0, 4.0]), 0)
    assert speedup(ours, theirs) == (3, 3, 4)
    assert speedup(theirs, ours) == pytest.approx((1 / 3, 1 / 4, 1 / 3))
