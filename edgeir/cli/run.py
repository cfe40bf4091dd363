"""``edgeir run``: restore a picture or a folder of pictures with a bundle."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from edgeir.cli.console import Console, print_result
from edgeir.errors import EdgeIRError, OutputError, PictureError, UsageError

if TYPE_CHECKING:
    from edgeir.imaging.picture import Picture


@dataclass(frozen=True, slots=True)
class _Job:
    source: Path
    destination: Path


def command(
    bundle: Path = typer.Argument(..., help="A bundle made by 'edgeir export'."),
    source: Path = typer.Argument(..., metavar="INPUT", help="A picture, or a folder of pictures."),
    output: Path = typer.Option(..., "-o", "--output", help="Where to: a picture file, or a folder."),
    backend: str = typer.Option("ort", "--backend", help="ort, ort-reference, torch, torch-fast or torch-compile."),
    checkpoint: Path | None = typer.Option(None, "--checkpoint", help="The weights, for a torch backend."),
    tile: int | None = typer.Option(None, "--tile", help="Side of the tiles in pixels (largest the graph takes)."),
    overlap: int | None = typer.Option(
        None,
        "--overlap",
        help="What neighbouring tiles share, in pixels (as measured when the bundle was made, or 32).",
    ),
    threads: int | None = typer.Option(None, "--threads", min=1, help="Threads of the runtimes."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON value."),
) -> None:
    """Restore a picture or a folder of pictures, of any size."""
    from edgeir.bundle import Bundle
    from edgeir.runtime.opening import graph_input, open_session, require_backend
    from edgeir.runtime.restore import overlap_for, restore_pixels

    require_backend(backend)
    console = Console()
    opened = Bundle.open(bundle)
    jobs = _jobs(source, output, console)
    graph = graph_input(opened.manifest)
    tiling = opened.manifest.tiling
    shared = overlap_for(
        graph, tile_px=tile, asked_px=overlap, measured_px=None if tiling is None else tiling.overlap_px
    )
    _check_tiles(graph, tile, shared.px)
    if shared.origin == "measured":
        console.say(f"Tiles share {shared.px} pixels, as was measured for this network.")
    untrained = not opened.manifest.model.trained
    if untrained:
        console.say(f"{opened.manifest.name} is UNTRAINED: the output is not a restoration.")
    session = open_session(opened, backend, checkpoint=checkpoint, threads=threads)
    if source.is_dir():
        _make_folder(output)

    def restore(picture: Picture, name: str) -> Picture:
        return picture.restored(
            restore_pixels(
                session, graph, picture.pixels, tile_px=tile, overlap_px=shared.px, progress=_tiles(console, name)
            )
        )

    done, failed = _restore_all(jobs, restore, console)
    results = [{"input": str(job.source), "output": str(job.destination)} for job in done]
    failures = [{"input": str(job.source), "error": str(error)} for job, error in failed]
    if as_json:
        value = {"restored": results, "failed": failures, "untrained": untrained}
        print_result(json.dumps(value | {"overlap_px": shared.px, "overlap_from": shared.origin}, indent=2))
    else:
        for job in done:
            print_result(str(job.destination))
    if failed:
        if len(jobs) == 1:
            raise failed[0][1]
        raise PictureError(
            f"{len(failed)} of {len(jobs)} pictures could not be restored, the first is {failed[0][0].source.name}",
            where=str(source),
            fix="The others were restored." if done else None,
        )


def _restore_all(
    jobs: list[_Job], restore: Callable[[Picture, str], Picture], console: Console
) -> tuple[list[_Job], list[tuple[_Job, EdgeIRError]]]:
    """Restore every job; one bad picture does not stop the others, a full disk does."""
    from edgeir.imaging.reading import read_picture
    from edgeir.imaging.writing import write_picture

    done: list[_Job] = []
    failed: list[tuple[_Job, EdgeIRError]] = []
    with console.bar("pictures", len(jobs) if len(jobs) > 1 else 0) as advance:
        for job in jobs:
            try:
                write_picture(restore(read_picture(job.source), job.source.name), job.destination)
                done.append(job)
            except (PictureError, UsageError) as error:  # such as transparency that the output format cannot hold
                if len(jobs) > 1:
                    console.say(f"skipped: {error}")
                failed.append((job, error))
            advance()
    return done, failed


def _jobs(source: Path, output: Path, console: Console) -> list[_Job]:
    """Inputs and where each goes; refuses what could overwrite an input."""
    if not source.exists():
        raise PictureError("there is no such file or folder", where=str(source))
    if source.is_dir():
        from edgeir.imaging.listing import list_pictures

        listing = list_pictures(source)
        if listing.skipped:
            console.say(f"{len(listing.skipped)} files in {source} are not pictures and are left alone.")
        if output.exists() and not output.is_dir():
            raise OutputError("a folder of pictures needs a folder to go to", where=str(output), got="a file")
        if output.exists() and output.resolve() == source.resolve():
            raise OutputError(
                "the pictures would overwrite themselves", where=str(output), fix="Choose another folder."
            )
        jobs = [_Job(path, output / _writable_name(path.name)) for path in listing.pictures]
        for job in jobs:
            _require_other(job)
        return jobs
    destination = output / _writable_name(source.name) if output.is_dir() else output
    from edgeir.imaging.writing import format_of

    format_of(destination)  # an unknown suffix is refused before the work, not after it
    if not destination.parent.is_dir():
        raise OutputError("there is no such folder", where=str(destination.parent), fix="Make it first.")
    job = _Job(source, destination)
    _require_other(job)
    return [job]


def _require_other(job: _Job) -> None:
    """Refuse to overwrite an input, also through a link."""
    if job.destination.exists() and job.destination.resolve() == job.source.resolve():
        raise OutputError("the picture would overwrite itself", where=str(job.destination), fix="Choose another name.")


def _make_folder(folder: Path) -> None:
    from edgeir.storage import writing

    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)


def _writable_name(name: str) -> str:
    """The same name, as PNG where edgeir reads the format but does not write it."""
    from edgeir.imaging.writing import format_of

    try:
        format_of(Path(name))
    except EdgeIRError:
        return f"{name}.png"
    return name


def _check_tiles(graph, tile: int | None, overlap_px: int) -> None:  # type: ignore[no-untyped-def]
    """Refuse a tile or overlap that fits no picture before any picture is read."""
    tile_h, tile_w = graph.tile_for(*graph.optimum, tile)
    if not 0 <= overlap_px < min(tile_h, tile_w):
        raise UsageError(
            "the overlap does not fit the tile",
            where="--overlap",
            expected=f"0 to {min(tile_h, tile_w) - 1} pixels",
            got=str(overlap_px),
        )


def _tiles(console: Console, name: str) -> Callable[[int, int], None]:
    """Progress within one large picture: a line every tenth of its tiles."""

    def progress(done: int, total: int) -> None:
        if total >= 20 and done * 10 // total > (done - 1) * 10 // total:
            console.say(f"{name}: {done} of {total} tiles")

    return progress
