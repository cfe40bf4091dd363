"""Lowering a graph to an older opset and to fewer ops, for parsers that know no better. Every step is an identity.

onnx.version_converter knows no way down for Split and Gelu, so that the few ops of edgeir's graphs that changed after
opset 17 are lowered here. What is not in the table is refused, not guessed.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import onnx
import onnx.shape_inference
import onnx_ir as ir
from onnx_ir.passes.common import LiftConstantsToInitializersPass, RemoveUnusedNodesPass
from onnxscript.optimizer import fold_constants

from edgeir.errors import GraphError

LOWEST_OPSET = 17


def lowered(model: ir.Model, *, opset: int, missing: frozenset[str]) -> ir.Model:
    """A graph of opset ``opset`` without the ops in ``missing``; constants are folded on the way.

    Args:
        model: a graph of opset 18 to 20; fused ops may stand in it, functions may not.
        opset: `LOWEST_OPSET` or higher.
        missing: op types of the standard domain to decompose.

    Raises:
        GraphError: an op cannot be lowered; names the node.
    """
    proto = onnx.shape_inference.infer_shapes(ir.to_proto(model), strict_mode=True, data_prop=True)
    result = ir.from_proto(proto)
    fold_constants(result)
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(result)
    for node in list(result.graph):
        if node.domain == "" and node.op_type in missing:
            decompose = _DECOMPOSED.get(node.op_type)
            if decompose is None:
                raise GraphError(f"{node.op_type} cannot be decomposed", where=str(node.name))
            decompose(result.graph, node)
    for node in list(result.graph):
        if node.domain == "":
            _to_opset_17(node)
    RemoveUnusedNodesPass()(result)
    result.opset_imports[""] = opset
    return result


def _to_opset_17(node: ir.Node) -> None:
    """Write ``node`` as opset 17 does."""
    if node.op_type in _AXES_AS_INPUT:
        _axes_as_attribute(node)
    elif node.op_type == "Split":
        _without_count(node)
    elif node.op_type == "Resize":
        _plain_resize(node)
    elif node.op_type not in _UNCHANGED:
        raise GraphError(
            f"{node.op_type} cannot be lowered to opset {LOWEST_OPSET}",
            where=str(node.name),
            fix="Leave this runtime out, or ask for the op to be added to export/lowering.py.",
        )


def _axes_as_attribute(node: ir.Node) -> None:
    """Reductions take their axes as an attribute before opset 18."""
    axes = node.inputs[1] if len(node.inputs) > 1 else None
    node.attributes.pop("noop_with_empty_axes", None)
    if axes is None:
        return
    if axes.const_value is None:
        raise GraphError("the axes of a reduction are computed", where=str(node.name), expected="a constant")
    node.attributes["axes"] = ir.AttrInt64s("axes", [int(axis) for axis in axes.const_value.numpy().reshape(-1)])
    node.resize_inputs(1)


def _plain_resize(node: ir.Node) -> None:
    """Resize has neither antialiasing nor chosen axes nor an aspect ratio policy before opset 18."""
    policy = node.attributes.get_string("keep_aspect_ratio_policy", "stretch")
    antialias: int = node.attributes.get_int("antialias", 0)
    if antialias or "axes" in node.attributes or policy != "stretch":
        raise GraphError("a Resize of opset 18 or later has no older form", where=str(node.name))
    for name in ("antialias", "keep_aspect_ratio_policy"):
        node.attributes.pop(name, None)


def _without_count(node: ir.Node) -> None:
    """Split has no ``num_outputs`` before opset 18: equal parts are what it means without sizes."""
    count = node.attributes.pop("num_outputs", None)
    if count is None or (len(node.inputs) > 1 and node.inputs[1] is not None):
        return
    whole = node.inputs[0]
    assert whole is not None
    side = None if whole.shape is None else whole.shape[node.attributes.get_int("axis", 0)]
    if isinstance(side, int) and side % len(node.outputs):
        raise GraphError("a Split into unequal parts has no form without sizes", where=str(node.name), got=str(side))


class _Builder:
    """Nodes in front of ``node``, named after it."""

    def __init__(self, graph: ir.Graph, node: ir.Node) -> None:
        self.graph = graph
        self.node = node
        self._count = 0

    def add(self, op_type: str, *inputs: ir.Value | None, like: ir.Value, **attributes: object) -> ir.Value:
        self._count += 1
        name = f"{self.node.name}.{op_type.lower()}{self._count}"
        made = ir.node(op_type, list(inputs), attributes=attributes or None, name=name)  # type: ignore[arg-type]
        value = made.outputs[0]
        value.name, value.type, value.shape = name, like.type, like.shape
        self.graph.insert_before(self.node, made)
        return value

    def constant(self, number: float, like: ir.Value) -> ir.Value:
        """A scalar of the element type of ``like``."""
        assert like.dtype is not None
        self._count += 1
        name = f"{self.node.name}.constant{self._count}"
        value = ir.val(name, const_value=ir.tensor(np.asarray(number, like.dtype.numpy()), name=name))
        self.graph.register_initializer(value)
        return value

    def replace_by(self, value: ir.Value) -> None:
        output = self.node.outputs[0]
        output.replace_all_uses_with(value, replace_graph_outputs=True)
        self.graph.remove(self.node, safe=True)


def _gelu(graph: ir.Graph, node: ir.Node) -> None:
    """``x / 2 * (1 + erf(x / sqrt 2))``: what Gelu without approximation means (ONNX operator Gelu, opset 20)."""
    if node.attributes.get_string("approximate", "none") != "none":
        raise GraphError("a Gelu by tanh is not decomposed", where=str(node.name), expected='approximate="none"')
    (x,) = node.inputs
    assert x is not None
    build = _Builder(graph, node)
    error = build.add("Erf", build.add("Mul", x, build.constant(math.sqrt(0.5), x), like=x), like=x)
    half = build.add("Mul", x, build.constant(0.5, x), like=x)
    build.replace_by(build.add("Mul", half, build.add("Add", error, build.constant(1, x), like=x), like=x))


def _cast_like(graph: ir.Graph, node: ir.Node) -> None:
    """A Cast to the type that the second input has."""
    x, target = node.inputs
    output = node.outputs[0]
    assert x is not None and target is not None and target.dtype is not None
    output.type = ir.TensorType(target.dtype)
    build = _Builder(graph, node)
    build.replace_by(x if x.dtype == target.dtype else build.add("Cast", x, like=output, to=int(target.dtype)))


def _layer_normalization(graph: ir.Graph, node: ir.Node) -> None:
    """Centre, divide by the standard deviation, scale, shift: over the last axes, as the operator means it."""
    x, scale, *rest = node.inputs
    bias = rest[0] if rest else None
    assert x is not None and scale is not None and x.shape is not None and x.dtype is not None
    axis = node.attributes.get_int("axis", -1)
    rank = len(x.shape)
    axes = list(range(axis % rank, rank))
    build = _Builder(graph, node)
    single = ir.TensorType(ir.DataType.FLOAT)
    wide = ir.Value(name="", type=single, shape=x.shape)
    column = ir.Value(name="", type=single, shape=ir.Shape([*x.shape[: axes[0]], *([1] * len(axes))]))
    axes_value = _axes(graph, f"{node.name}.axes", axes)
    raised = x if x.dtype == ir.DataType.FLOAT else build.add("Cast", x, like=wide, to=int(ir.DataType.FLOAT))
    centred = build.add("Sub", raised, build.add("ReduceMean", raised, axes_value, like=column), like=wide)
    variance = build.add("ReduceMean", build.add("Mul", centred, centred, like=wide), axes_value, like=column)
    epsilon = build.constant(node.attributes.get_float("epsilon", 1e-5), wide)
    deviation = build.add("Sqrt", build.add("Add", variance, epsilon, like=column), like=column)
    normed = build.add("Div", centred, deviation, like=wide)
    lowered = normed if x.dtype == ir.DataType.FLOAT else build.add("Cast", normed, like=x, to=int(x.dtype))
    scaled = build.add("Mul", lowered, scale, like=x)
    build.replace_by(scaled if bias is None else build.add("Add", scaled, bias, like=x))


def _axes(graph: ir.Graph, name: str, axes: list[int]) -> ir.Value:
    value = ir.val(name, const_value=ir.tensor(np.asarray(axes, np.int64), name=name))
    graph.register_initializer(value)
    return value


# Ops of edgeir's graphs whose meaning is the same in opsets 17 to 20.
# fmt: off
_UNCHANGED = frozenset((
    "Abs", "Add", "And", "AveragePool", "Cast", "Clip", "Concat", "Constant", "ConstantOfShape", "Conv",
    "ConvTranspose", "DepthToSpace", "DequantizeLinear", "Div", "Equal", "Erf", "Exp", "Expand", "Flatten", "Floor",
    "Gather", "GatherElements", "GatherND", "Gemm", "GlobalAveragePool", "Greater", "GreaterOrEqual", "Identity",
    "LayerNormalization", "LeakyRelu", "Less", "LessOrEqual", "MatMul", "Max", "Min", "Mul", "Neg", "Not", "Or", "Pad",
    "Pow", "QuantizeLinear", "Range", "Reciprocal", "ReduceSum", "Relu", "Reshape", "Round", "ScatterElements",
    "ScatterND", "Shape", "Sigmoid", "Slice", "Softmax", "SpaceToDepth", "Sqrt", "Squeeze", "Sub", "Tanh", "Tile",
    "TopK", "Transpose", "Unsqueeze", "Where",
))
_AXES_AS_INPUT = frozenset((
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd",
    "ReduceSumSquare",
))
# fmt: on

_DECOMPOSED: dict[str, Callable[[ir.Graph, ir.Node], None]] = {
    "Gelu": _gelu,
    "CastLike": _cast_like,
    "LayerNormalization": _layer_normalization,
}
