"""Decoded frames to pixels and back, in the colour space and range that the video itself names.

swscale, which FFmpeg converts with, is used only to reorder samples. Its own conversion to more than eight bits makes
white 255/256, and ten bits do not come back from it as they were (PyAV 18.1, FFmpeg 8.1). Here the formulas of the
recommendations are computed in float32, from any depth: each chroma sample is taken for all pixels that share it, and
on the way back is their mean, so that a picture that no network touches comes back bit for bit, as far as its colours
lie within RGB.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from av import VideoFrame
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from edgeir.errors import PictureError
from edgeir.imaging.colour import Pixels
from edgeir.video.codecs import EIGHT_BITS, SIXTEEN_BITS, TEN_BITS, TWELVE_BITS, Layout

# Matrix coefficients by number (Rec. ITU-T H.273, table 4), and the weights of red and blue in luma.
RGB, BT709, UNSPECIFIED, BT601 = 0, 1, 2, 6
_WEIGHTS = {
    BT709: (0.2126, 0.0722),
    4: (0.30, 0.11),
    5: (0.299, 0.114),
    BT601: (0.299, 0.114),
    7: (0.212, 0.087),
    9: (0.2627, 0.0593),
}
HDR_TRANSFERS = {16: "PQ", 18: "HLG"}
LIMITED, FULL = 1, 2
# What players take for a video that names no matrix: BT.709 from 720 lines on.
_HD_LINES = 720

_PLANAR = {8: EIGHT_BITS, 10: TEN_BITS, 12: TWELVE_BITS, 16: SIXTEEN_BITS}
_GREY = {8: "gray", 10: "gray10le", 12: "gray12le", 16: "gray16le"}
_PLANAR_RGB = {8: "gbrp", 10: "gbrp10le", 12: "gbrp12le", 16: "gbrp16le"}
_SAME_PLANES = {"yuvj420p": "yuv420p", "yuvj422p": "yuv422p", "yuvj444p": "yuv444p"}  # names of the full range, once

Samples = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class VideoColour:
    """What a video says of its colours, in the numbers of H.273; 2 (0 for the range) where it says nothing.

    Attributes:
        matrix: how Y, Cb and Cr are made of R, G and B; 0 where the frames are RGB.
        range: 1 for 16 to 235 of 255, 2 for 0 to 255, 0 for not said: 1 is then the custom. (It is 2 for frames of luma
            alone that say nothing, as FFmpeg takes them.)
        primaries: which red, green and blue.
        transfer: which curve.
    """

    matrix: int
    range: int
    primaries: int
    transfer: int

    @classmethod
    def of(cls, frame: VideoFrame, *, where: str) -> VideoColour:
        """The colours of a decoded frame.

        Raises:
            PictureError: a matrix that edgeir does not convert, such as ICtCp, XYZ of cinemas, or samples in 32 bits.
        """
        layout = Layout.of(frame.format)
        rgb = layout.rgb
        if frame.format.name.startswith("xyz") or layout.bits > max(_PLANAR):
            raise PictureError(
                "edgeir does not read this kind of samples",
                where=where,
                expected=f"RGB, grey, or luma and chroma, of at most {max(_PLANAR)} bits",
                got=frame.format.name,
                fix="Convert the video first.",
            )
        matrix = RGB if rgb else int(frame.colorspace)
        if matrix == RGB and not rgb:
            matrix = UNSPECIFIED
        if matrix not in (RGB, UNSPECIFIED) and matrix not in _WEIGHTS:
            raise PictureError(
                "edgeir does not convert this colour space",
                where=where,
                expected="BT.601, BT.709, BT.2020 (non-constant luminance) or RGB",
                got=f"matrix coefficients {matrix} of ITU-T H.273",
            )
        range_ = int(frame.color_range) or (FULL if layout.grey else 0)
        return cls(matrix, range_, int(frame.color_primaries), int(frame.color_trc))

    def matrix_at(self, height: int) -> int:
        """The matrix to convert with: the one named, or else the one that players take for ``height`` lines."""
        if self.matrix in _WEIGHTS:
            return self.matrix
        return BT709 if height >= _HD_LINES or self.matrix == RGB else BT601


@dataclass(frozen=True, slots=True)
class _Levels:
    """Where stored numbers lie: black, its span to white, grey of chroma and its span, the largest number."""

    black: float
    luma: float
    grey: float
    chroma: float
    top: float

    @classmethod
    def of(cls, range_: int, bits: int) -> _Levels:
        """Of a range and depth (H.273, equations 20 to 22 and 27 to 29)."""
        step, top = float(1 << (bits - 8)), float((1 << bits) - 1)
        if range_ == FULL:
            return cls(0.0, top, 128 * step, top, top)
        return cls(16 * step, 219 * step, 128 * step, 224 * step, top)


class ToPixels:
    """Decoded frames of one kind to what a network eats; one per thread.

    Args:
        colour: of the video.
        height: of the video, for one that names no matrix.
    """

    def __init__(self, colour: VideoColour, height: int) -> None:
        self._colour = colour
        self._weights = _WEIGHTS[colour.matrix_at(height)]
        self._reformatter = VideoReformatter()

    def __call__(self, frame: VideoFrame) -> Pixels:
        """``(H, W, 3) float32 in [0, 1], RGB``."""
        layout = Layout.of(frame.format)
        depth = depth_of(layout.bits)
        if layout.rgb:
            green, blue, red = _samples(self._ordered(frame, _PLANAR_RGB[depth]))
            rgb = np.stack([red, green, blue]) / np.float32((1 << depth) - 1)
        else:
            rgb = self._from_luma_chroma(frame, layout, depth)
        np.clip(rgb, 0.0, 1.0, out=rgb)
        return rgb.transpose(1, 2, 0)

    def _from_luma_chroma(self, frame: VideoFrame, layout: Layout, depth: int) -> Samples:
        # Grey stays grey: on the way to three planes swscale would take it for the full range, whatever it says.
        planes = _samples(self._ordered(frame, _GREY[depth] if layout.grey else _PLANAR[depth][layout.subsampling]))
        levels = _Levels.of(self._colour.range, depth)
        height, width = planes[0].shape
        luma = planes[0]
        luma -= np.float32(levels.black)
        luma *= np.float32(1 / levels.luma)
        rgb = np.empty((3, height, width), np.float32)
        if layout.grey:
            rgb[:] = luma
            return rgb
        red, blue = self._weights
        green = 1 - red - blue
        cb, cr = ((plane - np.float32(levels.grey)) / np.float32(levels.chroma) for plane in planes[1:3])
        parts = (
            cr * np.float32(2 * (1 - red)),
            cb * np.float32(-2 * blue * (1 - blue) / green) + cr * np.float32(-2 * red * (1 - red) / green),
            cb * np.float32(2 * (1 - blue)),
        )
        for channel, part in enumerate(parts):
            _add_spread(luma, part, rgb[channel])
        return rgb

    def _ordered(self, frame: VideoFrame, format: str) -> VideoFrame:
        """The same samples in planes of ``format``."""
        if _SAME_PLANES.get(frame.format.name, frame.format.name) == format:
            return frame
        return self._reformatter.reformat(frame, format=format)


class ToFrame:
    """Restored pixels to frames for an encoder; one per thread.

    Args:
        colour: what the output says of its colours.
        matrix: the matrix to convert with, where ``colour`` names none.
        format: FFmpeg's name of the pixel format, one of `edgeir.video.codecs`.
    """

    def __init__(self, colour: VideoColour, matrix: int, format: str) -> None:
        self._colour = colour
        self._weights = _WEIGHTS[matrix]
        self._format = format
        self._reformatter = VideoReformatter()

    def __call__(self, pixels: Pixels) -> VideoFrame:
        """A frame of ``(H, W, 3) float32``, clipped to [0, 1].

        Raises:
            PictureError: a value is not a finite number.
        """
        if not np.isfinite(pixels).all():
            raise PictureError(
                f"{int(pixels.size - np.isfinite(pixels).sum())} values of a frame are not finite numbers",
                fix="The network overflowed: run it in a higher precision.",
            )
        rgb = np.clip(pixels.transpose(2, 0, 1), 0.0, 1.0)
        frame = self._rgb(rgb) if self._colour.matrix == RGB else self._luma_chroma(rgb)
        frame.colorspace, frame.color_range = self._colour.matrix, self._colour.range
        frame.color_primaries, frame.color_trc = self._colour.primaries, self._colour.transfer
        return frame

    def _rgb(self, rgb: Samples) -> VideoFrame:
        frame = VideoFrame(rgb.shape[2], rgb.shape[1], _PLANAR_RGB[8])
        for plane, samples in zip(_planes(frame), rgb[[1, 2, 0]], strict=True):
            plane[:] = np.rint(samples * np.float32(255))
        return self._reformatter.reformat(frame, format=self._format)

    def _luma_chroma(self, rgb: Samples) -> VideoFrame:
        frame = VideoFrame(rgb.shape[2], rgb.shape[1], self._format)
        planes = _planes(frame)
        levels = _Levels.of(self._colour.range, frame.format.components[0].bits)
        red, blue = self._weights
        luma = rgb[0] * np.float32(red) + rgb[1] * np.float32(1 - red - blue) + rgb[2] * np.float32(blue)
        cb = _pooled(rgb[2] - luma, planes[1].shape) * np.float32(levels.chroma / (2 * (1 - blue)))
        cr = _pooled(rgb[0] - luma, planes[2].shape) * np.float32(levels.chroma / (2 * (1 - red)))
        values = (luma * np.float32(levels.luma) + np.float32(levels.black), cb + levels.grey, cr + levels.grey)
        for plane, samples in zip(planes, values, strict=True):
            plane[:] = np.rint(np.clip(samples, 0.0, levels.top))
        return frame


def depth_of(bits: int) -> int:
    """The depth that samples of ``bits`` are read in: the next of 8, 10, 12 and 16."""
    return next(depth for depth in _PLANAR if depth >= bits)


def _planes(frame: VideoFrame) -> list[NDArray[Any]]:
    """The planes of a planar frame as writable arrays ``(h, w)`` of ``uint8`` or ``uint16``.

    Raises:
        PictureError: its lines lie from the bottom up. No decoder gives planes so, but filters may.
    """
    kind = np.dtype(np.uint8 if frame.format.components[0].bits == 8 else np.uint16)
    views = []
    for plane in frame.planes:
        if plane.line_size < 0:
            raise PictureError("the lines of this frame lie from the bottom up", got=frame.format.name)
        line_px = plane.line_size // kind.itemsize
        rows = np.frombuffer(memoryview(plane), kind, count=line_px * plane.height).reshape(plane.height, line_px)
        views.append(rows[:, : plane.width])
    return views


def _samples(frame: VideoFrame) -> list[Samples]:
    return [plane.astype(np.float32) for plane in _planes(frame)]


def _add_spread(plane: Samples, part: Samples, out: Samples) -> None:
    """``out = plane + part``, each sample of ``part`` taken for all pixels that share it."""
    height, width = plane.shape
    if part.shape[1] < width:
        part = part.repeat(2, axis=1)[:, :width]
    if part.shape[0] < height:  # row by row: repeating rows as well would copy a whole plane more
        np.add(plane[0::2], part, out=out[0::2])
        np.add(plane[1::2], part[: height // 2], out=out[1::2])
    else:
        np.add(plane, part, out=out)


def _pooled(plane: Samples, shape: tuple[int, ...]) -> Samples:
    """The means of the pixels that share a sample of a plane of ``shape``; at an odd edge there are fewer of them."""
    if plane.shape[0] > shape[0]:
        plane = np.pad(plane, ((0, plane.shape[0] % 2), (0, 0)), mode="edge")
        plane = (plane[0::2] + plane[1::2]) * np.float32(0.5)
    if plane.shape[1] > shape[1]:
        plane = np.pad(plane, ((0, 0), (0, plane.shape[1] % 2)), mode="edge")
        plane = (plane[:, 0::2] + plane[:, 1::2]) * np.float32(0.5)
    return plane
