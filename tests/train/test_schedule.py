"""The learning rate of each step: warm-up, hold, cosine, milestones."""

from __future__ import annotations

import itertools
import math

import pytest

from edgeir.train.recipe import Optimiser
from edgeir.train.schedule import learning_rate


def rates(steps: int = 100, **settings) -> list[float]:  # type: ignore[no-untyped-def]
    optimiser = Optimiser(learning_rate=1e-3, **settings)
    return [learning_rate(optimiser, step, steps) for step in range(steps)]


@pytest.mark.parametrize("schedule", ["cosine", "multistep", "constant"])
@pytest.mark.parametrize("warmup", [0, 1, 7])
def test_no_step_runs_at_zero_or_above_the_highest(schedule: str, warmup: int) -> None:
    got = rates(schedule=schedule, warmup_steps=warmup, milestones=(20, 60))
    assert all(0 < rate <= 1e-3 for rate in got)


@pytest.mark.parametrize("schedule", ["cosine", "multistep", "constant"])
def test_the_warm_up_is_linear_and_ends_at_the_highest(schedule: str) -> None:
    got = rates(schedule=schedule, warmup_steps=5, hold_steps=1)
    assert got[:6] == pytest.approx([2e-4, 4e-4, 6e-4, 8e-4, 1e-3, 1e-3])


def test_constant() -> None:
    assert rates(schedule="constant") == [1e-3] * 100


def test_the_cosine_ends_at_the_final_rate_and_never_rises() -> None:
    got = rates(warmup_steps=10, hold_steps=20, final_rate=1e-5)
    assert got[9:30] == [1e-3] * 21
    assert got[30] < 1e-3
    assert got[-1] == pytest.approx(1e-5, rel=1e-12)
    assert all(later < earlier for earlier, later in itertools.pairwise(got[29:]))


def test_the_cosine_by_hand() -> None:
    got = rates(steps=4, final_rate=2e-4)
    shares = [0.25, 0.5, 0.75, 1]
    assert got == pytest.approx([2e-4 + 8e-4 * (1 + math.cos(math.pi * share)) / 2 for share in shares])
    assert got[1] == pytest.approx(6e-4)  # halfway


def test_a_final_rate_of_zero_is_reached_in_the_last_step_only() -> None:
    got = rates(final_rate=0)
    assert got[-1] == pytest.approx(0, abs=1e-18)
    assert min(got[:-1]) > 1e-8


def test_one_step() -> None:
    assert rates(steps=1, final_rate=1e-6) == pytest.approx([1e-6])


def test_milestones() -> None:
    got = rates(schedule="multistep", milestones=(20, 60), gamma=0.1, warmup_steps=2)
    assert got[1:20] == [1e-3] * 19
    assert got[20:60] == pytest.approx([1e-4] * 40)
    assert got[60:] == pytest.approx([1e-5] * 40)


def test_milestones_halve_unless_told_otherwise() -> None:
    assert rates(schedule="multistep", milestones=(1,))[:2] == [1e-3, 5e-4]
