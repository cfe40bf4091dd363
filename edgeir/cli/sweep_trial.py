"""The work of one trial, in a process of its own: ``python -m edgeir.cli.sweep_trial TASK``.

TASK is one JSON value, what `edgeir.sweep.running.Runner` hands over; the answer is one on the last line of stdout. The
phase ``prepare`` exports the bundle, ``measure`` times it and finds its drift.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeir.errors import EdgeIRError, MissingDependency
from edgeir.sweep.trial import Build, Settings, Trial

if TYPE_CHECKING:
    from edgeir.bundle import Bundle
    from edgeir.compare.drift import PictureDrift
    from edgeir.compare.parity import Run
    from edgeir.manifest import Manifest
    from edgeir.runtime.restore import GraphInput
    from edgeir.runtime.session import Session

_NO_TILING = "typed"  # what an export measures: the whole picture, every FP16 result rounded
_MOST_DB = 200.0  # stands for equal to the last bit
_SAME_DB = 100.0  # of fidelity: nothing is to be seen, and two sessions need not be opened for pictures of it


def prepare(build: Build, bundle: Path, drift: Path) -> dict[str, Any]:
    """Export the bundle of a trial, and keep the drift that the export measured.

    Raises:
        EdgeIRError: as `edgeir.cli.export_bundle.export_bundle`.
    """
    from edgeir.cli.calibrating import CalibrationRequest
    from edgeir.cli.console import Console
    from edgeir.cli.export_bundle import ExportRequest, export_bundle
    from edgeir.cli.options import drift_budget
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
    _keep(drift, _NO_TILING, outcome.drift)
    return {"bundle": outcome.path.name}


def measure(trial: Trial, settings: Settings, bundle: Path, drift: Path, pictures: Path) -> dict[str, Any]:
    """Latency beside the reference's, peak memory, and drift; JSON values.

    Raises:
        EdgeIRError: the bundle or the backend cannot be used.
    """
    from edgeir.bundle import Bundle
    from edgeir.runtime.memory import peak_memory_bytes
    from edgeir.runtime.opening import graph_input, open_session

    opened = Bundle.open(bundle)
    graph = graph_input(opened.manifest)
    checkpoint = Path(trial.build.checkpoint) if trial.build.checkpoint else None
    session = open_session(opened, trial.backend, checkpoint=checkpoint, threads=trial.threads)
    reference = open_session(opened, "ort-reference", threads=trial.threads)
    figures = _latency(trial, settings, graph, session, reference, opened)
    figures["runtime"] = session.name
    del session, reference
    figures["peak_mib"] = round(peak_memory_bytes(bundle, trial.backend, checkpoint=checkpoint) / 2**20)
    figures |= _bundle_figures(opened)
    try:
        figures |= _drift_figures(trial, settings, graph, opened, drift, pictures)
    except MissingDependency as error:  # a device without the measuring pictures
        figures["no_drift"] = str(error)
    return figures


def _latency(
    trial: Trial, settings: Settings, graph: GraphInput, session: Session, reference: Session, opened: Bundle
) -> dict[str, Any]:
    from functools import partial

    import numpy as np

    from edgeir.imaging.measuring import MEASURING_PICTURES, measuring_crop
    from edgeir.runtime.timing import time_together

    size = (trial.height, trial.width)
    try:
        picture = measuring_crop(MEASURING_PICTURES[0].name, *size)
    except MissingDependency:  # any picture times alike
        picture = np.random.default_rng(0).random((*size, 3), dtype=np.float32)
    whole = size == graph.optimum and trial.tile_px is None
    if whole:
        batch = np.repeat(picture.transpose(2, 0, 1)[None], graph.batch, axis=0)
        runners = {"trial": partial(session.run, batch), "reference": partial(reference.run, batch)}
    else:
        runners = {
            name: partial(_restore, one, graph, picture, trial.tile_px, opened)
            for name, one in (("trial", session), ("reference", reference))
        }
    timings = time_together(runners, rounds=settings.rounds, warmup=1)
    timing, baseline = timings["trial"], timings["reference"]
    ratios = timing.samples_ms / baseline.samples_ms
    at_once = graph.batch if whole else 1
    return {
        **{f"p{percent}_ms": timing.percentile_ms(percent) for percent in (50, 90, 95, 99)},
        "first_ms": timing.warmup_ms,
        "pictures_per_s": at_once * 1e3 / timing.percentile_ms(50),
        "reference_p50_ms": baseline.percentile_ms(50),
        "time_ratio": float(np.median(ratios)),
        "time_ratio_low": float(ratios.min()),
        "time_ratio_high": float(ratios.max()),
    }


def _restore(session: Session, graph: GraphInput, pixels: Any, tile_px: int | None, opened: Bundle) -> Any:
    from edgeir.runtime.restore import overlap_for, restore_pixels

    tiling = opened.manifest.tiling
    overlap = overlap_for(graph, tile_px=tile_px, measured_px=tiling.overlap_px if tiling else None)
    return restore_pixels(session, graph, pixels, tile_px=tile_px, overlap_px=overlap.px)


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
            if table.title == "Rewrites":
                figures["rewrites"] = {"columns": list(table.columns), "rows": [list(row) for row in table.rows]}
    return figures


def _drift_figures(
    trial: Trial, settings: Settings, graph: GraphInput, opened: Bundle, kept: Path, pictures: Path
) -> dict[str, Any]:
    from edgeir.compare.drift import by_condition

    rows = _drift(trial, settings, graph, opened, kept)
    conditions = by_condition(rows)
    worst_condition = max(conditions, key=lambda row: row.mean_drift_db)
    worst = max(rows, key=lambda row: row.drift_db)
    gains = [row.engine_db - row.input_db for row in rows if row.condition != "clean"]
    fidelity_db = min(_MOST_DB, *(row.fidelity_db for row in rows))
    differs = not fidelity_db >= _SAME_DB  # NaN and minus infinity are worth a look
    return {
        "mean_drift_db": _mean([row.drift_db for row in rows]),
        "worst_degradation": {"name": worst_condition.condition, "drift_db": worst_condition.mean_drift_db},
        "worst_picture": {"name": worst.picture, "condition": worst.condition, "drift_db": worst.drift_db},
        "min_fidelity_db": fidelity_db,
        "mean_gain_db": _mean(gains) if gains else None,
        "by_degradation": {row.condition: row.mean_drift_db for row in conditions},
        "rounded": importlib.util.find_spec("onnx_ir") is not None,
        **_judged(rows, opened.manifest),
        **({"comparison": _comparison(trial, worst, graph, opened, pictures)} if differs else {}),
    }


def _judged(rows: Sequence[PictureDrift], manifest: Manifest) -> dict[str, Any]:
    """Against the gates of the precision."""
    from edgeir.cli.verdicts import drift_checks
    from edgeir.precision import Precision

    checks = drift_checks(
        rows,
        Precision(manifest.precision),
        trained=manifest.model.trained,
        chooses_neighbours=manifest.model.chooses_neighbours,
    )
    failed = [check.name for check in checks if not check.passed]
    return {"within_gates": not failed, "failed_checks": failed}


def _drift(trial: Trial, settings: Settings, graph: GraphInput, opened: Bundle, kept: Path) -> list[PictureDrift]:
    """Rows for the first pictures of the measuring set: from an earlier trial of the same bundle, or measured."""
    from edgeir.compare.drift import measure_drift
    from edgeir.imaging.measuring import measuring_pictures

    names = [picture.name for picture in measuring_pictures(settings.pictures)]
    whole = trial.tile_px is None and (trial.height, trial.width) == graph.optimum
    kind = _NO_TILING if trial.backend == "ort" else trial.backend
    label = kind if whole else f"{kind} {trial.size} tile {trial.tile_px}"
    found = [row for row in _kept(kept, label) if row.picture in names]
    if {row.picture for row in found} == set(names):
        return found
    reference, engine = _runs(trial, graph, opened)
    rows = measure_drift(_samples(trial, names, graph), reference, engine)
    _keep(kept, label, rows)
    return rows


def _samples(trial: Trial, names: Sequence[str], graph: GraphInput) -> Any:
    from edgeir.compare.drift import degraded_samples
    from edgeir.imaging.conditions import VALIDATION_CONDITIONS
    from edgeir.imaging.measuring import measuring_crop

    sides = (trial.height * graph.scale, trial.width * graph.scale)
    return degraded_samples(
        [(name, measuring_crop(name, *sides)) for name in names], VALIDATION_CONDITIONS, scale=graph.scale
    )


def _runs(trial: Trial, graph: GraphInput, opened: Bundle) -> tuple[Run, Run]:
    """The reference and the trial's engine, each on one picture of the trial's size.

    ONNX Runtime is made to round every FP16 result, as a device does, where the ONNX tools are here for that.
    """
    import numpy as np

    from edgeir.cli.measuring import rounding_session
    from edgeir.runtime.opening import open_session
    from edgeir.runtime.ort_session import OrtSession

    def rounding(path: Path) -> Session:
        try:
            return rounding_session(path)
        except MissingDependency:
            return OrtSession(path, integer_kernels=False)

    def on_one(session: Session) -> Run:
        if trial.tile_px is None and (trial.height, trial.width) == graph.optimum:
            return lambda picture: session.run(np.repeat(picture, graph.batch, axis=0))[:1]

        def restore(picture: Any) -> Any:
            restored = _restore(session, graph, picture[0].transpose(1, 2, 0), trial.tile_px, opened)
            return restored.transpose(2, 0, 1)[None]

        return restore

    reference = rounding(opened.file("reference"))
    checkpoint = Path(trial.build.checkpoint) if trial.build.checkpoint else None
    if trial.backend == "ort":
        engine: Session = rounding(opened.file("model"))
    else:
        engine = open_session(opened, trial.backend, checkpoint=checkpoint)
    return on_one(reference), on_one(engine)


def _comparison(trial: Trial, worst: PictureDrift, graph: GraphInput, opened: Bundle, folder: Path) -> dict[str, Any]:
    """PNGs of the picture that loses most, and what they are called: name to path below the sweep's ``pictures``."""
    from edgeir.imaging.look import to_lay_over
    from edgeir.imaging.writing import png_bytes
    from edgeir.storage import atomic_write_bytes

    sample = next(one for one in _samples(trial, [worst.picture], graph) if one.condition == worst.condition)
    outputs = [run(sample.batch())[0].transpose(1, 2, 0) for run in _runs(trial, graph, opened)]
    layers = to_lay_over(sample.degraded, *outputs)
    folder.mkdir(parents=True, exist_ok=True)
    written = {}
    for name, pixels in layers.items():
        path = folder / f"{name.split()[0]}.png"
        atomic_write_bytes(path, png_bytes(pixels))
        written[name] = f"{folder.name}/{path.name}"
    return {"caption": f"{worst.picture} under {worst.condition}, {worst.drift_db:.4f} dB", "layers": written}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _keep(path: Path, label: str, rows: Sequence[PictureDrift]) -> None:
    from edgeir.storage import atomic_write_bytes

    content = _read_kept(path)
    content[label] = [asdict(row) for row in rows]
    atomic_write_bytes(path, json.dumps(content).encode())


def _kept(path: Path, label: str) -> list[PictureDrift]:
    """Rows as `_keep` wrote them; none where another edgeir wrote other fields."""
    from edgeir.compare.drift import PictureDrift
    from edgeir.imaging.look import Look

    try:
        return [PictureDrift(**{**row, "look": Look(**row["look"])}) for row in _read_kept(path).get(label, [])]
    except (KeyError, TypeError):
        return []


def _read_kept(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


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
