"""Encoding frames into segments: files that are whole by themselves and can be joined without encoding again."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av import VideoFrame

from edgeir.errors import OutputError
from edgeir.storage import storage_error
from edgeir.video.codecs import Codec
from edgeir.video.colour import VideoColour

# Any codec, any time base, and packets come back byte for byte; nobody but `edgeir.video.joining` reads it.
SEGMENT_FORMAT = "nut"
# An encoder with a thread per core holds a frame per core.
ENCODER_THREADS = 4
_GLOBAL_HEADER = 1 << 22  # AV_CODEC_FLAG_GLOBAL_HEADER: parameter sets in the header, the same for all segments
_MPEG4_QUANTISER = 2  # of 31, 2 is the best that is worth its bytes
_LAMBDA = 118  # FF_QP2LAMBDA


@dataclass(frozen=True, slots=True)
class Encoding:
    """Everything an encoder is set up with: two encoders with equal ones write packets that fit together.

    Attributes:
        codec: the codec.
        crf: its rate factor, ``None`` for a codec without one.
        width, height: of the output in pixels.
        format: FFmpeg's name of the pixel format.
        time_base: seconds per tick of the times.
        rate: frames per second on average.
        colour: what is written about colours.
        sample_aspect: width of a pixel per height.
    """

    codec: Codec
    crf: int | None
    width: int
    height: int
    format: str
    time_base: Fraction
    rate: Fraction
    colour: VideoColour
    sample_aspect: Fraction | None

    @property
    def by_index(self) -> bool:
        """Whether the encoder counts frames in place of ticks, which its bitstream has no room for."""
        return self.codec.most_ticks is not None and self.time_base.denominator > self.codec.most_ticks


def add_video(container: Any, encoding: Encoding, *, stream_time_base: Fraction) -> Any:
    """Add the video stream to an output container."""
    codec = encoding.codec
    stream = container.add_stream(
        codec.encoder, rate=_limited(encoding.rate), options=codec.encoder_options(encoding.crf)
    )
    context = stream.codec_context
    context.width, context.height, context.pix_fmt = encoding.width, encoding.height, encoding.format
    context.time_base = 1 / _limited(encoding.rate) if encoding.by_index else encoding.time_base
    stream.time_base = stream_time_base
    context.max_b_frames = 0
    context.gop_size = 250
    context.thread_count = min(os.cpu_count() or 1, ENCODER_THREADS)
    context.flags |= _GLOBAL_HEADER
    if encoding.sample_aspect is not None:
        context.sample_aspect_ratio = encoding.sample_aspect
    colour = encoding.colour
    context.colorspace, context.color_range = colour.matrix, colour.range
    context.color_primaries, context.color_trc = colour.primaries, colour.transfer
    if codec.encoder == "mpeg4":
        context.qscale = True
        context.global_quality = _MPEG4_QUANTISER * _LAMBDA
    return stream


def _limited(rate: Fraction) -> Fraction:
    """A rate that every encoder can write down; times are kept apart from it."""
    return rate.limit_denominator(1001) if rate.denominator > 1001 or rate.numerator > 65535 else rate


@dataclass(frozen=True, slots=True)
class Written:
    """What a finished segment holds.

    Attributes:
        times: (presentation time, duration) of each frame, in ticks.
        header: the parameter sets, equal for all segments that can be joined.
    """

    times: tuple[tuple[int, int], ...]
    header: bytes


class SegmentWriter:
    """One segment, from its first frame to `finish`.

    Args:
        path: the file to write.
        encoding: how.

    Raises:
        OutOfSpace, OutputError: the file cannot be written, or the encoder refuses what it was asked for.
    """

    def __init__(self, path: Path, encoding: Encoding) -> None:
        self._path = path
        self._encoding = encoding
        self._times: list[tuple[int, int]] = []
        self._packets = 0
        with encoder_errors(path):
            self._container = av.open(str(path), "w", format=SEGMENT_FORMAT)
            self._stream = add_video(self._container, encoding, stream_time_base=encoding.time_base)

    @property
    def frames(self) -> int:
        """How many frames went in."""
        return len(self._times)

    def write(self, frame: VideoFrame, pts: int, duration: int) -> None:
        """Encode one frame that is shown at ``pts`` for ``duration`` ticks."""
        if self._encoding.by_index:
            frame.pts, frame.time_base = len(self._times), self._stream.codec_context.time_base
        else:
            frame.pts, frame.time_base = pts, self._encoding.time_base
        self._times.append((pts, duration))
        with encoder_errors(self._path):
            self._mux(self._stream.encode(frame))

    def finish(self) -> Written:
        """Encode what the encoder still holds and close the file."""
        with encoder_errors(self._path):
            self._mux(self._stream.encode(None))
            header = self._stream.codec_context.extradata or b""
            self._container.close()
        if self._packets != len(self._times):
            raise OutputError(
                "the encoder did not give a packet for every frame",
                where=str(self._path),
                expected=str(len(self._times)),
                got=str(self._packets),
            )
        return Written(tuple(self._times), header)

    def abandon(self) -> None:
        """Close and remove the file."""
        with contextlib.suppress(av.FFmpegError, OSError):
            self._container.close()
        self._path.unlink(missing_ok=True)

    def _mux(self, packets: list[Any]) -> None:
        for packet in packets:
            self._packets += 1
            self._container.mux(packet)


def read_segment(path: Path, times: tuple[tuple[int, int], ...]) -> Iterator[Any]:
    """The packets of a segment, each with its frame's time and duration in ticks.

    Raises:
        OutputError: the file does not hold a packet for every time.
    """
    waiting = deque(times)
    with av.open(str(path), "r", format=SEGMENT_FORMAT) as container:
        for packet in container.demux():
            if not packet.size:
                continue
            if not waiting:
                break
            packet.pts, packet.duration = waiting.popleft()
            packet.dts = packet.pts
            yield packet
    if waiting:
        raise OutputError(
            "a segment of the working folder is damaged", where=str(path), fix="Remove the folder and run again."
        )


@contextlib.contextmanager
def encoder_errors(path: Path) -> Iterator[None]:
    """Turn what FFmpeg raises while it writes ``path`` into one sentence.

    Raises:
        OutOfSpace: no room.
        OutputError: anything else.
    """
    try:
        yield
    except OSError as error:
        raise storage_error(error, path) from error
    except (av.FFmpegError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise OutputError("the video cannot be encoded", where=str(path), got=reason) from error
