"""Reading a video: one stream of pictures with their times, and how the file ended."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av import VideoFrame

from edgeir.errors import PictureError
from edgeir.imaging.colour import Pixels
from edgeir.video.clock import FrameClock
from edgeir.video.codecs import Layout
from edgeir.video.colour import ToPixels, VideoColour
from edgeir.video.ending import Ending, is_cut

# Threads that share a frame, where its codec lets them: the network is slower than one. With a frame for each thread a
# damaged packet at the end takes the frames with it that other threads hold (FFmpeg 8.1: three of H.264 for one).
DECODER_THREADS = 2
# AVI numbers frames in the order they are decoded in: what FFmpeg gives as presentation times is wrong with B-frames.
_NUMBERED = "avi"
# Their headers say when the last frame ends, and others how long it is from the first to there.
_COUNT_FROM_ZERO = frozenset({"matroska", "webm", "asf"})
_ATTACHED_PICTURE = 1 << 10
_HDR_SIDE_DATA = frozenset({"MASTERING_DISPLAY_METADATA", "CONTENT_LIGHT_LEVEL", "DOVI_METADATA", "DYNAMIC_HDR_PLUS"})
_FALLBACK_RATE = Fraction(25)


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """What a video is, by its header and its first frame.

    Attributes:
        width, height: in pixels, as stored: not turned by `display_matrix`, not stretched by `sample_aspect`.
        layout: how samples lie in a frame.
        colour: what it says of its colours.
        time_base: seconds per tick of its times.
        rate: frames per second on average, or a guess.
        sample_aspect: width of a pixel per height, ``None`` where nothing is said.
        display_matrix: nine numbers that turn or mirror the picture on display, ``None`` without.
        frames: how many frames there are by the header or by its length; ``None`` where neither is known.
        interlaced: a frame holds two fields.
        hdr: it carries metadata of HDR displays.
    """

    width: int
    height: int
    layout: Layout
    colour: VideoColour
    time_base: Fraction
    rate: Fraction
    sample_aspect: Fraction | None
    display_matrix: tuple[int, ...] | None
    frames: int | None
    interlaced: bool
    hdr: bool


@dataclass(frozen=True, slots=True, eq=False)
class TimedPixels:
    """One picture of a video.

    Attributes:
        pixels: ``(H, W, 3) float32 in [0, 1], RGB``.
        pts: when it is shown, in ticks of the time base.
        duration: how long, in ticks; 0 where the file does not say.
    """

    pixels: Pixels
    pts: int
    duration: int


class VideoSource:
    """A video that is open for reading, from its first frame to its last; closed by ``close()``.

    Args:
        container: an opened input of PyAV.
        name: what errors call it.

    Raises:
        PictureError: there is no video stream, or not one frame of it can be decoded.
    """

    def __init__(self, container: Any, name: str) -> None:
        self.name = name
        self._container = container
        self._stream = main_video(container, name)
        self._stream.codec_context.thread_count = DECODER_THREADS
        self._stream.thread_type = "SLICE"
        self._frames = 0
        self._damaged = 0
        self._end = Fraction(0)
        self._latest = Fraction(0)  # of any stream
        self._latest_picture = Fraction(0)  # of this one
        self._first_dts: int | None = None
        self._delay = 0
        self._number: int | None = None
        self._read_error = ""
        self._decoded = self._decode()
        self._first = next(self._decoded, None)
        if self._first is None:
            raise PictureError(
                "not one frame of this video can be decoded", where=name, got=self._read_error or self._codec_name()
            )
        self.info = self._describe(self._first)
        self._clock = FrameClock(self.info.time_base, max(round(1 / self.info.rate / self.info.time_base), 1))

    def __enter__(self) -> VideoSource:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the file back."""
        self._container.close()

    def pictures(self, skip: int = 0, limit: int | None = None) -> Iterator[TimedPixels]:
        """Every picture in the order of presentation, once.

        Times that are missing are filled in at the average rate, and one that is not after the one before is moved one
        tick behind it; `irregular` counts both. Where the file's clock jumps back, it goes on: see `shifts`.

        Args:
            skip: how many are decoded and not given.
            limit: stop after this many have been given.

        Raises:
            PictureError: the size or kind of the frames changes on the way.
        """
        convert = ToPixels(self.info.colour, self.info.height)
        given = 0
        for frame in self._with_first():
            if limit is not None and given >= limit:
                return
            duration = int(frame.duration or 0)
            pts = self._time_of(frame, duration)
            self._note_end(pts, duration)
            self._frames += 1
            if self._frames > skip:
                self._require_same(frame)
                given += 1
                yield TimedPixels(convert(frame), pts, duration)

    @property
    def irregular(self) -> int:
        """How many frames had no time, or not one after the frame before."""
        return self._clock.irregular

    @property
    def shifts(self) -> tuple[Fraction, ...]:
        """For each place where the clock jumped back, the seconds that everything from there on is moved by."""
        return tuple(self._clock.shifts)

    @property
    def ending(self) -> Ending:
        """How the file ended; call it when `pictures` has."""
        info, container = self.info, self._container
        frame_s = float(1 / info.rate)
        declared = self._declared_end()
        latest = self._latest_picture if self._stream.duration else self._latest  # of what the header speaks of
        cut = bool(self._read_error) or is_cut(
            container.format.name,
            end_s=float(max(latest, self._end)),
            declared_s=None if declared is None else float(declared),
            frame_s=frame_s,
        )
        return Ending(
            frames=self._frames,
            end_s=float(self._end),
            declared_s=None if declared is None else float(declared),
            damaged=self._damaged,
            cut=cut,
            reason=self._read_error,
        )

    def _with_first(self) -> Iterator[VideoFrame]:
        if self._first is not None:
            yield self._first
            self._first = None
        yield from self._decoded

    def _decode(self) -> Iterator[VideoFrame]:
        """Frames as they come; what cannot be decoded is counted and left out."""
        packets = self._container.demux()
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except av.FFmpegError as error:
                self._read_error = error.strerror or type(error).__name__
                yield from self._decode_packet(None)
                return
            ours = packet.stream.index == self._stream.index  # stream_index of the empty ones at the end is always 0
            if packet.size and packet.pts is not None and packet.time_base is not None and not packet.is_corrupt:
                end = (packet.pts + (packet.duration or 0)) * packet.time_base
                self._latest = max(self._latest, end)
                if ours:
                    self._latest_picture = max(self._latest_picture, end)
            if ours:
                if self._first_dts is None:
                    self._first_dts = packet.dts
                yield from self._decode_packet(packet)

    def _decode_packet(self, packet: Any) -> list[VideoFrame]:
        try:
            frames = list(self._stream.decode(packet))
        except (av.FFmpegError, EOFError):
            self._damaged += packet is not None
            return []
        self._damaged += sum(bool(frame.is_corrupt) for frame in frames)
        return frames

    def _time_of(self, frame: VideoFrame, duration: int) -> int:
        if self._container.format.name != _NUMBERED:
            return self._clock.time_of(frame.pts, frame.dts, duration)
        if frame.dts is None:  # the last ones, which the decoder holds back for reordering
            self._number = None if self._number is None else self._number + 1
        elif self._number is None:  # a decoder takes some packets before it gives the first frame
            self._number, self._delay = self._first_dts or 0, frame.dts - (self._first_dts or 0)
        else:
            self._number = frame.dts - self._delay
        return self._clock.time_of(self._number, self._number, duration)

    def _note_end(self, pts: int, duration: int) -> None:
        length = duration * self.info.time_base if duration else 1 / self.info.rate
        self._end = max(self._end, pts * self.info.time_base + length)

    def _declared_end(self) -> Fraction | None:
        """By the stream's own header where it has one, or else by the file's, which counts its longest stream.

        FLV's means one thing or the other, by who wrote it, and so does that of an MP4 in fragments, by which of its
        boxes FFmpeg has it from: the earlier end is taken.
        """
        length, start = self._declared_length()
        if length is None or self._counts_from_zero():
            return length
        either = self._container.format.name == "flv" or ("mp4" in self._formats() and not self._stream.frames)
        return length + (min(start, Fraction(0)) if either else start)

    def _declared_length(self) -> tuple[Fraction | None, Fraction]:
        """What the header says, in seconds, and when what it speaks of begins."""
        stream, container = self._stream, self._container
        if stream.duration and stream.time_base:
            base = Fraction(stream.time_base)
            return stream.duration * base, (stream.start_time or 0) * base
        start = Fraction(container.start_time or 0, 1_000_000)
        return Fraction(container.duration, 1_000_000) if container.duration else None, start

    def _counts_from_zero(self) -> bool:
        return bool(_COUNT_FROM_ZERO & self._formats())

    def _formats(self) -> set[str]:
        return set(self._container.format.name.split(","))

    def _frames_declared(self, rate: Fraction) -> int | None:
        """By the header, or by the length and the rate; ``None`` where neither is known."""
        length, start = self._declared_length()
        if self._stream.frames or length is None:
            return int(self._stream.frames) or None
        return max(round((length - start if self._counts_from_zero() else length) * rate), 1)

    def _describe(self, frame: VideoFrame) -> VideoInfo:
        stream = self._stream
        rate = stream.average_rate or stream.guessed_rate or stream.base_rate or _FALLBACK_RATE
        kinds = {one.type.name for one in _side_data(frame)}
        return VideoInfo(
            width=frame.width,
            height=frame.height,
            layout=Layout.of(frame.format),
            colour=VideoColour.of(frame, where=self.name),
            time_base=Fraction(frame.time_base or stream.time_base or 1 / rate),
            rate=Fraction(rate),
            sample_aspect=stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio,
            display_matrix=_display_matrix(frame),
            frames=self._frames_declared(Fraction(rate)),
            interlaced=bool(frame.interlaced_frame),
            hdr=bool(_HDR_SIDE_DATA & kinds),
        )

    def _require_same(self, frame: VideoFrame) -> None:
        info = self.info
        if (frame.width, frame.height) != (info.width, info.height) or Layout.of(frame.format) != info.layout:
            raise PictureError(
                f"the kind of picture changes at frame {self._frames}",
                where=self.name,
                expected=f"{info.width}x{info.height} to the end",
                got=f"{frame.width}x{frame.height} {frame.format.name}",
                fix="Split the file where it changes.",
            )

    def _codec_name(self) -> str:
        return f"codec {self._stream.codec_context.name}"


def open_video(path: Path) -> VideoSource:
    """Open a video file.

    Raises:
        PictureError: it cannot be read, is no video, or has no picture that can be decoded.
    """
    container = open_input(path)
    try:
        return VideoSource(container, str(path))
    except BaseException:
        container.close()
        raise


def open_input(path: Path) -> Any:
    """PyAV's container of a video file.

    Raises:
        PictureError: it cannot be read, or no demuxer takes it.
    """
    try:
        return av.open(str(path), "r", metadata_errors="replace")
    except (av.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise PictureError("cannot be opened as a video", where=str(path), got=reason) from error


def main_video(container: Any, name: str) -> Any:
    """The stream to restore: the first that is no cover picture.

    Raises:
        PictureError: there is none.
    """
    for stream in container.streams.video:
        if not stream.disposition & _ATTACHED_PICTURE and stream.codec_context is not None:
            return stream
    raise PictureError("there is no video stream in this file", where=name)


def _side_data(frame: VideoFrame) -> list[Any]:
    data: Any = frame.side_data
    return [data[index] for index in range(len(data))]


def _display_matrix(frame: VideoFrame) -> tuple[int, ...] | None:
    """Nine 32-bit integers of the frame's side data."""
    for data in _side_data(frame):
        if data.type.name == "DISPLAYMATRIX":
            return struct.unpack("=9i", bytes(data)[:36])
    return None
