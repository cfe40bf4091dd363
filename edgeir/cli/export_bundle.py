"""The export pipeline: the picture of the design, stage by stage.

load -> trace -> reference.onnx -> rewrite -> type -> model.onnx -> engines -> parity, drift -> report -> bundle
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import onnx_ir as ir

from edgeir import __version__
from edgeir.bundle import BundleWriter, bundle_name
from edgeir.calibrate.eight_bits import candidates, placement_of, plan_eight_bits
from edgeir.calibrate.fp16 import plan_fp16
from edgeir.calibrate.layers import GraphLayer, graph_layers
from edgeir.calibrate.migration import migrate
from edgeir.calibrate.planner import Loss
from edgeir.calibrate.qdq import KINDS
from edgeir.calibrate.typed import TypedCounts, apply_plan
from edgeir.cli.calibrating import (
    Calibration,
    CalibrationRequest,
    calibrate,
    choose_pictures,
    write_calibration,
)
from edgeir.cli.console import Console
from edgeir.cli.engine_builds import build_engines, runtimes_to_build, write_kernels, write_prepared
from edgeir.cli.export_report import ExportFacts, counts_text, export_report, rewrites_text
from edgeir.cli.measuring import (
    EXPORT_PICTURES,
    check_drift,
    check_parity,
    rounding_session,
    time_forms,
    time_ratio,
    worst_picture,
)
from edgeir.cli.planning import (
    Planning,
    PlanningTask,
    plan_eight_bit_layers,
    require_truth,
    twin_size,
    usual_budget,
)
from edgeir.cli.tile_checks import CONDITIONS, measure_tiling
from edgeir.compare.drift import PictureDrift
from edgeir.errors import GraphError
from edgeir.export.graph import TraceShape, save_graph
from edgeir.export.portability import require_plugins
from edgeir.export.rewrites.apply import rewrite
from edgeir.export.rewrites.catalogue import require_rules
from edgeir.export.rewrites.cost import macs_of
from edgeir.export.runtimes import Runtime
from edgeir.export.trace import trace
from edgeir.manifest import AxisRange, Manifest
from edgeir.models.build import LoadedModel
from edgeir.models.checkpoint import load_checkpoint
from edgeir.models.loading import load_named, reconfigure
from edgeir.precision import Precision, PrecisionPlan, plan_to_yaml, read_plan
from edgeir.provenance import collect
from edgeir.quantization_placement import Placement
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
    plugins: bool
    without: tuple[str, ...]
    also: tuple[str, ...]
    plan: Path | None
    calibration: CalibrationRequest | None
    budget: Loss | None
    tiles: bool
    out: Path
    force: bool

    @property
    def stages(self) -> int:
        """Of the work."""
        return 6 + 2 * (self.calibration is not None)

    @property
    def chooses_layers(self) -> bool:
        """Whether layers in eight bits are still to be chosen: no plan names them."""
        return self.calibration is not None and self.plan is None


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
    given_plan = None if request.plan is None else _fitting_plan(request.plan, request.precision)
    shape = request.shape

    console.stage(f"loading {request.model or request.checkpoint}")
    loaded = _load(request)
    spec = loaded.spec
    console.say(f"      {describe_weights(spec)}")
    shape.require(spec.size)
    graph = _graph_input(shape, spec)
    budget = _planning_budget(request, spec)
    pictures = None if request.calibration is None else choose_pictures(request.calibration, graph)

    destination = _destination(request, spec)
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
            console.stage(_choosing_text(request, budget))
        if calibration is not None and budget is not None:
            task = _planning_task(loaded, model, placed, calibration, request, graph, destination)
            planning = plan_eight_bit_layers(task, budget, console=console)
            give_back()
        plan = given_plan or _plan(model, request.precision, placement, planning)
        low_macs = sum(macs_of(entry.node) for entry in graph_layers(model.graph) if _in_eight_bits(entry, plan))
        counts = _write_typed(model, plan, calibration, writer)
        console.say(f"      {counts_text(counts)}")
        portable = write_prepared(request.runtimes, writer, console, plugins=request.plugins, without=request.without)

        console.stage(f"building engines: {', '.join(runtimes) or 'none'}")
        write_kernels(model, writer, console)
        engines = build_engines(runtimes, writer, shape, spec, request.precision, console)

        console.stage("comparing with PyTorch on a real picture")
        graphs = {name: writer.path(name) for name in ("reference.onnx", "model.onnx")}
        rewritten_ms = time_forms(forms, graph)
        ratio = None
        if request.precision.eight_bits:
            integers = request.precision is Precision.INT8
            ratio = time_ratio(writer.path("model.onnx"), forms[-1], graph, integer_kernels=integers)
        forms.clear()
        give_back()
        parity = check_parity(graphs | portable, TorchSession(loaded), graph)

        console.stage("measuring drift per degradation")
        reference, typed = (rounding_session(path) for path in graphs.values())
        drift = check_drift(typed, reference, graph, pictures=EXPORT_PICTURES, console=console)
        tiling = None
        if request.tiles:
            fast = TorchSession(loaded, form="fast")  # in FP32, so that rounding is not taken for tiling
            tiling = measure_tiling(fast, fast, graph, spec, console=console, conditions=CONDITIONS[:1])

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
            parity,
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
                input=_input_spec(shape, spec),
                ranges=_ranges(shape),
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


def _planning_budget(request: ExportRequest, spec: ModelSpec) -> Loss | None:
    """What layers in eight bits are chosen for: what was asked for, or what passes the gates; ``None`` chooses none.

    Raises:
        UsageError: a budget in dB against the truth was asked for, and there are no trained weights or no truth.
    """
    if request.budget is not None:
        require_truth(spec, plans=request.chooses_layers)
    if not request.chooses_layers:
        return None
    if request.budget is not None:
        return request.budget
    return usual_budget() if spec.trained and spec.scale == 1 else None


def _choosing_text(request: ExportRequest, budget: Loss | None) -> str:
    if request.plan is not None:
        return f"taking the layers in {request.precision} from {request.plan}"
    if budget is None:
        return f"putting every layer into {request.precision} that may be"
    return f"planning for at most {replace(budget, lost_neighbours=0.0)}"


def _fitting_plan(path: Path, precision: Precision) -> PrecisionPlan:
    """The user's plan, which must have layers in eight bits if that is what was asked for, and else none."""
    plan = read_plan(path)
    wanted = precision if precision.eight_bits else None
    if plan.eight_bit_type is not wanted:
        found = plan.eight_bit_type
        raise GraphError(
            f"the plan has {'no layer in eight bits' if found is None else f'layers in {found}'}",
            where=str(path),
            expected=f"layers in {wanted}" if wanted else "none in eight bits",
            fix=f"Export with --{found} --calibration FOLDER." if found else "Export with --fp16, or name some.",
        )
    return plan


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
