"""A video from end to end: read, restored and encoded at the same time, in segments that a stopped run goes on from."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path

import av

from edgeir import __version__
from edgeir.errors import PictureError
from edgeir.imaging.colour import Pixels
from edgeir.video.camera import camera_pictures
from edgeir.video.codecs import Codec, Storage, container_of, storage_for
from edgeir.video.colour import BT709, FULL, HDR_TRANSFERS, LIMITED, RGB, UNSPECIFIED, ToFrame, VideoColour
from edgeir.video.encoder import Encoding, SegmentWriter
from edgeir.video.ending import Ending
from edgeir.video.joining import Join, origin_of, write_joined
from edgeir.video.pipeline import run_overlapped
from edgeir.video.recording import kept_sentence, recording_facts
from edgeir.video.source import TimedPixels, VideoInfo, VideoSource, open_input, open_video
from edgeir.video.streams import OtherStreams, other_streams
from edgeir.video.working import RECORDING, Segment, WorkingFolder, identity_of

# A killed run loses at most this much work. Each segment begins with a key frame: 2.4 s at 25 frames per second is what
# streaming uses, and costs a few per cent of the file. The number is fixed, so that a resumed file is the same file.
SEGMENT_FRAMES = 60

Restore = Callable[[Pixels], Pixels]
# Told how many frames are finished, and how many there will be if that is known.
Progress = Callable[[int, int | None], None]


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for.

    Attributes:
        output: the file to write.
        codec, crf: how to store it.
        scale: output pixels per input pixel along each side, as the network has it.
        identity: all else that the result depends on (the bundle's hash, the tiles), by name, as JSON values.
    """

    output: Path
    codec: Codec
    crf: int | None
    scale: int
    identity: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Restored:
    """What came of it.

    Attributes:
        frames: in the output.
        resumed_from: how many of them an earlier run had finished.
        seconds: what this run took.
        format: FFmpeg's name of the pixel format.
        ending: how the input ended.
        dropped: frames of a camera that were dropped.
        left_out: a sentence for each stream that is not in the output.
    """

    frames: int
    resumed_from: int
    seconds: float
    format: str
    ending: Ending
    dropped: int
    left_out: tuple[str, ...]

    @property
    def fps(self) -> float:
        """Frames per second that this run restored."""
        return (self.frames - self.resumed_from) / self.seconds if self.seconds > 0 else 0.0


def restore_file(
    source: Path, request: Request, restore: Restore, *, progress: Progress, say: Callable[[str], None]
) -> Restored:
    """Restore a video file.

    Args:
        source: the file.
        request: what is asked for.
        restore: ``(H, W, 3) float32 in [0, 1] -> (s*H, s*W, 3) float32``; called in this thread.
        progress: told after every frame.
        say: told what a reader should know before the work begins, and where it lies if it ends early.

    Raises:
        PictureError: it is no video, or a frame cannot be restored.
        UsageError: the codec cannot hold it.
        OutOfSpace, OutputError: the output or its working folder cannot be written.
    """
    with open_video(source) as video:
        container = open_input(source)
        try:
            format = container_of(request.output)
            others, origin = other_streams(container, str(source), format), origin_of(container)
        finally:
            container.close()
        plan = _plan(video.info, request)
        for sentence in (*_remarks(video.info, plan.encoding), *plan.storage.remarks, *others.left_out):
            say(sentence)
        if origin:
            say(f"The file's clock begins at {float(origin):.3f} s; the output begins at 0.")
        job = {**_job(request, plan.encoding), "input": identity_of(source)}
        work = WorkingFolder(request.output, job)
        try:
            resumed = _announce(work, say)
            run = _Run(video, request, plan, work, restore, progress)
            run.go(video.pictures(skip=resumed))
            if video.shifts:
                where = "a place" if len(video.shifts) == 1 else f"{len(video.shifts)} places"
                say(f"The file's clock jumps back at {where}: pictures and sound go on there without a gap.")
            if video.irregular:
                say(f"{video.irregular} frames had no time, or not one after the frame before; theirs were filled in.")
            if plan.container == "matroska" and _rounded(work, plan.encoding.time_base):
                say("Matroska counts milliseconds: the times of frames are rounded to them.")
            left_out = write_joined(_join(plan, work.segments, source, others, origin, video.shifts), request.output)
        except BaseException:
            work.release()
            if work.segments:
                say(f"What is restored is kept in {work.path}: the same command goes on from there.")
            raise
        for sentence in left_out[len(others.left_out) :]:
            say(sentence)
        result = run.result(resumed, left_out)
        work.remove()
    return result


def restore_camera(
    camera: VideoSource,
    request: Request,
    restore: Restore,
    *,
    seconds: float,
    progress: Progress,
    say: Callable[[str], None],
) -> Restored:
    """Restore what a camera gives for ``seconds``; frames that come while the network is busy are dropped and counted.

    Stopped early, by Ctrl-C or an error, the output holds what was restored until then. If it cannot be written, what
    was recorded stays in the working folder, for `edgeir.video.recording.finish_recording`.

    Raises:
        as `restore_file`; OutputError: a recording that was not finished lies in the working folder.
    """
    plan = _plan(camera.info, request)
    for sentence in (*_remarks(camera.info, plan.encoding), *plan.storage.remarks):
        say(sentence)
    join = _join(plan, (), None, OtherStreams((), ()), Fraction(0), ())
    job = {**_job(request, plan.encoding), "input": f"{camera.name} at {time.time_ns()}"}
    work = WorkingFolder(request.output, {**job, RECORDING: recording_facts(join)})
    run = _Run(camera, request, plan, work, restore, progress, live=True)
    failure: BaseException | None = None
    try:
        run.go(camera_pictures(camera, seconds))
    except BaseException as error:
        failure = error
    if work.segments:
        try:
            write_joined(replace(join, segments=work.segments), request.output)
        except BaseException:
            work.release()
            say(kept_sentence(request.output))
            raise
    result = run.result(0, ())
    work.remove()
    if failure is not None:
        raise failure
    return replace(result, ending=_recorded(result, work.segments, plan.encoding))


def _recorded(result: Restored, segments: Sequence[Segment], encoding: Encoding) -> Ending:
    """The end of a recording, by the output's clock, which begins with the first picture."""
    last, duration = segments[-1].times[-1]
    length = duration * encoding.time_base if duration else 1 / encoding.rate
    return replace(
        result.ending, frames=result.frames + result.dropped, end_s=float(last * encoding.time_base + length)
    )


@dataclass(frozen=True, slots=True)
class _Plan:
    """How the output is stored."""

    encoding: Encoding
    storage: Storage
    matrix: int
    display_matrix: tuple[int, ...] | None
    container: str


class _Run:
    """The three stages of one run, and what they leave."""

    def __init__(
        self,
        video: VideoSource,
        request: Request,
        plan: _Plan,
        work: WorkingFolder,
        restore: Restore,
        progress: Progress,
        *,
        live: bool = False,
    ) -> None:
        self._video, self._request, self._plan, self._work = video, request, plan, work
        self._restore, self._progress, self._live = restore, progress, live
        self._to_frame = ToFrame(plan.encoding.colour, plan.matrix, plan.encoding.format)
        self._writer: SegmentWriter | None = None
        self._encoder = threading.Lock()
        self._started = time.perf_counter()
        self._dropped = 0

    def go(self, pictures: Iterator[TimedPixels]) -> None:
        """Restore and encode all of ``pictures``; every segment that is full is kept at once."""
        try:
            self._dropped = run_overlapped(pictures, self._restore_one, self._write, drop_oldest=self._live)
            self._close_segment()
        except BaseException:
            if self._encoder.acquire(blocking=False):  # or else the thread that writes hangs in it: leave it alone
                if self._live:
                    self._close_segment()
                elif self._writer is not None:
                    self._writer.abandon()
            raise

    def result(self, resumed: int, left_out: tuple[str, ...]) -> Restored:
        """What came of it."""
        return Restored(
            frames=self._work.frames,
            resumed_from=resumed,
            seconds=time.perf_counter() - self._started,
            format=self._plan.encoding.format,
            ending=self._video.ending,
            dropped=self._dropped,
            left_out=left_out,
        )

    def _restore_one(self, picture: TimedPixels) -> TimedPixels:
        return replace(picture, pixels=self._restore(picture.pixels))

    def _write(self, picture: TimedPixels) -> None:
        encoding = self._plan.encoding
        if picture.pixels.shape != (encoding.height, encoding.width, 3):
            raise PictureError(
                "the network gave a picture of another size",
                where=self._video.name,
                expected=f"{encoding.height}x{encoding.width} pixels",
                got=f"shape {picture.pixels.shape}",
            )
        frame = self._to_frame(picture.pixels)
        with self._encoder:
            if self._writer is None:
                self._writer = SegmentWriter(self._work.unfinished(), self._plan.encoding)
            self._writer.write(frame, picture.pts, picture.duration)
            done, total = self._work.frames + self._writer.frames, self._video.info.frames
            self._progress(done, None if self._live or (total is not None and done > total) else total)
            if self._writer.frames == SEGMENT_FRAMES:
                self._close_segment()

    def _close_segment(self) -> None:
        if self._writer is not None:
            written = self._writer.finish()
            self._writer = None
            self._work.finish(written)


def _plan(info: VideoInfo, request: Request) -> _Plan:
    width, height = info.width * request.scale, info.height * request.scale
    storage = storage_for(request.codec, info.layout, width, height)
    container = container_of(request.output)
    colour = _written_colour(info, storage, scale=request.scale)
    if not request.codec.colours and container != "matroska":
        colour = _unsaid(colour)
    crf = request.codec.crf if request.crf is None else request.crf
    encoding = Encoding(
        codec=request.codec,
        crf=crf,
        width=width,
        height=height,
        format=storage.format,
        time_base=info.time_base,
        rate=info.rate,
        colour=colour,
        sample_aspect=info.sample_aspect,
    )
    return _Plan(encoding, storage, colour.matrix_at(height), _scaled(info.display_matrix, request.scale), container)


def _written_colour(info: VideoInfo, storage: Storage, *, scale: int) -> VideoColour:
    """The source's colours. What it leaves unsaid stays so, unless a new size makes players guess otherwise."""
    colour = info.colour
    if colour.matrix == RGB and not storage.rgb:
        return replace(colour, matrix=BT709, range=LIMITED)
    if colour.matrix == UNSPECIFIED and scale > 1:
        return replace(colour, matrix=colour.matrix_at(info.height))
    return colour


def _unsaid(colour: VideoColour) -> VideoColour:
    """Colours for a file that has no room to say all: what is not written there is what readers take if nothing is."""
    named = UNSPECIFIED not in (colour.matrix, colour.primaries, colour.transfer)
    return replace(
        colour, matrix=colour.matrix if named else UNSPECIFIED, range=LIMITED if colour.range == FULL else colour.range
    )


def _scaled(display_matrix: tuple[int, ...] | None, scale: int) -> tuple[int, ...] | None:
    """The matrix of an enlarged picture: its offsets are in pixels."""
    if display_matrix is None:
        return None
    a, b, u, c, d, v, x, y, w = display_matrix
    return (a, b, u, c, d, v, x * scale, y * scale, w)


def _join(
    plan: _Plan,
    segments: Sequence[Segment],
    source: Path | None,
    others: OtherStreams,
    origin: Fraction,
    shifts: tuple[Fraction, ...],
) -> Join:
    return Join(segments, plan.encoding, plan.container, plan.display_matrix, source, others, origin, shifts)


def _rounded(work: WorkingFolder, time_base: Fraction) -> bool:
    """Whether a time is no whole number of milliseconds."""
    ticks = (time_base * 1000).denominator
    return any(pts % ticks for segment in work.segments for pts, _ in segment.times)


def _job(request: Request, encoding: Encoding) -> dict[str, object]:
    """All that a segment depends on, the versions that wrote it included."""
    return {
        **request.identity,
        "encoding": {name: str(value) for name, value in asdict(encoding).items()},
        "segment frames": SEGMENT_FRAMES,
        "edgeir": __version__,
        "PyAV": av.__version__,
    }


def _announce(work: WorkingFolder, say: Callable[[str], None]) -> int:
    if work.started_anew:
        say(f"An unfinished run was for something else ({', '.join(work.started_anew)} changed): begun anew.")
    if work.frames:
        say(f"Going on after {work.frames} frames that an earlier run has restored.")
    return work.frames


def _remarks(info: VideoInfo, encoding: Encoding) -> list[str]:
    """What a reader should know of the input before waiting for the output."""
    remarks = []
    if info.interlaced:
        remarks.append(
            "The video is interlaced: both fields are restored as one picture and stored as progressive. "
            "Deinterlace it first, or expect combs where things move."
        )
    if info.colour.transfer in HDR_TRANSFERS:
        curve = HDR_TRANSFERS[info.colour.transfer]
        remarks.append(f"The video is HDR ({curve}): the network sees its values as they are, and was trained on SDR.")
    if info.colour.range == FULL != encoding.colour.range and info.colour.matrix != RGB:
        remarks.append(
            f"{encoding.codec.name} in this container cannot say that black is 0 and white 255: stored are 16 and 235."
        )
    if info.sample_aspect not in (None, 1) and not encoding.codec.aspect:
        shape = f"the shape of pixels ({info.sample_aspect})"
        remarks.append(f"{encoding.codec.name} does not keep {shape}: players will take them for square.")
    if info.hdr:
        remarks.append("Metadata for HDR displays is not kept.")
    return remarks
