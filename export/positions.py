"""Which axes of a graph's values run over positions of the picture, followed from the picture to the output.

A value that comes from the picture and has no such axis is a statistic of the whole of it: an attention matrix between
channels, a mean feature. `edgeir.export.tile_statistics` makes inputs of those that reach the output.

An axis is a product of factors, outermost first, and a factor runs over positions or does not::

    (1, 16, 64, 96)    picture        (1) (16) (64*) (96*)
    (1, 16, 6144)      flattened      (1) (16) (64* 96*)
    (1, 16, 32, 2, 96) split          (1) (16) (32*) (2) (96*)     what is split off inside has the same length
                                                                   whatever the picture's size: it is no position
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from edgeir.errors import GraphError


@dataclass(frozen=True, slots=True)
class Factor:
    """A factor of an axis: how long it is, and whether it runs over positions."""

    length: int
    positions: bool = False


Axis = tuple[Factor, ...]
Layout = tuple[Axis, ...]
Known = Mapping[ir.Value, Layout]

# fmt: off
_BROADCAST = frozenset((
    "Abs", "Add", "Cast", "CastLike", "Clip", "Div", "Erf", "Exp", "Expand", "Gelu", "GreaterOrEqual",
    "Identity", "LayerNormalization", "Log", "Max", "Min", "Mul", "Neg", "Pow", "Reciprocal", "Relu", "Sigmoid",
    "Softmax", "Sqrt", "Sub", "Tanh", "Where", "QuantizeLinear", "DequantizeLinear",
))
# fmt: on
_MAPS = frozenset(("AveragePool", "Conv", "DepthToSpace", "MaxPool", "Pad", "Resize", "Slice", "SpaceToDepth", "Split"))
_TYPE_ONLY = {"CastLike": 1}  # the input that lends its type and nothing else


def layouts(model: ir.Model) -> dict[ir.Value, Layout]:
    """The axes of every value that is computed from the picture; other values are left out.

    Args:
        model: a graph without functions, with one input ``(N, C, H, W)``, whose values have static shapes.

    Raises:
        GraphError: an op that is not known here, or a value without a static shape.
    """
    (picture,) = model.graph.inputs
    batch, channels, height, width = static_shape(picture)
    known: dict[ir.Value, Layout] = {
        picture: ((Factor(batch),), (Factor(channels),), (Factor(height, True),), (Factor(width, True),))
    }
    for node in model.graph:
        if any(value in known for value in picture_inputs(node)):
            rule = _rule(node)
            for output in node.outputs:
                known[output] = rule(node, output, known)
    return known


def has_positions(layout: Layout) -> bool:
    """Whether any factor of any axis runs over positions."""
    return any(map(_positions, layout))


def picture_inputs(node: ir.Node) -> list[ir.Value]:
    """Inputs whose values matter: not those that lend a type, nor anything of ``Shape``."""
    if node.op_type == "Shape":
        return []
    skipped = _TYPE_ONLY.get(node.op_type)
    return [value for index, value in enumerate(node.inputs) if value is not None and index != skipped]


def static_shape(value: ir.Value) -> tuple[int, ...]:
    """The sides of a value.

    Raises:
        GraphError: it has none, or one is symbolic.
    """
    if value.shape is None or not value.shape.is_static():
        raise GraphError("the shape of a value is not known", where=str(value.name), expected="static sides")
    return tuple(int(side) for side in value.shape.numpy())


_Rule = Callable[[ir.Node, ir.Value, Known], Layout]


def _rule(node: ir.Node) -> _Rule:
    if node.domain == "":
        if node.op_type in _BROADCAST:
            return _broadcast
        if node.op_type in _MAPS:
            return _maps
        if node.op_type.startswith("Reduce"):
            return _reduced
        if node.op_type in _RULES:
            return _RULES[node.op_type]
    raise GraphError("no rule says where positions go", where=str(node.name), got=f"{node.domain}::{node.op_type}")


def _positions(axis: Axis) -> bool:
    return any(factor.positions for factor in axis)


def _plain(shape: Sequence[int]) -> list[Axis]:
    return [(Factor(side),) for side in shape]


def _first(node: ir.Node) -> ir.Value:
    value = node.inputs[0]
    assert value is not None
    return value


def _broadcast(node: ir.Node, output: ir.Value, known: Known) -> Layout:
    """Axes are counted from the right; of inputs of one length the one with positions says what they are."""
    shape = static_shape(output)
    found = _plain(shape)
    for value in picture_inputs(node):
        for back, axis in enumerate(reversed(known.get(value, ())), start=1):
            if _positions(axis) and not _positions(found[-back]) and _length(axis) == shape[-back]:
                found[-back] = axis
    return tuple(found)


def _maps(node: ir.Node, output: ir.Value, known: Known) -> Layout:
    """Every axis stays what it is, in its new length; a convolution's channels are sums over all it read."""
    layout = known.get(_first(node))
    shape = static_shape(output)
    if layout is None:
        return tuple(_plain(shape))
    found = [
        axis if _length(axis) == side else (Factor(side, _positions(axis)),)
        for axis, side in zip(layout, shape, strict=True)
    ]
    if node.op_type == "Conv" and node.attributes.get_int("group", 1) == 1:
        found[1] = (Factor(shape[1]),)
    return tuple(found)


def _reduced(node: ir.Node, output: ir.Value, known: Known) -> Layout:
    layout = known[_first(node)]
    rank = len(layout)
    gone = {axis % rank for axis in _axes_of(node) or range(rank)}
    if node.attributes.get_int("keepdims", 1):
        return tuple((Factor(1),) if axis in gone else layout[axis] for axis in range(rank))
    return tuple(layout[axis] for axis in range(rank) if axis not in gone)


def _unsqueezed(node: ir.Node, output: ir.Value, known: Known) -> Layout:
    rest = iter(known[_first(node)])
    rank = len(static_shape(output))
    added = {axis % rank for axis in _axes_of(node)}
    return tuple((Factor(1),) if axis in added else next(rest) for axis in range(rank))


def _transposed(node: ir.Node, output: ir.Value, known: Known) -> Layout:
    layout = known[_first(node)]
    order = node.attributes.get_ints("perm", list(reversed(range(len(layout)))))
    return tuple(layout[axis] for axis in order)


def _concatenated(node: ir.Node, output: ir.Value, known: Known) -> Layout:
    shape = static_shape(output)
    joined = node.attributes.get_int("axis") % len(shape)
    parts = [known[value] for value in picture_inputs(node) if value in known]
    found = [
        next((part[axis] for part in parts if _positions(part[axis])), parts[0][axis]) for axis in range(len(shape))
    ]
    found[joined] = (Factor(shape[joined], any(_positions(part[joined]) for part in parts)),)
    return tuple(found)


def _multiplied(node: ir.Node, output: ir.Value, known: Known) -> Layout:
    """``(..., n, k) x (..., k, m)``: what is summed over is gone."""
    found = _plain(static_shape(output))
    for value, kept in ((_first(node), -2), (node.inputs[1], -1)):
        layout = known.get(value, ()) if value is not None else ()
        for back, axis in enumerate(reversed(layout), start=1):
            if (back > 2 or -back == kept) and _positions(axis):
                found[-back] = axis
    return tuple(found)


def _gemm(node: ir.Node, output: ir.Value, known: Known) -> Layout:
    """``(n, k) x (k, m)``, either transposed."""
    found = _plain(static_shape(output))
    for index, name in enumerate(("transA", "transB")):
        value = node.inputs[index]
        if value is not None and value in known:
            found[index] = known[value][index ^ node.attributes.get_int(name, 0)]
    return tuple(found)


def _reshaped(node: ir.Node, output: ir.Value, known: Known) -> Layout:
    """The factors in their order, dealt out to the new axes; one that does not fit is split."""
    layout = known[_first(node)]
    waiting = [factor for axis in layout for factor in axis if factor.length > 1]
    found = []
    for side in static_shape(output):
        axis: list[Factor] = []
        left = side
        while left > 1:
            factor = waiting.pop(0)
            if left % factor.length == 0:
                axis.append(factor)
                left //= factor.length
            elif factor.length % left == 0:
                axis.append(Factor(left, factor.positions))
                waiting.insert(0, Factor(factor.length // left))
                left = 1
            else:
                raise GraphError("a reshape cannot be followed", where=str(node.name), got=f"{layout} to {side}")
        found.append(tuple(axis) or (Factor(1),))
    return tuple(found)


def _length(axis: Axis) -> int:
    return math.prod(factor.length for factor in axis)


def _axes_of(node: ir.Node) -> list[int]:
    """Of a reduction or its inverse: the second input or an attribute; empty for all axes."""
    if "axes" in node.attributes:
        return list(node.attributes.get_ints("axes"))
    given = node.inputs[1] if len(node.inputs) > 1 else None
    if given is None:
        return []
    if given.const_value is None:
        raise GraphError("the axes of a reduction are computed", where=str(node.name), expected="a constant")
    return [int(axis) for axis in given.const_value.numpy().reshape(-1)]


_RULES: Mapping[str, _Rule] = {
    "Concat": _concatenated,
    "Gemm": _gemm,
    "MatMul": _multiplied,
    "Reshape": _reshaped,
    "Transpose": _transposed,
    "Unsqueeze": _unsqueezed,
}
