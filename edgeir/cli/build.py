"""``edgeir build``: an engine for this very machine, into a bundle that is already there; no torch, no ONNX tools."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from edgeir.cli.console import Console, print_result
from edgeir.errors import MissingDependency, UsageError, nearest

if TYPE_CHECKING:
    from edgeir.cli.build_engine import BuildOutcome

TARGETS = ("ort", "rtx", "tensorrt")
_INSTALL = {
    "rtx": "Run: pip install 'edgeir[rtx]'",
    "tensorrt": "Install TensorRT for this device (its wheels come from NVIDIA's own index, or JetPack brings it; an "
    "environment sees JetPack's where it was made with --system-site-packages).",
}


def command(
    bundle: Path = typer.Argument(..., help="A bundle made by 'edgeir export'."),
    target: str | None = typer.Option(
        None, "--target", help="ort, rtx or tensorrt (TensorRT where it is installed, else TensorRT-RTX, else ort)."
    ),
    timing_cache: Path | None = typer.Option(
        None, "--timing-cache", metavar="FILE", help="Where TensorRT's timing cache is kept (in the bundle)."
    ),
    plugins: bool = typer.Option(False, "--plugins", help="Load the library that 'edgeir plugins build' made here."),
    floats: bool = typer.Option(
        False, "--floats", help="From the graph of floats although the bundle has one of bytes."
    ),
    tiles: bool = typer.Option(
        False, "--tiles", help="From the graph whose tiles share what the network finds in the whole picture."
    ),
    force: bool = typer.Option(False, "--force", help="Build although the engine is there."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON value."),
) -> None:
    """Build an engine for this machine and add it to the bundle, in one step."""
    from edgeir.cli.build_engine import BuildTask, build_for_ort, build_with_tensorrt
    from edgeir.export.engines.builder import can_build

    if target is not None and target not in TARGETS:
        raise UsageError(f"unknown target '{target}'", where="--target", fix=nearest(target, TARGETS))
    runtime = target or next((name for name in ("tensorrt", "rtx") if can_build(name)), "ort")
    if runtime != "ort" and not can_build(runtime):
        raise MissingDependency(
            f"the engine builder '{runtime}' is not installed", where="--target", fix=_INSTALL[runtime]
        )
    if timing_cache is not None and runtime != "tensorrt":
        raise UsageError(f"the target '{runtime}' has no timing cache", where="--timing-cache", fix="Leave it out.")
    if floats and runtime == "ort":
        raise UsageError("the target 'ort' is built from the graph of floats", where="--floats", fix="Leave it out.")
    if tiles and runtime == "ort":
        raise UsageError(
            "in ONNX Runtime tiles share statistics without it", where="--tiles", fix="Leave it out: 'edgeir run' does."
        )
    if tiles and (plugins or floats):
        other = "--plugins" if plugins else "--floats"
        raise UsageError(f"--tiles and {other} do not go together", where="--tiles", fix="Build one engine of each.")
    if plugins and runtime != "tensorrt":
        raise UsageError(f"the target '{runtime}' has no plugins", where="--plugins", fix="Leave it out.")
    task = BuildTask(bundle, runtime, timing_cache, plugins=plugins, floats=floats, tiles=tiles, force=force)
    console = Console(stages=3)
    outcome = build_for_ort(task, console) if runtime == "ort" else build_with_tensorrt(task, console)
    if as_json:
        print_result(json.dumps(_row(outcome), indent=2))
    else:
        print_result(_text(outcome))


def _row(outcome: BuildOutcome) -> dict[str, object]:
    return {
        "bundle": str(outcome.bundle),
        "runtime": outcome.note.runtime,
        "version": outcome.note.version,
        "architecture": outcome.note.architecture,
        "engine": outcome.note.path,
        "built": outcome.built,
        "seconds": outcome.seconds,
        "note": outcome.note.note,
    }


def _text(outcome: BuildOutcome) -> str:
    if not outcome.built:
        return f"Already built: {outcome.bundle / str(outcome.note.path)}. --force builds it again.\n"
    return f"Built: {outcome.bundle / str(outcome.note.path)}\n{outcome.note.note}\n"
