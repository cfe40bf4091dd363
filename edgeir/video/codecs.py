"""How a restored video is stored: a few codecs and containers, each a row of a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from av import VideoFormat, codecs_available

from edgeir.errors import MissingDependency, UsageError, nearest

# Suffix of the output, and FFmpeg's name of its container.
CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}

EIGHT_BITS = {"420": "yuv420p", "422": "yuv422p", "444": "yuv444p"}
TEN_BITS = {"420": "yuv420p10le", "422": "yuv422p10le", "444": "yuv444p10le"}
TWELVE_BITS = {"420": "yuv420p12le", "422": "yuv422p12le", "444": "yuv444p12le"}
SIXTEEN_BITS = {"420": "yuv420p16le", "422": "yuv422p16le", "444": "yuv444p16le"}


@dataclass(frozen=True, slots=True)
class Codec:
    """One way to store frames.

    Attributes:
        name: what ``--codec`` says.
        encoder: FFmpeg's name of the encoder.
        formats: bits per sample to chroma subsampling to FFmpeg's pixel format.
        containers: FFmpeg's names of those that hold it.
        crf: the constant rate factor if none is asked for, 0 best; ``None`` for a codec that has none.
        crf_highest: the worst.
        even: where colour is halved, the number of columns (and of lines, for 4:2:0) must be even.
        rgb: the pixel format that keeps RGB, if there is one.
        aspect: its bitstream says what shape pixels have. (A container could; PyAV writes it into none.)
        colours: its bitstream says what colours mean. Matroska always does; MP4 does where matrix, primaries and
            transfer are all known, MOV then too, but for the range.
        most_ticks: the largest number of ticks per second, where the bitstream limits them.
        options: the encoder's own. None has B-frames: then a packet is a frame, in order, and its time is that frame's,
            in every container.
    """

    name: str
    encoder: str
    formats: Mapping[int, Mapping[str, str]]
    containers: tuple[str, ...]
    crf: int | None
    crf_highest: int
    even: bool
    rgb: str | None
    aspect: bool
    colours: bool
    most_ticks: int | None
    options: Mapping[str, str]

    def encoder_options(self, crf: int | None) -> dict[str, str]:
        """Options of the encoder, the quality included."""
        return {**self.options, **({} if crf is None else {"crf": str(crf)})}


# CRF 18 and 20: what the encoders' own guides call visually lossless. The coder should add less error than the network.
# A lookahead of 10 frames instead of 40 keeps memory small: the network is the slow part, not the encoder's decisions.
CODECS = {
    "h264": Codec(
        name="h264",
        encoder="libx264",
        formats={8: EIGHT_BITS, 10: TEN_BITS},
        containers=("mp4", "mov", "matroska"),
        crf=18,
        crf_highest=51,
        even=True,
        rgb=None,
        aspect=True,
        colours=True,
        most_ticks=None,
        options={"preset": "medium", "bf": "0", "rc-lookahead": "10"},
    ),
    "hevc": Codec(
        name="hevc",
        encoder="libx265",
        formats={8: EIGHT_BITS, 10: TEN_BITS, 12: TWELVE_BITS},
        containers=("mp4", "mov", "matroska"),
        crf=20,
        crf_highest=51,
        even=True,
        rgb=None,
        aspect=True,
        colours=True,
        most_ticks=None,
        options={"preset": "medium", "x265-params": "log-level=none:bframes=0:rc-lookahead=10"},
    ),
    "mpeg4": Codec(
        name="mpeg4",
        encoder="mpeg4",
        formats={8: {"420": "yuv420p"}},
        containers=("mp4", "mov", "matroska"),
        crf=None,
        crf_highest=0,
        even=False,
        rgb=None,
        aspect=True,
        colours=False,
        most_ticks=65535,
        options={},
    ),
    "ffv1": Codec(
        name="ffv1",
        encoder="ffv1",
        formats={8: EIGHT_BITS, 10: TEN_BITS, 12: TWELVE_BITS, 16: SIXTEEN_BITS},
        containers=("matroska",),
        crf=None,
        crf_highest=0,
        even=False,
        rgb="bgr0",
        aspect=False,
        colours=False,
        most_ticks=None,
        options={"level": "3"},
    ),
}
DEFAULTS = ("h264", "mpeg4")  # the first that this PyAV has


def container_of(output: Path) -> str:
    """FFmpeg's name of the container that the suffix of ``output`` stands for.

    Raises:
        UsageError: none does; the nearest is offered.
    """
    suffix = output.suffix.lower()
    if suffix not in CONTAINERS:
        raise UsageError(
            "edgeir writes no video with this suffix",
            where=str(output),
            got=repr(output.suffix),
            fix=nearest(suffix, CONTAINERS),
        )
    return CONTAINERS[suffix]


def choose_codec(asked: str | None, crf: int | None, output: Path) -> Codec:
    """The codec to write ``output`` with.

    Raises:
        UsageError: no such codec, or neither the container nor ``crf`` fit it.
        MissingDependency: this PyAV was built without its encoder.
    """
    container = container_of(output)
    if asked is not None and asked not in CODECS:
        raise UsageError(f"unknown codec '{asked}'", where="--codec", fix=nearest(asked, CODECS))
    names = DEFAULTS if asked is None else (asked,)
    found = [CODECS[name] for name in names if CODECS[name].encoder in codecs_available]
    if not found:
        raise MissingDependency(
            f"this PyAV has no encoder '{CODECS[names[0]].encoder}'",
            where="--codec",
            fix=f"Installed from PyPI it has; here: --codec {' or '.join(_available())}.",
        )
    codec = found[0]
    if container not in codec.containers:
        raise UsageError(
            f"{codec.name} cannot go into this container",
            where=str(output),
            expected=" or ".join(suffix for suffix, name in CONTAINERS.items() if name in codec.containers),
            got=output.suffix,
        )
    if crf is not None and codec.crf is None:
        raise UsageError(f"{codec.name} has no rate factor", where="--crf", fix="Leave it out.")
    if crf is not None and not 0 <= crf <= codec.crf_highest:
        raise UsageError("no such rate factor", where="--crf", expected=f"0 to {codec.crf_highest}", got=str(crf))
    return codec


@dataclass(frozen=True, slots=True)
class Layout:
    """How samples lie in a frame.

    Attributes:
        bits: per sample.
        subsampling: ``"420"``, ``"422"`` or ``"444"``; what is stranger counts as the next finer one.
        rgb, alpha, grey: what it holds.
    """

    bits: int
    subsampling: str
    rgb: bool
    alpha: bool
    grey: bool

    @classmethod
    def of(cls, format: VideoFormat) -> Layout:
        """The layout of one of FFmpeg's pixel formats."""
        return _layout_of(format.name)


@cache
def _layout_of(name: str) -> Layout:
    format = VideoFormat(name, 64, 64)  # of a frame of one column nothing could be said
    components = format.components
    rgb = bool(format.is_rgb) or bool(format.has_palette)
    grey = len(components) < 3 and not rgb
    subsampling = "444" if rgb else "420"
    if not rgb and not grey:
        chroma = components[1]
        halves = (chroma.width < format.width, chroma.height < format.height)
        subsampling = {(True, True): "420", (True, False): "422"}.get(halves, "444")
    return Layout(
        bits=8 if format.has_palette else max(one.bits for one in components),
        subsampling=subsampling,
        rgb=rgb,
        alpha=len(components) in (2, 4),
        grey=grey,
    )


@dataclass(frozen=True, slots=True)
class Storage:
    """The pixel format to store frames in.

    Attributes:
        format: FFmpeg's name.
        rgb: it keeps RGB.
        remarks: sentences on what is stored otherwise than in the source.
    """

    format: str
    rgb: bool
    remarks: tuple[str, ...]


def storage_for(codec: Codec, source: Layout, width: int, height: int) -> Storage:
    """How ``codec`` stores frames of ``width`` x ``height`` pixels from a source of such a layout.

    Raises:
        UsageError: the codec would lose bits.
    """
    remarks = []
    if source.alpha:
        remarks.append("Transparency is not kept: the frames are restored as if opaque.")
    depths = sorted(bits for bits in codec.formats if bits >= source.bits)
    if not depths:
        holds = [name for name in _available() if max(CODECS[name].formats) >= source.bits]
        raise UsageError(
            f"{codec.name} would lose bits of this video",
            where="--codec",
            expected=f"at most {max(codec.formats)} bits",
            got=f"{source.bits} bits",
            fix=f"Choose --codec {' or '.join(holds)}." if holds else None,
        )
    if source.rgb and codec.rgb is not None and source.bits == 8:
        return Storage(codec.rgb, True, tuple(remarks))
    formats = codec.formats[depths[0]]
    wanted = "420" if source.rgb else source.subsampling
    odd = codec.even and ((wanted in ("420", "422") and width % 2 == 1) or (wanted == "420" and height % 2 == 1))
    if source.rgb:
        resolution = "" if odd else " with half the colour resolution (4:2:0)"
        remarks.append(f"The source is RGB; {codec.name} stores it as luma and chroma{resolution}.")
    elif source.grey:
        remarks.append("The source is grey; it is stored with colour planes.")
    if odd:
        remarks.append(
            f"{width}x{height} is odd, and {codec.name} halves colour only at even sizes: it is stored with full "
            "colour resolution (4:4:4), which some players do not take."
        )
        wanted = "444"
    if wanted not in formats:
        remarks.append(f"{codec.name} stores colour at half the source's resolution (4:2:0).")
        wanted = "420"
    if source.bits not in (8, depths[0]):
        remarks.append(f"{source.bits} bits are stored in {depths[0]}.")
    return Storage(formats[wanted], False, tuple(remarks))


def _available() -> list[str]:
    return [name for name, codec in CODECS.items() if codec.encoder in codecs_available]
