"""Planning under a budget as a stage of export: a small twin of the graph, what each layer costs there, what fits.

The twin is traced at `TWIN_PX`: layers and weights are the same, ranges are those of the full size, and a question
costs a fraction. What is decided on it is measured again at full size, on the same pictures; where a layer costs more
there, the budget of the twin shrinks accordingly, and the search goes on with what it knows.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx_ir as ir

from edgeir.calibrate.layers import graph_layers
from edgeir.calibrate.planner import (
    Evaluate,
    Evaluation,
    Loss,
    PlannedLayers,
    PlanningState,
    gate_limits,
    loss_of,
    plan_within,
    shrink_within,
)
from edgeir.calibrate.qdq import LowPrecision, input_tensors
from edgeir.calibrate.sensitivity import (
    Effect,
    Sensitivity,
    Yardstick,
    measure_sensitivity,
)
from edgeir.calibrate.switched import SwitchedGraph
from edgeir.cli.calibrating import Calibration
from edgeir.cli.console import Console
from edgeir.compare.drift import Sample
from edgeir.errors import CheckFailed, UsageError
from edgeir.export.rewrites.cost import macs_of
from edgeir.imaging.layout import middle_of
from edgeir.runtime.restore import GraphInput
from edgeir.spec import ModelSpec

TWIN_PX = 96
SENSITIVITY_SAMPLES = 6
MOST_CORRECTIONS = 2
MOST_AT_ONCE = 8  # of the twin's pictures: each takes a few hundred MB
SHARE_OF_GATES = 1 / 3
"""The worst degradation of a plan lost three times as much on the measuring pictures as on those that chose it."""


@dataclass(frozen=True, slots=True)
class Attribution:
    """What each layer that may be in eight bits costs alone.

    Attributes:
        sensitivity: of every candidate, in the order of the graph.
        macs: multiply-accumulates of each, at full size.
        state: the file of what was measured, to be removed once it is used.
    """

    sensitivity: Sensitivity
    macs: Mapping[str, int]
    state: PlanningState

    def costs_db(self) -> dict[str, float]:
        """By layer, alone."""
        return {name: self.sensitivity.cost_db(name) for name in self.sensitivity.effects}


@dataclass(frozen=True, slots=True)
class Planning:
    """What was decided, and why.

    Attributes:
        attribution: of every candidate.
        budget: what was asked for.
        planned: the layers, by the twin.
        full: the chosen layers at full size, on the calibration's pictures.
        on_twin: the sets were measured on a smaller twin.
    """

    attribution: Attribution
    budget: Loss
    planned: PlannedLayers
    full: Evaluation
    on_twin: bool

    def left(self) -> dict[str, str]:
        """The layers that were not chosen, with the reason."""
        chosen = set(self.planned.chosen)
        return {
            name: "too much drift for its work under the budget" for name in self.attribution.macs if name not in chosen
        }


def twin_size(graph: GraphInput) -> tuple[int, int]:
    """Height and width of the twin, pixels: never larger than the graph itself."""
    height, width = (graph.rule.near(min(side, TWIN_PX)) for side in graph.optimum)
    return height, width


def usual_budget() -> Loss:
    """What ``--int8`` and ``--fp8`` plan for where no budget is given: a share of what their gates let pass."""
    limits = gate_limits()
    return replace(limits.times(SHARE_OF_GATES), lost_neighbours=limits.lost_neighbours)


def require_truth(spec: ModelSpec, *, plans: bool) -> None:
    """Refuse a budget that would mean nothing.

    Args:
        spec: of the network.
        plans: the budget decides which layers go into eight bits; otherwise it is a limit and nothing else.

    Raises:
        UsageError: the network is untrained, or layers would be planned on pictures that have no truth.
    """
    if not spec.trained:
        raise UsageError(
            f"a drift budget for {spec.name}, which is untrained, would mean nothing",
            where="--drift-budget",
            fix="Name a checkpoint that was trained.",
        )
    if plans and spec.scale > 1:
        raise UsageError(
            "no layers are planned for a network that enlarges: its calibration has no truth to compare with",
            where="--drift-budget",
            fix="Export with --int8 alone, or name the layers with --plan.",
        )


@dataclass(frozen=True)  # no slots: what is derived is kept
class PlanningTask:
    """What is planned, and on what.

    Attributes:
        model: FP32, rewritten, at full size.
        twin: the same network, rewritten in the same way, at `twin_size`; ``None`` measures on ``model`` itself.
        candidates: layers that may be in eight bits.
        calibration: ranges of ``model``, and the pictures that decide.
        kind: `INT8` or `FP8`.
        graph: the batches that ``model`` takes.
        state_path: where a stopped planner finds what it measured.
        identity: what the measurements depend on besides the calibration.
    """

    model: ir.Model
    twin: ir.Model | None
    candidates: Sequence[str]
    calibration: Calibration
    kind: LowPrecision
    graph: GraphInput
    state_path: Path
    identity: Mapping[str, object]

    @cached_property
    def amax(self) -> dict[str, float]:
        """By candidate, of the tensor that it reads."""
        ranges, tensors = self.calibration.amax(), input_tensors(self.model.graph)
        return {name: ranges[tensors[name]] for name in self.candidates}

    @cached_property
    def switched(self) -> SwitchedGraph:
        """What is measured on."""
        if self.twin is None:
            return self.switched_at_full_size
        return SwitchedGraph(self.twin, self.amax, self.kind, at_once=min(os.cpu_count() or 1, MOST_AT_ONCE))

    @cached_property
    def yardstick(self) -> Yardstick:
        """Of sets of layers, on all `samples`."""
        return Yardstick(self.switched, self.samples)

    @cached_property
    def switched_at_full_size(self) -> SwitchedGraph:
        """What confirms."""
        return SwitchedGraph(self.model, self.amax, self.kind)

    @cached_property
    def samples(self) -> list[Sample]:
        """Of the size of what is measured on."""
        if self.twin is None:
            return self.full_samples
        small = twin_size(self.graph)
        return [
            replace(one, degraded=middle_of(one.degraded, *small), clean=middle_of(one.clean, *small))
            for one in self.full_samples
        ]

    @cached_property
    def full_samples(self) -> list[Sample]:
        """The crops of the calibration."""
        pictures = self.calibration.pictures
        return [
            Sample(sample.picture, sample.condition, degraded, clean)
            for sample, (degraded, clean) in zip(pictures.samples, pictures.pairs(), strict=True)
        ]


def attribute_drift(task: PlanningTask, *, console: Console) -> Attribution:
    """Measure every candidate alone, on some of the crops."""
    entries = {entry.layer.name: entry.node for entry in graph_layers(task.model.graph)}
    macs = {name: macs_of(entries[name]) for name in task.candidates}
    state = PlanningState(task.state_path, _key(task))
    if state.effects:
        console.say(f"      going on with what was measured before: {len(state.effects)} of {len(macs)} layers")
    with console.bar("layers measured alone", len(macs) - len(state.effects)) as advance:

        def measured(name: str, effect: Effect) -> None:
            state.keep_effect(name, effect)
            advance()

        sensitivity = measure_sensitivity(task.switched, _most_affected(task), known=state.effects, on_layer=measured)
    return Attribution(sensitivity, macs, state)


def plan_eight_bit_layers(task: PlanningTask, budget: Loss, *, console: Console) -> Planning:
    """Find the layers that fit ``budget`` in eight bits, with most multiply-accumulates.

    The twin decides, quickly; the graph itself confirms, and where it loses more than the twin said, the twin's budget
    shrinks by as much.

    Raises:
        CheckFailed: nothing fits.
    """
    if not task.switched.chooses:
        budget = replace(budget, lost_neighbours=0.0)
    attribution = attribute_drift(task, console=console)
    sensitivity, macs, state = attribution.sensitivity, attribution.macs, attribution.state
    on_twin = _evaluation(task.yardstick, task.samples)
    at_full_size = None
    if task.twin is not None:
        at_full_size = _evaluation(Yardstick(task.switched_at_full_size, task.full_samples), task.full_samples)

    def say(evaluation: Evaluation) -> None:
        verdict = "fits" if evaluation.fits else "too much"
        console.say(f"      {evaluation.layers} layers: {evaluation.loss}: {verdict}")

    allowed = budget
    planned = plan_within(allowed, sensitivity, macs, on_twin, state, on_evaluation=say)
    if not planned.chosen:
        raise CheckFailed(
            "not one layer fits the budget in eight bits",
            where="planning",
            expected=f"at most {budget}",
            got=_cheapest(sensitivity),
            fix="Allow more (--drift-budget, --worst-drift-budget), or export with --fp16.",
        )
    measured = planned.evaluations
    found: list[Planning] = []
    while planned.chosen:
        loss = planned.final.loss if at_full_size is None else at_full_size(planned.chosen)
        full = Evaluation(len(planned.chosen), loss, loss.within(budget))
        console.say(f"      at full size: {loss}")
        found.append(Planning(attribution, budget, planned, full, task.twin is not None))
        if full.fits or len(found) > MOST_CORRECTIONS:
            break
        allowed = allowed.tightened(budget, loss)
        planned = shrink_within(allowed, planned.chosen, sensitivity, macs, on_twin, state, on_evaluation=say)
        measured += planned.evaluations
    best = min(found, key=lambda one: one.full.loss.excess(budget))  # one that fits is nearest
    if not best.full.loss.within(_hard_limits(budget)):
        raise CheckFailed(
            "what fits the budget on small pictures does not at full size",
            where="planning",
            expected=f"at most {budget}",
            got=str(best.full.loss),
            fix="Allow more, or name the layers yourself: --plan.",
        )
    return replace(best, planned=replace(best.planned, evaluations=measured))


def _hard_limits(budget: Loss) -> Loss:
    """The budget, and all of what the gate allows in brightness: the rest of it was kept for other pictures."""
    return replace(budget, shift_8bit=max(gate_limits().shift_8bit, budget.shift_8bit))


def _evaluation(yardstick: Yardstick, samples: Sequence[Sample]) -> Evaluate:
    """Measures sets of layers with ``yardstick``, which is on ``samples``."""
    conditions = [sample.condition for sample in samples]
    return lambda layers: loss_of(yardstick.measure(layers), conditions)


def _most_affected(task: PlanningTask) -> list[Sample]:
    """The samples that layers are measured on alone, in their order.

    With every layer in eight bits, some pictures lose most and some change their brightness most. Both kinds are
    taken in turn, one of each degradation at most: what no layer does to them it does to none.
    """
    everything = task.yardstick.measure(task.candidates)
    ranks = [np.argsort(-numbers, kind="stable") for numbers in (np.abs(everything.shifts), everything.drift_db)]
    taken: dict[str, int] = {}
    for place in np.stack(ranks, axis=1).ravel():
        if len(taken) < SENSITIVITY_SAMPLES:
            taken.setdefault(task.samples[place].condition, int(place))
    return [task.samples[place] for place in sorted(taken.values())]


def _cheapest(sensitivity: Sensitivity) -> str:
    name, cost, _ = sensitivity.ranked()[-1]
    return f"{cost:.2g} dB for the cheapest, '{name}'"


def _key(task: PlanningTask) -> str:
    """Of everything that a measurement depends on."""
    pictures = task.calibration.pictures
    samples = [(pictures.sha256[one.picture], one.condition, one.top, one.left) for one in pictures.samples]
    size = twin_size(task.graph) if task.twin is not None else task.graph.optimum
    ranges = [task.amax, task.calibration.ranges.migrated]
    text = json.dumps([task.identity, *ranges, samples, pictures.seed, task.kind.name, size])
    return hashlib.sha256(text.encode()).hexdigest()
