"""Inputs for every fused op, models of one node, and the two runtimes they are held against."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from edgeir.ops import reference, table
from edgeir.ops.functions import IR_VERSION, OPSET, function_proto

Arrays = dict[str, np.ndarray]


def _noise(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    return rng.standard_normal(shape).astype(dtype)


def _key_graph(rng: np.random.Generator, dtype: Any, *, k: int = 5, n: int = 16) -> tuple[Arrays, dict[str, int]]:
    # Whole numbers: every product and sum is exact in FP16 and FP32, so that the choice is the same everywhere.
    return {"tokens": rng.integers(-4, 5, (3, n, 6)).astype(dtype)}, {"k": k}


def _key_graph_attention(
    rng: np.random.Generator, dtype: Any, *, n: int = 16, heads: int = 3
) -> tuple[Arrays, dict[str, int]]:
    shape = (2, heads, n, 5)
    keep = rng.random((2, n, n)) < 0.4
    keep |= np.eye(n, dtype=bool)
    return {
        "query": _noise(rng, shape, dtype),
        "key": _noise(rng, shape, dtype),
        "value": _noise(rng, shape, dtype),
        "keep": keep,
        "bias": _noise(rng, (heads, n, n), dtype),
        "scale": rng.uniform(5, 20, (heads, 1, 1)).astype(dtype),
    }, {}


def _gst_attention(
    rng: np.random.Generator,
    dtype: Any,
    *,
    heads: int = 3,
    stride: int = 2,
    size: tuple[int, int] = (8, 12),
    channels: int = 6,
    batch: int = 2,
) -> tuple[Arrays, dict[str, int]]:
    shape = (batch, channels, *size)
    return {
        "query": _noise(rng, shape, dtype),
        "key": _noise(rng, shape, dtype),
        "value": _noise(rng, shape, dtype),
        "tokens": _noise(rng, (batch, channels, size[0] // stride, size[1] // stride), dtype),
        "temperature": rng.uniform(0.5, 3, (heads, 1, 1)).astype(dtype),
        "alpha": np.asarray([0.3], dtype),
    }, {"heads": heads, "stride": stride}


_MAKERS = {
    "EdgeirKeyGraph": _key_graph,
    "EdgeirKeyGraphAttention": _key_graph_attention,
    "EdgeirGstAttention": _gst_attention,
}


@pytest.fixture
def case() -> Callable[..., tuple[Arrays, dict[str, int]]]:
    """``case(op name, dtype, seed=0, **sizes)``: inputs by name, and attributes."""

    def make(op: str, dtype: Any = np.float32, *, seed: int = 0, **sizes: Any) -> tuple[Arrays, dict[str, int]]:
        return _MAKERS[op](np.random.default_rng(seed), dtype, **sizes)

    return make


@pytest.fixture
def model() -> Callable[[str, Arrays, Mapping[str, int]], onnx.ModelProto]:
    """A model of one fused node and its function, with the shapes and types of the given inputs."""

    def make(op: str, inputs: Arrays, attributes: Mapping[str, int]) -> onnx.ModelProto:
        entry = table.fused_op(op)
        assert entry is not None
        infos = [
            onnx.helper.make_tensor_value_info(
                name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), list(array.shape)
            )
            for name, array in inputs.items()
        ]
        of_bool = entry.outputs[0].dtype == "bool"
        kind = onnx.TensorProto.BOOL if of_bool else infos[0].type.tensor_type.elem_type
        shape = [*inputs["tokens"].shape[:2], inputs["tokens"].shape[1]] if of_bool else list(inputs["query"].shape)
        graph = onnx.helper.make_graph(
            [
                onnx.helper.make_node(
                    op,
                    [field.name for field in entry.inputs],
                    ["out"],
                    name=f"model/{op}",
                    domain=table.DOMAIN,
                    **attributes,
                    **table.plugin_attributes(),
                )
            ],
            "one",
            infos,
            [onnx.helper.make_tensor_value_info("out", kind, shape)],
        )
        return onnx.helper.make_model(
            graph,
            functions=[function_proto(op)],
            ir_version=IR_VERSION,
            opset_imports=[
                onnx.helper.make_opsetid("", OPSET),
                onnx.helper.make_opsetid(table.DOMAIN, table.VERSION),
            ],
        )

    return make


@pytest.fixture
def run_ort() -> Callable[[onnx.ModelProto, Arrays], np.ndarray]:
    def run(proto: onnx.ModelProto, inputs: Arrays) -> np.ndarray:
        options = ort.SessionOptions()
        options.log_severity_level = 3
        session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return np.asarray(session.run(None, inputs)[0])

    return run


@pytest.fixture
def twin() -> Callable[[str, Arrays, Mapping[str, int]], np.ndarray]:
    """The NumPy twin in float64, whatever the type of the inputs: the truth of every comparison."""

    def run(op: str, inputs: Arrays, attributes: Mapping[str, int]) -> np.ndarray:
        wide = {name: array if array.dtype == bool else array.astype(np.float64) for name, array in inputs.items()}
        if op == "EdgeirKeyGraph":
            return reference.key_graph(wide["tokens"], attributes["k"])
        if op == "EdgeirKeyGraphAttention":
            return reference.key_graph_attention(**wide)
        return reference.gst_attention(**wide, heads=attributes["heads"])

    return run
