"""Writing INT8 or FP8 into a graph: QuantizeLinear and DequantizeLinear where TensorRT fuses them.

A quantised layer gets a pair on its input, shared by every layer that reads the same tensor, and a weight that is
stored in eight bits behind a DequantizeLinear. Nothing stands on outputs, and the bias stays as it is (facts:
tensorrt.md 4.2). Scales have the type of their tensor, zero points are zero: what strongly typed networks demand.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeir.calibrate.layers import GraphLayer, graph_layers
from edgeir.errors import GraphError, nearest
from edgeir.precision import Precision, module_of
from edgeir.quantization_placement import QMAX, SMALLEST_SCALE


@dataclass(frozen=True, slots=True)
class LowPrecision:
    """An eight-bit type.

    Attributes:
        name: ``"int8"`` or ``"fp8"``, as plans and the command line say it.
        dtype: of the stored values.
        largest: the magnitude that ``amax`` becomes.
    """

    name: str
    dtype: ir.DataType
    largest: float

    def scale(self, amax: float) -> float:
        """``amax / largest``, never below what FP16 can hold."""
        return max(amax / self.largest, SMALLEST_SCALE)

    def rounded(self, values: NDArray[np.floating], amax: float) -> NDArray[np.float64]:
        """What ``values`` of any shape are after a pair of Q and DQ with this ``amax``."""
        scale = self.scale(amax)
        steps = np.clip(np.asarray(values, np.float64) / scale, -self.largest, self.largest)
        if self.dtype is ir.DataType.INT8:
            return np.rint(steps) * scale
        return steps.astype(self.dtype.numpy()).astype(np.float64) * scale


INT8 = LowPrecision("int8", ir.DataType.INT8, float(QMAX))
FP8 = LowPrecision("fp8", ir.DataType.FLOAT8E4M3FN, 448.0)
"""E4M3 without infinities: SM 8.9 and later."""

KINDS: Mapping[Precision, LowPrecision] = {Precision.INT8: INT8, Precision.FP8: FP8}
"""By the type of a plan."""


@dataclass(frozen=True, slots=True)
class QdqCounts:
    """What was written: layers in low precision, and pairs on activations."""

    layers: int
    pairs: int


def input_tensors(graph: ir.Graph) -> dict[str, str]:
    """For every layer with a weight, the name of the tensor that it reads: whose range its scale is made of."""
    return {
        entry.layer.name: str(entry.node.inputs[0].name)
        for entry in graph_layers(graph)
        if entry.weight_index is not None and entry.node.inputs[0] is not None
    }


def insert_qdq(
    model: ir.Model, layers: Collection[str], amax: Mapping[str, float], *, kind: LowPrecision = INT8
) -> QdqCounts:
    """Quantise layers of a typed graph, in place.

    Args:
        model: FP32, or FP16 where a plan said so (`edgeir.calibrate.typed`).
        layers: names of the layers to quantise, see `edgeir.calibrate.layers`.
        amax: range of each of these layers' inputs; layers that read one tensor have one range.
        kind: `INT8` or `FP8`.

    Raises:
        GraphError: the graph has no such layer with a weight, a range is missing, or two layers disagree about the
            range of the tensor that both read.
    """
    known = {entry.layer.name: entry for entry in graph_layers(model.graph) if entry.weight_index is not None}
    for name in layers:
        if name not in known:
            raise GraphError(
                f"the graph has no layer with a weight called '{name}'", where="quantisation", fix=nearest(name, known)
            )
        if name not in amax:
            raise GraphError("a layer has no range", where="quantisation", got=name, fix="Calibrate again.")
    writer = _Writer(model, kind)
    for name, entry in known.items():
        if name in layers:
            writer.quantise(entry, amax[name])
    return QdqCounts(len(set(layers)), len(writer.pairs))


def eight_bit_weight(
    numbers: NDArray[np.generic], axis: int, kind: LowPrecision
) -> tuple[NDArray[np.generic], NDArray[np.generic]]:
    """A weight as it is stored: one scale per output channel.

    Args:
        numbers: float32 or float16, any shape.
        axis: of the output channels.
        kind: `INT8` or `FP8`.

    Returns:
        the eight-bit values in the shape of ``numbers``, and the scales ``(C_out,)`` in its type.
    """
    exact = numbers.astype(np.float32)
    others = tuple(index for index in range(exact.ndim) if index != axis)
    scales = np.maximum(np.abs(exact).max(axis=others) / kind.largest, SMALLEST_SCALE).astype(numbers.dtype)
    ratio = exact / scales.astype(np.float32).reshape([-1 if index == axis else 1 for index in range(exact.ndim)])
    whole = np.rint(ratio) if kind is INT8 else ratio
    return np.clip(whole, -kind.largest, kind.largest).astype(kind.dtype.numpy()), scales


class _Writer:
    """Makes each pair and each constant once."""

    def __init__(self, model: ir.Model, kind: LowPrecision) -> None:
        self._graph = model.graph
        self._kind = kind
        self.pairs: dict[ir.Value, tuple[ir.Value, float]] = {}
        self._constants: dict[str, ir.Value] = {}
        taken = {value.name for node in model.graph for value in node.outputs}
        self._taken = taken | set(model.graph.initializers)

    def quantise(self, entry: GraphLayer, amax: float) -> None:
        """Input and weight of one layer."""
        node = entry.node
        activation, weight = node.inputs[0], node.inputs[1]
        assert activation is not None and weight is not None
        if activation not in self.pairs:
            self.pairs[activation] = (self._pair(activation, amax, node), amax)
        pair, agreed = self.pairs[activation]
        if agreed != amax:
            raise GraphError(
                "two layers disagree about the range of the tensor that both read",
                where=entry.layer.name,
                expected=f"{agreed:g}",
                got=f"{amax:g}",
            )
        node.replace_input_with(0, pair)
        node.replace_input_with(1, self._stored(weight, entry.channel_axis, node))
        if not weight.uses():
            self._graph.initializers.pop(weight.name or "", None)

    def _pair(self, value: ir.Value, amax: float, before: ir.Node) -> ir.Value:
        assert value.dtype is not None
        scale = self._constant(f"{value.name}.scale", np.asarray(self._kind.scale(amax), value.dtype.numpy()))
        zero = self._zero(())
        module = module_of(before.name or "")
        quantised = self._value(f"{value.name}.{self._kind.name}", self._kind.dtype, value.shape)
        quantize = ir.Node("", "QuantizeLinear", [value, scale, zero], outputs=[quantised])
        restored = self._value(f"{value.name}.dequantized", value.dtype, value.shape)
        dequantize = ir.Node("", "DequantizeLinear", [quantised, scale, zero], outputs=[restored])
        quantize.name, dequantize.name = f"{module}/QuantizeLinear", f"{module}/DequantizeLinear"
        self._graph.insert_before(before, [quantize, dequantize])
        return restored

    def _stored(self, weight: ir.Value, axis: int, before: ir.Node) -> ir.Value:
        """The weight in eight bits, one scale per output channel, behind its DequantizeLinear."""
        assert weight.const_value is not None and weight.dtype is not None
        name = f"{weight.name}.dequantized"
        if name in self._constants:
            return self._constants[name]
        stored, scales = eight_bit_weight(weight.const_value.numpy(), axis, self._kind)
        values = self._constant(f"{weight.name}.{self._kind.name}", stored)
        restored = self._value(name, weight.dtype, weight.shape)
        dequantize = ir.Node(
            "",
            "DequantizeLinear",
            [values, self._constant(f"{weight.name}.scale", scales), self._zero(scales.shape)],
            attributes=[ir.AttrInt64("axis", axis)],
            outputs=[restored],
            name=f"{module_of(before.name or '')}/DequantizeLinear_weight",
        )
        self._graph.insert_before(before, dequantize)
        self._constants[name] = restored
        return restored

    def _zero(self, shape: tuple[int, ...]) -> ir.Value:
        name = f"zero.{self._kind.name}" + "".join(f".{side}" for side in shape)
        return self._constant(name, np.zeros(shape, self._kind.dtype.numpy()))

    def _constant(self, name: str, numbers: NDArray[np.generic]) -> ir.Value:
        if name not in self._constants:
            value = self._value(name, None, None)
            value.const_value = ir.tensor(numbers, name=value.name)
            value.dtype, value.shape = value.const_value.dtype, ir.Shape(numbers.shape)
            self._graph.register_initializer(value)
            self._constants[name] = value
        return self._constants[name]

    def _value(self, name: str, dtype: ir.DataType | None, shape: ir.Shape | None) -> ir.Value:
        count, free = 1, name
        while free in self._taken:
            count += 1
            free = f"{name}_{count}"
        self._taken.add(free)
        return ir.Value(name=free, shape=shape, type=None if dtype is None else ir.TensorType(dtype))
