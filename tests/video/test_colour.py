"""Colour conversion: the video's own space and range, and back without loss."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

av = pytest.importorskip("av", reason="PyAV is not installed: pip install 'edgeir[video]'")

from edgeir.errors import PictureError  # noqa: E402
from edgeir.imaging.yuv import YUVS, Yuv, rgb_from_nv12  # noqa: E402
from edgeir.video.colour import FULL, LIMITED, ToFrame, ToPixels, VideoColour  # noqa: E402

# Kr and Kb of each matrix: ITU-R BT.601, BT.709 and BT.2020.
WEIGHTS = {6: (0.299, 0.114), 1: (0.2126, 0.0722), 9: (0.2627, 0.0593)}
CASES = [(matrix, range_) for matrix in WEIGHTS for range_ in (LIMITED, FULL)]
FORMATS = ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le"]


def planes(frame: Any) -> list[np.ndarray]:
    """The planes of a frame, writable, ``(H, W)``."""
    kind = np.dtype(np.uint8 if frame.format.components[0].bits == 8 else np.uint16)
    return [
        np.ndarray((plane.height, plane.line_size // kind.itemsize), kind, buffer=plane)[:, : plane.width]
        for plane in frame.planes
    ]


def by_formula(rgb: np.ndarray, matrix: int, range_: int, bits: int) -> list[np.ndarray]:
    """Y, Cb and Cr of ``(H, W, 3)`` by the formulas of the recommendations, as the integers that are stored."""
    kr, kb = WEIGHTS[matrix]
    y = rgb @ np.array([kr, 1 - kr - kb, kb])
    cb, cr = (rgb[..., 2] - y) / (2 - 2 * kb), (rgb[..., 0] - y) / (2 - 2 * kr)
    step, top = 1 << (bits - 8), (1 << bits) - 1
    if range_ == FULL:
        scaled = [y * top, cb * top + 128 * step, cr * top + 128 * step]
    else:
        scaled = [(y * 219 + 16) * step, (cb * 224 + 128) * step, (cr * 224 + 128) * step]
    return [np.rint(plane).astype(int) for plane in scaled]


def frame_of(rgb: np.ndarray, format: str, matrix: int, range_: int) -> Any:
    """A frame that holds a picture by those formulas, chroma averaged over the pixels that share it."""
    height, width = rgb.shape[:2]
    frame = av.VideoFrame(width, height, format)
    bits = frame.format.components[0].bits
    for plane, values in zip(planes(frame), by_formula(rgb, matrix, range_, bits), strict=True):
        rows, columns = height // plane.shape[0], width // plane.shape[1]
        plane[:] = np.rint(values.reshape(plane.shape[0], rows, plane.shape[1], columns).mean((1, 3)))
    frame.colorspace, frame.color_range = matrix, range_
    return frame


def smooth(height: int = 48, width: int = 64) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    return np.stack(
        [0.5 + 0.35 * np.sin(x / 9 + y / 23), 0.5 + 0.3 * np.cos(y / 11 - x / 31), 0.5 + 0.3 * np.sin((x + y) / 17)], 2
    )


@pytest.mark.parametrize(("matrix", "range_"), CASES)
@pytest.mark.parametrize(
    "colour", [(0.8, 0.2, 0.3), (0.1, 0.7, 0.4), (0.2, 0.3, 0.9), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)]
)
def test_pixels_are_those_of_the_recommendation(matrix: int, range_: int, colour: tuple[float, ...]) -> None:
    """One colour has no chroma edges: what is left is the rounding of the stored integers."""
    rgb = np.broadcast_to(np.array(colour), (16, 16, 3))
    frame = frame_of(rgb, "yuv444p", matrix, range_)
    pixels = ToPixels(VideoColour.of(frame, where="test"), 16)(frame)
    assert pixels.dtype == np.float32
    # Half a step of luma, of 219, and half a step of chroma, of 224, by the largest coefficient (1.8814, BT.2020 blue).
    np.testing.assert_allclose(pixels, rgb, atol=0.5 / 219 + 0.5 * 1.8814 / 224 + 1e-6)


def test_another_space_or_range_is_another_picture() -> None:
    """The conversion depends on what the frame says: with swscale's default it would not."""
    rgb = np.broadcast_to(np.array((0.8, 0.2, 0.3)), (16, 16, 3))
    stored = frame_of(rgb, "yuv444p", 1, LIMITED)
    seen = []
    for matrix, range_ in CASES:
        stored.colorspace, stored.color_range = matrix, range_
        seen.append(ToPixels(VideoColour.of(stored, where="test"), 16)(stored)[0, 0])
    for first in range(len(seen)):
        for second in range(first):
            assert np.abs(seen[first] - seen[second]).max() > 0.01, (CASES[first], CASES[second])


@pytest.mark.parametrize(("matrix", "range_"), CASES)
@pytest.mark.parametrize("format", FORMATS)
def test_there_and_back(format: str, matrix: int, range_: int) -> None:
    """What no network touches comes back bit for bit."""
    frame = frame_of(smooth(), format, matrix, range_)
    colour = VideoColour.of(frame, where="test")
    back = ToFrame(colour, matrix, format)(ToPixels(colour, 48)(frame))
    assert back.format.name == format
    assert (back.colorspace, back.color_range) == (matrix, range_)
    for before, after in zip(planes(frame), planes(back), strict=True):
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("value", [0.0, 0.25, 0.5, 1.0])
@pytest.mark.parametrize(("matrix", "range_"), CASES)
@pytest.mark.parametrize("format", ["yuv420p", "yuv420p10le", "yuv444p16le"])
def test_grey_is_exact(format: str, matrix: int, range_: int, value: float) -> None:
    """Black is 0 and white is 1, at every depth: swscale makes white 255/256."""
    frame = frame_of(np.full((8, 8, 3), value), format, matrix, range_)
    bits = frame.format.components[0].bits
    stored = float(planes(frame)[0][0, 0])
    expected = stored / ((1 << bits) - 1) if range_ == FULL else (stored / (1 << (bits - 8)) - 16) / 219
    pixels = ToPixels(VideoColour.of(frame, where="test"), 8)(frame)
    np.testing.assert_allclose(pixels, expected, atol=2e-6)
    assert abs(expected - value) <= 0.5 / (219 << (bits - 8))


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 9), st.integers(1, 9), st.sampled_from(["yuv420p", "yuv422p", "yuv444p"]), st.integers(0, 2**32 - 1)
)
def test_any_size_comes_back(height: int, width: int, format: str, seed: int) -> None:
    """Odd sizes too, whose last chroma samples belong to fewer pixels; chroma near grey keeps colours within RGB."""
    random = np.random.default_rng(seed)
    frame = av.VideoFrame(width, height, format)
    for plane, (low, high) in zip(planes(frame), [(70, 180), (110, 146), (110, 146)], strict=True):
        plane[:] = random.integers(low, high, plane.shape)
    frame.colorspace, frame.color_range = 6, LIMITED
    colour = VideoColour.of(frame, where="test")
    back = ToFrame(colour, 6, format)(ToPixels(colour, height)(frame))
    for before, after in zip(planes(frame), planes(back), strict=True):
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("format", ["nv12", "yuvj420p", "p010le", "yuyv422", "uyvy422", "yuv422p10be"])
def test_other_orders_of_the_same_samples(format: str) -> None:
    """What cameras and hardware decoders give holds the same numbers in another order."""
    ten = "10" in format
    planar = ("yuv422p" if "422" in format or "yv" in format else "yuv420p") + ("10le" if ten else "")
    frame = frame_of(smooth(), planar, 1, LIMITED)
    colour = VideoColour.of(frame, where="test")
    expected = ToPixels(colour, 48)(frame)
    if format == "yuvj420p":
        other = av.VideoFrame(64, 48, format)
        for plane, samples in zip(planes(other), planes(frame), strict=True):
            plane[:] = samples
    else:
        other = frame.reformat(format=format)
    np.testing.assert_array_equal(ToPixels(colour, 48)(other), expected)


@pytest.mark.parametrize("range_", [0, LIMITED, FULL])
@pytest.mark.parametrize("format", ["gray", "gray10le", "ya8", "gray12le", "gray9le", "gray10be"])
def test_grey_frames(format: str, range_: int) -> None:
    """By the range they name, and by the full one where they name none; swscale would take any for the full one."""
    bits = av.VideoFormat(format).components[0].bits
    values = np.arange(256).reshape(16, 16) << (bits - 8)
    frame = av.VideoFrame(16, 16, {"ya8": "gray", "gray10be": "gray10le"}.get(format, format))
    planes(frame)[0][:] = values
    frame.color_range = range_
    if frame.format.name != format:
        frame = frame.reformat(format=format)
        frame.color_range = range_
    colour = VideoColour.of(frame, where="test")
    assert colour.range == (range_ or FULL)
    pixels = ToPixels(colour, 16)(frame)
    step = 1 << (bits - 8)
    expected = (values / step - 16) / 219 if range_ == LIMITED else values / ((1 << bits) - 1)
    # Nine bits are read in ten, which swscale fills up from the highest bit: a step of ten.
    np.testing.assert_allclose(pixels[..., 1], expected.clip(0, 1), atol=1e-5 if bits != 9 else 1.01 / 876)
    np.testing.assert_array_equal(pixels[..., 0], pixels[..., 2])


def test_lines_from_the_bottom_up_are_refused() -> None:
    """A filter that turns a picture over gives the same memory with a negative step from line to line."""
    graph = av.filter.Graph()
    begin = graph.add_buffer(width=64, height=48, format=av.VideoFormat("yuv420p"), time_base=Fraction(1, 25))
    turn, end = graph.add("vflip"), graph.add("buffersink")
    begin.link_to(turn)
    turn.link_to(end)
    graph.configure()
    begin.push(frame_of(smooth(), "yuv420p", 1, LIMITED))
    turned = end.pull()
    assert turned.planes[0].line_size < 0
    with pytest.raises(PictureError, match="lie from the bottom up"):
        ToPixels(VideoColour.of(turned, where="test"), 48)(turned)


@pytest.mark.parametrize("yuv", YUVS, ids=lambda yuv: yuv.name)
def test_engines_of_bytes_see_the_same_colours(yuv: Yuv) -> None:
    """`edgeir.imaging.yuv` has these weights as well, in float64 and for NV12 alone: the two say the same."""
    random = np.random.default_rng(0)
    packed = random.integers(16, 236, (48, 32), dtype=np.uint8)  # of 32x32
    frame = av.VideoFrame.from_ndarray(packed, format="nv12")
    frame.colorspace = {"bt709": 1, "bt601": 6}[yuv.matrix]
    frame.color_range = {"limited": LIMITED, "full": FULL}[yuv.range]
    pixels = ToPixels(VideoColour.of(frame, where="test"), 32)(frame)
    np.testing.assert_allclose(pixels, rgb_from_nv12(packed, yuv), atol=1e-6)


@pytest.mark.parametrize("format", ["xyz12le", "gbrpf32le", "grayf32le"])
def test_samples_that_are_not_read(format: str) -> None:
    with pytest.raises(PictureError, match=f"does not read this kind of samples .* got {format}"):
        VideoColour.of(av.VideoFrame(16, 16, format), where="a.mkv")


def test_a_video_that_names_no_matrix_is_read_by_its_height() -> None:
    colour = VideoColour(2, 0, 2, 2)
    assert colour.matrix_at(576) == 6
    assert colour.matrix_at(720) == 1
    assert VideoColour(9, 0, 2, 2).matrix_at(100) == 9


def test_rgb_stays() -> None:
    picture = (smooth() * 255).round().astype(np.uint8)
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
    colour = VideoColour.of(frame, where="test")
    assert colour.matrix == 0
    pixels = ToPixels(colour, 48)(frame)
    np.testing.assert_allclose(pixels, picture / 255, atol=1e-6)
    back = ToFrame(colour, 1, "bgr0")(pixels)
    np.testing.assert_array_equal(back.to_ndarray(format="rgb24"), picture)


def test_a_space_that_is_not_converted_is_refused() -> None:
    frame = av.VideoFrame(16, 16, "yuv444p")
    frame.colorspace = 14  # ICtCp
    with pytest.raises(PictureError, match="does not convert this colour space"):
        VideoColour.of(frame, where="a.mp4")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_no_number_is_refused(value: float) -> None:
    pixels = np.zeros((16, 16, 3), np.float32)
    pixels[3, 4, 1] = value
    with pytest.raises(PictureError, match="1 values of a frame are not finite"):
        ToFrame(VideoColour(1, 1, 1, 1), 1, "yuv420p")(pixels)
