"""Luma and chroma: the published levels, there and back, and what swscale makes of the same frame."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeir.errors import PictureError, UsageError
from edgeir.imaging.yuv import YUVS, Yuv, nv12_from_rgb, rgb_from_nv12, yuv_named


def one_colour(y: int, u: int, v: int) -> np.ndarray:
    frame = np.full((3, 2), y, np.uint8)
    frame[2] = u, v
    return frame


# 100 % colour bars as bytes (SMPTE RP 177 for BT.709, EBU Tech 3280 for BT.601), to the rounding of a byte.
@pytest.mark.parametrize(
    ("name", "bytes_", "rgb"),
    [
        ("bt709-limited", (235, 128, 128), (1, 1, 1)),
        ("bt709-limited", (16, 128, 128), (0, 0, 0)),
        ("bt709-limited", (63, 102, 240), (1, 0, 0)),
        ("bt709-limited", (173, 42, 26), (0, 1, 0)),
        ("bt709-limited", (32, 240, 118), (0, 0, 1)),
        ("bt601-limited", (81, 90, 240), (1, 0, 0)),
        ("bt601-limited", (145, 54, 34), (0, 1, 0)),
        ("bt601-limited", (41, 240, 110), (0, 0, 1)),
        ("bt601-full", (76, 85, 255), (1, 0, 0)),
        ("bt601-full", (255, 128, 128), (1, 1, 1)),
        ("bt709-full", (0, 128, 128), (0, 0, 0)),
    ],
)
def test_the_colour_bars(name: str, bytes_: tuple[int, int, int], rgb: tuple[int, int, int]) -> None:
    found = rgb_from_nv12(one_colour(*bytes_), yuv_named(name))
    assert found.shape == (2, 2, 3)
    # Half a byte of luma is 1/438 of white, half a byte of chroma up to 2.12 / 448: 0.0070 together.
    assert float(np.abs(found - np.float64(rgb)).max()) < 0.008


@pytest.mark.parametrize("yuv", YUVS, ids=lambda yuv: yuv.name)
def test_grey_is_grey_and_exact(yuv: Yuv) -> None:
    matrix, offset = yuv.to_rgb()
    black, span = (16, 219) if yuv.range == "limited" else (0, 255)
    grey = matrix @ np.array([black + span / 2, 128, 128]) + offset
    assert np.abs(grey - 0.5).max() < 1e-12


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(1, 6), st.integers(1, 6), st.sampled_from(YUVS), st.integers(0, 2**31))
def test_flat_blocks_come_back(rows: int, columns: int, yuv: Yuv, seed: int) -> None:
    """Colours that are the same over 2x2 pixels lose the rounding of three bytes and nothing else."""
    blocks = np.random.default_rng(seed).integers(0, 256, (rows, columns, 3), dtype=np.uint8)
    pixels = blocks.repeat(2, axis=0).repeat(2, axis=1)
    frame = nv12_from_rgb(pixels, yuv)
    assert frame.shape == (3 * rows, 2 * columns)
    back = rgb_from_nv12(frame, yuv) * 255
    # Half a byte of each: 255/219/2 + 2.12 * 255/224/2 at most for blue of BT.709 limited, less for the others.
    assert float(np.abs(back - pixels).max()) <= 1.8


def test_chroma_is_the_mean_of_its_pixels() -> None:
    pixels = np.array([[[255, 0, 0], [0, 0, 255]], [[0, 0, 255], [255, 0, 0]]], np.uint8)
    frame = nv12_from_rgb(pixels, Yuv())
    assert frame[2].tolist() == [171, 179]  # (102 + 240) / 2 and (240 + 118) / 2
    assert frame[:2].tolist() == [[63, 32], [32, 63]]


@pytest.mark.parametrize("yuv", YUVS, ids=lambda yuv: yuv.name)
def test_beside_swscale(yuv: Yuv) -> None:
    """PyAV as an oracle: chroma is flat over blocks, so that it does not matter how swscale interpolates it."""
    av = pytest.importorskip("av", reason="PyAV is not installed: no oracle for NV12")
    from av.video.reformatter import ColorRange, Colorspace, Interpolation

    height, width, block = 64, 64, 16
    generator = np.random.default_rng(3)
    luma = generator.integers(40, 200, (height, width), dtype=np.uint8)
    chroma = generator.integers(90, 160, (height // block, width // block, 2), dtype=np.uint8)
    chroma = chroma.repeat(block // 2, axis=0).repeat(block // 2, axis=1).reshape(height // 2, width)
    frame = np.concatenate([luma, chroma])
    space = Colorspace.ITU709 if yuv.matrix == "bt709" else Colorspace.ITU601
    given = av.VideoFrame.from_ndarray(frame, format="nv12")
    range_ = ColorRange.MPEG if yuv.range == "limited" else ColorRange.JPEG
    given.color_range = range_
    expected = (
        given.reformat(
            format="gbrp",  # to rgb24 swscale has tables, up to 3 steps off
            src_colorspace=space,
            dst_colorspace=space,
            src_color_range=range_,
            dst_color_range=ColorRange.JPEG,
            interpolation=Interpolation.POINT,
        )
        .to_ndarray()
        .astype(np.float64)
    )
    found = rgb_from_nv12(frame, yuv) * 255
    inner = np.zeros((height, width), bool)  # blocks without the pixels beside another chroma
    for top in range(0, height, block):
        for left in range(0, width, block):
            inner[top + 4 : top + block - 4, left + 4 : left + block - 4] = True
    # It rounds to bytes, by coefficients of 13 bits.
    assert float(np.abs(found - expected)[inner].max()) <= 0.55


@pytest.mark.parametrize("shape", [(4, 2), (3, 3), (3,), (0, 2), (3, 2, 1)])
def test_no_frame(shape: tuple[int, ...]) -> None:
    with pytest.raises(PictureError, match=r"no NV12 frame.*H and W even"):
        rgb_from_nv12(np.zeros(shape, np.uint8), Yuv())


@pytest.mark.parametrize("shape", [(3, 2, 3), (2, 3, 3), (0, 2, 3)])
def test_odd_sides(shape: tuple[int, int, int]) -> None:
    with pytest.raises(PictureError, match="NV12 needs even sides"):
        nv12_from_rgb(np.zeros(shape, np.uint8), Yuv())


def test_names() -> None:
    assert [yuv_named(yuv.name) for yuv in YUVS] == list(YUVS)
    with pytest.raises(UsageError, match=r"unknown colours 'bt709-limitd'.*Did you mean 'bt709-limited'"):
        yuv_named("bt709-limitd")
