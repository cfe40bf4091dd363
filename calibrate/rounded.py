"""Making a CPU show what FP16 does: a graph whose every FP16 result is rounded, for measuring and nothing else.

ONNX Runtime has no FP16 kernels on most CPUs. It computes such nodes in float32 between casts, and where two of them
meet it drops the casts, whatever the optimization level: intermediate values are neither rounded nor do they overflow
(``Add(60000, 60000) * 0.001`` gives 120 instead of infinity). It does not look through an Unsqueeze and a Squeeze,
which it has in FP16, so that a pair of them behind a node keeps that node's casts.
"""

from __future__ import annotations

import onnx
import onnx.inliner
import onnx_ir as ir

from edgeir.calibrate.fp16 import MOVEMENT


def rounded(model: bytes) -> bytes:
    """A twin of a typed model that rounds every FP16 result of a computing node, function bodies included.

    Args:
        model: a serialized graph as `edgeir.calibrate.typed.apply_plan` types it; inputs and outputs are float32.

    Returns:
        the twin, serialized, its functions inlined; ``model`` itself where nothing in it is FP16.
    """
    proto = onnx.inliner.inline_local_functions(onnx.load_model_from_string(model))
    twin = ir.from_proto(onnx.shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True))
    name = "edgeir.rounded.axis"
    axis = ir.val(name, const_value=ir.tensor([0], dtype=ir.DataType.INT64, name=name))
    found = False
    for node in list(twin.graph):
        if node.op_type in MOVEMENT:
            continue
        for value in node.outputs:
            if value.dtype == ir.DataType.FLOAT16:
                _round_behind(twin.graph, node, value, axis)
                found = True
    if not found:
        return model
    twin.graph.register_initializer(axis)
    data: bytes = ir.to_proto(twin).SerializeToString()
    return data


def _round_behind(graph: ir.Graph, node: ir.Node, value: ir.Value, axis: ir.Value) -> None:
    users = list(value.uses())
    raised = ir.Node("", "Unsqueeze", [value, axis], name=f"{value.name}.raised")
    lowered = ir.Node("", "Squeeze", [raised.outputs[0], axis], name=f"{value.name}.rounded")
    raised.outputs[0].name, lowered.outputs[0].name = f"{value.name}.raised", f"{value.name}.rounded"
    for user, index in users:
        user.replace_input_with(index, lowered.outputs[0])
    graph.insert_after(node, [raised, lowered])
