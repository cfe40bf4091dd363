"""GST attention with its projection: equal to the NumPy twin in float64 and float32, and refused where it is not."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx_ir.passes.common import ShapeInferencePass

from edgeir.export.rewrites.apply import apply_rules, explain
from edgeir.export.rewrites.gst_projected import GST
from edgeir.ops.reference import gst_attention
from edgeir.ops.table import DOMAIN

KIND = {
    np.dtype(np.float64): TensorProto.DOUBLE,
    np.dtype(np.float32): TensorProto.FLOAT,
    np.dtype(np.float16): TensorProto.FLOAT16,
}
GATE = {np.dtype(np.float64): 1e-12, np.dtype(np.float32): 1e-5}
"""Relative to the largest output: design section 5 in float64; float32 sums of some hundred products."""


def made(
    dtype: np.dtype,
    *,
    query: tuple[Any, ...] = (2, 6, 8, 12),
    low: tuple[int, int] = (4, 6),
    heads: int = 2,
    weight: tuple[int, ...] = (5, 6, 1, 1),
    bias: bool = True,
    group: int = 1,
    also: tuple[onnx.NodeProto, ...] = (),
) -> onnx.ModelProto:
    """``y = Conv(EdgeirGstAttention(q, k, v, t, ...))``, the maps as inputs."""
    kind, rng = KIND[dtype], np.random.default_rng(0)
    numbers = {
        "temperature": rng.uniform(0.5, 3, (heads, 1, 1)),
        "alpha": np.array([0.3]),
        "weight": rng.standard_normal(weight),
        "bias": rng.standard_normal(weight[0]),
    }
    taken = ["a", "weight", "bias"][: 3 if bias else 2]
    gst = ["q", "k", "v", "t", "temperature", "alpha"]
    nodes = [
        helper.make_node("EdgeirGstAttention", gst, ["a"], name="attn/Gst", domain=DOMAIN, heads=heads, stride=2),
        helper.make_node("Conv", taken, ["y"], name="attn/project_out", group=group),
        *also,
    ]
    tokens = (*query[:2], *low)
    shapes = {"q": query, "k": query, "v": query, "t": tokens}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, kind, shape) for name, shape in shapes.items()],
        [helper.make_tensor_value_info(name, kind, None) for name in ("y", *(node.output[0] for node in also))],
        [numpy_helper.from_array(array.astype(dtype), name) for name, array in numbers.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20), helper.make_opsetid(DOMAIN, 1)])


def rewritten(model: onnx.ModelProto) -> tuple[ir.Model, int]:
    changed = ir.from_proto(model)
    ShapeInferencePass()(changed)
    return changed, apply_rules(changed, [GST])[-1].applied


def maps(dtype: np.dtype, query: tuple[int, ...] = (2, 6, 8, 12), low: tuple[int, int] = (4, 6)) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    shapes = {"q": query, "k": query, "v": query, "t": (*query[:2], *low)}
    return {name: rng.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}


def twin(model: onnx.ModelProto, inputs: dict[str, Any], heads: int, *, bias: bool = True) -> np.ndarray:
    """In float64, as published: attention, then projection."""
    numbers = {one.name: numpy_helper.to_array(one).astype(np.float64) for one in model.graph.initializer}
    q, k, v, t = (inputs[name].astype(np.float64) for name in "qkvt")
    attended = gst_attention(q, k, v, t, numbers["temperature"], numbers["alpha"], heads)
    projected = np.einsum("oc,nchw->nohw", numbers["weight"][:, :, 0, 0], attended)
    return projected + numbers["bias"].reshape(1, -1, 1, 1) if bias else projected


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("heads", [1, 2, 3])
@pytest.mark.parametrize("bias", [True, False])
def test_it_is_the_published_form(dtype: type, heads: int, bias: bool) -> None:
    kind = np.dtype(dtype)
    model, inputs = made(kind, heads=heads, bias=bias), maps(kind)
    changed, applied = rewritten(model)
    assert applied == 1
    (result,) = ReferenceEvaluator(ir.to_proto(changed)).run(None, inputs)
    expected = twin(model, inputs, heads, bias=bias)
    assert np.abs(result - expected).max() <= GATE[kind] * np.abs(expected).max()
    assert result.dtype == kind


@pytest.mark.parametrize("peak", [0.0, 40.0])
def test_flat_maps_and_a_peaked_token(peak: float) -> None:
    """Maps of zeros have no norm to divide by; one token that looks at one corner has the border's repeated weight."""
    kind = np.dtype(np.float64)
    inputs = maps(kind)
    inputs["q"][:, 0] = 0
    inputs["k"][:, 1] = 0
    inputs["t"][:] = 0
    inputs["t"][:, :, 0, 0] = peak
    model = made(kind)
    changed, _ = rewritten(model)
    (result,) = ReferenceEvaluator(ir.to_proto(changed)).run(None, inputs)
    expected = twin(model, inputs, 2)
    assert np.abs(result - expected).max() <= 1e-12 * np.abs(expected).max()


def test_a_token_of_one_pixel() -> None:
    kind = np.dtype(np.float64)
    size: dict[str, Any] = {"query": (1, 6, 2, 2), "low": (1, 1)}
    model, inputs = made(kind, **size), maps(kind, **size)
    changed, _ = rewritten(model)
    (result,) = ReferenceEvaluator(ir.to_proto(changed)).run(None, inputs)
    assert result == pytest.approx(twin(model, inputs, 2), rel=1e-12, abs=1e-13)


def test_what_is_left() -> None:
    changed, _ = rewritten(made(np.dtype(np.float32)))
    left = Counter(node.op_type for node in changed.graph)
    assert left == {
        "Reshape": 17,
        "Mul": 12,
        "MatMul": 8,
        "Transpose": 6,
        "Reciprocal": 4,
        "Sqrt": 4,
        "Max": 4,
        "ReduceSum": 4,
        "ReduceSumSquare": 3,
        "Softmax": 3,
        "Add": 3,
        "Resize": 2,
        "Concat": 2,
        "Split": 1,
        "Pad": 1,
        "Conv": 1,  # the stencil
    }
    assert all(node.name for node in changed.graph)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"low": (2, 3)}, "half the size"),
        ({"query": ("N", 6, 8, 12)}, "not fixed"),
        ({"query": (1, 6, "H", "W")}, "not fixed"),
        ({"weight": (5, 6, 3, 3)}, "1x1"),
        ({"weight": (4, 3, 1, 1), "group": 2}, "one group"),
        ({"also": (helper.make_node("Identity", ["a"], ["z"]),)}, "other uses"),
    ],
)
def test_where_it_refuses(given: dict[str, Any], reason: str) -> None:
    model = made(np.dtype(np.float32), **given)
    changed, applied = rewritten(model)
    assert applied == 0
    misses = explain(changed, GST)
    assert any(reason in miss.reason for miss in misses), misses


def test_an_attention_that_is_an_output_is_refused() -> None:
    model = made(np.dtype(np.float32))
    model.graph.output.append(helper.make_tensor_value_info("a", TensorProto.FLOAT, None))
    assert rewritten(model)[1] == 0


def test_fp16_is_refused() -> None:
    changed, applied = rewritten(made(np.dtype(np.float16)))
    assert applied == 0
    assert any("overflow" in miss.reason for miss in explain(changed, GST))
