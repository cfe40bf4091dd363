"""``edgeir run`` on a video or a camera: what it refuses, what it says while it works, and its result."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgeir.cli.console import Console, print_result
from edgeir.errors import OutputError, PictureError, UsageError
from edgeir.manifest import MANIFEST_NAME
from edgeir.storage import sha256_of
from edgeir.video.kinds import camera_of, is_video, require_av, require_file

if TYPE_CHECKING:
    from edgeir.bundle import Bundle
    from edgeir.video.codecs import Codec
    from edgeir.video.restoring import Progress, Restored

Pixels = NDArray[np.float32]

# Without a terminal: a line each tenth, or when nothing was said for this long.
_SILENCE_S = 30.0


@dataclass(frozen=True, slots=True)
class VideoJob:
    """A video or a camera to restore, checked before anything is opened for long.

    Attributes:
        source: the file, or what was typed for a camera.
        camera: name of the camera, ``None`` for a file.
        output: the file to write.
        codec, crf: how.
        seconds: how long to watch the camera.
    """

    source: Path
    camera: str | None
    output: Path
    codec: Codec
    crf: int | None
    seconds: float | None


def video_job(
    source: Path, output: Path, *, codec: str | None, crf: int | None, seconds: float | None
) -> VideoJob | None:
    """What is to be done, or ``None`` where ``source`` is neither a video nor a camera.

    Raises:
        UsageError: an option that does not fit; for pictures, any option that is for videos.
        MissingDependency: PyAV is not installed, or was built without the encoder.
        PictureError: the file cannot be read.
        OutputError: the output would overwrite the input, or has no folder.
    """
    camera = camera_of(str(source))
    if camera is None and not (source.is_file() and is_video(source)):
        for option, value in (("--codec", codec), ("--crf", crf), ("--seconds", seconds)):
            if value is not None:
                raise UsageError("this option is for videos and cameras", where=option, got=f"INPUT {source}")
        return None
    require_av()
    from edgeir.video.codecs import CONTAINERS, choose_codec

    if camera is None:
        require_file(source)
        if seconds is not None:
            raise UsageError("this option is for cameras", where="--seconds", fix="A file is restored to its end.")
        if output.is_dir():
            output = output / (source.name if source.suffix.lower() in CONTAINERS else f"{source.stem}.mp4")
        if output.exists() and output.resolve() == source.resolve():
            raise OutputError("the video would overwrite itself", where=str(output), fix="Choose another name.")
    elif seconds is None or seconds <= 0:
        raise UsageError("how long is the camera to be watched?", where="--seconds", fix="Such as --seconds 10.")
    chosen = choose_codec(codec, crf, output)
    if output.is_dir():
        raise OutputError("this is a folder", where=str(output), fix="Give the file a name.")
    if not output.parent.is_dir():
        raise OutputError("there is no such folder", where=str(output.parent), fix="Make it first.")
    return VideoJob(source, camera, output, chosen, crf, seconds)


def bundle_identity(bundle: Bundle) -> dict[str, object]:
    """What makes a bundle the same bundle: its manifest, which vouches for every file."""
    return {"bundle": sha256_of(bundle.path / MANIFEST_NAME)[1]}


def run_video(
    job: VideoJob,
    restore: Callable[[Pixels], Pixels],
    *,
    scale: int,
    identity: Mapping[str, object],
    facts: Mapping[str, object],
    console: Console,
    as_json: bool,
) -> None:
    """Restore a video or a camera and print what came of it.

    Args:
        job: from `video_job`.
        restore: ``(H, W, 3) float32 in [0, 1] -> (s*H, s*W, 3) float32``.
        scale: s, output pixels per input pixel along each side.
        identity: what the result depends on, by name, as JSON values: a resumed run must have the same.
        facts: what else the JSON value says.
        console: where progress goes.
        as_json: print one JSON value.

    Raises:
        PictureError: the file is cut off or damaged; what there was has been restored and written.
        EdgeIRError: see `edgeir.video.restoring`.
    """
    from edgeir.video.camera import open_camera
    from edgeir.video.recording import finish_recording
    from edgeir.video.restoring import Request, restore_camera, restore_file

    request = Request(job.output, job.codec, job.crf, scale, identity)
    with _frames(console) as progress:
        if job.camera is None:
            result = restore_file(job.source, request, restore, progress=progress, say=console.say)
        else:
            finish_recording(job.output, console.say)
            with open_camera(job.camera) as camera:
                seconds = job.seconds or 0.0
                result = restore_camera(camera, request, restore, seconds=seconds, progress=progress, say=console.say)
    if result.dropped:
        console.say(
            f"{result.dropped} frames of the camera were dropped, {result.frames} restored: "
            "the network is slower than the camera."
        )
    if as_json:
        print_result(json.dumps({**_as_json(job, result), **facts}, indent=2))
    else:
        console.say(
            f"{result.frames} frames, {result.frames - result.resumed_from} of them restored now in "
            f"{result.seconds:.1f} s ({result.fps:.2f} per second), stored as {job.codec.name} {result.format}."
        )
        print_result(str(job.output))
    if not result.ending.whole:
        raise PictureError(
            f"the video is not whole: {result.ending.sentence()}",
            where=str(job.source),
            fix=f"{job.output} holds every frame that could be decoded.",
        )


def _as_json(job: VideoJob, result: Restored) -> dict[str, object]:
    ending = result.ending
    return {
        "input": str(job.source),
        "output": str(job.output),
        "frames": result.frames,
        "fps": round(result.fps, 3),
        "seconds": round(result.seconds, 3),
        "truncated": ending.cut,
        "damaged_frames": ending.damaged,
        "ended_at_s": round(ending.end_s, 6),
        "declared_s": None if ending.declared_s is None else round(ending.declared_s, 6),
        "resumed_from": result.resumed_from,
        "dropped": result.dropped,
        "left_out": list(result.left_out),
        "codec": job.codec.name,
        "pixel_format": result.format,
    }


@contextmanager
def _frames(console: Console) -> Iterator[Progress]:
    """Progress in frames, with the rate and the time that is left: a bar on a terminal, or else a line now and then."""
    if sys.stderr.isatty():
        from rich.console import Console as RichConsole
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        columns = (
            TextColumn("      frames"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
        )
        with RichProgress(*columns, console=RichConsole(stderr=True), transient=True) as drawn:
            task = drawn.add_task("frames", total=None, rate="")
            meter = _Meter()

            def draw(done: int, total: int | None) -> None:
                drawn.update(task, completed=done, total=total, rate=f"{meter.rate(done):.2f} fps")

            yield draw
    else:
        meter = _Meter()
        yield lambda done, total: meter.tell(done, total, console.say)


class _Meter:
    """Frames per second since the first frame that this run finished."""

    def __init__(self) -> None:
        self._began: tuple[float, int] | None = None
        self._said_at = time.monotonic()

    def rate(self, done: int) -> float:
        """Frames per second so far."""
        now = time.monotonic()
        if self._began is None:
            self._began = (now, done)
        began, first = self._began
        return (done - first) / (now - began) if now > began else 0.0

    def tell(self, done: int, total: int | None, say: Callable[[str], None]) -> None:
        """A line at each tenth, and after `_SILENCE_S` without one."""
        rate = self.rate(done)
        tenth = total is not None and total >= 10 and done * 10 // total > (done - 1) * 10 // total
        if not tenth and time.monotonic() - self._said_at < _SILENCE_S:
            return
        self._said_at = time.monotonic()
        text = f"      frames: {done}" if total is None else f"      frames: {done} of {total}"
        if rate > 0:
            text += f", {rate:.2f} per second"
            if total is not None and total > done:
                text += f", {_clock((total - done) / rate)} left"
        say(text)


def _clock(seconds: float) -> str:
    """``"1:02:03"`` or ``"2:03"``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
