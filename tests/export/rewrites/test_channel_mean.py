"""The channel mean as a product: exact, for fixed and open sizes, and refused for any other mean."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator
from onnx_ir.passes.common import ShapeInferencePass

from edgeir.export.rewrites.apply import apply_rules, explain
from edgeir.export.rewrites.channel_mean import MEAN

X = (2, 5, 4, 6)


@pytest.mark.parametrize("axis", [1, -3])
def test_the_mean_is_a_product(axis: int, graph: Any, after: Any) -> None:
    body = f"a = Constant<value_ints = [{axis}]>()\n m = ReduceMean(x, a)\n y = Sub(x, m)"
    assert {op: count for op, count in after(graph(body, x=X, constants={})).items() if op != "Constant"} == {
        "Reshape": 2,
        "MatMul": 1,
        "Sub": 1,
    }


def test_an_open_size_and_batch() -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["" : 20]>
        agraph (double[N, 5, H, W] x) => (double[N, 1, H, W] y) {
            a = Constant<value_ints = [1]>()
            y = ReduceMean(x, a)
        }"""
    )
    changed = ir.from_proto(model)
    ShapeInferencePass()(changed)
    assert [step.applied for step in apply_rules(changed, [MEAN])] == [0, 1]
    proto = ir.to_proto(changed)
    onnx.checker.check_model(proto, full_check=True)
    evaluator = ReferenceEvaluator(proto)
    for shape in ((1, 5, 3, 7), (3, 5, 8, 2)):
        picture = np.random.default_rng(0).standard_normal(shape)
        (mean,) = evaluator.run(None, {"x": picture})
        assert mean == pytest.approx(picture.mean(1, keepdims=True), rel=1e-12, abs=1e-15)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("a = Constant<value_ints = [2]>()\n m = ReduceMean(x, a)\n y = Sub(x, m)", "not over channels"),
        ("a = Constant<value_ints = [1, 2]>()\n m = ReduceMean(x, a)\n y = Sub(x, m)", "not over channels"),
        (
            "a = Constant<value_ints = [1]>()\n m = ReduceMean<keepdims = 0>(x, a)\n"
            "u = Unsqueeze(m, a)\n y = Sub(x, u)",
            "drops its axis",
        ),
        (
            "s = Constant<value_ints = [2, 5, 24]>()\n r = Reshape(x, s)\n a = Constant<value_ints = [1]>()\n"
            "m = ReduceMean(r, a)\n t = Constant<value_ints = [2, 1, 4, 6]>()\n u = Reshape(m, t)\n y = Sub(x, u)",
            "four sides",
        ),
    ],
)
def test_where_it_refuses(body: str, reason: str, graph: Any, after: Any) -> None:
    model = graph(body, x=X, constants={})
    assert after(model)["ReduceMean"] == 1
    inferred = ir.from_proto(model)
    ShapeInferencePass()(inferred)
    misses = explain(inferred, MEAN)
    assert not any(miss.fires for miss in misses)
    assert any(reason in miss.reason for miss in misses), misses
