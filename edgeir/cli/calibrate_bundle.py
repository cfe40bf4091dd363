"""What ``edgeir calibrate`` does: a bundle's own graph, the user's pictures, and out come ranges and a plan.

Neither PyTorch nor the weights are needed: the reference graph of the bundle holds both.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from edgeir import __version__
from edgeir.bundle import Bundle
from edgeir.calibrate.eight_bits import candidates, placement_of, plan_eight_bits
from edgeir.calibrate.fp16 import plan_fp16
from edgeir.calibrate.planner import Loss
from edgeir.calibrate.qdq import KINDS
from edgeir.calibrate.ranges import ranges_to_json
from edgeir.cli.calibrating import Calibration, CalibrationRequest, calibrate, calibration_record, choose_pictures
from edgeir.cli.console import Console
from edgeir.cli.coverage import attribution_tables, coverage_tables, planning_tables
from edgeir.cli.planning import (
    Attribution,
    Planning,
    PlanningTask,
    attribute_drift,
    plan_eight_bit_layers,
    require_truth,
)
from edgeir.errors import OutputError, UsageError
from edgeir.export.rewrites.apply import rewrite
from edgeir.manifest import Manifest
from edgeir.precision import Precision, PrecisionPlan, plan_to_yaml
from edgeir.provenance import collect
from edgeir.report.formats import emit
from edgeir.report.value import Check, Fact, Report
from edgeir.runtime.opening import graph_input
from edgeir.storage import atomic_write_bytes, writing

REPORT = "report.html"


@dataclass(frozen=True, slots=True)
class CalibrateRequest:
    """What the command line asked for.

    Attributes:
        bundle: of any precision.
        calibration: pictures, and how ranges are found on them.
        precision: `Precision.INT8` or `Precision.FP8`.
        attribute: measure what each layer costs alone.
        budget: choose layers for it; needs ``attribute``.
        out: folder of the files, ``None`` for one beside the bundle.
        force: replace what an earlier calibration left there.
    """

    bundle: Path
    calibration: CalibrationRequest
    precision: Precision
    attribute: bool
    budget: Loss | None
    out: Path | None
    force: bool

    @property
    def stages(self) -> int:
        """Of the work."""
        return 2 + self.attribute

    @property
    def folder(self) -> Path:
        """Where the files go."""
        return self.out or self.bundle.with_name(f"{self.bundle.resolve().stem}-{self.precision}-calibration")


@dataclass(frozen=True, slots=True)
class CalibrateOutcome:
    """The files, and what they say."""

    folder: Path
    manifest: Manifest
    report: Report


def calibrate_bundle(request: CalibrateRequest, console: Console) -> CalibrateOutcome:
    """Find ranges, attribute the drift, plan, and write the files: ranges, calibration record, plan and report.

    Raises:
        EdgeIRError: see `edgeir.errors`; nothing was written, but what was measured is kept to go on with.
    """
    started = time.perf_counter()
    console.stage(f"opening {request.bundle}")
    opened = Bundle.open(request.bundle)
    manifest, graph = opened.manifest, graph_input(opened.manifest)
    if request.budget is not None:
        require_truth(manifest.model, plans=True)
    if graph.scale > 1 and request.attribute:
        raise UsageError(
            "no drift is attributed in a network that enlarges: its calibration has no truth to compare with",
            where=str(request.bundle),
            fix="Add --no-attribute.",
        )
    _require_free(request.folder, force=request.force)
    pictures = choose_pictures(request.calibration, graph)
    model = ir.load(opened.file("reference"))
    placement = placement_of(model.graph)
    rewrite(model)

    console.stage(f"finding ranges on {len(pictures.samples)} degraded crops of {len(pictures.sha256)} pictures")
    kind = KINDS[request.precision]
    base = plan_fp16(model)
    placed = candidates(model.graph, base, placement, request.precision)
    calibration = calibrate(
        model, pictures, graph, request=request.calibration, layers=placed, kind=kind, console=console
    )
    plan = plan_eight_bits(model.graph, base, placement, request.precision)
    attribution: Attribution | None = None
    planning: Planning | None = None
    if request.attribute:
        weights = manifest.model.weights
        task = PlanningTask(
            model,
            None,
            placed,
            calibration,
            kind,
            graph,
            state_path=request.folder.with_suffix(".planning.json"),
            identity={"weights": weights.sha256 if weights else None, "version": __version__},
        )
        if request.budget is None:
            console.stage(f"measuring what each of {len(task.candidates)} layers costs alone in {request.precision}")
            attribution = attribute_drift(task, console=console)
        else:
            console.stage(f"planning for a drift of at most {request.budget.mean_db:g} dB")
            planning = plan_eight_bit_layers(task, request.budget, console=console)
            attribution = planning.attribution
        plan = plan_eight_bits(
            model.graph,
            base,
            placement,
            request.precision,
            costs_db=attribution.costs_db(),
            left=planning.left() if planning is not None else {},
        )
    tables = () if attribution is None else attribution_tables(attribution)
    report = Report(
        title=f"edgeir calibrate: {manifest.name} {request.precision}",
        summary=_summary(manifest, request.precision, plan, planning),
        facts=_facts(calibration, manifest),
        checks=_checks(calibration),
        tables=(*coverage_tables(calibration), *(tables if planning is None else planning_tables(planning))),
        provenance=collect(seconds=time.perf_counter() - started).to_dict(),
        notes=("Costs are of pictures of the calibration. What judges an export are other pictures.",),
    )
    _write(request.folder, calibration, plan, report)
    if attribution is not None:
        attribution.state.remove()
    return CalibrateOutcome(request.folder, manifest, report)


def _require_free(folder: Path, *, force: bool) -> None:
    """Before any work is done."""
    if folder.exists() and not folder.is_dir():
        raise OutputError("this is a file, and a folder is needed", where=str(folder), fix="Choose another --out.")
    if not force and folder.is_dir() and any(folder.iterdir()):
        raise OutputError(
            "the folder is not empty", where=str(folder), fix="Choose another --out, or replace its files with --force."
        )


def _summary(manifest: Manifest, precision: Precision, plan: PrecisionPlan, planning: Planning | None) -> str:
    count = sum(layer.type.eight_bits for layer in plan.layers)
    if planning is None:
        return f"{manifest.name}: {count} layers may be in {precision}; nothing was chosen among them."
    return f"{manifest.name}: {count} layers in {precision} cost {planning.full.loss} on the calibration's pictures."


def _facts(calibration: Calibration, manifest: Manifest) -> tuple[Fact, ...]:
    pictures = calibration.pictures
    state = "trained" if manifest.model.trained else "UNTRAINED"
    return (
        Fact("model", f"{manifest.name} ({state})"),
        Fact("graph", "reference.onnx of the bundle, rewritten"),
        Fact("pictures", f"{len(pictures.samples)} degraded crops of {len(pictures.sha256)}"),
        Fact("method", calibration.ranges.method),
    )


def _checks(calibration: Calibration) -> tuple[Check, ...]:
    wrong = [fit for fit in calibration.fits if fit.wrong]
    advice = ""
    if wrong:
        layers = " and ".join(calibration.readers[wrong[0].tensor])
        advice = f"The worst is that of {layers}: {wrong[0]}. Choose another --method, or mend it in ranges.json."
    return (Check("ranges that do not fit", len(wrong), 0, advice=advice),)


def _write(folder: Path, calibration: Calibration, plan: PrecisionPlan, report: Report) -> None:
    """The report last: where it is, everything is."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / REPORT).unlink(missing_ok=True)
    texts = {
        "ranges.json": ranges_to_json(calibration.ranges),
        "calibration.json": json.dumps(calibration_record(calibration.pictures), indent=1) + "\n",
        "plan.yaml": plan_to_yaml(plan),
        "report.json": emit(report, "json"),
        REPORT: emit(report, "html"),
    }
    for name, text in texts.items():
        atomic_write_bytes(folder / name, text.encode())
