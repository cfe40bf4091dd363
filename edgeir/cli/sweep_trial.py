"""The work of one trial, in a process of its own: ``python -m edgeir.cli.sweep_trial TASK``.

TASK is one JSON value, what `edgeir.sweep.running.Runner` hands over; the answer is one on the last line of stdout. The
phase ``prepare`` exports the bundle, ``measure`` times it and finds its drift.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeir.errors import EdgeIRError, MissingDependency
from edgeir.sweep.trial import Build, Settings, Trial

if TYPE_CHECKING:
    from edgeir.bundle import Bundle
    from edgeir.report.value import Table
    from edgeir.runtime.restore import GraphInput
    from edgeir.runtime.session import Session

_COVERAGE = "Calibration: "  # how the tables of a report begin that say what a calibration saw
_ENERGY_S = 2.0  # of idling, and of work: a meter is read some ten times a second
_LAYER_RUNS = 3


def prepare(build: Build, bundle: Path, drift: Path) -> dict[str, Any]:
    """Export the bundle of a trial, and keep the drift that the export measured.

    Raises:
        EdgeIRError: as `edgeir.cli.export_bundle.export_bundle`.
    """
    from edgeir.cli.calibrating import CalibrationRequest
    from edgeir.cli.console import Console
    from edgeir.cli.export_bundle import export_bundle
    from edgeir.cli.export_request import ExportRequest
    from edgeir.cli.options import drift_budget
    from edgeir.cli.sweep_drift import keep_exported
    from edgeir.export.graph import TraceShape
    from edgeir.export.runtimes import runtime_named
    from edgeir.precision import Precision

    request = ExportRequest(
        model=None if build.checkpoint else build.name,
        checkpoint=Path(build.checkpoint) if build.checkpoint else None,
        precision=Precision(build.precision),
        shape=TraceShape(build.batch, build.height, build.width),
        targets=build.targets or ("ort",),
        k=build.k,
        runtimes=tuple(runtime_named(name) for name in build.runtimes),
        plugins=False,
        without=(),
        also=(),
        plan=Path(build.plan) if build.plan else None,
        calibration=CalibrationRequest(Path(build.calibration)) if build.calibration else None,
        budget=drift_budget(build.drift_budget_db, None),
        tiles=False,
        out=bundle,
        force=True,
    )
    outcome = export_bundle(request, Console(stages=request.stages))
    keep_exported(drift, outcome.drift)
    return {"bundle": outcome.path.name}


def measure(trial: Trial, settings: Settings, bundle: Path, drift: Path, pictures: Path) -> dict[str, Any]:
    """Latency beside the reference's, energy, where the time goes, peak memory, and drift; JSON values.

    Raises:
        EdgeIRError: the bundle or the backend cannot be used.
    """
    from edgeir.bundle import Bundle
    from edgeir.cli.sweep_drift import drift_figures
    from edgeir.runtime.memory import peak_memory_bytes
    from edgeir.runtime.opening import graph_input, open_session

    opened = Bundle.open(bundle)
    graph = graph_input(opened.manifest)
    checkpoint = Path(trial.build.checkpoint) if trial.build.checkpoint else None
    session = open_session(opened, trial.backend, checkpoint=checkpoint, threads=trial.threads)
    reference = open_session(opened, "ort-reference", threads=trial.threads)
    figures = _latency(trial, settings, graph, session, reference, opened)
    figures |= _energy(trial, graph, session)
    figures["runtime"] = session.name
    del session, reference
    figures["peak_mib"] = round(peak_memory_bytes(bundle, trial.backend, checkpoint=checkpoint) / 2**20)
    if trial.backend == "ort":
        figures["layers"] = _layers(trial, graph, opened)
    figures |= _bundle_figures(opened)
    try:
        figures |= drift_figures(trial, settings, opened, drift, pictures)
    except MissingDependency as error:  # a device without the measuring pictures
        figures["no_drift"] = str(error)
    return figures


def _latency(
    trial: Trial, settings: Settings, graph: GraphInput, session: Session, reference: Session, opened: Bundle
) -> dict[str, Any]:
    from functools import partial

    import numpy as np

    from edgeir.cli.sweep_drift import restore_tiled
    from edgeir.imaging.measuring import MEASURING_PICTURES, measuring_crop
    from edgeir.runtime.timing import speedup, time_together

    size = (trial.height, trial.width)
    try:
        picture = measuring_crop(MEASURING_PICTURES[0].name, *size)
    except MissingDependency:  # any picture times alike
        picture = np.random.default_rng(0).random((*size, 3), dtype=np.float32)
    if trial.in_one:
        batch = np.repeat(picture.transpose(2, 0, 1)[None], graph.batch, axis=0)
        runners = {"trial": partial(session.run, batch), "reference": partial(reference.run, batch)}
    else:
        runners = {
            name: partial(restore_tiled, one, graph, picture, trial.tile_px, opened)
            for name, one in (("trial", session), ("reference", reference))
        }
    timings = time_together(runners, rounds=settings.rounds, warmup=1)
    timing, baseline = timings["trial"], timings["reference"]
    ratio = speedup(baseline, timing)  # the other way round: the trial's time over the reference's
    at_once = graph.batch if trial.in_one else 1
    return {
        **{f"p{percent}_ms": timing.percentile_ms(percent) for percent in (50, 90, 95, 99)},
        "first_ms": timing.warmup_ms,
        "pictures_per_s": at_once * 1e3 / timing.percentile_ms(50),
        "reference_p50_ms": baseline.percentile_ms(50),
        "time_ratio": ratio.median,
        "time_ratio_low": ratio.lowest,
        "time_ratio_high": ratio.highest,
    }


def _energy(trial: Trial, graph: GraphInput, session: Session) -> dict[str, Any]:
    """Joules per picture by the first meter that answers; nothing where none does."""
    from functools import partial

    from edgeir.cli.energy import measure_energy, meters_for
    from edgeir.cli.latency import timing_batch
    from edgeir.runtime.power import search_meters

    search = search_meters()
    run = partial(session.run, timing_batch(graph))
    found = measure_energy(
        run, meters_for(trial.backend, search), search.reasons, batch=graph.batch, idle_s=_ENERGY_S, busy_s=_ENERGY_S
    ).picture
    if found is None:
        return {}
    return {"joules": found.joules, "joules_above_idle": found.joules_above_idle, "power_meter": found.meter}


def _layers(trial: Trial, graph: GraphInput, opened: Bundle) -> dict[str, Any]:
    """The table of `edgeir.cli.layer_times.layer_table`: where ONNX Runtime's time goes."""
    from edgeir.cli.latency import timing_batch
    from edgeir.cli.layer_times import layer_table
    from edgeir.precision import read_plan
    from edgeir.runtime.ort_profile import node_times

    plans = opened.files("plan")
    nodes = node_times(opened.graph_for("onnxruntime"), timing_batch(graph), threads=trial.threads, runs=_LAYER_RUNS)
    table, _ = layer_table(nodes, read_plan(plans[0]) if plans else None)
    return _table_values(table)


def _table_values(table: Table) -> dict[str, Any]:
    return {"columns": list(table.columns), "rows": [list(row) for row in table.rows], "note": table.note}


def _bundle_figures(opened: Bundle) -> dict[str, Any]:
    manifest = opened.manifest
    size_of = {item.path: item.bytes for item in manifest.artifacts}
    figures: dict[str, Any] = {
        "trained": manifest.model.trained,
        "bundle_mb": round(sum(size_of.values()) / 1e6, 2),
        "engines": [
            {
                "runtime": note.runtime,
                "architecture": note.architecture,
                "mb": None if note.path is None else round(size_of[note.path] / 1e6, 2),
                "note": note.note,
            }
            for note in manifest.engines
        ],
    }
    if reports := opened.files("report-json"):
        from edgeir.report.json_format import report_from_json

        report = report_from_json(opened.read(reports[0].name).decode(), where=reports[0].name)
        facts = {fact.label: fact.value for fact in report.facts}
        figures["eight_bits"] = facts.get("in eight bits")
        for table in report.tables:
            kept = _table_values(table)
            if table.title == "Rewrites":
                figures["rewrites"] = kept
            elif table.title.startswith(_COVERAGE):
                figures.setdefault("calibration", {})[table.title.removeprefix(_COVERAGE)] = kept
    return figures


def run_task(task: Mapping[str, Any]) -> dict[str, Any]:
    """What a task asks for."""
    trial, settings = Trial.from_dict(task["trial"]), Settings(**task["settings"])
    bundle, drift = Path(task["bundle"]), Path(task["drift"])
    if task["phase"] == "prepare":
        return prepare(trial.build, bundle, drift)
    return measure(trial, settings, bundle, drift, Path(task["pictures"]))


def _main() -> None:
    import warnings

    warnings.simplefilter("ignore")
    try:
        answer = run_task(json.loads(sys.argv[1]))
    except EdgeIRError as error:
        sys.stderr.write(f"edgeir: {' '.join(str(error).splitlines())}\n")
        sys.exit(error.exit_code)
    sys.stdout.write(json.dumps(_jsonable(answer), allow_nan=False) + "\n")


def _jsonable(value: Any) -> Any:
    """``value`` with ``None`` for numbers that JSON does not know."""
    if isinstance(value, Mapping):
        return {str(key): _jsonable(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_jsonable(part) for part in value]
    return None if isinstance(value, float) and value - value != 0 else value


if __name__ == "__main__":
    _main()
