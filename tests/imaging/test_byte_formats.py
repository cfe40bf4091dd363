"""Byte formats by name, and the shapes and files that follow."""

from __future__ import annotations

import pytest

from edgeir.errors import UsageError
from edgeir.imaging.byte_formats import BYTE_FORMATS, ByteFormat, byte_format_named
from edgeir.imaging.yuv import Yuv

NV12 = ByteFormat("nv12", Yuv())


def test_every_name_is_found_and_no_two_graphs_share_a_file() -> None:
    assert [byte_format_named(form.name) for form in BYTE_FORMATS] == list(BYTE_FORMATS)
    assert len({form.graph_name() for form in BYTE_FORMATS}) == len(BYTE_FORMATS) == 6
    assert NV12.graph_name("model.tensorrt-10.3-plugins.onnx") == "model.tensorrt-10.3-plugins.nv12-bt709-limited.onnx"
    with pytest.raises(UsageError, match=r"unknown byte format 'uint'.*Did you mean 'uint8'"):
        byte_format_named("uint")


def test_shapes() -> None:
    assert ByteFormat("bgr").input_shape(2, 48, 64) == (2, 48, 64, 3)
    assert NV12.input_shape(2, 48, 64) == (2, 72, 64, 1)


def test_odd_sides_are_refused_for_nv12_only() -> None:
    ByteFormat("uint8").require_size(3, 5, where="--size")
    NV12.require_size(4, 6, where="--size")
    with pytest.raises(UsageError, match=r"--size: NV12 needs even sides \(got 4x5\)\. Use 4x6"):
        NV12.require_size(4, 5, where="--size")
