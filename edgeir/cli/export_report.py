"""The report of an export: what was made, what it lost, and what was not tried."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from edgeir.calibrate.planner import Loss
from edgeir.calibrate.typed import TypedCounts
from edgeir.cli.byte_checks import ByteAgreement, byte_checks, byte_tables
from edgeir.cli.calibrating import Calibration
from edgeir.cli.coverage import coverage_tables, planning_tables
from edgeir.cli.planning import Planning
from edgeir.cli.recommending import recommendation_table, recommendations
from edgeir.cli.tile_checks import TilingMeasurement, tile_checks
from edgeir.cli.verdicts import drift_checks, drift_table, look_table, parity_checks, parity_table
from edgeir.compare.drift import PictureDrift
from edgeir.compare.parity import Parity
from edgeir.export.graph import TraceShape
from edgeir.export.rewrites.apply import Step
from edgeir.imaging.byte_formats import ByteFormat
from edgeir.manifest import Artifact, EngineNote
from edgeir.precision import Precision, PrecisionPlan
from edgeir.provenance import Provenance
from edgeir.report.comparison import Comparison
from edgeir.report.value import Check, Fact, Report, Table
from edgeir.spec import ModelSpec


@dataclass(frozen=True, slots=True)
class ExportFacts:
    """Everything an export knows when it is done."""

    spec: ModelSpec
    precision: Precision
    shape: TraceShape
    rewrites: Sequence[Step]
    rewritten_ms: Sequence[float]
    plan: PrecisionPlan
    counts: TypedCounts
    eight_bit_macs: int
    calibration: Calibration | None
    planning: Planning | None
    budget: Loss | None
    time_ratio: float | None
    worst: Comparison
    engines: tuple[EngineNote, ...]
    io: ByteFormat | None
    parity: Sequence[Parity]
    in_bytes: Sequence[ByteAgreement]
    drift: Sequence[PictureDrift]
    tiling: TilingMeasurement | None
    artifacts: tuple[Artifact, ...]
    runner: str


def export_report(facts: ExportFacts, provenance: Provenance) -> Report:
    """Build the report; its numbers are the measured ones and nothing else."""
    spec = facts.spec
    chooses = any(row.key_graph_overlap is not None for row in facts.parity)
    of_drift = drift_checks(
        facts.drift, facts.precision, trained=spec.trained, chooses_neighbours=chooses, budget=facts.budget
    )
    checks = [*parity_checks(facts.parity, facts.precision), *of_drift]
    checks += byte_checks(facts.in_bytes, spec)
    if facts.tiling is not None:
        checks += tile_checks(facts.tiling, spec)
    typed = [row for row in facts.parity if row.engine == "model.onnx"]
    fidelity = min(row.fidelity_db for row in typed)
    state = "trained" if spec.trained else "UNTRAINED"
    return Report(
        title=f"edgeir export: {spec.name} {facts.precision}",
        summary=f"{spec.name} ({state}) in {facts.precision}: {fidelity:.1f} dB fidelity to PyTorch, "
        f"{_engines_text(facts.engines)}.",
        facts=_facts(facts, state),
        checks=tuple(checks),
        tables=(
            parity_table(facts.parity),
            *byte_tables(facts.in_bytes),
            drift_table(facts.drift, f"model.onnx in {facts.runner}, every FP16 result rounded"),
            look_table(facts.drift),
            *(() if facts.tiling is None else (facts.tiling.table,)),
            *_worth(facts, of_drift),
            _rewrite_table(facts.rewrites, facts.rewritten_ms),
            _precision_table(facts),
            *(() if facts.calibration is None else coverage_tables(facts.calibration)),
            *(() if facts.planning is None else planning_tables(facts.planning)),
            _engine_table(facts.engines),
            _file_table(facts.artifacts),
        ),
        comparisons=(facts.worst,),
        provenance=provenance.to_dict(),
        notes=_notes(facts),
    )


def _worth(facts: ExportFacts, checks: Sequence[Check]) -> tuple[Table, ...]:
    if not facts.precision.eight_bits:
        return ()
    rows = recommendations(facts.time_ratio, facts.drift, checks, facts.engines, facts.runner)
    return (recommendation_table(rows, str(facts.precision).upper()),)


def _engines_text(engines: tuple[EngineNote, ...]) -> str:
    if not engines:
        return "no engine built"
    return "engine built for " + ", ".join(f"{engine.runtime} {engine.architecture}" for engine in engines)


def _facts(facts: ExportFacts, state: str) -> tuple[Fact, ...]:
    spec, shape, counts = facts.spec, facts.shape, facts.counts
    weights = spec.weights
    size = f"{shape.height}x{shape.width}"
    if shape.dynamic is not None:
        size = " ".join(f"{h}x{w}" for h, w in (shape.dynamic.minimum, shape.dynamic.optimum, shape.dynamic.maximum))
    return (
        Fact("model", f"{spec.name} ({spec.architecture})"),
        Fact("weights", f"{state}, {weights.source}, sha256 {weights.sha256[:12]}" if weights else "none"),
        Fact("input", f"batch {shape.batch}, {size}, multiples of {spec.size.multiple}"),
        *(() if facts.io is None else (Fact("bytes", f"{facts.io.graph_name()}, {facts.io.text}"),)),
        Fact("precision", f"{facts.precision}: {counts_text(counts)}"),
        *_eight_bit_facts(facts),
    )


def counts_text(counts: TypedCounts) -> str:
    """``"803 nodes FP16, 705 nodes FP32, 178 casts between them"`` and the layers in eight bits."""
    text = f"{counts.fp16} nodes FP16, {counts.fp32} nodes FP32, {counts.casts} casts between them"
    if counts.eight_bits:
        text += f"; {counts.eight_bits} layers in eight bits, which read {counts.pairs} quantised tensors"
    return text


def _eight_bit_facts(facts: ExportFacts) -> tuple[Fact, ...]:
    if facts.calibration is None:
        return ()
    total = facts.rewrites[-1].cost.gmac
    share = "unknown, sizes are dynamic" if not total else f"{facts.eight_bit_macs / total / 1e9:.0%}"
    pictures, ranges = facts.calibration.pictures, facts.calibration.ranges
    return (
        Fact("in eight bits", f"{share} of all multiply-accumulates"),
        Fact(
            "calibrated on",
            f"{len(pictures.samples)} degraded crops of {len(pictures.sha256)} pictures, method {ranges.method}",
        ),
    )


def rewrites_text(steps: Sequence[Step]) -> str:
    """``"rewrites fired 148 times: 1787 nodes became 1699"``."""
    fired = sum(step.applied for step in steps)
    return f"rewrites fired {fired} times: {steps[0].cost.nodes} nodes became {steps[-1].cost.nodes}"


def _rewrite_table(steps: Sequence[Step], milliseconds: Sequence[float]) -> Table:
    """``milliseconds``: of the graph as traced, and after every step that fired; or none at all."""
    measured = iter(milliseconds)
    latest = next(measured, None)
    rows = []
    for step in steps:
        latest = next(measured, None) if step.applied else latest
        rows.append(
            (
                step.rule or "tracing",
                step.applied if step.rule else None,
                step.cost.nodes,
                step.cost.parameters,
                None if step.cost.gmac is None else round(step.cost.gmac, 3),
                None if step.cost.moved_mb is None else round(step.cost.moved_mb, 1),
                None if latest is None else round(latest, 1),
            )
        )
    return Table(
        title="Rewrites",
        columns=("after", "fired", "nodes", "parameters", "GMAC", "MB moved", "ms"),
        rows=tuple(rows),
        note="In FP32. GMAC and MB moved are counted on the graph, as if a runtime fused nothing; ms is the "
        "median of three runs in turn in ONNX Runtime on this machine's CPU (up to 512x320), and no other device's. "
        "edgeir inspect model.onnx --explain RULE says why a rule did not fire; --no-rewrite RULE leaves one out.",
    )


def _precision_table(facts: ExportFacts) -> Table:
    reasons = Counter((str(layer.type), layer.reason) for layer in facts.plan.layers)
    first = {(str(layer.type), layer.reason): layer.layer for layer in reversed(facts.plan.layers)}
    return Table(
        title="Precision",
        columns=("type", "layers", "reason", "for example"),
        rows=(
            (str(facts.plan.default), "all others", "default", ""),
            *((kind, count, reason, first[kind, reason]) for (kind, reason), count in reasons.most_common()),
        ),
        note="plan.yaml names them all; edit it and pass it back with --plan.",
    )


def _engine_table(engines: tuple[EngineNote, ...]) -> Table:
    rows = tuple((engine.path, engine.note) for engine in engines)
    return Table(
        title="Engines",
        columns=("file", "what happened"),
        rows=rows,
        note="" if rows else "No engine builder is installed, or none was asked for: model.onnx runs in ONNX Runtime.",
    )


def _file_table(artifacts: tuple[Artifact, ...]) -> Table:
    return Table(
        title="Files",
        columns=("file", "role", "MB", "sha256"),
        rows=tuple((item.path, item.role, round(item.bytes / 1e6, 2), item.sha256[:12]) for item in artifacts),
        note="manifest.json holds the full hashes; every command checks them first.",
    )


def _notes(facts: ExportFacts) -> tuple[str, ...]:
    notes = []
    if not facts.spec.trained:
        notes.append(
            "UNTRAINED: the weights are a seeded initialisation. Fidelity to the reference means something, PSNR "
            "against the truth does not, and no drift against the truth is judged."
        )
    if facts.precision is not Precision.FP32:
        notes.append(
            "Measured on a CPU with every FP16 result rounded, sums inside a node in FP32. A device sums in another "
            "order, or in FP16 where it may: its figures are close to these, not equal."
        )
    if facts.engines:
        notes.append("Engines were built, not run: no figure here was measured on one.")
    return tuple(notes)
