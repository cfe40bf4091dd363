"""Which kernels TensorRT can put into an engine of one graph (`edgeir.ops.tensorrt.ahead` compiles them)."""

from __future__ import annotations

import onnx.shape_inference
import onnx_ir as ir

from edgeir.ops import table
from edgeir.ops.tensorrt.ahead import AHEAD, TYPES, Baked, baked


def kernels_wanted(model: ir.Model) -> tuple[Baked, ...]:
    """What the fused ops of a typed graph ask for, each once, in the order of the graph.

    Ops that are more than one kernel, types without a kernel and axes that are not fixed are left to the bodies.
    """
    # A graph for any size has few shapes written down, and reshapes by constants tell most of them.
    inferred = ir.from_proto(onnx.shape_inference.infer_shapes(ir.to_proto(model), data_prop=True))
    found: dict[Baked, None] = {}
    for node in inferred.graph:
        if node.domain != table.DOMAIN or node.op_type not in AHEAD:
            continue
        shapes = [_shape(value) for value in node.inputs]
        first = node.inputs[0]
        dtype = first.dtype.numpy().name if first is not None and first.dtype is not None else ""
        sizes = [shapes[tensor][axis] for tensor, axis in AHEAD[node.op_type].sizes.values() if shapes[tensor]]
        if dtype not in TYPES or None in sizes or len(sizes) < len(AHEAD[node.op_type].sizes):
            continue
        attributes = {name: node.attributes[name].as_int() for name in AHEAD[node.op_type].attributes.values()}
        found[baked(node.op_type, shapes, attributes, dtype)] = None
    return tuple(found)


def _shape(value: ir.Value | None) -> list[int | None]:
    """Sizes, ``None`` where one is not fixed; nothing where the shape is unknown."""
    if value is None or value.shape is None:
        return []
    return [size if isinstance(size, int) else None for size in value.shape]
