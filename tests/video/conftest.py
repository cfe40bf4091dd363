"""Videos that the tests make: moving blocks in any codec, container, size, colour space and time base, with a tone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

av = pytest.importorskip("av", reason="PyAV is not installed: pip install 'edgeir[video]'")


@dataclass(frozen=True)
class Made:
    """What a test video is made of; the defaults are 12 frames of 64x48 at 25 frames per second, lossless."""

    path: Path
    frames: int = 12
    width: int = 64
    height: int = 48
    encoder: str = "libx264"
    format: str = "yuv420p"
    options: dict[str, str] = field(default_factory=lambda: {"crf": "12", "preset": "ultrafast"})
    container_options: dict[str, str] = field(default_factory=dict)
    time_base: Fraction = Fraction(1, 12800)
    pts: Sequence[int] | None = None
    tone: bool = False
    tone_from: Fraction = Fraction(0)  # seconds
    subtitles: bool = False
    rotation: int = 0
    aspect: Fraction | None = None
    matrix: int = 1
    range: int = 1
    primaries: int = 1
    transfer: int = 1
    metadata: dict[str, str] = field(default_factory=dict)
    timecode: str | None = None
    gop: int = 12


def scene(height: int, width: int, shift: int) -> np.ndarray:
    """``(H, W, 3) float32``: smooth waves that move."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    x = x + shift
    planes = [
        0.5 + 0.35 * np.sin(x / 9 + y / 23),
        0.5 + 0.3 * np.cos(y / 11 - x / 31),
        0.5 + 0.3 * np.sin((x + y) / 17),
    ]
    return np.stack(planes, 2).astype(np.float32)


def make(what: Made) -> Path:
    """Write the video and give its path."""
    from av.video.reformatter import ColorRange

    swscale = {1: 1, 6: 5, 9: 9, 2: 5, 0: None}  # H.273's numbers to swscale's
    with av.open(str(what.path), "w", container_options=what.container_options) as output:
        video = output.add_stream(what.encoder, rate=25, options=dict(what.options))
        video.width, video.height, video.pix_fmt = what.width, what.height, what.format
        context = video.codec_context
        context.time_base = what.time_base
        video.time_base = what.time_base
        context.gop_size = what.gop
        context.colorspace, context.color_range = what.matrix, what.range
        context.color_primaries, context.color_trc = what.primaries, what.transfer
        if what.aspect is not None:
            context.sample_aspect_ratio = what.aspect
        if what.rotation:
            video.set_display_rotation(what.rotation)
        output.metadata.update(what.metadata)
        video.metadata["language"] = "deu"
        if what.timecode is not None:
            video.metadata["timecode"] = what.timecode
        sound = "libopus" if what.path.suffix == ".webm" else "aac"
        audio = output.add_stream(sound, rate=48000) if what.tone else None
        if audio is not None:
            audio.metadata["language"] = "fra"
        text = output.add_mux_stream("mov_text" if what.path.suffix == ".mp4" else "subrip") if what.subtitles else None
        step = round(Fraction(1, 25) / what.time_base)
        pts = list(what.pts) if what.pts is not None else [index * step for index in range(what.frames)]
        for index, time in enumerate(pts):
            picture = av.VideoFrame.from_ndarray(scene(what.height, what.width, index * 2), format="gbrpf32le")
            frame = picture.reformat(
                format=what.format,
                dst_colorspace=swscale[what.matrix],
                src_color_range=ColorRange.JPEG,
                dst_color_range=ColorRange(what.range or 1),
            )
            frame.pts, frame.time_base = time, what.time_base
            frame.colorspace, frame.color_range = what.matrix, what.range
            output.mux(video.encode(frame))
            if audio is not None:
                _tone(output, audio, index, round(what.tone_from * 48000))
            if text is not None and index % 5 == 0:
                packet = av.Packet(b"\0\4text" if what.path.suffix == ".mp4" else b"text")
                packet.stream, packet.time_base = text, Fraction(1, 1000)
                packet.pts = packet.dts = index * 40
                packet.duration = 100
                output.mux(packet)
        output.mux(video.encode(None))
        if audio is not None:
            output.mux(audio.encode(None))
    return what.path


def _tone(output: Any, audio: Any, index: int, start: int) -> None:
    """A frame's worth of a sine tone, which begins at sample ``start``."""
    samples = 48000 // 25
    wave = np.sin((np.arange(samples) + index * samples) * 440 * 2 * np.pi / 48000).astype(np.float32) * 0.3
    frame = av.AudioFrame.from_ndarray(np.stack([wave, wave]), format="fltp", layout="stereo")
    frame.sample_rate, frame.pts, frame.time_base = 48000, start + index * samples, Fraction(1, 48000)
    output.mux(audio.encode(frame))


@pytest.fixture
def video(tmp_path: Path) -> Callable[..., Path]:
    """``video("a.mp4", frames=12, tone=True)``: a new video in the test's folder; see `Made`."""
    return lambda name="in.mp4", **settings: make(Made(tmp_path / name, **settings))


def times_of(path: Path) -> list[Fraction]:
    """When each frame of a video is shown, in seconds."""
    with av.open(str(path)) as container:
        return [frame.pts * frame.time_base for frame in container.decode(video=0)]


def packets_of(path: Path, kind: str) -> list[tuple[Fraction, bytes]]:
    """Times and bytes of the packets of the first stream of a kind (``"audio"``, ``"subtitle"``)."""
    with av.open(str(path)) as container:
        streams = [stream for stream in container.streams if stream.type == kind]
        return [(one.pts * one.time_base, bytes(one)) for one in container.demux(streams[:1]) if one.size]


def planes_of(path: Path) -> list[list[np.ndarray]]:
    """The planes of each frame as they are stored, ``(H, W)`` integers."""
    result = []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            kind = np.uint8 if frame.format.components[0].bits == 8 else np.uint16
            planes = []
            for plane in frame.planes:
                stride = plane.line_size // np.dtype(kind).itemsize
                planes.append(np.ndarray((plane.height, stride), kind, buffer=plane)[:, : plane.width].astype(int))
            result.append(planes)
    return result


def request(output: Path, codec: str | None = None, *, scale: int = 1, bundle: str = "a") -> Any:
    from edgeir.video.codecs import choose_codec
    from edgeir.video.restoring import Request

    return Request(output, choose_codec(codec, None, output), None, scale, {"bundle": bundle})


def same(pixels: np.ndarray) -> np.ndarray:
    return pixels


def run(source: Path, output: Path, restore: Any = same, said: list[str] | None = None, **options: Any) -> Any:
    """`restore_file`; its sentences go to ``said``."""
    from edgeir.video.restoring import restore_file

    told: list[str] = [] if said is None else said
    return restore_file(source, request(output, **options), restore, progress=lambda done, total: None, say=told.append)


class Counting:
    """A network that counts its frames, and stops like a kill would at one of them."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.frames = 0
        self.stop_at = stop_at

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        if self.frames == self.stop_at:
            raise KeyboardInterrupt
        self.frames += 1
        return np.clip(pixels * 0.9 + 0.05, 0, 1)


class Support:
    """What tests ask of a video, as one fixture: tests import nothing from each other."""

    times_of = staticmethod(times_of)
    packets_of = staticmethod(packets_of)
    planes_of = staticmethod(planes_of)
    scene = staticmethod(scene)
    run = staticmethod(run)
    Counting = Counting


@pytest.fixture
def support() -> type[Support]:
    return Support
