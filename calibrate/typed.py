"""Writing a precision plan into a graph: every value gets its type, casts stand where types meet.

TensorRT's networks are strongly typed: precision lives in the ONNX file and nowhere else. Layers in eight bits have the
plan's default type, and `edgeir.calibrate.qdq` quantises what they read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgeir.calibrate.fp16 import FLOATS, MOVEMENT, OWN_TYPE, computes
from edgeir.calibrate.layers import graph_layers
from edgeir.calibrate.qdq import KINDS, input_tensors, insert_qdq
from edgeir.errors import GraphError, nearest
from edgeir.ops import table
from edgeir.precision import Precision, PrecisionPlan, module_of

_TYPES = {Precision.FP32: ir.DataType.FLOAT, Precision.FP16: ir.DataType.FLOAT16}

# Inputs that are float32 by the operator's definition, whatever the type of the data: (op type, index).
_FLOAT32_INPUTS = frozenset({("Resize", 1), ("Resize", 2)})


@dataclass(frozen=True, slots=True)
class TypedCounts:
    """What was written.

    Attributes:
        fp32, fp16: computing nodes of each type; layers in eight bits are among them by the type of their results.
        casts: between the two.
        eight_bits: layers in INT8 or FP8.
        pairs: quantised activations; layers that read the same tensor share one.
    """

    fp32: int
    fp16: int
    casts: int
    eight_bits: int = 0
    pairs: int = 0


def apply_plan(model: ir.Model, plan: PrecisionPlan, ranges: Mapping[str, float] | None = None) -> TypedCounts:
    """Write ``plan`` into ``model`` in place; inputs and outputs of the graph stay float32.

    Args:
        model: an FP32 graph with named nodes.
        plan: which layer has which type.
        ranges: amax of every tensor that a layer in eight bits reads, by its name in ``model`` as it is given.

    Raises:
        GraphError: the plan names a layer that the graph does not have or that computes nothing, puts a layer into FP16
            whose weights overflow it, or one into eight bits that has no weight or no range.
    """
    _require_known_layers(model.graph, plan)
    low = _eight_bit_layers(model.graph, plan, ranges)
    typing = _Typing(model.graph)
    counts = {Precision.FP32: 0, Precision.FP16: 0}
    for node in list(model.graph):
        if node.op_type in OWN_TYPE:
            continue
        slots = _float_inputs(node)
        if node.op_type in MOVEMENT:
            wanted = _followed_type(slots)
        elif slots:
            precision = plan.type_of(node.name or "")
            precision = plan.default if precision.eight_bits else precision
            counts[precision] += 1
            wanted = _TYPES[precision]
        else:
            continue
        for index, value in slots:
            node.replace_input_with(index, typing.as_type(value, wanted, before=node))
        for output in node.outputs:
            if output.dtype in FLOATS:
                output.dtype = wanted
    typing.restore_outputs()
    typing.drop_unused_initializers()
    kind = plan.eight_bit_type
    written = None if kind is None else insert_qdq(model, low, low, kind=KINDS[kind])
    return TypedCounts(
        fp32=counts[Precision.FP32],
        fp16=counts[Precision.FP16],
        casts=typing.casts,
        eight_bits=written.layers if written else 0,
        pairs=written.pairs if written else 0,
    )


def _eight_bit_layers(graph: ir.Graph, plan: PrecisionPlan, ranges: Mapping[str, float] | None) -> dict[str, float]:
    """The layers that the plan puts into eight bits, each with the range of its input."""
    found: dict[str, float] = {}
    named = {layer.layer for layer in plan.layers if layer.type.eight_bits}
    tensors = input_tensors(graph)
    for entry in graph_layers(graph):
        exception = plan.exception_for(entry.node.name or "")
        if exception is None or not exception.type.eight_bits or entry.layer.name not in tensors:
            continue
        named.discard(exception.layer)
        tensor = tensors[entry.layer.name]
        if ranges is None or tensor not in ranges:
            raise GraphError(
                f"the plan puts '{entry.layer.name}' into {exception.type}, and no range of its input is known",
                where="plan",
                fix="Calibrate: --calibration FOLDER names pictures to find ranges on.",
            )
        found[entry.layer.name] = ranges[tensor]
    if named:
        raise GraphError(
            f"the plan puts '{min(named)}' into eight bits, and no convolution or matrix product with weights is in it",
            where="plan",
            fix=nearest(min(named), tensors),
        )
    return found


def _float_inputs(node: ir.Node) -> list[tuple[int, ir.Value]]:
    fused = table.fused_op(node.op_type) if node.domain == table.DOMAIN else None
    slots = []
    for index, value in enumerate(node.inputs):
        if value is None or value.dtype not in FLOATS or (node.op_type, index) in _FLOAT32_INPUTS:
            continue
        if fused is not None and fused.inputs[index].dtype != "T":
            continue
        slots.append((index, value))
    return slots


def _followed_type(slots: list[tuple[int, ir.Value]]) -> ir.DataType:
    """The type of a node that only moves data: FP16 once any of its data is."""
    types = {value.dtype for _, value in slots}
    return ir.DataType.FLOAT16 if ir.DataType.FLOAT16 in types else ir.DataType.FLOAT


def _require_known_layers(graph: ir.Graph, plan: PrecisionPlan) -> None:
    idle = {node.name or "" for node in graph if not computes(node)}
    names = {node.name or "" for node in graph if computes(node)}
    for name in list(names):
        module = module_of(name)
        while module:
            names.add(module)
            module = module.rpartition(".")[0]
    for layer in plan.layers:
        if layer.layer in idle - names:
            raise GraphError(
                f"the plan gives a type to a node that only moves data: '{layer.layer}'",
                where="plan",
                fix="Such a node takes the type of its data. Name the layer that computes the data.",
            )
        if layer.layer not in names:
            raise GraphError(
                f"the plan names a layer that the graph does not have: '{layer.layer}'",
                where="plan",
                fix=nearest(layer.layer, names),
            )


class _Typing:
    """The values of one graph in each type, made where they are first needed."""

    def __init__(self, graph: ir.Graph) -> None:
        self._graph = graph
        self._cast: dict[tuple[ir.Value, ir.DataType], ir.Value] = {}
        self.casts = 0

    def as_type(self, value: ir.Value, dtype: ir.DataType, *, before: ir.Node) -> ir.Value:
        """``value`` in ``dtype``: itself, a converted initializer, or the output of a cast."""
        if value.dtype == dtype:
            return value
        key = (value, dtype)
        if key not in self._cast:
            make = self._initializer if value.is_initializer() else self._cast_node
            self._cast[key] = make(value, dtype, before)
        return self._cast[key]

    def _initializer(self, value: ir.Value, dtype: ir.DataType, before: ir.Node) -> ir.Value:
        assert value.const_value is not None
        array = value.const_value.numpy()
        with np.errstate(over="ignore"):
            converted = array.astype(dtype.numpy())
        if not np.isfinite(converted).all() and np.isfinite(array).all():
            raise GraphError(
                f"the weights '{value.name}' overflow FP16",
                where=before.name,
                expected="magnitudes up to 65504",
                got=f"{float(np.abs(array).max()):.4g}",
                fix=f"Keep '{before.name}' in fp32 in the plan.",
            )
        name = f"{value.name}.{dtype.name.lower()}"
        typed = ir.val(name, const_value=ir.tensor(converted, name=name))
        self._graph.register_initializer(typed)
        return typed

    def _cast_node(self, value: ir.Value, dtype: ir.DataType, before: ir.Node) -> ir.Value:
        name = f"{value.name}.{dtype.name.lower()}"
        typed = ir.Value(name=name, shape=value.shape, type=ir.TensorType(dtype))
        node = ir.Node(
            "",
            "Cast",
            inputs=[value],
            attributes=[ir.AttrInt64("to", int(dtype))],
            outputs=[typed],
            name=f"{(before.name or '').partition('/')[0]}/Cast:{name}",
        )
        self._graph.insert_before(before, node)
        self.casts += 1
        return typed

    def restore_outputs(self) -> None:
        """Cast graph outputs back to float32 under their own names."""
        for index, value in enumerate(self._graph.outputs):
            if value.dtype != ir.DataType.FLOAT16:
                continue
            name = value.name
            value.name = f"{name}.float16"
            restored = ir.Value(name=name, shape=value.shape, type=ir.TensorType(ir.DataType.FLOAT))
            node = ir.Node(
                "",
                "Cast",
                inputs=[value],
                attributes=[ir.AttrInt64("to", int(ir.DataType.FLOAT))],
                outputs=[restored],
                name=f"model/Cast:{name}",
            )
            self._graph.append(node)
            self._graph.outputs[index] = restored
            self.casts += 1

    def drop_unused_initializers(self) -> None:
        """Remove the float32 twins that nothing reads any more."""
        for name, value in list(self._graph.initializers.items()):
            if not value.uses():
                del self._graph.initializers[name]
