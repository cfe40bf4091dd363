"""Planning: which samples decide, and what happens where the graph loses more at full size than its twin said."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgeir.calibrate.planner import Evaluation, Loss, PlannedLayers
from edgeir.calibrate.sensitivity import Effect, MeasuredSet, Sensitivity
from edgeir.cli import planning
from edgeir.cli.console import Console
from edgeir.cli.coverage import planning_tables
from edgeir.errors import CheckFailed

BUDGET = Loss(0.05, 0.5, 0.125)


def planned(*layers: str) -> PlannedLayers:
    evaluation = Evaluation(len(layers), Loss(0.01, 0.1, 0.1), True)
    return PlannedLayers(layers, evaluation, (evaluation,))


@pytest.fixture
def plan(monkeypatch: pytest.MonkeyPatch) -> Any:
    """``plan(full sizes, shrunken sets)``: the outcome where full size gives these losses, one after the other."""

    def run(at_full_size: list[Loss], shrunken: list[PlannedLayers]) -> planning.Planning:
        sensitivity = Sensitivity(("clean",), np.ones(1), {"a": Effect(np.ones(1), np.zeros(1))})
        attribution = planning.Attribution(sensitivity, {"a": 1, "b": 1, "c": 1}, SimpleNamespace())  # type: ignore[arg-type]
        losses: Iterator[Loss] = iter(at_full_size)
        allowed: list[Loss] = []

        def shrink(budget: Loss, *_: Any, **__: Any) -> PlannedLayers:
            allowed.append(budget)
            return shrunken[len(allowed) - 1]

        monkeypatch.setattr(planning, "attribute_drift", lambda task, console: attribution)
        monkeypatch.setattr(planning, "Yardstick", lambda *_: None)
        monkeypatch.setattr(planning, "_evaluation", lambda *_: lambda layers: next(losses))
        monkeypatch.setattr(planning, "plan_within", lambda *_, **__: planned("a", "b", "c"))
        monkeypatch.setattr(planning, "shrink_within", shrink)
        switched = SimpleNamespace(chooses=False)
        task = SimpleNamespace(
            switched=switched, yardstick=None, samples=[], twin=1, switched_at_full_size=None, full_samples=[]
        )
        outcome = planning.plan_eight_bit_layers(task, BUDGET, console=Console(stages=1))  # type: ignore[arg-type]
        assert all(one != BUDGET and one.within(BUDGET) for one in allowed)
        return outcome

    return run


def test_what_fits_is_taken(plan: Any) -> None:
    outcome = plan([Loss(0.01, 0.1, 0.1)], [])
    assert outcome.planned.chosen == ("a", "b", "c")
    assert outcome.full.fits
    corrected = plan([Loss(0.01, 0.1, 0.2), Loss(0.01, 0.1, 0.12)], [planned("a", "b")])
    assert corrected.planned.chosen == ("a", "b")
    assert len(corrected.planned.evaluations) == 2  # of both rounds


@pytest.mark.parametrize("chooses", [False, True])
def test_neighbours_are_told_of_where_some_are_chosen(chooses: bool) -> None:
    sensitivity = Sensitivity(("clean",), np.ones(1), {"a": Effect(np.ones(1), np.zeros(1))})
    attribution = planning.Attribution(sensitivity, {"a": 1}, SimpleNamespace())  # type: ignore[arg-type]
    budget = Loss(0.05, 0.5, 0.125, 0.1 if chooses else 0.0)
    evaluation = Evaluation(1, Loss(0.01, 0.1, 0.1, 0.25 if chooses else 0.0), not chooses)
    found = planning.Planning(attribution, budget, PlannedLayers(("a",), evaluation, (evaluation,)), evaluation, False)
    table = planning_tables(found)[-1]
    row = dict(zip(table.columns, table.rows[0], strict=True))
    assert row.get("neighbours lost %") == (25.0 if chooses else None)
    assert row["fits"] == ("no" if chooses else "yes")
    assert ("10.0 % of neighbours" in (table.note or "")) == chooses


def test_brightness_may_use_what_the_gate_leaves(plan: Any) -> None:
    shifts = [Loss(0.01, 0.1, shift) for shift in (0.145, 0.126, 0.164)]
    outcome = plan(shifts, [planned("a", "b"), planned("a")])
    assert outcome.planned.chosen == ("a", "b")
    assert not outcome.full.fits
    assert outcome.full.loss.shift_8bit == 0.126
    nothing_left = plan(shifts[:1], [planned()])
    assert nothing_left.planned.chosen == ("a", "b", "c")


@pytest.mark.parametrize("loss", [Loss(0.06, 0.1, 0.1), Loss(0.01, 0.6, 0.1), Loss(0.01, 0.1, 0.26)])
def test_beyond_budget_or_gate_is_refused(plan: Any, loss: Loss) -> None:
    with pytest.raises(CheckFailed, match="on small pictures does not at full size"):
        plan([loss] * 3, [planned("a", "b"), planned("a")])


def test_samples_are_those_that_suffer() -> None:
    """The darkest, the costliest, the next darkest...: one of each degradation, as many as are wanted."""
    conditions = ["clean", "clean", "dark", "dark", "rain", "blur", "haze", "jpeg", "noise"]
    shifts = np.array([0.0, 0.1, -9.0, 8.0, 0.2, 0.0, 0.3, 0.0, 0.0])
    costs = np.array([5.0, 6.0, 0.0, 0.0, 1.0, 2.0, 0.0, 0.1, 0.0])
    task = SimpleNamespace(
        candidates=["a"],
        samples=[SimpleNamespace(condition=condition, place=place) for place, condition in enumerate(conditions)],
        yardstick=SimpleNamespace(measure=lambda layers: MeasuredSet(costs, shifts)),
    )
    taken = planning._most_affected(task)  # type: ignore[arg-type]
    assert [one.place for one in taken] == [1, 2, 4, 5, 6, 7]
    assert len(taken) == planning.SENSITIVITY_SAMPLES
