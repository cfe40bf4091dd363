"""The export pipeline: the picture of the design, stage by stage.

load -> trace -> reference.onnx -> rewrite -> type -> model.onnx -> engines -> parity, drift -> report -> bundle
"""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from edgeir.bundle import BundleWriter, bundle_name, prepared_name
from edgeir.calibrate.fp16 import plan_fp16
from edgeir.calibrate.typed import TypedCounts, apply_plan
from edgeir.cli.console import Console
from edgeir.cli.engine_builds import build_engines, runtimes_to_build
from edgeir.cli.export_report import ExportFacts, export_report, rewrites_text
from edgeir.cli.measuring import EXPORT_PICTURES, check_drift, check_parity, rounding_session, time_forms
from edgeir.export.graph import TraceShape, save_graph
from edgeir.export.portability import prepare
from edgeir.export.rewrites.apply import rewrite
from edgeir.export.rewrites.catalogue import require_rules
from edgeir.export.runtimes import Runtime
from edgeir.export.trace import trace
from edgeir.manifest import AxisRange, Manifest
from edgeir.models.build import LoadedModel
from edgeir.models.checkpoint import load_checkpoint
from edgeir.models.loading import load_named, reconfigure
from edgeir.precision import Precision, PrecisionPlan, plan_to_yaml, read_plan
from edgeir.provenance import collect
from edgeir.report.formats import emit
from edgeir.report.value import Report
from edgeir.runtime.memory import give_back
from edgeir.runtime.restore import GraphInput
from edgeir.runtime.torch_session import TorchSession
from edgeir.spec import INPUT_NAME, ModelSpec, TensorSpec


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """What the command line asked for; exactly one of ``model`` and ``checkpoint`` is set."""

    model: str | None
    checkpoint: Path | None
    precision: Precision
    shape: TraceShape
    targets: tuple[str, ...] | None
    k: int | None
    runtimes: tuple[Runtime, ...]
    without: tuple[str, ...]
    also: tuple[str, ...]
    plan: Path | None
    out: Path
    force: bool


@dataclass(frozen=True, slots=True)
class ExportOutcome:
    """A finished bundle and its report."""

    path: Path
    report: Report


def export_bundle(request: ExportRequest, console: Console) -> ExportOutcome:
    """Export one model. The bundle appears whole or not at all.

    Raises:
        EdgeIRError: see `edgeir.errors`; nothing is left behind.
    """
    started = time.perf_counter()
    runtimes = runtimes_to_build(request.targets)
    require_rules([*request.without, *request.also])
    given_plan = None if request.plan is None else read_plan(request.plan)
    shape = request.shape

    console.stage(f"loading {request.model or request.checkpoint}")
    loaded = _load(request)
    spec = loaded.spec
    console.say(f"      {describe_weights(spec)}")
    shape.require(spec.size)

    with BundleWriter(_destination(request, spec), force=request.force) as writer:
        console.stage(f"tracing {spec.name} at {size_text(shape)}, batch {shape.batch}")
        save_graph(trace(loaded, shape), writer.path("reference.onnx"))
        writer.add("reference.onnx", "reference")
        give_back()

        console.stage(f"rewriting the graph, and writing {request.precision} into it")
        model = ir.load(writer.path("reference.onnx"))
        forms: list[bytes] = []
        rewrites = rewrite(
            model,
            without=request.without,
            also=request.also,
            seen=lambda form: forms.append(ir.to_proto(form).SerializeToString()),
        )
        console.say(f"      {rewrites_text(rewrites)}")
        plan, counts = _write_typed(model, request.precision, given_plan, writer)
        console.say(f"      {counts.fp16} nodes FP16, {counts.fp32} nodes FP32, {counts.casts} casts between them")
        prepared = [_write_prepared(runtime, request.without, writer) for runtime in request.runtimes]

        console.stage(f"building engines: {', '.join(runtimes) or 'none'}")
        engines = build_engines(runtimes, writer, shape, spec, console)

        console.stage("comparing with PyTorch on a real picture")
        graph = _graph_input(shape, spec)
        graphs = {name: writer.path(name) for name in ("reference.onnx", "model.onnx")}
        portable = {name: writer.path(name) for name in prepared}
        rewritten_ms = time_forms(forms, graph)
        forms.clear()
        give_back()
        parity = check_parity(graphs | portable, TorchSession(loaded), graph)

        console.stage("measuring drift per degradation")
        reference, typed = (rounding_session(path) for path in graphs.values())
        drift = check_drift(typed, reference, graph, pictures=EXPORT_PICTURES, console=console)

        provenance = collect(seconds=time.perf_counter() - started)
        facts = ExportFacts(
            spec,
            request.precision,
            shape,
            rewrites,
            rewritten_ms,
            plan,
            counts,
            engines,
            parity,
            drift,
            writer.artifacts,
            typed.name,
        )
        report = export_report(facts, provenance)
        for name, form in (("report.json", "json"), ("report.html", "html")):
            writer.path(name).write_text(emit(report, form), encoding="utf-8")
            writer.add(name, f"report-{form}", parents=("reference.onnx", "model.onnx"))
        path = writer.commit(
            Manifest(
                name=spec.name,
                precision=str(request.precision),
                input=_input_spec(shape, spec),
                ranges=_ranges(shape),
                batch=shape.batch,
                model=spec,
                provenance=provenance,
                engines=engines,
            )
        )
    return ExportOutcome(path, report)


def _write_prepared(runtime: Runtime, without: Collection[str], writer: BundleWriter) -> str:
    """``model.onnx`` for one runtime, beside it; gives the file's name."""
    name = prepared_name(runtime.name)
    save_graph(prepare(ir.load(writer.path("model.onnx")), runtime, without=without), writer.path(name))
    writer.add(name, "prepared", parents=("model.onnx",))
    return name


def describe_weights(spec: ModelSpec) -> str:
    """``"exda-tiny is UNTRAINED: seeded initialisation 0, no picture gets better"`` and the like."""
    weights = spec.weights
    if weights is None:
        return f"{spec.name} has no weights"
    if not weights.trained:
        origin = "weights of the checkpoint" if weights.seed is None else f"seeded initialisation {weights.seed}"
        return f"{spec.name} is UNTRAINED: {origin}, it restores nothing"
    origin = "weights that come with edgeir" if weights.source == "shipped" else "weights of the checkpoint"
    return f"{spec.name} is trained: {origin}, sha256 {weights.sha256[:12]}"


def size_text(shape: TraceShape) -> str:
    """``"256x256"`` or ``"128x128 to 512x512"``."""
    if shape.dynamic is None:
        return f"{shape.height}x{shape.width}"
    low, high = shape.dynamic.minimum, shape.dynamic.maximum
    return f"{low[0]}x{low[1]} to {high[0]}x{high[1]}"


def _load(request: ExportRequest) -> LoadedModel:
    overrides = {} if request.k is None else {"k": request.k}
    if request.checkpoint is not None:
        return reconfigure(load_checkpoint(request.checkpoint), overrides)
    assert request.model is not None
    return load_named(request.model, overrides=overrides)


def _destination(request: ExportRequest, spec: ModelSpec) -> Path:
    if request.out.suffix == ".edgeir":
        return request.out
    shape = request.shape
    dynamic = shape.dynamic is not None
    return request.out / bundle_name(spec.name, str(request.precision), shape.height, shape.width, dynamic=dynamic)


def _write_typed(
    model: ir.Model, precision: Precision, plan: PrecisionPlan | None, writer: BundleWriter
) -> tuple[PrecisionPlan, TypedCounts]:
    if plan is None:
        plan = plan_fp16(model) if precision is Precision.FP16 else PrecisionPlan(default=Precision.FP32)
    counts = apply_plan(model, plan)
    save_graph(model, writer.path("model.onnx"))
    writer.path("plan.yaml").write_text(plan_to_yaml(plan), encoding="utf-8")
    writer.add("plan.yaml", "plan", parents=("reference.onnx",))
    writer.add("model.onnx", "model", parents=("reference.onnx", "plan.yaml"))
    return plan, counts


def _graph_input(shape: TraceShape, spec: ModelSpec) -> GraphInput:
    size = (shape.height, shape.width)
    low, high = (shape.dynamic.minimum, shape.dynamic.maximum) if shape.dynamic else (size, size)
    return GraphInput(shape.batch, low, size, high, spec.size, spec.scale)


def _input_spec(shape: TraceShape, spec: ModelSpec) -> TensorSpec:
    sides: tuple[int | str, int | str] = ("H", "W") if shape.dynamic else (shape.height, shape.width)
    return TensorSpec(INPUT_NAME, (shape.batch, spec.channels, *sides))


def _ranges(shape: TraceShape) -> dict[str, AxisRange]:
    if shape.dynamic is None:
        return {}
    low, best, high = shape.dynamic.minimum, shape.dynamic.optimum, shape.dynamic.maximum
    return {letter: AxisRange(low[i], best[i], high[i]) for i, letter in enumerate("HW")}
