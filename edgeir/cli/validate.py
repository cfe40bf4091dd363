"""``edgeir validate``: parity with PyTorch, drift per degradation, a contract, another bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from edgeir.cli.console import Console, print_result
from edgeir.errors import UsageError, nearest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgeir.runtime.restore import GraphInput

FORMATS = ("text", "json", "markdown", "html", "junit", "csv")
COLOUR_PICTURES = 11


def command(
    bundle: Path = typer.Argument(..., help="A bundle made by 'edgeir export'."),
    images: Path | None = typer.Option(None, "--images", help="Clean pictures to measure on, instead of ours."),
    pictures: int = typer.Option(COLOUR_PICTURES, "--pictures", help="How many measuring pictures, from the first."),
    checkpoint: Path | None = typer.Option(None, "--checkpoint", help="The weights, if they were your own."),
    reference: str = typer.Option(
        "torch", "--reference", help="What to hold it against: torch, or onnx (reference.onnx alone, needs no PyTorch)."
    ),
    contract: Path | None = typer.Option(
        None, "--contract", metavar="FILE", help="A contract.yaml: limits that take the place of edgeir's own on drift."
    ),
    against: Path | None = typer.Option(
        None, "--against", metavar="BUNDLE", help="Another bundle: is there a difference, and is it real?"
    ),
    video: Path | None = typer.Option(None, "--video", metavar="FILE", help="Measure flicker on a video instead."),
    frames: int | None = typer.Option(None, "--frames", help="How many frames of it, from the first (16)."),
    format: str | None = typer.Option(None, "--format", help="text, json, markdown, html, junit or csv."),
    as_json: bool = typer.Option(False, "--json", help="The same as --format json."),
) -> None:
    """Hold every engine of a bundle that runs here against its reference; exit code 1 if a check fails."""
    if format is not None and format not in FORMATS:
        raise UsageError(f"unknown format '{format}'", where="--format", fix=nearest(format, FORMATS))
    if reference not in ("torch", "onnx"):
        raise UsageError(
            f"unknown reference '{reference}'", where="--reference", fix=nearest(reference, ("torch", "onnx"))
        )

    import time

    from edgeir.bundle import Bundle
    from edgeir.cli.validate_video import FRAMES, refuse_mixed, validate_video
    from edgeir.cli.validation import ValidationRequest, validate_bundle
    from edgeir.cli.verdicts import require_passed
    from edgeir.compare.contract import read_contract
    from edgeir.provenance import collect
    from edgeir.report.formats import emit
    from edgeir.runtime.opening import graph_input

    started = time.perf_counter()
    refuse_mixed(
        video, frames, {"--images": images, "--contract": contract, "--against": against, "--checkpoint": checkpoint}
    )

    def provenance() -> dict[str, Any]:
        return collect(seconds=time.perf_counter() - started).to_dict()

    if video is not None:
        console = Console(stages=2)
        console.stage(f"opening {bundle}")
        report = validate_video(
            Bundle.open(bundle), video, frames=frames or FRAMES, console=console, provenance=provenance
        )
        print_result(emit(report, "json" if as_json else format or "text"))
        require_passed(report, where=str(bundle))
        return
    limits = None if contract is None else read_contract(contract)
    console = Console(stages=2 + (reference == "torch") + (against is not None) + (limits is not None and limits.costs))
    console.stage(f"opening {bundle}")
    opened = Bundle.open(bundle)
    request = ValidationRequest(
        bundle=opened,
        pictures=pictures,
        own=None if images is None else _own_pictures(images, graph_input(opened.manifest), console),
        torch=reference == "torch",
        checkpoint=checkpoint,
        contract=limits,
        contract_name="" if contract is None else str(contract),
        against=None if against is None else Bundle.open(against),
    )
    report = validate_bundle(request, console, provenance)
    print_result(emit(report, "json" if as_json else format or "text"))
    require_passed(report, where=str(bundle))


def _own_pictures(folder: Path, graph: GraphInput, console: Console) -> list[tuple[str, NDArray[np.float32]]]:
    from edgeir.cli.measuring import fit_crop
    from edgeir.imaging.listing import list_pictures
    from edgeir.imaging.reading import read_picture

    listing = list_pictures(folder)
    if listing.skipped:
        console.say(f"      {len(listing.skipped)} files in {folder} are not pictures and are left alone.")
    height, width = graph.optimum[0] * graph.scale, graph.optimum[1] * graph.scale
    return [(path.name, fit_crop(read_picture(path).pixels, height, width)) for path in listing.pictures]
