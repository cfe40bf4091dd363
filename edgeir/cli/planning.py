"""Planning under a budget as a stage of export: a small twin of the graph, what each layer costs there, what fits.

The twin is traced at `TWIN_PX`: layers and weights are the same, ranges are those of the full size, and a question
costs a fraction. What is decided on it is measured again at full size, on the same pictures; where a layer costs more
there, the budget of the twin shrinks accordingly, and the search goes on with what it knows.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import onnx_ir as ir

from edgeir.calibrate.layers import graph_layers
from edgeir.calibrate.planner import (
    Evaluate,
    Evaluation,
    Loss,
    PlannedLayers,
    PlanningState,
    loss_of,
    plan_within,
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
from edgeir.errors import CheckFailed
from edgeir.export.rewrites.cost import macs_of
from edgeir.imaging.layout import middle_of
from edgeir.runtime.restore import GraphInput

TWIN_PX = 96
SENSITIVITY_SAMPLES = 6
MOST_CORRECTIONS = 3


@dataclass(frozen=True, slots=True)
class Planning:
    """What was decided, and why.

    Attributes:
        budget: what was asked for.
        planned: the layers, by the twin.
        sensitivity: of every candidate.
        full: the chosen layers at full size, on the calibration's pictures.
        macs: multiply-accumulates of each candidate, at full size.
        state: the file of what was measured, to be removed once the plan is used.
    """

    budget: Loss
    planned: PlannedLayers
    sensitivity: Sensitivity
    full: Evaluation
    macs: Mapping[str, int]
    state: PlanningState

    def costs_db(self) -> dict[str, float]:
        """By layer, alone."""
        return {name: self.sensitivity.cost_db(name) for name in self.sensitivity.effects}


def twin_size(graph: GraphInput) -> tuple[int, int]:
    """Height and width of the twin, pixels: never larger than the graph itself."""
    height, width = (graph.rule.near(min(side, TWIN_PX)) for side in graph.optimum)
    return height, width


def plan_eight_bit_layers(
    model: ir.Model,
    twin: ir.Model,
    candidates: Sequence[str],
    calibration: Calibration,
    budget: Loss,
    kind: LowPrecision,
    graph: GraphInput,
    *,
    state_path: Path,
    identity: Mapping[str, object],
    console: Console,
) -> Planning:
    """Choose the layers for eight bits.

    Args:
        model: FP32, rewritten, at full size.
        twin: the same network, rewritten in the same way, at `twin_size`.
        candidates: layers that may be in eight bits.
        calibration: ranges of ``model``, and the pictures that decide.
        budget: what may be lost.
        kind: `INT8` or `FP8`.
        graph: the batches that ``model`` takes.
        state_path: where a stopped planner finds what it measured.
        identity: what the measurements depend on besides the calibration.
        console: for progress.
    """
    ranges, tensors = calibration.amax(), input_tensors(model.graph)
    amax = {name: ranges[tensors[name]] for name in candidates}
    entries = {entry.layer.name: entry.node for entry in graph_layers(model.graph)}
    macs = {name: macs_of(entries[name]) for name in candidates}
    small = twin_size(graph)
    full_size = _full_samples(calibration)
    samples = [
        replace(one, degraded=middle_of(one.degraded, *small), clean=middle_of(one.clean, *small)) for one in full_size
    ]
    state = PlanningState(state_path, _key(identity, amax, calibration, kind))
    switched = SwitchedGraph(twin, amax, kind)
    if state.effects:
        console.say(f"      going on with what was measured before: {len(state.effects)} of {len(amax)} layers")
    with console.bar("layers measured alone", len(amax) - len(state.effects)) as advance:

        def measured(name: str, effect: Effect) -> None:
            state.keep_effect(name, effect)
            advance()

        few = samples[:: max(len(samples) // SENSITIVITY_SAMPLES, 1)]
        sensitivity = measure_sensitivity(switched, few, known=state.effects, on_layer=measured)
    on_twin = _evaluation(switched, samples)
    at_full_size = _evaluation(SwitchedGraph(model, amax, kind), full_size)

    def say(evaluation: Evaluation) -> None:
        verdict = "fits" if evaluation.fits else "too much"
        console.say(f"      {evaluation.layers} layers: {evaluation.loss}: {verdict}")

    allowed = budget
    for _ in range(MOST_CORRECTIONS):
        planned = plan_within(allowed, sensitivity, macs, on_twin, state, on_evaluation=say)
        if not planned.chosen:
            raise CheckFailed(
                "not one layer fits the budget in eight bits",
                where="planning",
                expected=f"at most {budget}",
                got=_cheapest(sensitivity),
                fix="Allow more (--drift-budget, --worst-drift-budget), or export with --fp16.",
            )
        loss = at_full_size(planned.chosen)
        full = Evaluation(len(planned.chosen), loss, loss.within(budget))
        console.say(f"      at full size: {loss}")
        if full.fits:
            return Planning(budget, planned, sensitivity, full, macs, state)
        allowed = allowed.times(0.9 / loss.excess(budget))
    raise CheckFailed(
        "what fits the budget on small pictures does not at full size",
        where="planning",
        expected=f"at most {budget}",
        got=str(full.loss),
        fix="Allow more, or name the layers yourself: --plan.",
    )


def _evaluation(graph: SwitchedGraph, samples: Sequence[Sample]) -> Evaluate:
    """Measures sets of layers in ``graph`` on ``samples``."""
    yardstick = Yardstick(graph, samples)
    conditions = [sample.condition for sample in samples]
    return lambda layers: loss_of(yardstick.measure(layers), conditions)


def _cheapest(sensitivity: Sensitivity) -> str:
    name, cost, _ = sensitivity.ranked()[-1]
    return f"{cost:.2g} dB for the cheapest, '{name}'"


def _key(
    identity: Mapping[str, object], amax: Mapping[str, float], calibration: Calibration, kind: LowPrecision
) -> str:
    """Of everything that a measurement depends on."""
    samples = [
        (calibration.pictures.sha256[one.picture], one.condition, one.top, one.left)
        for one in calibration.pictures.samples
    ]
    text = json.dumps([identity, dict(amax), samples, calibration.pictures.seed, kind.name, TWIN_PX])
    return hashlib.sha256(text.encode()).hexdigest()


def _full_samples(calibration: Calibration) -> list[Sample]:
    return [
        Sample(sample.picture, sample.condition, degraded, clean)
        for sample, (degraded, clean) in zip(calibration.pictures.samples, calibration.pictures.pairs(), strict=True)
    ]
