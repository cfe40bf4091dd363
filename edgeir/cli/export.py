"""``edgeir export``: checkpoint to bundle."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import typer

from edgeir.cli.console import Console, print_result
from edgeir.cli.options import drift_budget
from edgeir.cli.triton import require_repository, serve_after_export
from edgeir.errors import UsageError

TARGETS = ("ort", "rtx", "tensorrt")


def command(
    model: str | None = typer.Option(None, "--model", help="A named model, see 'edgeir models'."),
    checkpoint: Path | None = typer.Option(None, "--checkpoint", help="Weights: .safetensors, .pth, .ckpt."),
    fp32: bool = typer.Option(False, "--fp32", help="Keep everything in FP32."),
    fp16: bool = typer.Option(False, "--fp16", help="Write FP16 into the graph, FP32 where FP16 breaks (default)."),
    int8: bool = typer.Option(False, "--int8", help="INT8 where it pays, on top of FP16; needs --calibration."),
    fp8: bool = typer.Option(False, "--fp8", help="FP8 (E4M3) instead of INT8: RTX 40 and later."),
    calibration: Path | None = typer.Option(
        None, "--calibration", metavar="FOLDER", help="Clean pictures to find the ranges for --int8 or --fp8 on."
    ),
    method: str | None = typer.Option(
        None, "--calibration-method", help="How a range is chosen: minmax, percentile, mse (default) or entropy."
    ),
    samples: int | None = typer.Option(None, "--calibration-samples", help="Degraded crops to find ranges on (22)."),
    ranges: Path | None = typer.Option(
        None, "--ranges", help="A ranges.json to use; what --calibration shows then only judges it."
    ),
    mean_db: float | None = typer.Option(
        None, "--drift-budget", metavar="DB", help="Mean loss of PSNR allowed; --int8 and --fp8 plan for it."
    ),
    worst_db: float | None = typer.Option(
        None, "--worst-drift-budget", metavar="DB", help="Mean loss allowed under the worst degradation (0.5)."
    ),
    size: str | None = typer.Option(None, "--size", metavar="HxW", help="Height x width in pixels (256x256)."),
    batch: int = typer.Option(1, "--batch", help="Pictures per run."),
    dynamic: tuple[str, str, str] | None = typer.Option(
        None, "--dynamic", metavar="MIN OPT MAX", help="A range of sizes, each HxW, instead of one."
    ),
    target: str | None = typer.Option(
        None, "--target", help="Runtimes, comma-separated: ort, rtx, tensorrt (all that can be built here)."
    ),
    k: int | None = typer.Option(None, "--k", help="Neighbours per token in the key graph (KGT only)."),
    runtimes: list[str] | None = typer.Option(
        None,
        "--for",
        metavar="NAME",
        help="Write the file for this runtime or device as well: jetpack-6.2, onnxruntime, ...; repeatable.",
    ),
    plugins: bool = typer.Option(False, "--plugins", help="What --for writes is for a TensorRT with edgeir's plugins."),
    io: str = typer.Option(
        "float", "--io", help="What engines take and give, and a second graph beside model.onnx: uint8, bgr or nv12."
    ),
    yuv: str | None = typer.Option(
        None,
        "--yuv",
        metavar="NAME",
        help="What the bytes of --io nv12 mean: bt709-limited (default), bt709-full, bt601-limited, bt601-full.",
    ),
    plan: Path | None = typer.Option(None, "--plan", help="A plan.yaml to follow instead of planning."),
    without: list[str] | None = typer.Option(
        None, "--no-rewrite", metavar="RULE", help="Leave this rewrite out; repeatable."
    ),
    also: list[str] | None = typer.Option(
        None, "--rewrite", metavar="RULE", help="Apply this rewrite too, which is on request only; repeatable."
    ),
    tiles: bool = typer.Option(
        True, "--tiles/--no-tiles", help="Compare tiles with the whole picture; 'edgeir run' takes its overlap from it."
    ),
    out: Path = typer.Option(
        Path(), "--out", help="Folder that receives the bundle, or the bundle's own path ending in .edgeir."
    ),
    force: bool = typer.Option(False, "--force", help="Replace a bundle that is already there."),
    triton: Path | None = typer.Option(
        None, "--triton", metavar="DIR", help="Write the bundle into this Triton model repository too, if it passes."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON value."),
) -> None:
    """Turn a checkpoint into a bundle: typed ONNX, engines, and a report on what it lost."""
    if (model is None) == (checkpoint is None):
        raise UsageError(
            "name one thing to export", expected="--model NAME or --checkpoint FILE", got="both" if model else "neither"
        )
    asked = [name for name, wanted in (("fp32", fp32), ("fp16", fp16), ("int8", int8), ("fp8", fp8)) if wanted]
    if len(asked) > 1:
        raise UsageError(
            "name one precision",
            expected="--fp32, --fp16, --int8 or --fp8",
            got=" and ".join(f"--{name}" for name in asked),
        )
    if size is not None and dynamic is not None:
        raise UsageError("--size and --dynamic exclude each other", fix="OPT of --dynamic takes the place of --size.")
    targets = _targets(target)
    byte_format = _byte_format(io, yuv)
    if plugins and not runtimes:
        raise UsageError("--plugins goes with --for", where="--plugins", fix="Name a TensorRT: --for jetpack-6.2.")
    if triton is not None:
        require_repository(triton)

    from edgeir.cli.export_bundle import export_bundle
    from edgeir.cli.export_request import ExportRequest
    from edgeir.cli.verdicts import require_passed
    from edgeir.export.runtimes import runtime_named
    from edgeir.precision import Precision
    from edgeir.report.formats import emit

    precision = Precision(asked[0] if asked else "fp16")
    request = ExportRequest(
        model=model,
        checkpoint=checkpoint,
        precision=precision,
        shape=_shape(size, batch, dynamic),
        targets=targets,
        k=k,
        runtimes=tuple(dict.fromkeys(runtime_named(name) for name in runtimes or ())),
        plugins=plugins,
        without=tuple(without or ()),
        also=tuple(also or ()),
        plan=plan,
        calibration=_calibration(precision, calibration, method, samples, ranges),
        budget=drift_budget(mean_db, worst_db),
        tiles=tiles,
        out=out,
        force=force,
        io=byte_format,
    )
    outcome = export_bundle(request, Console(stages=request.stages))
    if as_json:
        report = json.loads(emit(outcome.report, "json"))
        print_result(json.dumps({"bundle": str(outcome.path), "report": report}, indent=2))
    else:
        print_result(emit(outcome.report, "text"))
        print_result(_next_commands(outcome.path))
    require_passed(outcome.report, where=str(outcome.path))
    if triton is not None:
        serve_after_export(outcome.path, triton, as_json=as_json)


def _targets(text: str | None) -> tuple[str, ...] | None:
    if text is None:
        return None
    from edgeir.errors import nearest

    names = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    for name in names:
        if name not in TARGETS:
            raise UsageError(f"unknown target '{name}'", where="--target", fix=nearest(name, TARGETS))
    if not names:
        raise UsageError("no target named", where="--target", expected=", ".join(TARGETS))
    return names


def _byte_format(io: str, yuv: str | None):  # type: ignore[no-untyped-def]
    from edgeir.errors import nearest
    from edgeir.imaging.byte_formats import FLOAT, ByteFormat
    from edgeir.imaging.yuv import Yuv, yuv_named

    kinds = (FLOAT, "uint8", "bgr", "nv12")
    if io not in kinds:
        raise UsageError(f"unknown pictures '{io}'", where="--io", expected=", ".join(kinds), fix=nearest(io, kinds))
    if yuv is not None and io != "nv12":
        raise UsageError("--yuv goes with --io nv12", where="--yuv", got=f"--io {io}")
    if io == FLOAT:
        return None
    return ByteFormat(io, None if io != "nv12" else Yuv() if yuv is None else yuv_named(yuv))  # type: ignore[arg-type]


def _calibration(  # type: ignore[no-untyped-def]
    precision, folder: Path | None, method: str | None, samples: int | None, ranges: Path | None
):
    from edgeir.calibrate.observers import make_observer
    from edgeir.cli.calibrating import METHOD, SAMPLES, CalibrationRequest

    if not precision.eight_bits:
        for option, value in (
            ("--calibration", folder),
            ("--calibration-method", method),
            ("--calibration-samples", samples),
            ("--ranges", ranges),
        ):
            if value is not None:
                raise UsageError(f"{option} goes with --int8 or --fp8", where=option, got=f"--{precision}")
        return None
    if folder is None:
        raise UsageError(
            f"--{precision} needs pictures to find the ranges of activations on",
            fix="Name a folder of clean pictures like those it will restore, a dozen or more: --calibration FOLDER.",
        )
    make_observer(method or METHOD)
    return CalibrationRequest(folder, method or METHOD, SAMPLES if samples is None else samples, ranges=ranges)


def _shape(size: str | None, batch: int, dynamic: tuple[str, str, str] | None):  # type: ignore[no-untyped-def]
    from edgeir.cli.options import parse_size
    from edgeir.export.graph import DynamicSize, TraceShape

    if dynamic is not None:
        low, best, high = (parse_size(text, where="--dynamic") for text in dynamic)
        return TraceShape(batch, *best, dynamic=DynamicSize(low, best, high))
    height, width = parse_size(size or "256x256", where="--size")
    return TraceShape(batch, height, width)


def _next_commands(bundle: Path) -> str:
    path = shlex.quote(str(bundle))
    return (
        "Next:\n"
        f"  edgeir run {path} PICTURE -o RESTORED.png\n"
        f"  edgeir validate {path}\n"
        f"  edgeir bench {path} --against torch\n"
        f"  open {shlex.quote(str(bundle / 'report.html'))}\n"
    )
