"""The threshold of a key graph without sorting: the same bits, and refused where the order could matter."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest

from edgeir.export.rewrites.apply import apply_rules, explain
from edgeir.export.rewrites.unsorted_topk import UNSORTED
from edgeir.ops.functions import function_proto

X = (2, 3, 4, 6)
HEAD = "k = Constant<value_ints = [3]>()\n a = Constant<value_ints = [-1]>()\n "
THRESHOLD = HEAD + "v, i = TopK<axis = -1, largest = 1, sorted = 1>(x, k)\n y = ReduceMin(v, a)"


def sorting(model: ir.Model) -> list[int]:
    return [node.attributes.get_int("sorted", 1) for node in model.graph if node.op_type == "TopK"]


def test_the_threshold_is_not_sorted_for(graph: Any, after: Any, dtype: Any) -> None:
    model = graph(THRESHOLD, x=X, constants={})
    assert {op: count for op, count in after(model).items() if op != "Constant"} == {"TopK": 1, "ReduceMin": 1}
    changed = ir.from_proto(model)
    assert [step.applied for step in apply_rules(changed, [UNSORTED])] == [0, 1]
    assert sorting(changed) == [0]
    picture = np.asarray(np.random.default_rng(2).standard_normal(X), dtype)
    outputs = [
        ort.InferenceSession(ir.to_proto(form).SerializeToString(), providers=["CPUExecutionProvider"]).run(
            None, {"x": picture}
        )[0]
        for form in (ir.from_proto(model), changed)
    ]
    assert np.array_equal(*outputs)


def test_it_fires_in_the_body_of_the_key_graph() -> None:
    body = ir.from_proto(function_proto("EdgeirKeyGraph"))
    model = ir.Model(ir.Graph([], [], nodes=[], opset_imports={"": 20}), ir_version=10, functions=[body])
    assert [step.applied for step in apply_rules(model, [UNSORTED])] == [0, 1]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (
            THRESHOLD.replace("y = ReduceMin(v, a)", "m = ReduceMin(v, a)\n y = Sub(v, m)"),
            "other uses",
        ),
        (
            THRESHOLD.replace(
                "y = ReduceMin(v, a)", "m = ReduceMin(v, a)\n g = GatherElements<axis = -1>(x, i)\n y = Sub(g, m)"
            ),
            "other uses",
        ),
        (THRESHOLD.replace("y = ReduceMin(v, a)", "b = Constant<value_ints = [2]>()\n y = ReduceMin(v, b)"), "axis"),
        (THRESHOLD.replace("sorted = 1", "sorted = 0"), "does not sort already"),
    ],
)
def test_where_it_refuses(body: str, reason: str, graph: Any, after: Any) -> None:
    model = graph(body, x=X, constants={})
    changed = ir.from_proto(model)
    before = sorting(changed)
    assert [step.applied for step in apply_rules(changed, [UNSORTED])] == [0, 0]
    assert sorting(changed) == before
    misses = explain(ir.from_proto(model), UNSORTED)
    assert any(reason in miss.reason for miss in misses), misses
