"""What a video file holds beside its pictures, and what of it the output's container takes."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import av

from edgeir.video.source import main_video

# Written anew by every muxer, or false for pictures that were encoded again.
_NOT_COPIED = ("encoder", "major_brand", "minor_version", "compatible_brands", "vendor_id", "duration")
# Containers whose muxer makes a track of the timecode that the video's own metadata has.
_WRITING_TIMECODE = ("mp4", "mov")
_STATISTICS = ("bps", "number_of_", "_statistics_")


@dataclass(frozen=True, slots=True)
class OtherStreams:
    """The streams beside the one that is restored.

    Attributes:
        kept: their numbers in the source.
        left_out: a sentence for each that the container does not take.
    """

    kept: tuple[int, ...]
    left_out: tuple[str, ...]


def other_streams(container: Any, name: str, format: str) -> OtherStreams:
    """Which streams of ``container`` can go into a file of ``format`` as they are: each is tried by itself.

    Args:
        container: an opened input.
        name: what errors call it.
        format: FFmpeg's name of the output's container.
    """
    main = main_video(container, name)
    kept, left_out = [], []
    for stream in container.streams:
        if stream.index == main.index or (format in _WRITING_TIMECODE and _is_timecode(stream, main)):
            continue
        reason = _refusal(stream, format)
        if reason is None:
            kept.append(stream.index)
        else:
            left_out.append(left_out_sentence(stream, reason))
    return OtherStreams(tuple(kept), tuple(left_out))


def left_out_sentence(stream: Any, reason: str) -> str:
    """``"Stream 2 (subtitle, subrip) is left out: ..."``."""
    codec = stream.codec_context.name if stream.codec_context is not None else stream.name or "no codec"
    return f"Stream {stream.index} ({stream.type}, {codec}) is left out: {reason.rstrip('.')}."


def add_copy(output: Any, stream: Any) -> Any:
    """Add a stream to an output container that takes the packets of ``stream`` as they are."""
    copy = output.add_stream_from_template(stream, opaque=True)
    copy.metadata.update(kept_metadata(stream.metadata))
    copy.disposition = stream.disposition
    return copy


def kept_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    """What can be copied: all but what a muxer writes anew, and statistics of the old packets."""
    return {
        key: value
        for key, value in metadata.items()
        if key.lower() not in _NOT_COPIED and not key.lower().startswith(_STATISTICS)
    }


def _is_timecode(stream: Any, main: Any) -> bool:
    """Whether a stream is the track of the timecode that the video's metadata has as well."""
    timecode = stream.metadata.get("timecode")
    return bool(stream.type == "data" and timecode and timecode == main.metadata.get("timecode"))


def _refusal(stream: Any, format: str) -> str | None:
    """Why a file of ``format`` does not take the stream, or ``None``."""
    if stream.type == "unknown":
        return "FFmpeg does not know its kind"
    try:
        with av.open(io.BytesIO(), "w", format=format) as trial:
            add_copy(trial, stream)
            trial.start_encoding()
    except (av.FFmpegError, ValueError, OSError) as error:
        return getattr(error, "strerror", None) or str(error)
    return None
