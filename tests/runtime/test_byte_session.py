"""Bytes through a bundle: which graph is taken, and whole pictures bit for bit as the float path writes them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from edgeir.bundle import Bundle, BundleWriter
from edgeir.errors import BundleError
from edgeir.export.byte_io import with_bytes
from edgeir.export.graph import save_graph
from edgeir.imaging.byte_formats import ByteFormat
from edgeir.imaging.colour import to_uint8
from edgeir.imaging.picture import Picture
from edgeir.imaging.reading import read_picture
from edgeir.imaging.writing import write_picture
from edgeir.imaging.yuv import Yuv
from edgeir.runtime.byte_session import BYTES_ROLE, byte_twin, open_ort_bytes, why_not_bytes
from edgeir.runtime.opening import graph_input, open_session
from edgeir.runtime.restore import restore_bytes, restore_pixels

UINT8, BGR, NV12 = ByteFormat("uint8"), ByteFormat("bgr"), ByteFormat("nv12", Yuv())


@pytest.fixture(scope="module")
def in_bytes(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Bundle]:
    """``in_bytes(UINT8, "model.onnxruntime.onnx")``: the micro bundle with twins of bytes of the graphs named."""
    folder = tmp_path_factory.mktemp("bytes")

    def make(form: ByteFormat, *graphs: str, prepared: bool = False) -> Bundle:
        destination = folder / f"{form.name}-{'-'.join(graphs) or 'model'}{prepared}.edgeir"
        with BundleWriter(destination, force=True) as writer:
            for name in ("reference", "model"):
                writer.path(f"{name}.onnx").write_bytes(bundle.file(name).read_bytes())
                writer.add(f"{name}.onnx", name)
            if prepared:
                writer.path("model.onnxruntime.onnx").write_bytes(bundle.file("model").read_bytes())
                writer.add("model.onnxruntime.onnx", "prepared", parents=("model.onnx",))
            for graph in graphs or ("model.onnx",):
                save_graph(with_bytes(ir.load(bundle.file("model")), form), writer.path(form.graph_name(graph)))
                writer.add(form.graph_name(graph), BYTES_ROLE, parents=(graph,))
            writer.commit(dataclasses.replace(bundle.manifest, artifacts=()))
        return Bundle.open(destination)

    return make


def test_the_twin_of_the_graph_that_is_run(bundle: Bundle, in_bytes: Callable[..., Bundle]) -> None:
    assert byte_twin(bundle, bundle.file("model")) is None
    assert open_ort_bytes(bundle) is None
    made = in_bytes(NV12)
    assert byte_twin(made, made.file("model")) == (made.path / "model.nv12-bt709-limited.onnx", NV12)
    both = in_bytes(UINT8, "model.onnx", "model.onnxruntime.onnx", prepared=True)
    assert byte_twin(both, both.graph_for("onnxruntime")) == (both.path / "model.onnxruntime.uint8.onnx", UINT8)
    lacking = in_bytes(UINT8, "model.onnx", prepared=True)
    with pytest.raises(BundleError, match=r"belongs to model\.onnxruntime\.onnx .*got model\.uint8\.onnx"):
        open_ort_bytes(lacking)


@pytest.fixture(scope="module")
def pair(bundle: Bundle, in_bytes: Callable[..., Bundle]) -> tuple[Any, Any, Any]:
    session = open_ort_bytes(in_bytes(UINT8), threads=1)
    assert session is not None
    return session, open_session(bundle, "ort", threads=1), graph_input(bundle.manifest)


@settings(max_examples=12, deadline=None, derandomize=True)
@given(st.integers(1, 96), st.integers(1, 96), st.integers(0, 99))
def test_whole_pictures_bit_for_bit(pair: tuple[Any, Any, Any], height: int, width: int, seed: int) -> None:
    """What `edgeir run` writes by way of bytes is what it writes by way of floats, in ONNX Runtime."""
    session, floats, graph = pair
    picture = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    expected = to_uint8(restore_pixels(floats, graph, picture.astype(np.float32) / np.float32(255)))
    found = restore_bytes(session, graph, picture)
    np.testing.assert_array_equal(found, expected)


def test_tiles_are_at_most_a_step_off(pair: tuple[Any, Any, Any]) -> None:
    session, floats, graph = pair
    picture = np.random.default_rng(1).integers(118, 138, (70, 120, 3), dtype=np.uint8)
    pixels = restore_pixels(floats, graph, picture.astype(np.float32) / np.float32(255), tile_px=64, overlap_px=16)
    assert 0 < pixels.min() < pixels.max() < 1, "values are clipped, which tiles of bytes are before they are blended"
    found = restore_bytes(session, graph, picture, tile_px=64, overlap_px=16)
    steps = np.abs(found.astype(np.int16) - to_uint8(pixels))
    assert int(steps.max()) <= 1
    # 80 x 128 once padded: the second row of tiles begins at 16, the second column at 48.
    assert int(steps[:16, :48].max()) == 0, "where nothing is blended they are equal"


def test_a_file_by_way_of_bytes_is_the_same_file(pair: tuple[Any, Any, Any], tmp_path: Path) -> None:
    session, floats, graph = pair
    source = tmp_path / "in.png"
    Image.fromarray(np.random.default_rng(4).integers(0, 256, (50, 70, 3), dtype=np.uint8)).save(source)
    picture = read_picture(source)
    write_picture(picture.restored(restore_pixels(floats, graph, picture.pixels)), tmp_path / "floats.png")
    restored = restore_bytes(session, graph, to_uint8(picture.pixels))
    pixels = restored.astype(np.float32) / np.float32(255)
    write_picture(picture.restored(pixels), tmp_path / "bytes.png")
    assert (tmp_path / "bytes.png").read_bytes() == (tmp_path / "floats.png").read_bytes()


def test_bgr_is_rgb_backwards(pair: tuple[Any, Any, Any], in_bytes: Callable[..., Bundle]) -> None:
    session, _, graph = pair
    backwards = open_ort_bytes(in_bytes(BGR), threads=1)
    assert backwards is not None
    assert backwards.form == BGR
    assert backwards.name.endswith("CPU, bgr")
    picture = np.random.default_rng(2).integers(0, 256, (40, 33, 3), dtype=np.uint8)
    found = restore_bytes(backwards, graph, picture[..., ::-1])
    np.testing.assert_array_equal(found[..., ::-1], restore_bytes(session, graph, picture))


def test_a_frame_of_nv12(in_bytes: Callable[..., Bundle]) -> None:
    session = open_ort_bytes(in_bytes(NV12), threads=1)
    assert session is not None
    frames = np.random.default_rng(2).integers(0, 256, NV12.input_shape(1, 32, 48), dtype=np.uint8)
    assert session.run_bytes(frames).shape == (1, 32, 48, 3)


def a_picture(*, bits: int = 8, alpha: bool = False, grey: bool = False) -> Picture:
    plane = np.zeros((4, 4), np.float32)
    return Picture(np.zeros((4, 4, 3), np.float32), plane if alpha else None, grey=grey, bits=bits)


def test_which_pictures_take_the_path_of_floats_and_why() -> None:
    assert why_not_bytes(a_picture(), UINT8) is None
    assert why_not_bytes(a_picture(), BGR) is None
    assert why_not_bytes(a_picture(bits=16), UINT8) == "it has 16 bits per channel"
    assert "alpha" in str(why_not_bytes(a_picture(alpha=True), UINT8))
    assert "grey" in str(why_not_bytes(a_picture(grey=True), UINT8))
    assert "NV12" in str(why_not_bytes(a_picture(), NV12))
