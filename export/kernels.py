"""Which kernels TensorRT can put into an engine of one graph (`edgeir.ops.tensorrt.ahead` compiles them)."""

from __future__ import annotations

from contextlib import suppress

import onnx.shape_inference
import onnx_ir as ir

from edgeir.errors import UsageError
from edgeir.ops import table
from edgeir.ops.tensorrt.ahead import AHEAD, Baked, baked

_MOST_AXES = 4


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
        attributes = {name: node.attributes[name].as_int() for name in AHEAD[node.op_type].attributes.values()}
        with suppress(UsageError):
            found[baked(node.op_type, shapes, attributes, dtype)] = None
    return tuple(found)


def _shape(value: ir.Value | None) -> list[int | None]:
    """Sizes, ``None`` where one is not fixed: all of them where the shape is unknown."""
    if value is None or value.shape is None:
        return [None] * _MOST_AXES
    return [size if isinstance(size, int) else None for size in value.shape]
