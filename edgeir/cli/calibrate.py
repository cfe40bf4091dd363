"""``edgeir calibrate``: ranges, what they were found on, what each layer costs, and a plan, from a finished bundle."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import typer

from edgeir.cli.console import Console, print_result
from edgeir.cli.options import drift_budget
from edgeir.errors import UsageError


def command(
    bundle: Path = typer.Argument(..., help="A bundle made by 'edgeir export', of any precision."),
    images: Path = typer.Option(..., "--images", metavar="FOLDER", help="Clean pictures like those to be restored."),
    fp8: bool = typer.Option(False, "--fp8", help="For FP8 (E4M3) instead of INT8."),
    method: str | None = typer.Option(
        None, "--method", help="How a range is chosen: minmax, percentile, mse (default) or entropy."
    ),
    samples: int | None = typer.Option(None, "--samples", help="Degraded crops to find ranges on (22)."),
    ranges: Path | None = typer.Option(None, "--ranges", help="A ranges.json to judge, instead of finding one."),
    attribute: bool = typer.Option(
        True, "--attribute/--no-attribute", help="Measure what each layer costs alone: minutes, hours for a large one."
    ),
    mean_db: float | None = typer.Option(
        None, "--drift-budget", metavar="DB", help="Mean loss of PSNR allowed: choose layers for it."
    ),
    worst_db: float | None = typer.Option(
        None, "--worst-drift-budget", metavar="DB", help="Mean loss allowed under the worst degradation (0.5)."
    ),
    out: Path | None = typer.Option(
        None, "--out", metavar="FOLDER", help="For the files; NAME-int8-calibration beside the bundle if left out."
    ),
    force: bool = typer.Option(False, "--force", help="Replace the files of a calibration that are already there."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON value."),
) -> None:
    """Find ranges on pictures, say which layers eight bits hurt, and write a plan to edit and to export with."""
    budget = drift_budget(mean_db, worst_db)
    if budget is not None and not attribute:
        raise UsageError(
            "a budget needs to know what each layer costs", where="--no-attribute", fix="Leave one of the two out."
        )

    from edgeir.calibrate.observers import make_observer
    from edgeir.cli.calibrate_bundle import REPORT, CalibrateRequest, calibrate_bundle
    from edgeir.cli.calibrating import METHOD, SAMPLES, CalibrationRequest
    from edgeir.cli.verdicts import require_passed
    from edgeir.precision import Precision
    from edgeir.report.formats import emit

    make_observer(method or METHOD)
    request = CalibrateRequest(
        bundle,
        CalibrationRequest(images, method or METHOD, SAMPLES if samples is None else samples, ranges=ranges),
        Precision.FP8 if fp8 else Precision.INT8,
        attribute,
        budget,
        out,
        force,
    )
    outcome = calibrate_bundle(request, Console(stages=request.stages))
    if as_json:
        report = json.loads(emit(outcome.report, "json"))
        print_result(json.dumps({"folder": str(outcome.folder), "report": report}, indent=2))
    else:
        folder = shlex.quote(str(outcome.folder))
        weights = outcome.manifest.model.weights
        ours = weights is not None and weights.source == "shipped"
        print_result(emit(outcome.report, "text"))
        print_result(
            "Next:\n"
            f"  open {folder}/{REPORT}\n"
            f"  edgeir export {f'--model {outcome.manifest.name}' if ours else '--checkpoint FILE'} "
            f"--{request.precision} --calibration {shlex.quote(str(images))} "
            f"--ranges {folder}/ranges.json --plan {folder}/plan.yaml\n"
        )
    require_passed(outcome.report, where=str(outcome.folder))
