"""Time by kind of node."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper

from benchmarks.op_times import ms_by_op, products_ms
from edgeir.spec import INPUT_NAME


def two_convolutions() -> bytes:
    """Two 3x3 convolutions of 32 channels, and a softmax of their result."""
    weights = [
        helper.make_tensor(name, TensorProto.FLOAT, shape, np.zeros(shape, np.float32).tobytes(), raw=True)
        for name, shape in (("v", (32, 3, 3, 3)), ("w", (32, 32, 3, 3)))
    ]
    nodes = [
        helper.make_node("Conv", [INPUT_NAME, "v"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Softmax", ["a"], ["b"], axis=1),
        helper.make_node("Conv", ["b", "w"], ["c"], pads=[1, 1, 1, 1]),
    ]
    ends = [helper.make_tensor_value_info(INPUT_NAME, TensorProto.FLOAT, [1, 3, 64, 64])]
    graph = helper.make_graph(nodes, "g", ends, [helper.make_tensor_value_info("c", TensorProto.FLOAT, None)], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    data: bytes = model.SerializeToString()
    return data


def test_every_kind_of_node_has_its_time() -> None:
    found = ms_by_op(two_convolutions(), 1, np.zeros((1, 3, 64, 64), np.float32), runs=3)
    assert {"Conv", "Softmax"} <= set(found)
    assert list(found.values()) == sorted(found.values(), reverse=True)
    assert 0 < products_ms(found) == found["Conv"] < sum(found.values())
