"""``edgeir run``: restore a picture or a folder of pictures with a bundle."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, cast

import typer

from edgeir.cli.console import Console, print_result
from edgeir.cli.run_jobs import Job, picture_jobs
from edgeir.errors import CheckFailed, EdgeIRError, PictureError, UsageError, nearest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgeir.bundle import Bundle
    from edgeir.cli.restorer import Restorer
    from edgeir.imaging.picture import Picture
    from edgeir.runtime.byte_session import ByteSession
    from edgeir.runtime.engine_choice import Ends
    from edgeir.runtime.session import Session
    from edgeir.runtime.tile_statistics import SharingRuntime, StatisticsSession

    Pixels = NDArray[np.float32]


def command(
    bundle: Path = typer.Argument(..., help="A bundle made by 'edgeir export'."),
    source: Path = typer.Argument(..., metavar="INPUT", help="A picture, a folder of pictures, a video, or camera:0."),
    output: Path = typer.Option(..., "-o", "--output", help="Where to: a picture or video file, or a folder."),
    backend: str = typer.Option(
        "ort",
        "--backend",
        help="ort, ort-reference, rtx, tensorrt, ort-cuda, ort-tensorrt, ort-rtx, torch, torch-fast or torch-compile; "
        "'edgeir doctor' says which run here.",
    ),
    checkpoint: Path | None = typer.Option(None, "--checkpoint", help="The weights, for a torch backend."),
    tile: int | None = typer.Option(None, "--tile", help="Side of the tiles in pixels (largest the graph takes)."),
    overlap: int | None = typer.Option(
        None,
        "--overlap",
        help="What neighbouring tiles share, in pixels (as measured when the bundle was made, or 32).",
    ),
    statistics: str | None = typer.Option(
        None,
        "--tile-statistics",
        help="own or shared: whether all tiles take what the network finds in the whole picture (as measured when the "
        "bundle was made; own for videos).",
    ),
    threads: int | None = typer.Option(None, "--threads", min=1, help="Threads of the runtimes."),
    plugins: list[Path] = typer.Option(
        [], "--plugins", metavar="PATH", help="A library of TensorRT plugins to load, absolute; repeatable."
    ),
    on_bad: str = typer.Option(
        "retry", "--on-bad-output", help="NaN, infinity or a flat output: retry once in FP32, or stop with exit code 1."
    ),
    codec: str | None = typer.Option(None, "--codec", help="Videos: h264 (if left out), hevc, mpeg4 or ffv1."),
    crf: int | None = typer.Option(None, "--crf", help="Videos: rate factor of h264 (18) or hevc (20), 0 is best."),
    seconds: float | None = typer.Option(None, "--seconds", help="Cameras: how long to watch."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON value."),
) -> None:
    """Restore a picture, a folder of pictures or a video, of any size."""
    from edgeir.bundle import Bundle
    from edgeir.cli.restorer import Later, Restorer, ort_session_of_bytes
    from edgeir.cli.run_video import bundle_identity, run_video, video_job
    from edgeir.runtime.opening import graph_input, open_session, require_backend
    from edgeir.runtime.restore import overlap_to_run
    from edgeir.runtime.sentry import ON_BAD

    require_backend(backend)
    mode = next((known for known in ON_BAD if known == on_bad), None)
    if mode is None:
        raise UsageError(f"unknown answer '{on_bad}'", where="--on-bad-output", fix=nearest(on_bad, ON_BAD))
    console = Console()
    opened = Bundle.open(bundle)
    film = video_job(source, output, codec=codec, crf=crf, seconds=seconds)
    jobs = picture_jobs(source, output, console) if film is None else []
    graph = graph_input(opened.manifest)
    shared = overlap_to_run(graph, opened.manifest.tiling, tile_px=tile, asked_px=overlap)
    _check_tiles(graph, tile, shared.px)
    if shared.origin == "measured":
        console.say(f"Tiles share {shared.px} pixels, as was measured for this network.")
    untrained = not opened.manifest.model.trained
    if untrained:
        console.say(f"{opened.manifest.name} is UNTRAINED: the output is not a restoration.")

    share = _should_share(opened, statistics, film=film is not None)
    _require_shareable(opened, backend, asked=statistics == "shared")
    ends: Ends = "statistics" if share else "floats"

    def open_floats() -> Session:
        return open_session(
            opened, backend, checkpoint=checkpoint, threads=threads, plugins=plugins, ends=ends, say=console.say
        )

    of_bytes: ByteSession | None = None
    if backend == "ort" and film is None and not plugins:  # frames follow one another closely; plugins are refused
        of_bytes = ort_session_of_bytes(opened, threads)
    session = open_floats() if of_bytes is None else Later(of_bytes.name, open_floats)
    if getattr(session, "takes_bytes", False):  # an engine of bytes
        of_bytes = cast("ByteSession", session)
    sharing = _sharing(opened, session, backend, threads) if share else None
    restorer = Restorer(
        session,
        graph,
        opened.manifest.tiling,
        tile_px=tile,
        overlap_px=overlap,
        on_bad=mode,
        spare=lambda: open_session(opened, "ort-reference", threads=threads),
        say=console.say,
        of_bytes=of_bytes,
        sharing=sharing,
        unshared=None if sharing is not None or statistics == "own" else _unshared(opened, backend, film is not None),
    )
    facts: dict[str, object] = {"untrained": untrained, "backend": backend} | restorer.facts()
    facts |= {"overlap_px": shared.px, "overlap_from": shared.origin}
    with closing(restorer):
        if statistics == "shared" and sharing is None:
            raise UsageError("tiles of the engine that runs here cannot share statistics", where=session.name)
        if film is None:
            if source.is_dir():
                _make_folder(output)
            _run_pictures(jobs, source, restorer, facts, console, as_json=as_json)
            return

        def frame(pixels: Pixels) -> Pixels:
            restored = restorer.pixels(pixels)
            facts.update(restorer.facts())  # what is printed at the end
            return restored

        identity: dict[str, object] = bundle_identity(opened) | {
            "runtime": session.name,
            "backend": backend,  # several have one runtime
            "on_bad_output": mode,
            "tile": tile,
            "overlap": shared.px,
            "statistics": "own" if sharing is None else "shared",
        }
        try:
            run_video(film, frame, scale=graph.scale, identity=identity, facts=facts, console=console, as_json=as_json)
        finally:  # also of a file that was cut off
            restorer.summarise()


def _should_share(opened: Bundle, asked: str | None, *, film: bool) -> bool:
    """Whether tiles share statistics where they can: as asked, else as measured, and of its own for a video.

    Raises:
        UsageError: the word is unknown.
    """
    if asked not in (None, "own", "shared"):
        raise UsageError(f"unknown '{asked}'", where="--tile-statistics", fix=nearest(asked, ("own", "shared")))
    return asked == "shared" or (asked is None and _agree_better_shared(opened) and not film)


def _agree_better_shared(opened: Bundle) -> bool:
    """Whether it was measured that tiles come closer to the whole where they share statistics."""
    return opened.manifest.tiling is not None and opened.manifest.tiling.shared_statistics


def _require_shareable(opened: Bundle, backend: str, *, asked: bool) -> None:
    """Refuse ``--tile-statistics shared`` where nothing of the bundle can."""
    from edgeir.runtime.engine_choice import shares_statistics
    from edgeir.runtime.engine_runtimes import ENGINE_RUNTIMES

    if not asked:
        return
    if backend in ENGINE_RUNTIMES:
        if any(shares_statistics(opened, note) for note in opened.manifest.engines if note.runtime == backend):
            return
        why = "this bundle has no engine for that"
        fix = f"Build one: edgeir build {shlex.quote(str(opened.path))} --target {backend} --tiles."
    elif backend != "ort":
        why, fix = f"the backend '{backend}' cannot", "Take --backend ort."
    elif opened.tiles_graph_for("onnxruntime") is None:
        why = "this bundle has no graph for that"
        fix = "Export keeps one where sharing came closer to the whole: of one size up to 256x256, batch 1."
    else:
        return
    raise UsageError("tiles cannot share statistics", where="--tile-statistics", got=why, fix=fix)


def _sharing(
    opened: Bundle, session: Session, backend: str, threads: int | None
) -> Callable[[], StatisticsSession] | None:
    """What opens the network as one whose tiles share; ``None`` where this backend has no such graph or engine."""
    from edgeir.runtime.ort_session import OrtSession
    from edgeir.runtime.tile_statistics import StatisticsSession

    if getattr(session, "shares_statistics", False):  # an engine: with statistics it is the same one
        return lambda: StatisticsSession(cast("SharingRuntime", session))
    path = opened.tiles_graph_for("onnxruntime")
    if backend != "ort" or path is None:
        return None
    integer_kernels = opened.manifest.precision != "fp8"
    return lambda: StatisticsSession(OrtSession(path, threads=threads, integer_kernels=integer_kernels))


def _unshared(opened: Bundle, backend: str, film: bool) -> str | None:
    """What to say of a bundle whose tiles agree better when they share statistics, where they do not."""
    from edgeir.runtime.engine_runtimes import ENGINE_RUNTIMES

    if not _agree_better_shared(opened):
        return None
    way = "the backend 'ort' does"
    if film:
        way = "'--tile-statistics shared' does, for more time"
    elif backend in ENGINE_RUNTIMES:
        way = f"an engine of 'edgeir build --target {backend} --tiles' does"
    return f"Each tile takes itself for the picture; tiles that share come closer to the whole, and {way}."


def _run_pictures(
    jobs: list[Job], source: Path, restorer: Restorer, facts: dict[str, object], console: Console, *, as_json: bool
) -> None:
    """Restore pictures and print which; raise what stopped one, or all of them."""
    done, failed = _restore_all(
        jobs, lambda picture, name: restorer.picture(picture, tile_progress(console, name)), console
    )
    restorer.summarise()
    if as_json:
        results = [{"input": str(job.source), "output": str(job.destination)} for job in done]
        failures = [{"input": str(job.source), "error": str(error)} for job, error in failed]
        value = {"restored": results, "failed": failures} | facts | restorer.facts()
        print_result(json.dumps(value, indent=2))
    else:
        for job in done:
            print_result(str(job.destination))
    if failed:
        if len(jobs) == 1 or isinstance(failed[-1][1], CheckFailed):
            raise failed[-1][1]
        raise PictureError(
            f"{len(failed)} of {len(jobs)} pictures could not be restored, the first is {failed[0][0].source.name}",
            where=str(source),
            fix="The others were restored." if done else None,
        )


def _restore_all(
    jobs: list[Job], restore: Callable[[Picture, str], Picture], console: Console
) -> tuple[list[Job], list[tuple[Job, EdgeIRError]]]:
    """Restore every job; one bad picture does not stop the others, a full disk and a bad output do."""
    from edgeir.imaging.reading import read_picture
    from edgeir.imaging.writing import write_picture

    done: list[Job] = []
    failed: list[tuple[Job, EdgeIRError]] = []
    with console.bar("pictures", len(jobs) if len(jobs) > 1 else 0) as advance:
        for job in jobs:
            try:
                write_picture(restore(read_picture(job.source), job.source.name), job.destination)
                done.append(job)
            except (PictureError, UsageError) as error:  # such as transparency that the output format cannot hold
                if len(jobs) > 1:
                    console.say(f"skipped: {error}")
                failed.append((job, error))
            except CheckFailed as error:  # an output that may not be used: so may none that would come
                where = f"{job.source.name}, {error.where}"
                named = CheckFailed(error.what, where=where, expected=error.expected, got=error.got, fix=error.fix)
                failed.append((job, named))
                break
            advance()
    return done, failed


def _make_folder(folder: Path) -> None:
    from edgeir.storage import writing

    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)


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


def tile_progress(console: Console, name: str) -> Callable[[int, int], None]:
    """Progress within one large picture: a line every tenth of its tiles."""
    said = 0

    def progress(done: int, total: int) -> None:
        nonlocal said
        if total >= 20 and done * 10 // total > said:
            said = done * 10 // total
            console.say(f"{name}: {done} of {total} tiles")

    return progress
