"""The layers of a graph that could run in INT8, described as `edgeir.quantization_placement` wants them.

`edgeir.train.fake_quant.quantizable_layers` describes the same layers of the same network as a module; both give the
same names, channels and kernels, so that what is fine-tuned is what is exported.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from edgeir.precision import module_of
from edgeir.quantization_placement import QuantizableLayer, convolution, linear, matmul


@dataclass(frozen=True, slots=True)
class GraphLayer:
    """One layer and its node.

    Attributes:
        layer: its description; the name is the module's, or the node's for a product of two activations.
        node: the Conv, MatMul or Gemm.
        weight_index: which input is the weight; ``None`` for a product of two activations.
        channel_axis: axis of the output channels in the weight.
    """

    layer: QuantizableLayer
    node: ir.Node
    weight_index: int | None = 1
    channel_axis: int = 0


def graph_layers(graph: ir.Graph) -> list[GraphLayer]:
    """Describe the convolutions and matrix products of ``graph`` in the order in which they run.

    Layers that do not depend on the picture are left out: a runtime computes them once, when it opens the file. Fused
    ops keep their products to themselves: function bodies are not looked into. A constant that multiplies from the left
    (CEA's probes) is no layer's weight; such a node is described as a product.
    """
    moving = _depending_on_inputs(graph)
    nodes = [
        node
        for node in graph
        if node.op_type in ("Conv", "MatMul", "Gemm") and node.domain == "" and node.outputs[0] in moving
    ]
    dense = [node for node in nodes if _has_weight(node)]
    return [
        _layer(node, is_first=node is dense[0], is_last=node is dense[-1]) if _has_weight(node) else _product(node)
        for node in nodes
    ]


def _depending_on_inputs(graph: ir.Graph) -> set[ir.Value]:
    """Values that change with the inputs of the graph."""
    moving: set[ir.Value] = set(graph.inputs)
    for node in graph:
        if node.op_type not in ("Shape", "Size") and any(value in moving for value in node.inputs if value is not None):
            moving.update(node.outputs)
    return moving


def _has_weight(node: ir.Node) -> bool:
    weight = node.inputs[1]
    return weight is not None and weight.const_value is not None


def _layer(node: ir.Node, *, is_first: bool, is_last: bool) -> GraphLayer:
    activation, weight = node.inputs[0], node.inputs[1]
    assert activation is not None and weight is not None and weight.const_value is not None
    shape = [int(side) for side in weight.const_value.shape.numpy()]
    name = module_of(node.name or "")
    if node.op_type == "Conv":
        groups = node.attributes.get_int("group", 1)
        return GraphLayer(convolution(name, shape, groups, is_first=is_first, is_last=is_last), node)
    transposed = node.op_type == "Gemm" and node.attributes.get_int("transB", 0) == 1
    axis = len(shape) - (2 if transposed else 1)
    in_channels, out_channels = (shape[-1], shape[-2]) if transposed else (shape[-2], shape[-1])
    layer = linear(name, in_channels, out_channels, rows=_side(activation, -2), is_first=is_first, is_last=is_last)
    return GraphLayer(layer, node, channel_axis=axis)


def _product(node: ir.Node) -> GraphLayer:
    inner, outer = (_side(value, -1) or 0 for value in node.inputs[:2])
    return GraphLayer(matmul(node.name or "", inner, outer), node, weight_index=None)


def _side(value: ir.Value | None, axis: int) -> int | None:
    """One side of a value, ``None`` where it is not known."""
    if value is None or value.shape is None or len(value.shape) < -axis:
        return None
    side = value.shape[axis]
    return side if isinstance(side, int) else None
