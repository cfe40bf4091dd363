"""What a graph costs on paper: nodes, parameters, multiply-accumulates and bytes moved."""

from __future__ import annotations

import math
from dataclasses import dataclass

import onnx.inliner
import onnx_ir as ir
from onnxscript.optimizer import fold_constants

# Reshapes of a dense tensor move nothing; everything else reads its inputs and writes its outputs once.
_FREE = frozenset({"Constant", "Flatten", "Identity", "Reshape", "Shape", "Size", "Squeeze", "Unsqueeze"})


@dataclass(frozen=True, slots=True)
class Cost:
    """Costs of one run.

    Attributes:
        nodes: of the graph, a fused op counts as one.
        parameters: elements of all constants.
        gmac: billions of multiply-accumulates in convolutions and matrix products, bodies of fused ops included;
            ``None`` where sizes are dynamic.
        moved_mb: megabytes that nodes read and write if nothing is fused, bodies included; ``None`` as before.
    """

    nodes: int
    parameters: int
    gmac: float | None
    moved_mb: float | None


def cost_of(model: ir.Model) -> Cost:
    """Count ``model`` without running it."""
    parameters = sum(math.prod(value.shape.numpy()) for value in model.graph.initializers.values() if value.shape)
    nodes = len(model.graph)
    if not all(value.shape is not None and value.shape.is_static() for value in model.graph.inputs):
        return Cost(nodes, parameters, None, None)
    macs, moved = 0, 0
    for node in sized(model).graph:
        if node.op_type in _FREE:
            continue
        macs += macs_of(node)
        moved += sum(_bytes(value) for value in (*node.inputs, *node.outputs) if value is not None)
    return Cost(nodes, parameters, macs / 1e9, moved / 1e6)


def sized(model: ir.Model) -> ir.Model:
    """A copy with the bodies of functions in place, every size known where those of the inputs are.

    Bodies compute the sizes that they reshape to. ONNX's shape inference does not follow all of that, which would leave
    out what is computed at such a size; folding does.
    """
    copy = ir.from_proto(onnx.inliner.inline_local_functions(ir.to_proto(model)))
    fold_constants(copy, onnx_shape_inference=True)
    return copy


def _elements(value: ir.Value | None) -> int:
    if value is None or value.shape is None or not value.shape.is_static():
        return 0
    return math.prod(value.shape.numpy())


def _bytes(value: ir.Value) -> int:
    return 0 if value.dtype is None else math.ceil(_elements(value) * value.dtype.itemsize)


def macs_of(node: ir.Node) -> int:
    """Multiply-accumulates of one Conv, MatMul or Gemm; 0 for other nodes, and where sizes are dynamic."""
    if node.op_type == "Conv" and node.inputs[1] is not None and node.inputs[1].shape is not None:
        return _elements(node.outputs[0]) * math.prod(node.inputs[1].shape.numpy()[1:])
    if node.op_type in ("MatMul", "Gemm") and node.inputs[0] is not None and node.inputs[0].shape is not None:
        turned: int = node.attributes.get_int("transA", 0)  # Gemm only
        depth = node.inputs[0].shape[0 if turned else -1]
        return _elements(node.outputs[0]) * (depth if isinstance(depth, int) else 0)
    return 0
