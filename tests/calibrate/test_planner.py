"""The planner on made-up costs: within the budget, close to the best, resumed to the same plan, bounded."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeir.calibrate.planner import (
    MOST_TO_SHRINK,
    STATE_VERSION,
    Evaluation,
    Loss,
    PlannedLayers,
    PlanningState,
    loss_of,
    plan_within,
    shrink_within,
)
from edgeir.calibrate.sensitivity import Effect, MeasuredSet, Sensitivity
from edgeir.errors import GraphError

CONDITIONS = ("clean", "noise")


class World:
    """Layers with known costs; measured together they cost ``factor`` times the sum."""

    def __init__(
        self,
        costs: dict[str, float],
        macs: dict[str, int],
        factor: float = 1.0,
        shifts: dict[str, float] | None = None,
        lost: dict[str, float] | None = None,
    ) -> None:
        self.lost = lost or {}
        self.macs = macs
        self.factor = factor
        self.measured: list[tuple[str, ...]] = []
        own = np.array([1e-4, 1e-3])
        effects = {
            name: Effect(own * (10 ** (cost / 10) - 1), np.full(2, (shifts or {}).get(name, 0.0)))
            for name, cost in costs.items()
        }
        self.sensitivity = Sensitivity(CONDITIONS, own, effects)

    def evaluate(self, layers: tuple[str, ...]) -> Loss:
        self.measured.append(layers)
        shifts = np.array([self.sensitivity.shift_8bit(layers)])
        neighbours = np.array([sum(self.lost.get(name, 0.0) for name in layers)])
        return loss_of(MeasuredSet(self.factor * self.sensitivity.costs_db(layers), shifts, neighbours), CONDITIONS)

    def plan(
        self, budget: float, worst: float = 10.0, state: PlanningState | None = None, most: int = 24
    ) -> PlannedLayers:
        state = state or PlanningState(None, "")
        return plan_within(Loss(budget, worst, 0.25, 0.1), self.sensitivity, self.macs, self.evaluate, state, most=most)


SMALL = st.dictionaries(
    st.sampled_from("abcdefgh"), st.tuples(st.floats(1e-4, 0.2), st.integers(1, 100)), min_size=1, max_size=7
)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(SMALL, st.floats(1e-3, 0.5), st.floats(0.5, 2.0))
def test_within_the_budget_and_not_far_from_the_best(
    layers: dict[str, tuple[float, int]], budget: float, factor: float
) -> None:
    world = World({name: cost for name, (cost, _) in layers.items()}, {n: m for n, (_, m) in layers.items()}, factor)
    planned = world.plan(budget)
    assert planned.final.fits
    assert planned.final.loss.mean_db <= budget
    assert planned.final.layers == len(planned.chosen)
    sets = [s for count in range(len(layers) + 1) for s in itertools.combinations(sorted(layers), count)]
    fitting = [s for s in sets if not s or world.evaluate(s).mean_db <= budget]
    best = max(sum(world.macs[name] for name in s) for s in fitting)
    got = sum(world.macs[name] for name in planned.chosen)
    # What a greedy choice by cost per work guarantees: the best less one layer.
    assert got >= best - max(world.macs.values())


def test_everything_where_everything_fits() -> None:
    world = World(dict.fromkeys("abc", 0.001), dict.fromkeys("abc", 5))
    planned = world.plan(0.1)
    assert planned.chosen == ("a", "b", "c")
    assert len(planned.evaluations) == 1


def test_nothing_where_nothing_fits() -> None:
    world = World(dict.fromkeys("abc", 0.3), dict.fromkeys("abc", 5))
    planned = world.plan(0.1)
    assert (planned.chosen, planned.final) == ((), Evaluation(0, Loss(0.0, 0.0, 0.0), True))


def test_the_worst_degradation_counts() -> None:
    own = np.array([1e-4, 1e-3])
    world = World({}, {"a": 1, "b": 1})
    effects = {"a": Effect(own * [0.2, 0.0], np.zeros(2)), "b": Effect(own * [0.01, 0.01], np.zeros(2))}
    world.sensitivity = Sensitivity(CONDITIONS, own, effects)
    assert world.plan(1.0, worst=0.5).chosen == ("b",)
    assert world.plan(1.0, worst=1.0).chosen == ("a", "b")


def test_a_gain_pays_for_nothing() -> None:
    measured = MeasuredSet(np.array([0.3, -0.5, 0.1, -0.1]), np.array([0.1, -0.2]))
    loss = loss_of(measured, ["a", "a", "b", "b"])
    assert (loss.mean_db, loss.worst_db, loss.shift_8bit) == pytest.approx((0.1, 0.15, 0.2))


def test_brightness_counts() -> None:
    """One cheap layer makes pictures darker by more than is allowed; it is left, and the others are taken."""
    costs, macs = dict.fromkeys("abcd", 0.001), dict.fromkeys("abcd", 5)
    planned = World(costs, macs, shifts={"c": -0.4, "b": 0.1}).plan(0.1)
    assert planned.chosen == ("a", "b", "d")
    assert planned.final.loss.shift_8bit == pytest.approx(0.1)
    balanced = World(costs, macs, shifts={"c": -0.4, "b": 0.2}).plan(0.1)
    assert balanced.chosen == ("a", "b", "c", "d")  # together they stay within it


def test_neighbours_count() -> None:
    """No layer alone is known to cost neighbours; sets that cost too many do not fit, and the dearest layers leave."""
    costs = {"a": 0.001, "b": 0.002, "c": 0.003, "d": 0.004}
    world = World(costs, dict.fromkeys("abcd", 5), lost=dict.fromkeys("abcd", 0.04))
    planned = world.plan(0.1)
    assert planned.chosen == ("a", "b")
    assert planned.final.loss.lost_neighbours == pytest.approx(0.08)
    assert str(planned.final.loss).endswith(", 8.0 % of neighbours")


def test_losses() -> None:
    loss, budget = Loss(0.04, 0.3, 0.1), Loss(0.05, 0.5, 0.25)
    assert loss.within(budget)
    assert not Loss(0.04, 0.6, 0.1).within(budget)
    assert loss.excess(budget) == pytest.approx(0.8)
    assert Loss(0.0, 0.0, 0.0).excess(budget) == 0
    assert Loss(0.0, 0.0, 0.0, 0.1).excess(budget) == np.inf
    assert Loss(0.04, 0.6, 0.1).excess(budget) == pytest.approx(1.2)
    assert budget.times(0.5) == Loss(0.025, 0.25, 0.125)
    allowed = budget.tightened(budget, Loss(0.06, 0.5, 0.1))
    assert (allowed.mean_db, allowed.worst_db, allowed.shift_8bit) == pytest.approx((0.9 * 0.05 / 1.2, 0.5, 0.25))


def test_shrinking_takes_the_dearest_out() -> None:
    rng = np.random.default_rng(4)
    names = [f"layer{number:03d}" for number in range(80)]
    costs = {name: float(rng.exponential(0.01)) for name in names}
    world = World(costs, {name: int(rng.integers(1, 99)) for name in names}, 1.3)
    state = PlanningState(None, "")
    before = world.plan(0.3, state=state)
    world.measured.clear()
    budget = Loss(0.15, 10.0, 0.25)
    after = shrink_within(budget, before.chosen, world.sensitivity, world.macs, world.evaluate, state)
    assert set(after.chosen) < set(before.chosen)
    assert after.final.fits
    assert len(world.measured) <= MOST_TO_SHRINK + 1
    assert after.final.loss.mean_db > 0.12  # no more than needed
    dearest = max(world.sensitivity.cost_db(name) / world.macs[name] for name in after.chosen)
    assert all(world.sensitivity.cost_db(n) / world.macs[n] >= dearest for n in set(before.chosen) - set(after.chosen))
    none = shrink_within(Loss(1e-9, 1.0, 0.25), before.chosen, world.sensitivity, world.macs, world.evaluate, state)
    assert none.chosen == ()


def test_most_evaluations_are_a_bound() -> None:
    rng = np.random.default_rng(0)
    names = [f"layer{number:03d}" for number in range(150)]
    world = World(
        {name: float(rng.exponential(0.01)) for name in names}, {name: int(rng.integers(1, 99)) for name in names}, 1.7
    )
    for most in (2, 8, 24):
        world.measured.clear()
        planned = world.plan(0.3, most=most)
        assert len(world.measured) <= most + 1  # the chosen set itself, where it was not the last one measured
        assert planned.final.fits


def test_a_stopped_planner_comes_to_the_same_plan(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    names = [f"layer{number:02d}" for number in range(40)]
    costs = {name: float(rng.exponential(0.01)) for name in names}
    macs = {name: int(rng.integers(1, 99)) for name in names}
    whole = World(costs, macs, 1.3).plan(0.1)
    path = tmp_path / "x.planning.json"
    for patience in range(1, 30):
        world = World(costs, macs, 1.3)
        state = PlanningState(path, "key")

        def stops(layers: tuple[str, ...], world: World = world, patience: int = patience) -> Loss:
            if len(world.measured) == 1:
                raise KeyboardInterrupt
            return World.evaluate(world, layers)

        world.evaluate = stops  # type: ignore[method-assign]
        try:
            planned = world.plan(0.1, state=state)
        except KeyboardInterrupt:
            continue
        break
    assert planned == whole
    assert patience == len(whole.evaluations)
    state.remove()
    state.remove()
    assert not path.exists()


def test_a_state_of_something_else_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    state = PlanningState(path, "one")
    state.keep_effect("a", Effect(np.array([1.0, 2.0]), np.array([3.0, 4.0])))
    state.keep_loss(("a",), Loss(0.1, 0.2, 0.3))
    again = PlanningState(path, "one")
    assert (again.effects["a"].errors.tolist(), again.effects["a"].shifts.tolist()) == ([1.0, 2.0], [3.0, 4.0])
    assert again.losses == {("a",): Loss(0.1, 0.2, 0.3)}
    other = PlanningState(path, "two")
    assert (other.effects, other.losses) == ({}, {})
    for text in ("{", "[]", json.dumps({"state_version": STATE_VERSION, "key": "one"})):
        path.write_text(text)
        with pytest.raises(GraphError, match=r"state of the planner cannot be read.*Remove the file"):
            PlanningState(path, "one")
