"""``edgeir plan-size``: tiles, memory and time of a picture on a device, before anything is built."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from edgeir.cli.console import print_result
from edgeir.errors import UsageError

if TYPE_CHECKING:
    from edgeir.report.value import Report
    from edgeir.sizing.plan import SizePlan

_RESOLUTION = re.compile(r"(\d{1,6})[xX](\d{1,6})", re.ASCII)
_PRECISIONS = ("fp32", "fp16", "int8", "fp8")
_NOTE = (
    "Modelled, not measured: the network alone, without reading, padding and writing pictures. Quickest: everything "
    "that can be is fused, and arithmetic and memory work at once. Slowest: nothing is. 'edgeir bench' on the device "
    "has the truth."
)


_KEY_GRAPH_NOTE = (
    "The key graph's choice of neighbours is sorting, which the model leaves out: on a processor ONNX Runtime took 2.6 "
    "times the slow end, and the kernels of 'edgeir plugins' are there to do better."
)
_PROCESSOR_NOTE = (
    "Memory is that of a graph prepared with --for onnxruntime; another one takes up to 1.6 times as much."
)


def command(
    resolution: str = typer.Argument(..., metavar="WIDTHxHEIGHT", help="Of the pictures, in pixels: 1920x1080."),
    device: str = typer.Option(
        "this-machine", "--for", metavar="DEVICE", help="orin-nx-8gb, thor, rtx-4070, ...; this machine's processor."
    ),
    model: str = typer.Option("exda-tiny", "--model", metavar="NAME|BUNDLE", help="A named model, or a bundle."),
    precision: str | None = typer.Option(None, "--precision", help="fp32, fp16, int8 or fp8 (fp16; a bundle's own)."),
    tile: int | None = typer.Option(None, "--tile", help="Side of the tiles in pixels (the best is looked for)."),
    overlap: int | None = typer.Option(
        None, "--overlap", help="What neighbouring tiles share, in pixels (as measured for a bundle, or 32)."
    ),
    power_mode: str | None = typer.Option(None, "--power-mode", help="Of the device, as nvpmodel names it (fastest)."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON value."),
) -> None:
    """Say which tiles a picture takes on a device, and the memory and time, before anything is built."""
    from edgeir.report.formats import emit

    plan = _plan(_picture(resolution), device, model, precision, tile, overlap)
    plan.device.mode(power_mode)
    report = _report(plan, model, power_mode)
    if as_json:
        print_result(json.dumps(_value(plan, power_mode), indent=2))
        return
    print_result(emit(report, "text"))
    if commands := _next(plan, model):
        print_result("\n  ".join(("Next:", *commands)) + "\n")


def _next(plan: SizePlan, model: str) -> list[str]:
    """The commands that do what was planned; none where it does not fit, or where nothing has to be said."""
    from edgeir.bundle import bundle_name

    if not plan.fits:
        return []
    shared = f" --overlap {plan.cut.overlap.px}" if plan.cut.tiles > 1 and plan.cut.overlap.origin == "asked" else ""
    if _is_bundle(model):
        tile = "" if plan.tile_option is None else f" --tile {plan.tile_option}"
        return [f"edgeir run {shlex.quote(model)} PICTURE -o RESTORED.png{tile}{shared}"] if tile or shared else []
    height, width = plan.cut.tile
    pictures = " --calibration FOLDER" if plan.precision in ("int8", "fp8") else ""
    prepared = " --for onnxruntime" if plan.device.architecture == "cpu" else ""
    commands = [f"edgeir export --model {model} --{plan.precision}{pictures} --size {height}x{width}{prepared}"]
    if shared:
        made = bundle_name(model, plan.precision, height, width)
        commands.append(f"edgeir run {made} PICTURE -o RESTORED.png{shared}")
    return commands


def _is_bundle(model: str) -> bool:
    path = Path(model)
    return path.is_dir() or path.suffix == ".edgeir"


def _picture(text: str) -> tuple[int, int]:
    match = _RESOLUTION.fullmatch(text.strip())
    if match is None or "0" in (match[1].lstrip("0") or "0", match[2].lstrip("0") or "0"):
        raise UsageError("not a resolution", expected="WIDTHxHEIGHT in pixels, such as 1920x1080", got=repr(text))
    return int(match[2]), int(match[1])


def _plan(
    picture: tuple[int, int], device_name: str, model: str, precision: str | None, tile: int | None, overlap: int | None
) -> SizePlan:
    from edgeir.errors import nearest
    from edgeir.sizing.devices import THIS_MACHINE, device
    from edgeir.sizing.here import this_machine
    from edgeir.sizing.networks import network
    from edgeir.sizing.plan import plan_bundle, plan_named

    if precision is not None and precision not in _PRECISIONS:
        raise UsageError(f"unknown precision '{precision}'", where="--precision", fix=nearest(precision, _PRECISIONS))
    known = None if _is_bundle(model) else network(model)  # a misspelt name is told before this machine is measured
    there = this_machine() if device_name == THIS_MACHINE else device(device_name)
    if known is not None:
        return plan_named(known, picture, there, precision or "fp16", tile_px=tile, overlap_px=overlap)
    from edgeir.bundle import Bundle

    manifest = Bundle.open(Path(model), verify=False).manifest
    if precision not in (None, manifest.precision):
        raise UsageError(
            "the bundle is of another precision", where="--precision", expected=manifest.precision, got=precision
        )
    return plan_bundle(manifest, picture, there, tile_px=tile, overlap_px=overlap)


def _report(plan: SizePlan, model: str, power_mode: str | None) -> Report:
    from edgeir.report.value import Fact, Report, Table
    from edgeir.sizing.memory import usable_bytes

    cut, memory, device = plan.cut, plan.memory, plan.device
    processor = device.architecture == "cpu"
    mode = device.mode(power_mode)
    seconds = plan.seconds(power_mode)
    height, width = cut.picture
    tiles = f"{cut.tiles} tile{'s' * (cut.tiles != 1)} of {cut.tile[1]}x{cut.tile[0]}"
    shared = f", {cut.overlap.px} shared" if cut.tiles > 1 else ""
    where = "memory" if device.shared else "memory of the card"
    needed = memory.total if device.shared else memory.engine
    room = f"{_bytes(needed)} of {_bytes(usable_bytes(device))} usable {where}"
    verdict = "" if plan.fits else "DOES NOT FIT: "
    return Report(
        title=f"{width}x{height} through {plan.network.name} {plan.precision} on {device.title}",
        summary=f"{verdict}{tiles}{shared}; {room}; {_span_ms(seconds.quickest, seconds.slowest)} a picture, modelled.",
        facts=(
            Fact("picture", f"{width} wide, {height} high; padded to {cut.padded[1]}x{cut.padded[0]}"),
            Fact("tiles", f"{tiles}{shared}. {plan.reason}"),
            *([Fact("runs", f"{cut.runs} of {cut.batch} tiles")] if cut.batch > 1 else []),
            *([Fact("gathering", _gathering(plan.gathered))] if plan.gathered else []),
            *([Fact("overlap", f"{cut.overlap.px} pixels, {cut.overlap.origin}")] if cut.tiles > 1 else []),
            Fact("repeated work", f"{100 * cut.repeated:.0f} % of the pixels, padding included"),
            Fact("activations", _bytes(memory.activations)),
            Fact("weights", _bytes(memory.weights)),
            Fact("runtime", f"{_bytes(memory.process)}, {'measured' if processor else 'an allowance'}"),
            Fact("pictures", f"{_bytes(memory.pictures)} on the host"),
            Fact("fits", f"{'yes' if plan.fits else 'NO'}: {room}"),
            Fact("arithmetic alone", f"{_ms(seconds.arithmetic)} at the full rate, {mode.name}"),
            Fact(
                "memory traffic alone",
                f"{_span_ms(seconds.least_traffic, seconds.most_traffic)} at {mode.bandwidth / 1e9:.0f} GB/s",
            ),
        ),
        tables=(
            Table(
                title="Time per picture",
                columns=("power mode", "quickest ms", "slowest ms", "pictures per second"),
                rows=tuple(_mode_row(plan, each.name) for each in device.modes),
                note=_NOTE,
            ),
        ),
        notes=(
            *([_KEY_GRAPH_NOTE] if plan.network.chooses_neighbours else []),
            *([_PROCESSOR_NOTE] if processor else []),
        ),
    )


def _gathering(runs: int) -> str:
    return (
        f"{runs} run{'s' * (runs != 1)} before these, for the statistics that the tiles share "
        "('edgeir run --tile-statistics own' does without)"
    )


def _mode_row(plan: SizePlan, mode: str) -> tuple[str, float, float, str]:
    seconds = plan.seconds(mode)
    quickest, slowest = round(1e3 * seconds.quickest, 1), round(1e3 * seconds.slowest, 1)
    return mode, quickest, slowest, f"{1 / seconds.slowest:.2f} to {1 / seconds.quickest:.2f}"


def _value(plan: SizePlan, power_mode: str | None) -> dict[str, Any]:
    from edgeir.sizing.memory import usable_bytes

    cut, memory = plan.cut, plan.memory
    return {
        "modelled": True,
        "model": plan.network.name,
        "precision": plan.precision,
        "device": plan.device.name,
        "power_mode": plan.device.mode(power_mode).name,
        "picture": {"width": cut.picture[1], "height": cut.picture[0]},
        "padded": {"width": cut.padded[1], "height": cut.padded[0]},
        "tile": {"width": cut.tile[1], "height": cut.tile[0], "option": plan.tile_option},
        "overlap_px": cut.overlap.px,
        "overlap_from": cut.overlap.origin,
        "tiles": cut.tiles,
        "runs": cut.runs,
        "gathering_runs": plan.gathered,
        "repeated_work": round(cut.repeated, 4),
        "memory_bytes": {
            "weights": memory.weights,
            "activations": memory.activations,
            "runtime": memory.process,
            "pictures": memory.pictures,
            "engine": memory.engine,
            "total": memory.total,
            "usable": usable_bytes(plan.device),
        },
        "fits": plan.fits,
        "modes": [
            {"power_mode": mode.name, "quickest_s": seconds.quickest, "slowest_s": seconds.slowest}
            for mode in plan.device.modes
            for seconds in [plan.seconds(mode.name)]
        ],
        "reason": plan.reason,
    }


def _bytes(size: int) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def _span_ms(low: float, high: float) -> str:
    return f"{_ms(low)} to {_ms(high)}"
