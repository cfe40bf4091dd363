"""Timing under a clock of our own: turn by turn, warm-up apart, ratios pair by pair."""

from __future__ import annotations

import numpy as np
import pytest

from edgeir.runtime import timing
from edgeir.runtime.timing import Timing, speedup, time_together, warm_up


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
    ratio = speedup(ours, theirs)
    assert (ratio.median, ratio.lowest, ratio.highest) == (3, 3, 4)
    assert speedup(theirs, ours).lowest == pytest.approx(1 / 4)


def test_a_ratio_of_few_rounds_concludes_nothing() -> None:
    five = Timing(np.ones(5), 0)
    assert speedup(five, five).interval is None
    assert not speedup(five, five).conclusive


@pytest.mark.parametrize(("spread", "conclusive"), [(0.01, True), (0.2, False)])
def test_a_noisy_ratio_concludes_nothing(spread: float, conclusive: bool) -> None:
    draw = np.random.default_rng(1)
    ours = Timing(np.full(15, 10.0), 0)
    theirs = Timing(20 * (1 + spread * draw.standard_normal(15)), 0)
    ratio = speedup(ours, theirs)
    assert ratio.interval is not None
    assert ratio.interval.low <= 2 <= ratio.interval.high
    assert ratio.conclusive is conclusive


def test_warm_up_ends_when_latencies_have_settled(clock: Clock) -> None:
    runners = {"a": clock.runner("a", 9.0, 3.0, 2.0, 2.0, 2.0, 2.0), "b": clock.runner("b", 1.0)}
    warm = warm_up(runners)  # type: ignore[arg-type]
    assert warm.first_ms == {"a": pytest.approx(9000), "b": pytest.approx(1000)}
    assert (warm.rounds, warm.settled) == (6, True)
    assert clock.calls == ["a", "b"] * 6


def test_warm_up_gives_up_on_what_never_settles(clock: Clock) -> None:
    doubling = clock.runner("a", *(2.0**power for power in range(40)))
    warm = warm_up({"a": doubling}, most=8)  # type: ignore[dict-item]
    assert (warm.rounds, warm.settled) == (8, False)


def test_a_number_of_rounds_is_kept_to_and_not_judged(clock: Clock) -> None:
    warm = warm_up({"a": clock.runner("a", 1.0)}, rounds=9)  # type: ignore[dict-item]
    assert (warm.rounds, warm.settled) == (9, None)
    assert warm_up({"a": clock.runner("a", 1.0)}, rounds=0).rounds == 1  # type: ignore[dict-item]
