"""By what a network has scaled a sum over positions: sums of tiles add up only where this is taken out of them.

An attention between channels divides each map by its norm before it multiplies maps with one another::

    gram[i, j] = sum_p (q[i, p] / |q[i]|) (k[j, p] / |k[j]|)        over the positions p of a tile

The norms are the tile's own. The mean of such matrices over the tiles of a picture is not the picture's matrix; that of
``gram[i, j] |q[i]| |k[j]|`` is, with the picture's own norms in its denominators. `Scales.of_sum` makes the value that
a sum is to be divided by: here ``1 / (|q[i]| |k[j]|)``. A softmax over positions is such a scale too (`split_softmax`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from edgeir.export.positions import Layout, has_positions, static_shape

_FLOAT = ir.DataType.FLOAT
_LARGEST_SHIFT = 80.0  # e to its power is a float32, and so is e to its negative
_PASSED_ON = frozenset(("Cast", "CastLike", "Identity", "ReduceMean", "ReduceSum", "Resize"))
_SQUARED = frozenset(("ReduceSumSquare",))


class NodeMaker:
    """Adds nodes and constants to a graph, in no particular order: `onnx_ir.Graph.sort` comes after.

    Args:
        graph: which.
        prefix: of all names.
    """

    def __init__(self, graph: ir.Graph, prefix: str) -> None:
        self._graph = graph
        self._prefix = prefix
        self._count = 0

    def made(
        self,
        op: str,
        inputs: Sequence[ir.Value],
        shape: Sequence[int],
        *,
        dtype: ir.DataType = _FLOAT,
        **attributes: int | list[int],
    ) -> ir.Value:
        """The one output of a new node, of ``shape`` and ``dtype``."""
        self._count += 1
        name = f"{self._prefix}.{self._count}"
        node = ir.node(op, list(inputs), attributes=attributes, name=f"{name}/{op}")
        (value,) = node.outputs
        value.name, value.shape, value.type = name, ir.Shape(list(shape)), ir.TensorType(dtype)
        self._graph.append(node)
        return value

    def constant(self, numbers: object, dtype: type[np.generic] = np.int64) -> ir.Value:
        """An initializer."""
        self._count += 1
        name = f"{self._prefix}.{self._count}"
        value = ir.val(name, const_value=ir.tensor(np.array(numbers, dtype), name=name))
        self._graph.register_initializer(value)
        return value

    def as_type(self, value: ir.Value, dtype: ir.DataType) -> ir.Value:
        """``value``, cast where it is of another type."""
        if value.dtype == dtype:
            return value
        return self.made("Cast", [value], static_shape(value), dtype=dtype, to=int(dtype))


def split_softmax(model: ir.Model, known: Mapping[ir.Value, Layout]) -> dict[ir.Value, ir.Value]:
    """Write each softmax over positions as ``exp(x - m) / sum``, with m the largest x.

    The weights are the same but for rounding; the sum is a statistic now, and m cancels.

    Args:
        model: a graph without functions.
        known: its `edgeir.export.positions.layouts`.

    Returns:
        m by the ``exp(x - m)`` that it scales by ``exp(-m)``.
    """
    graph = model.graph
    shifts = {}
    for node in list(graph):
        if node.op_type != "Softmax" or node.outputs[0] not in known:
            continue
        (result,), source = node.outputs, node.inputs[0]
        assert source is not None and source.dtype is not None
        shape, dtype = static_shape(result), source.dtype
        axis = node.attributes.get_int("axis", -1) % len(shape)
        if not any(factor.positions for factor in known[result][axis]):
            continue
        row = [1 if at == axis else side for at, side in enumerate(shape)]
        maker = NodeMaker(graph, f"{result.name}.split")
        axes = maker.constant([axis])
        largest = maker.made("ReduceMax", [source, axes], row, dtype=dtype)
        powers = maker.made("Exp", [maker.made("Sub", [source, largest], shape, dtype=dtype)], shape, dtype=dtype)
        total = maker.made("ReduceSum", [powers, axes], row, dtype=dtype)
        weights = maker.made("Div", [powers, total], shape, dtype=dtype)
        ir.convenience.replace_all_uses_with(result, weights)
        graph.remove(node, safe=True)
        shifts[powers] = largest
    graph.sort()
    return shifts


class Scales:
    """What the values of a graph were scaled by, as values of the graph: products of what has no positions.

    Args:
        model: a graph without functions. Nodes are added to it, unsorted.
        known: its layouts.
        shifts: from `split_softmax`.
    """

    def __init__(self, model: ir.Model, known: Mapping[ir.Value, Layout], shifts: Mapping[ir.Value, ir.Value]) -> None:
        self._maker = NodeMaker(model.graph, "scales")
        self._known = known
        self._shifts = shifts
        self._found: dict[ir.Value, ir.Value | None] = {}

    def of_sum(self, value: ir.Value) -> ir.Value | None:
        """What a sum or mean over positions is to be divided by.

        Args:
            value: has no positions, and is computed from what has.

        Returns:
            float32, to be broadcast with ``value``; ``None`` for one.
        """
        node = value.producer()
        assert node is not None
        if node.op_type != "MatMul":
            return self._of_output(node, value)
        of_rows, of_columns = (self._of_input(node, index) for index in (0, 1))
        return self._product(of_rows, of_columns)

    def _of(self, value: ir.Value) -> ir.Value | None:
        """Of a value with positions; 1 along all of its axes that have any."""
        if value not in self._found:
            node = value.producer()
            self._found[value] = None if node is None else self._of_output(node, value)
        return self._found[value]

    def _of_output(self, node: ir.Node, value: ir.Value) -> ir.Value | None:
        if value in self._shifts:
            shift = self._maker.as_type(self._shifts[value], _FLOAT)
            limits = [self._maker.constant(limit, np.float32) for limit in (-_LARGEST_SHIFT, _LARGEST_SHIFT)]
            shape = static_shape(shift)
            down = self._maker.made("Neg", [self._maker.made("Clip", [shift, *limits], shape)], shape)
            return self._maker.made("Exp", [down], shape)
        rank = len(static_shape(value))
        if node.op_type == "Mul":
            return self._ranked(self._product(self._of_input(node, 0), self._of_input(node, 1)), rank)
        if node.op_type == "Div":
            return self._ranked(self._product(self._of_input(node, 0), self._inverse(self._of_input(node, 1))), rank)
        if node.op_type in _PASSED_ON or node.op_type in _SQUARED or node.op_type in ("Reshape", "Transpose"):
            scale = self._of_input(node, 0)
            if scale is None:
                return None
            if node.op_type in _SQUARED:
                scale = self._product(scale, scale)
                assert scale is not None
            if node.op_type == "Transpose":
                order = list(node.attributes.get_ints("perm", list(reversed(range(rank)))))
                shape = static_shape(scale)
                return self._maker.made("Transpose", [scale], [shape[axis] for axis in order], perm=order)
            return self._shaped(scale, value)
        return None

    def _of_input(self, node: ir.Node, index: int) -> ir.Value | None:
        """The scale of what is read: of a value with positions its own, of another one that value itself."""
        value = node.inputs[index]
        if value is None or value not in self._known:
            return None  # a weight is the same in every tile
        if has_positions(self._known[value]):
            return self._of(value)
        return self._maker.as_type(value, _FLOAT)

    def _shaped(self, scale: ir.Value, like: ir.Value) -> ir.Value | None:
        """``scale`` with the axes of ``like``, each as long as what of it is no position."""
        layout = self._known[like]
        shape = [
            int(np.prod([factor.length for factor in axis if not factor.positions], dtype=np.int64)) for axis in layout
        ]
        if list(static_shape(scale)) == shape:
            return scale
        if np.prod(static_shape(scale)) != np.prod(shape):
            return None
        return self._maker.made("Reshape", [scale, self._maker.constant(shape)], shape)

    def _ranked(self, scale: ir.Value | None, rank: int) -> ir.Value | None:
        """With as many axes as it is broadcast to."""
        if scale is None or len(static_shape(scale)) == rank:
            return scale
        shape = [1] * (rank - len(static_shape(scale))) + list(static_shape(scale))
        return self._maker.made("Reshape", [scale, self._maker.constant(shape)], shape)

    def _product(self, one: ir.Value | None, other: ir.Value | None) -> ir.Value | None:
        if one is None or other is None:
            return one if other is None else other
        shape = np.broadcast_shapes(static_shape(one), static_shape(other))
        return self._maker.made("Mul", [one, other], shape)

    def _inverse(self, scale: ir.Value | None) -> ir.Value | None:
        return None if scale is None else self._maker.made("Reciprocal", [scale], static_shape(scale))
