"""``edgeir validate``: parity with PyTorch and drift per degradation of a finished bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from edgeir.cli.console import Console, print_result
from edgeir.errors import UsageError, nearest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgeir.runtime.restore import GraphInput

FORMATS = ("text", "json", "markdown", "html", "junit")
COLOUR_PICTURES = 11


def command(
    bundle: Path = typer.Argument(..., help="A bundle made by 'edgeir export'."),
    images: Path | None = typer.Option(None, "--images", help="Clean pictures to measure on, instead of ours."),
    pictures: int = typer.Option(COLOUR_PICTURES, "--pictures", help="How many measuring pictures, from the first."),
    checkpoint: Path | None = typer.Option(None, "--checkpoint", help="The weights, if they were your own."),
    format: str | None = typer.Option(None, "--format", help="text, json, markdown, html or junit."),
    as_json: bool = typer.Option(False, "--json", help="The same as --format json."),
) -> None:
    """Hold a bundle against the PyTorch reference; exit code 1 if a check fails."""
    if format is not None and format not in FORMATS:
        raise UsageError(f"unknown format '{format}'", where="--format", fix=nearest(format, FORMATS))

    import time

    from edgeir.bundle import Bundle
    from edgeir.cli.measuring import check_drift, check_parity, rounding_session, worst_picture
    from edgeir.cli.verdicts import drift_checks, drift_table, look_table, parity_checks, parity_table, require_passed
    from edgeir.precision import Precision
    from edgeir.provenance import collect
    from edgeir.report.formats import emit
    from edgeir.report.value import Fact, Report
    from edgeir.runtime.opening import graph_input, require_backend

    require_backend("torch")
    from edgeir.models.rebuild import rebuild
    from edgeir.runtime.torch_session import TorchSession

    started = time.perf_counter()
    console = Console(stages=3)
    console.stage(f"opening {bundle}")
    opened = Bundle.open(bundle)
    manifest = opened.manifest
    graph = graph_input(manifest)
    own = None if images is None else _own_pictures(images, graph, console)
    torch = TorchSession(rebuild(manifest.model, checkpoint=checkpoint))
    trained = manifest.model.trained
    if not trained:
        console.say(f"      {manifest.name} is UNTRAINED: PSNR against the truth says nothing.")

    console.stage("comparing with PyTorch on a real picture")
    graphs = {"reference.onnx": opened.file("reference"), "model.onnx": opened.file("model")}
    parity = check_parity(graphs, torch, graph)
    console.stage("measuring drift per degradation")
    reference, typed = (rounding_session(path) for path in graphs.values())
    drift = check_drift(typed, reference, graph, pictures=pictures, console=console, own=own)

    precision = Precision(manifest.precision)
    chooses = any(row.key_graph_overlap is not None for row in parity)
    state = "trained" if trained else "UNTRAINED"
    report = Report(
        title=f"edgeir validate: {manifest.name} {manifest.precision}",
        summary=f"{manifest.name} ({state}) in {manifest.precision} on {len({row.picture for row in drift})} pictures.",
        facts=(
            Fact("reference", torch.name),
            Fact("engine", f"model.onnx in {typed.name}"),
            Fact("pictures", "the measuring pictures" if own is None else f"{len(own)} of the user's"),
        ),
        checks=(
            *parity_checks(parity, precision),
            *drift_checks(drift, precision, trained=trained, chooses_neighbours=chooses),
        ),
        tables=(parity_table(parity), drift_table(drift, typed.name), look_table(drift)),
        pictures=worst_picture(typed, reference, graph, drift, own=own),
        provenance=collect(seconds=time.perf_counter() - started).to_dict(),
        notes=() if trained else ("UNTRAINED: no drift against the truth is judged, only fidelity.",),
    )
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
