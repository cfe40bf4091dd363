"""From finished segments and the source's other streams to the output file; nothing is encoded again."""

from __future__ import annotations

import heapq
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av

from edgeir.errors import OutputError
from edgeir.storage import flush_file, flush_folder, writing
from edgeir.video.clock import PacketClock
from edgeir.video.encoder import Encoding, add_video, encoder_errors, read_segment
from edgeir.video.source import main_video, open_input
from edgeir.video.streams import OtherStreams, add_copy, kept_metadata, left_out_sentence
from edgeir.video.working import Segment

# Their clocks begin anywhere, up to a day away; the output begins at zero, all streams moved together.
_ARBITRARY_ORIGIN = frozenset({"mpegts", "mpeg"})
_MICROSECOND = Fraction(1, 1_000_000)
# In the working folder: what a killed run leaves of it is written over by the next, and goes with the folder.
_UNFINISHED = "joined.part"


@dataclass(frozen=True, slots=True)
class Join:
    """What to put together.

    Attributes:
        segments: in order; there is at least one.
        encoding: how they were encoded.
        format: FFmpeg's name of the container.
        display_matrix: of the output, ``None`` without.
        source: the file that the other streams and the metadata are from, ``None`` for a camera.
        others: which of its streams are kept.
        origin: seconds of the source that become zero.
        shifts: what its clock was mended by, see `edgeir.video.clock`.
    """

    segments: Sequence[Segment]
    encoding: Encoding
    format: str
    display_matrix: tuple[int, ...] | None
    source: Path | None
    others: OtherStreams
    origin: Fraction
    shifts: tuple[Fraction, ...]


def origin_of(container: Any) -> Fraction:
    """Seconds of an input that become zero in the output: none, but for formats whose clock begins anywhere."""
    if container.start_time is None or not _ARBITRARY_ORIGIN & set(container.format.name.split(",")):
        return Fraction(0)
    return Fraction(container.start_time) * _MICROSECOND


def write_joined(join: Join, output: Path) -> tuple[str, ...]:
    """Write the output; it appears whole or not at all.

    A stream that the container takes at first and refuses later is left out, and the file is written again without it.

    Returns:
        A sentence for each stream that is left out, those of ``join.others`` included.

    Raises:
        OutOfSpace, OutputError: the file cannot be written.
    """
    kept, left_out = list(join.others.kept), list(join.others.left_out)
    target = Path(os.path.realpath(output))
    temporary = join.segments[0].path.with_name(_UNFINISHED)
    try:
        while True:
            try:
                with encoder_errors(output):
                    _write(join, kept, temporary)
                break
            except _Refused as refused:
                left_out += refused.sentences.values()
                kept = [index for index in kept if index not in refused.sentences]
        with writing(output):
            flush_file(temporary)
            temporary.replace(target)
            flush_folder(target.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return tuple(left_out)


class _Refused(Exception):
    """A muxer refused streams: what is to be said of each, by its number in the source."""

    def __init__(self, sentences: dict[int, str]) -> None:
        super().__init__()
        self.sentences = sentences


def _write(join: Join, kept: list[int], path: Path) -> None:
    container = None if join.source is None else open_input(join.source)
    try:
        with _writing(path, join) as output:
            video = add_video(output, join.encoding, stream_time_base=join.encoding.time_base)
            if join.display_matrix is not None:
                video.set_display_matrix(join.display_matrix)
            copies: dict[int, Any] = {}
            if container is not None and join.source is not None:
                main = main_video(container, str(join.source))
                video.metadata.update(kept_metadata(main.metadata))
                video.disposition = main.disposition
                output.metadata.update(kept_metadata(container.metadata))
                for index in kept:
                    with _blaming(copies, container, index):
                        copies[index] = add_copy(output, container.streams[index])
                _copy_chapters(container, output, join.origin)
            with _blaming(copies, container, None):
                output.start_encoding()
            _require_header(join.segments, video.codec_context.extradata or b"")
            pictures = _video_packets(join, video)
            others = _other_packets(container, copies, join) if copies else iter(())
            for _, packet in heapq.merge(pictures, others, key=lambda timed: timed[0]):
                _mux(output, packet, copies, container)
            with _blaming(copies, container, None):  # packets that waited for others are written now
                output.close()
    finally:
        if container is not None:
            container.close()


@contextmanager
def _writing(path: Path, join: Join) -> Iterator[Any]:
    """An output container; what closing says after a failure does not hide the failure."""
    if join.format == "matroska":  # it would move all streams by an audio codec's priming, 21 ms, to begin at zero
        options = {"avoid_negative_ts": "disabled"}
    else:  # MP4 rounds when a stream begins to ticks of the whole file: to milliseconds, if nothing is said
        ticks = join.encoding.time_base.denominator
        options = {"movie_timescale": str(ticks * -(-1000 // ticks))}
    output = av.open(str(path), "w", format=join.format, container_options=options)
    try:
        yield output
    except BaseException:
        with suppress(Exception):
            output.close()
        raise
    output.close()


def _mux(output: Any, packet: Any, copies: dict[int, Any], container: Any) -> None:
    source = {copy.index: index for index, copy in copies.items()}
    with _blaming(copies, container, source.get(packet.stream_index)):
        output.mux(packet)


@contextmanager
def _blaming(copies: dict[int, Any], container: Any, index: int | None) -> Iterator[None]:
    """Lay what a muxer refuses to stream ``index``, or to all copies where it is unknown; a full disk to none."""
    try:
        yield
    except OSError:
        raise
    except (av.FFmpegError, ValueError) as error:
        blamed = list(copies) if index is None else [index]
        if not blamed:
            raise
        reason = getattr(error, "strerror", None) or str(error)
        raise _Refused({one: left_out_sentence(container.streams[one], reason) for one in blamed}) from error


def _video_packets(join: Join, stream: Any) -> Iterator[tuple[float, Any]]:
    """Packets of all segments in order, moved to the output's zero; one without a duration lasts to the next."""
    base = join.encoding.time_base
    shift = round(join.origin / base)
    usual = max(round(1 / join.encoding.rate / base), 1)
    starts = [pts for segment in join.segments for pts, _ in segment.times]
    lasts = [after - before for before, after in pairwise(starts)] + [usual]
    number = 0
    for segment in join.segments:
        for packet in read_segment(segment.path, segment.times):
            packet.duration = packet.duration or lasts[number]
            packet.pts = packet.dts = packet.pts - shift
            packet.time_base = base
            packet.stream = stream
            number += 1
            yield float(packet.dts * base), packet


def _other_packets(container: Any, copies: dict[int, Any], join: Join) -> Iterator[tuple[float, Any]]:
    """Packets of the other streams, as far as they can be read, moved to the output's zero."""
    last = float("-inf")
    clocks = {index: PacketClock(join.shifts) for index in copies}
    packets = _readable(container.demux([container.streams[index] for index in copies]))
    for packet in _trimmed(packets) if join.format == "matroska" else packets:
        if not packet.size or packet.is_corrupt:
            continue
        base = Fraction(packet.time_base)
        if packet.dts is None:
            packet.dts = packet.pts if packet.pts is not None else round(join.origin / base)
        moved = clocks[packet.stream_index].shift_at(packet.dts * base, (packet.duration or 0) * base)
        if moved is None:
            continue
        shift = round((join.origin - moved) / base)
        packet.dts -= shift
        packet.pts = packet.dts if packet.pts is None else packet.pts - shift
        packet.stream = copies[packet.stream_index]
        last = max(last, float(packet.dts * base))  # merging needs an order; the muxer sorts by itself
        yield last, packet


def _trimmed(packets: Iterable[Any]) -> Iterator[Any]:
    """Without what an edit list trims off, which Matroska has no field for and would play.

    Of sound, the one packet before what is heard stays: its decoder needs it to begin (AAC's 21 ms of priming).
    """
    before: dict[int, Any] = {}
    for packet in packets:
        if packet.is_discard:
            before[packet.stream_index] = packet
            continue
        first = before.pop(packet.stream_index, None)
        if first is not None and first.stream.type == "audio":
            yield first
        yield packet


def _readable(packets: Iterable[Any]) -> Iterator[Any]:
    try:
        yield from packets
    except av.FFmpegError:  # cut off: reading the pictures has said so
        return


def _copy_chapters(container: Any, output: Any, origin: Fraction) -> None:
    chapters = container.chapters()
    if not chapters:
        return
    moved = []
    for chapter in chapters:
        shift = round(origin / (chapter["time_base"] or _MICROSECOND))
        moved.append({**chapter, "start": chapter["start"] - shift, "end": chapter["end"] - shift})
    output.set_chapters(moved)


def _require_header(segments: Sequence[Segment], header: bytes) -> None:
    """Segments can be joined only where their parameter sets are the ones in the output's header."""
    if any(segment.header != header for segment in segments):
        raise OutputError(
            "the encoder that wrote the segments was set up otherwise than the one here",
            where=str(segments[0].path.parent),
            fix="Remove this folder and run again.",
        )
