"""A CPU must show what FP16 does: rounding and overflow between nodes that ONNX Runtime emulates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest

from edgeir.calibrate.fp16 import plan_fp16
from edgeir.calibrate.rounded import rounded
from edgeir.calibrate.typed import apply_plan
from edgeir.precision import Precision, PrecisionPlan

Build = Callable[..., ir.Model]


def run(model: bytes, picture: np.ndarray) -> np.ndarray:
    return np.asarray(ort.InferenceSession(model).run(None, {"image": picture})[0])


def typed(build: Build, nodes: str, constants: str) -> bytes:
    model = build(nodes, constants=constants, shape="4")
    apply_plan(model, PrecisionPlan(Precision.FP16))
    return ir.to_proto(model).SerializeToString()


def test_overflow_shows(build: Build) -> None:
    nodes = '["a/Add"] doubled = Add(image, image) ["a/Mul"] y = Mul(doubled, small)'
    model = typed(build, nodes, "float[1] small = {0.001}")
    picture = np.asarray([60000, 1, 2, 3], np.float32)
    assert np.isinf(run(rounded(model), picture)[0])
    # Why the twin is needed: ONNX Runtime alone hides the overflow. When this fails, the twin can go.
    assert np.isfinite(run(model, picture)[0])


def test_every_result_is_rounded(build: Build) -> None:
    """Equal, bit for bit, to NumPy's FP16 arithmetic."""
    nodes = '["a/Add"] p = Add(image, image) ["a/Mul"] q = Mul(p, third) ["a/Sub"] y = Sub(q, image)'
    model = typed(build, nodes, "float[1] third = {0.3333}")
    picture = np.random.default_rng(0).random(4, dtype=np.float32)
    half, third = picture.astype(np.float16), np.float16(0.3333)
    expected = ((half + half) * third - half).astype(np.float32)
    np.testing.assert_array_equal(run(rounded(model), picture), expected)


def test_a_graph_without_fp16_is_left_as_it_is(micro: Callable[..., Any]) -> None:
    model = micro("exda").path.read_bytes()
    assert rounded(model) is model


@pytest.mark.parametrize(("name", "dynamic"), [("exda", False), ("exda", True), ("kgt", False), ("cea", False)])
def test_networks(micro: Callable[..., Any], name: str, dynamic: bool) -> None:
    """The twin runs, differs from what ONNX Runtime makes of the graph, and stays near FP32."""
    network = micro(name, dynamic=dynamic)
    graph = network.graph()
    apply_plan(graph, plan_fp16(graph))
    model = ir.to_proto(graph).SerializeToString()
    picture = network.picture()
    plain, strict = run(model, picture), run(rounded(model), picture)
    exact = run(network.path.read_bytes(), picture)
    assert not np.array_equal(plain, strict)
    # FP16 rounds by 2**-11; over some dozen layers of a network of order 1 that stays well below 0.1. A choice of
    # neighbours may differ, so KGT gets no closer bound.
    assert np.abs(strict - exact).mean() < (0.02 if name == "kgt" else 0.005)
