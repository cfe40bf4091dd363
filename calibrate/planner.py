"""From a budget in dB to the layers that go into eight bits: most of the work, for no more than the user allows.

Work is counted in multiply-accumulates, which tensor cores do twice as fast in eight bits as in FP16: as long as no
engine of the target has been timed, that is the model of time. Layers are taken in the order of what a unit of work
costs in dB (`edgeir.calibrate.sensitivity`); how many of them fit is found by measuring sets of them, together, on the
pictures of the calibration. What judges the result are other pictures.

Everything measured is kept in a `PlanningState`: a planner that was stopped goes on with it and comes to the same plan.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeir.calibrate.sensitivity import Effect, MeasuredSet, Sensitivity
from edgeir.compare.gates import GATES
from edgeir.errors import GraphError
from edgeir.precision import Precision
from edgeir.storage import atomic_write_bytes

STATE_VERSION = 2
MOST_EVALUATIONS = 20
MOST_TO_SHRINK = 6


@dataclass(frozen=True, slots=True)
class Loss:
    """What eight bits cost, or what they may cost.

    Attributes:
        mean_db: loss of PSNR over all samples.
        worst_db: mean loss under the worst degradation.
        shift_8bit: largest shift of a picture's mean brightness, of 255.
        lost_neighbours: largest share of the neighbours of a key graph that are not chosen any more, 0 to 1; 0 where
            the network chooses none, and 1 in a budget that does not care.
    """

    mean_db: float
    worst_db: float
    shift_8bit: float
    lost_neighbours: float = 0.0

    def within(self, budget: Loss) -> bool:
        """Whether nothing is more than ``budget`` has."""
        return all(found <= allowed for found, allowed in zip(astuple(self), astuple(budget), strict=True))

    def excess(self, budget: Loss) -> float:
        """The largest ratio to ``budget``: above 1 it is not within it."""
        parts = zip(astuple(self), astuple(budget), strict=True)
        return max((found / allowed if allowed > 0 else math.inf for found, allowed in parts if found > 0), default=0.0)

    def times(self, factor: float) -> Loss:
        """So many times as much of everything."""
        return Loss(*(factor * part for part in astuple(self)))

    def tightened(self, budget: Loss, measured: Loss) -> Loss:
        """Less of what ``measured`` has more of than ``budget`` allows, in proportion, and a tenth less again."""
        parts = zip(astuple(self), astuple(budget), astuple(measured), strict=True)
        return Loss(*(own if found <= allowed else 0.9 * own * allowed / found for own, allowed, found in parts))

    def __str__(self) -> str:
        text = (
            f"{self.mean_db:.4f} dB, {self.worst_db:.4f} dB under the worst degradation, "
            f"brightness {self.shift_8bit:.3f} of 255"
        )
        return f"{text}, {100 * self.lost_neighbours:.1f} % of neighbours" if self.lost_neighbours > 0 else text


def gate_limits() -> Loss:
    """What the gates of eight bits let pass; of the mean, without a warning."""
    gates = GATES[Precision.INT8]
    assert gates.mean_drift_warn_db and gates.worst_degradation_db and gates.brightness_shift_8bit
    return Loss(
        gates.mean_drift_warn_db,
        gates.worst_degradation_db,
        gates.brightness_shift_8bit,
        1 - gates.key_graph_overlap,
    )


Evaluate = Callable[[tuple[str, ...]], Loss]
"""Layers in eight bits, in the order of the graph, to what they cost together."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A set of layers, measured together.

    Attributes:
        layers: how many.
        loss: what they cost.
        fits: it is within the budget.
    """

    layers: int
    loss: Loss
    fits: bool


@dataclass(frozen=True, slots=True)
class PlannedLayers:
    """What the planner decided.

    Attributes:
        chosen: layers in eight bits, in the order of the graph; none where nothing fits.
        final: the chosen ones, as they were measured.
        evaluations: every set that was measured, in order.
    """

    chosen: tuple[str, ...]
    final: Evaluation
    evaluations: tuple[Evaluation, ...]


class PlanningState:
    """What was measured so far, in a file that a stopped planner finds again.

    Args:
        path: of the file; ``None`` keeps nothing.
        key: of all that the measurements depend on; a file with another key is not used.

    Raises:
        GraphError: the file is there and cannot be read as a state.
    """

    def __init__(self, path: Path | None, key: str) -> None:
        self._path = path
        self._key = key
        self.effects: dict[str, Effect] = {}
        self.losses: dict[tuple[str, ...], Loss] = {}
        if path is not None and path.is_file():
            self._read(path)

    def _read(self, path: Path) -> None:
        try:
            found: Any = json.loads(path.read_text(encoding="utf-8"))
            if found["state_version"] != STATE_VERSION or found["key"] != self._key:
                return
            self.effects = {
                str(name): Effect(np.asarray(entry["errors"], np.float64), np.asarray(entry["shifts"], np.float64))
                for name, entry in found["effects"].items()
            }
            self.losses = {tuple(entry["layers"]): Loss(**entry["loss"]) for entry in found["losses"]}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise GraphError(
                "the saved state of the planner cannot be read",
                where=str(path),
                got=str(error),
                fix="Remove the file: everything is measured again.",
            ) from error

    def keep_effect(self, layer: str, effect: Effect) -> None:
        """One layer was measured alone."""
        self.effects[layer] = effect
        self._write()

    def keep_loss(self, layers: tuple[str, ...], loss: Loss) -> None:
        """A set was measured together."""
        self.losses[layers] = loss
        self._write()

    def _write(self) -> None:
        if self._path is None:
            return
        document = {
            "state_version": STATE_VERSION,
            "key": self._key,
            "effects": {
                name: {"errors": effect.errors.tolist(), "shifts": effect.shifts.tolist()}
                for name, effect in self.effects.items()
            },
            "losses": [{"layers": list(layers), "loss": asdict(loss)} for layers, loss in self.losses.items()],
        }
        atomic_write_bytes(self._path, json.dumps(document).encode())

    def remove(self) -> None:
        """The plan is made: nothing is left to go on with."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)


def plan_within(
    budget: Loss,
    sensitivity: Sensitivity,
    macs: Mapping[str, int],
    evaluate: Evaluate,
    state: PlanningState,
    *,
    most: int = MOST_EVALUATIONS,
    on_evaluation: Callable[[Evaluation], None] = lambda evaluation: None,
) -> PlannedLayers:
    """Choose layers.

    Args:
        budget: what they may cost together.
        sensitivity: of every candidate; their order is that of the graph.
        macs: multiply-accumulates of each, at least 0.
        evaluate: measures a set; on more samples than ``sensitivity`` was, if that is too slow on all.
        state: what is known already, and where new measurements are kept.
        most: sets to measure at most, those known already included.
        on_evaluation: called with every set, for progress.
    """
    search = _Search(budget, sensitivity, evaluate, state, most, on_evaluation)
    candidates = list(sensitivity.effects)
    order, low = _cheapest_that_fit(search, candidates, macs)
    chosen = order[:low]
    for name in sorted(order[low:], key=lambda name: (-macs[name], candidates.index(name))):
        if not search.left:
            break
        if search.predicted_to_fit([*chosen, name]) and search.measured([*chosen, name]).fits:
            chosen.append(name)
    return search.planned(chosen)


def shrink_within(
    budget: Loss,
    chosen: Sequence[str],
    sensitivity: Sensitivity,
    macs: Mapping[str, int],
    evaluate: Evaluate,
    state: PlanningState,
    *,
    on_evaluation: Callable[[Evaluation], None] = lambda evaluation: None,
) -> PlannedLayers:
    """Take the dearest layers out of a set until it fits another budget; arguments as of `plan_within`."""
    search = _Search(budget, sensitivity, evaluate, state, MOST_TO_SHRINK, on_evaluation)
    order, low = _cheapest_that_fit(search, chosen, macs)
    return search.planned(order[:low])


def _cheapest_that_fit(search: _Search, layers: Sequence[str], macs: Mapping[str, int]) -> tuple[list[str], int]:
    """The layers, those that take least of the budget for their work first, and how many of them fit, by bisection."""
    order = sorted(layers, key=lambda name: (search.price(name) / max(macs[name], 1), layers.index(name)))
    low, high = 0, len(order) + 1  # order[:low] fits, order[:high] does not
    guess = search.expected_to_fit(order)
    while high - low > 1 and search.left:
        middle = min(max(guess, low + 1), high - 1)
        if search.measured(order[:middle]).fits:
            low = middle
            guess = (high + low) // 2 if high <= len(order) else len(order)
        else:
            high = middle
            guess = (high + low) // 2
    return order, low


class _Search:
    """Measures sets once, and corrects predictions by what was measured last."""

    def __init__(
        self,
        budget: Loss,
        sensitivity: Sensitivity,
        evaluate: Evaluate,
        state: PlanningState,
        most: int,
        on_evaluation: Callable[[Evaluation], None],
    ) -> None:
        self._budget = budget
        self._sensitivity = sensitivity
        self._evaluate = evaluate
        self._state = state
        self._most = most
        self._on_evaluation = on_evaluation
        self._excess = 1.0
        self.history: dict[tuple[str, ...], Evaluation] = {}

    @property
    def left(self) -> bool:
        """Whether another set may be measured."""
        return len(self.history) < self._most

    def measured(self, layers: Sequence[str]) -> Evaluation:
        """The set together."""
        wanted = set(layers)
        key = tuple(name for name in self._sensitivity.effects if name in wanted)
        if key not in self.history:
            if key not in self._state.losses:
                self._state.keep_loss(key, self._evaluate(key))
            loss = self._state.losses[key]
            self.history[key] = Evaluation(len(key), loss, loss.within(self._budget))
            expected = float(self._sensitivity.costs_db(key).mean())
            self._excess = loss.mean_db / expected if expected > 0 else 1.0
            self._on_evaluation(self.history[key])
        return self.history[key]

    def planned(self, chosen: Sequence[str]) -> PlannedLayers:
        """``chosen`` is what fits."""
        final = self.measured(chosen) if chosen else Evaluation(0, Loss(0.0, 0.0, 0.0), True)
        kept = set(chosen)
        in_order = tuple(name for name in self._sensitivity.effects if name in kept)
        return PlannedLayers(in_order, final, tuple(self.history.values()))

    def price(self, layer: str) -> float:
        """The largest share of the budget that a layer takes alone."""
        shift = self._sensitivity.shift_8bit([layer]) / self._budget.shift_8bit
        return max(self._sensitivity.cost_db(layer) / self._budget.mean_db, shift)

    def expected_to_fit(self, order: Sequence[str]) -> int:
        """How many of ``order`` fit by the sum of their costs."""
        count = 0
        while count < len(order) and self.predicted_to_fit(order[: count + 1]):
            count += 1
        return count

    def predicted_to_fit(self, layers: Sequence[str]) -> bool:
        """By the sum of their costs, corrected by what the last set cost against its own sum."""
        costs = self._excess * self._sensitivity.costs_db(layers)
        shifts = np.asarray([self._sensitivity.shift_8bit(layers)])
        return loss_of(MeasuredSet(costs, shifts), self._sensitivity.conditions).within(self._budget)


def loss_of(measured: MeasuredSet, conditions: Sequence[str]) -> Loss:
    """Mean over all samples, the largest mean under one condition, the largest shift, most neighbours lost.

    A sample that came out better by luck counts as one that lost nothing: on a handful of pictures it would pay for
    losses elsewhere, and on other pictures it would not be there.
    """
    lost = np.maximum(measured.drift_db, 0.0)
    names = np.asarray(conditions)
    worst = max(float(lost[names == name].mean()) for name in dict.fromkeys(conditions))
    neighbours = float(measured.lost_neighbours.max(initial=0.0))
    return Loss(float(lost.mean()), worst, float(np.abs(measured.shifts).max()), neighbours)
