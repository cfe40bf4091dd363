"""The export pipeline: the picture of the design, stage by stage.

load -> trace -> reference.onnx -> rewrite -> type -> model.onnx -> engines -> parity, drift -> report -> bundle
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from edgeir import __version__
from edgeir.bundle import BundleWriter
from edgeir.calibrate.eight_bits import candidates, placement_of, plan_eight_bits
from edgeir.calibrate.fp16 import plan_fp16
from edgeir.calibrate.layers import GraphLayer, graph_layers
from edgeir.calibrate.migration import migrate
from edgeir.calibrate.qdq import KINDS
from edgeir.calibrate.typed import TypedCounts, apply_plan
from edgeir.cli.byte_checks import check_bytes
from edgeir.cli.calibrating import Calibration, calibrate, choose_pictures, write_calibration
from edgeir.cli.console import Console
from edgeir.cli.engine_builds import (
    build_engines,
    runtimes_to_build,
    write_byte_graphs,
    write_kernels,
    write_prepared,
)
from edgeir.cli.export_report import ExportFacts, counts_text, export_report, rewrites_text
from edgeir.cli.export_request import ExportRequest, axis_ranges, graph_input_of, input_spec, size_text
from edgeir.cli.measuring import (
    EXPORT_PICTURES,
    check_drift,
    check_parity,
    rounding_session,
    time_forms,
    time_ratio,
    worst_picture,
)
from edgeir.cli.planning import Planning, PlanningTask, plan_eight_bit_layers, twin_size
from edgeir.cli.tile_checks import CONDITIONS, measure_tiling
from edgeir.cli.tile_graphs import sharing_session, write_tile_graphs
from edgeir.compare.drift import PictureDrift
from edgeir.export.graph import TraceShape, save_graph
from edgeir.export.portability import require_plugins
from edgeir.export.rewrites.apply import rewrite
from edgeir.export.rewrites.catalogue import require_rules
from edgeir.export.rewrites.cost import macs_of
from edgeir.export.trace import trace
from edgeir.manifest import Manifest
from edgeir.models.build import LoadedModel
from edgeir.precision import Precision, PrecisionPlan, plan_to_yaml
from edgeir.provenance import collect
from edgeir.quantization_placement import Placement
from edgeir.report.formats import emit
from edgeir.report.value import Report
from edgeir.runtime.memory import give_back
from edgeir.runtime.restore import GraphInput
from edgeir.runtime.torch_session import TorchSession
from edgeir.spec import ModelSpec


@dataclass(frozen=True, slots=True)
class ExportOutcome:
    """A finished bundle, its report, and the drift that was measured: a row per picture and degradation."""

    path: Path
    report: Report
    drift: tuple[PictureDrift, ...] = ()


def export_bundle(request: ExportRequest, console: Console) -> ExportOutcome:
    """Export one model. The bundle appears whole or not at all.

    Raises:
        EdgeIRError: see `edgeir.errors`; nothing is left behind.
    """
    started = time.perf_counter()
    runtimes = runtimes_to_build(request.targets)
    require_rules([*request.without, *request.also])
    if request.plugins:
        for runtime in request.runtimes:
            require_plugins(runtime)
    given_plan = request.given_plan()
    shape = request.shape

    console.stage(f"loading {request.model or request.checkpoint}")
    loaded = request.load()
    spec = loaded.spec
    console.say(f"      {describe_weights(spec)}")
    request.require_size(spec)
    graph = graph_input_of(shape, spec)
    budget = request.planning_budget(spec)
    pictures = None if request.calibration is None else choose_pictures(request.calibration, graph)

    destination = request.destination(spec)
    with BundleWriter(destination, force=request.force) as writer:
        console.stage(f"tracing {spec.name} at {size_text(shape)}, batch {shape.batch}")
        save_graph(trace(loaded, shape), writer.path("reference.onnx"))
        writer.add("reference.onnx", "reference")
        give_back()

        console.stage(f"rewriting the graph, and writing {request.precision} into it")
        model = ir.load(writer.path("reference.onnx"))
        placement = placement_of(model.graph)
        forms: list[bytes] = []
        rewrites = rewrite(
            model,
            without=request.without,
            also=request.also,
            seen=lambda form: forms.append(ir.to_proto(form).SerializeToString()),
        )
        console.say(f"      {rewrites_text(rewrites)}")
        calibration: Calibration | None = None
        placed: tuple[str, ...] = ()
        if request.calibration is not None and pictures is not None:
            console.stage(
                f"finding ranges on {len(pictures.samples)} degraded crops of {len(pictures.sha256)} pictures"
            )
            placed = candidates(model.graph, plan_fp16(model), placement, request.precision)
            kind = KINDS[request.precision]
            calibration = calibrate(
                model, pictures, graph, request=request.calibration, layers=placed, kind=kind, console=console
            )
            write_calibration(calibration, writer)
            give_back()
        planning = None
        if calibration is not None:
            console.stage(request.choosing_text(budget))
        if calibration is not None and budget is not None:
            task = _planning_task(loaded, model, placed, calibration, request, graph, destination)
            planning = plan_eight_bit_layers(task, budget, console=console)
            give_back()
        plan = given_plan or _plan(model, request.precision, placement, planning)
        low_macs = sum(macs_of(entry.node) for entry in graph_layers(model.graph) if _in_eight_bits(entry, plan))
        counts = _write_typed(model, plan, calibration, writer)
        console.say(f"      {counts_text(counts)}")
        portable = write_prepared(request.runtimes, writer, console, plugins=request.plugins, without=request.without)
        write_byte_graphs(request.io, writer, console)

        console.stage(f"building engines: {', '.join(runtimes) or 'none'}")
        write_kernels(model, writer, console)
        engines = build_engines(runtimes, writer, shape, spec, request.precision, console, io=request.io)

        console.stage("comparing with PyTorch on a real picture")
        graphs = {name: writer.path(name) for name in ("reference.onnx", "model.onnx")}
        rewritten_ms = time_forms(forms, graph)
        ratio = None
        if request.precision.eight_bits:
            integers = request.precision is Precision.INT8
            ratio = time_ratio(writer.path("model.onnx"), forms[-1], graph, integer_kernels=integers)
        forms.clear()
        give_back()
        published = TorchSession(loaded)
        parity = check_parity(graphs | portable, published, graph)
        runnable = ["model.onnx", *portable]
        in_bytes = check_bytes({name: writer.path(name) for name in runnable}, request.io, graph)

        console.stage("measuring drift per degradation")
        reference, typed = (rounding_session(path) for path in graphs.values())
        drift = check_drift(typed, reference, graph, pictures=EXPORT_PICTURES, console=console)
        tiling = None
        if request.tiles:
            fast = TorchSession(loaded, form="fast")  # in FP32, so that rounding is not taken for tiling
            sharing = sharing_session(writer.path("reference.onnx"), shape, spec, console)
            tiling = measure_tiling(
                fast, fast, graph, spec, console=console, sharing=sharing, conditions=CONDITIONS[:1]
            )
            del sharing
            if tiling.shared:
                parity += check_parity(write_tile_graphs(writer, console), published, graph)

        provenance = collect(seconds=time.perf_counter() - started)
        facts = ExportFacts(
            spec,
            request.precision,
            shape,
            rewrites,
            rewritten_ms,
            plan,
            counts,
            low_macs,
            calibration,
            planning,
            request.budget,
            ratio,
            worst_picture(typed, reference, graph, drift),
            engines,
            request.io,
            parity,
            in_bytes,
            drift,
            tiling,
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
                input=input_spec(shape, spec),
                ranges=axis_ranges(shape),
                batch=shape.batch,
                model=spec,
                provenance=provenance,
                engines=engines,
                tiling=None if tiling is None else tiling.tiling,
            )
        )
        if planning is not None:
            planning.attribution.state.remove()
    return ExportOutcome(path, report, tuple(drift))


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


def _plan(model: ir.Model, precision: Precision, placement: Placement, planning: Planning | None) -> PrecisionPlan:
    if precision is Precision.FP32:
        return PrecisionPlan(default=Precision.FP32)
    base = plan_fp16(model)
    if not precision.eight_bits:
        return base
    if planning is None:
        return plan_eight_bits(model.graph, base, placement, precision)
    costs = planning.attribution.costs_db()
    return plan_eight_bits(model.graph, base, placement, precision, costs_db=costs, left=planning.left())


def _planning_task(
    loaded: LoadedModel,
    model: ir.Model,
    placed: Sequence[str],
    calibration: Calibration,
    request: ExportRequest,
    graph: GraphInput,
    destination: Path,
) -> PlanningTask:
    twin = trace(loaded, TraceShape(1, *twin_size(graph)))
    rewrite(twin, without=request.without, also=request.also)
    migrate(twin, calibration.ranges.migrated)
    weights = loaded.spec.weights
    return PlanningTask(
        model,
        twin,
        placed,
        calibration,
        KINDS[request.precision],
        graph,
        state_path=destination.with_suffix(".planning.json"),
        identity={
            "weights": weights.sha256 if weights else None,
            "without": list(request.without),
            "also": list(request.also),
            "version": __version__,
        },
    )


def _in_eight_bits(entry: GraphLayer, plan: PrecisionPlan) -> bool:
    return entry.weight_index is not None and plan.type_of(entry.node.name or "").eight_bits


def _write_typed(
    model: ir.Model, plan: PrecisionPlan, calibration: Calibration | None, writer: BundleWriter
) -> TypedCounts:
    counts = apply_plan(model, plan, None if calibration is None else calibration.amax())
    save_graph(model, writer.path("model.onnx"))
    writer.path("plan.yaml").write_text(plan_to_yaml(plan), encoding="utf-8")
    ranges = () if calibration is None else ("ranges.json",)
    writer.add("plan.yaml", "plan", parents=("reference.onnx",))
    writer.add("model.onnx", "model", parents=("reference.onnx", "plan.yaml", *ranges))
    return counts
