"""Graphs that name other files are found without the ONNX tools, wherever in the graph the tensor lies."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from edgeir.bundle import Bundle
from edgeir.errors import BuildFailed, GraphError
from edgeir.runtime.byte_session import open_ort_bytes
from edgeir.runtime.external_data import external_file, require_self_contained
from edgeir.runtime.opening import open_session
from edgeir.runtime.ort_engine import write_optimised
from edgeir.runtime.ort_profile import node_times
from edgeir.runtime.ort_session import OrtSession
from edgeir.runtime.tile_statistics import StatisticsSession


def tensor(location: str | None) -> onnx.TensorProto:
    made = helper.make_tensor("w", TensorProto.FLOAT, [2], [1.0, 2.0])
    if location is not None:
        made.ClearField("float_data")
        made.data_location = TensorProto.EXTERNAL
        for key, value in (("offset", "0"), ("location", location)):
            made.external_data.add(key=key, value=value)
    return made


def graph(*nodes: onnx.NodeProto, initializer: tuple[onnx.TensorProto, ...] = ()) -> onnx.GraphProto:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])
    return helper.make_graph(list(nodes), "g", [value], [value], list(initializer))


def in_initializer(one: onnx.TensorProto) -> onnx.ModelProto:
    return helper.make_model(graph(initializer=(tensor(None), one)))


def in_constant(one: onnx.TensorProto) -> onnx.ModelProto:
    return helper.make_model(graph(helper.make_node("Constant", [], ["c"], value=one)))


def in_subgraph(one: onnx.TensorProto) -> onnx.ModelProto:
    inner = graph(initializer=(one,))
    return helper.make_model(graph(helper.make_node("If", ["b"], ["y"], then_branch=inner, else_branch=graph())))


def in_function(one: onnx.TensorProto) -> onnx.ModelProto:
    node = helper.make_node("Constant", [], ["y"], value=one)
    body = helper.make_function("edgeir", "F", [], ["y"], [node], [helper.make_opsetid("", 20)])
    return helper.make_model(graph(), functions=[body])


def in_sparse(one: onnx.TensorProto) -> onnx.ModelProto:
    model = helper.make_model(graph())
    model.graph.sparse_initializer.add().values.CopyFrom(one)
    return model


def in_a_list(one: onnx.TensorProto) -> onnx.ModelProto:
    node = helper.make_node("Other", [], ["y"])
    attribute = node.attribute.add(name="many", type=onnx.AttributeProto.TENSORS)
    attribute.tensors.extend([tensor(None), one])
    return helper.make_model(graph(node))


def in_training(one: onnx.TensorProto) -> onnx.ModelProto:
    model = helper.make_model(graph())
    model.training_info.add().algorithm.CopyFrom(graph(initializer=(one,)))
    return model


PLACES = (in_initializer, in_constant, in_subgraph, in_function, in_sparse, in_a_list, in_training)


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
@pytest.mark.parametrize("location", ["../../etc/passwd", "/etc/passwd", "weights.bin", ""])
def test_found(place: Callable[[onnx.TensorProto], onnx.ModelProto], location: str) -> None:
    assert external_file(place(tensor(location)).SerializeToString()) == location
    assert external_file(place(tensor(None)).SerializeToString()) is None


def test_said_to_be_elsewhere_without_a_place() -> None:
    one = tensor(None)
    one.data_location = TensorProto.EXTERNAL
    assert external_file(in_initializer(one).SerializeToString()) == ""


@given(st.binary(max_size=64))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(ValueError, IndexError):
        external_file(data)


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(in_initializer(tensor("../weights.bin")).SerializeToString())
    with pytest.raises(GraphError, match=r"model\.onnx: the graph keeps weights in another file.*'\.\./weights\.bin'"):
        require_self_contained(path)
    path.write_bytes(in_initializer(tensor(None)).SerializeToString())
    require_self_contained(path)
    for damaged in (b"", b"this is no graph", path.read_bytes()[:-3]):
        path.write_bytes(damaged)
        with pytest.raises(GraphError, match=r"model\.onnx: this is not an ONNX file"):
            require_self_contained(path)


def test_a_real_graph(micro: Any) -> None:
    require_self_contained(micro("exda", dynamic=True).path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(GraphError, match=r"model\.onnx: the graph cannot be read \(got No such file"):
        require_self_contained(tmp_path / "model.onnx")


def _bytes(made: Bundle) -> object:
    return open_ort_bytes(made)


def _tiles(made: Bundle) -> object:
    return StatisticsSession(OrtSession(made.file("tiles")))


def _times(made: Bundle) -> object:
    return node_times(made.file("model"), np.zeros((1, 3, 8, 8), np.float32))


def _optimise(made: Bundle) -> object:
    return write_optimised(made.file("model"), made.path / "model.optimised.onnx", integer_kernels=True)


OPENED: dict[str, Callable[[Bundle], object]] = {
    "bytes": _bytes, "tiles": _tiles, "bench --layers": _times, "build --target ort": _optimise,
}  # fmt: skip


@pytest.mark.parametrize("role", OPENED)
def test_no_other_way_into_onnx_runtime(
    device: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, role: str
) -> None:
    import onnxruntime as ort

    data = in_initializer(tensor("../../outside.bin")).SerializeToString()
    files = {"model.uint8.onnx": ("bytes", data), "tiles.onnx": ("tiles", data)}
    made = device.make_bundle(tmp_path / "b", {}, files=files)
    (made.path / "model.onnx").write_bytes(data)
    monkeypatch.setattr(ort, "InferenceSession", lambda *arguments, **options: pytest.fail("it was opened"))
    with pytest.raises((GraphError, BuildFailed), match=r"in another file.*'\.\./\.\./outside\.bin'"):
        OPENED[role](Bundle(made.path, made.manifest))
    assert not (made.path / "model.optimised.onnx").exists()


@pytest.mark.parametrize("backend", ["ort", "ort-reference", "ort-cuda"])
def test_no_runtime_opens_one(device: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str) -> None:
    import onnxruntime as ort

    made = device.make_bundle(tmp_path / "b", {})
    opened: list[object] = []
    monkeypatch.setattr(ort, "InferenceSession", lambda *arguments, **options: opened.append(arguments))
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    for name in ("model.onnx", "reference.onnx"):
        (made.path / name).write_bytes(in_initializer(tensor("../../outside.bin")).SerializeToString())
    with pytest.raises(GraphError, match=r"'\.\./\.\./outside\.bin'"):
        open_session(Bundle(made.path, made.manifest), backend)
    assert opened == []
