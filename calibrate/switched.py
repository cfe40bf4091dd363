"""A graph in which every layer can be switched between float and eight bits, run by run.

What one layer costs, and what a set of layers costs, is then a matter of running: no graph is written and no session
opened per question. Each layer becomes an ``If`` that asks an input of booleans; its branches are the layer as it is,
and the layer behind the Q/DQ that `edgeir.calibrate.qdq` would write. For measuring and for nothing else.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeir.calibrate.layers import GraphLayer, graph_layers
from edgeir.calibrate.qdq import LowPrecision, eight_bit_weight
from edgeir.errors import GraphError, nearest
from edgeir.runtime.ort_session import OrtSession
from edgeir.spec import OUTPUT_NAME

SWITCHES = "edgeir.switches"

Pictures = NDArray[np.float32]


class SwitchedGraph:
    """An FP32 graph whose layers go into eight bits on demand.

    Args:
        model: FP32, as `edgeir.calibrate.observe` saw it; not changed.
        amax: range of the input of every layer that can be switched, by the layer's name; layers that read one tensor
            may have different ones here.
        kind: the eight-bit type.
        threads: of ONNX Runtime; ``None`` lets it decide.

    Raises:
        GraphError: the graph has no such layer with a weight.
    """

    def __init__(
        self, model: ir.Model, amax: Mapping[str, float], kind: LowPrecision, *, threads: int | None = None
    ) -> None:
        self.layers = tuple(amax)
        twin = ir.from_proto(ir.to_proto(model))
        known = {entry.layer.name: entry for entry in graph_layers(twin.graph) if entry.weight_index is not None}
        for name in self.layers:
            if name not in known:
                raise GraphError(
                    f"the graph has no layer with a weight called '{name}'", where="switching", fix=nearest(name, known)
                )
        writer = _Switches(twin.graph, self.layers, kind)
        for index, name in enumerate(self.layers):
            writer.switch(known[name], index, amax[name])
        self._session = OrtSession(
            ir.to_proto(twin).SerializeToString(), threads=threads, arena=False, integer_kernels=False
        )

    def run(self, pictures: Pictures, on: Collection[str] = ()) -> Pictures:
        """``(N, 3, H, W) -> (N, 3, s*H, s*W)`` with the layers ``on`` in eight bits and all others in FP32.

        Raises:
            GraphError: one of them cannot be switched.
        """
        for name in on:
            if name not in self.layers:
                raise GraphError(f"'{name}' cannot be switched", where="switching", fix=nearest(name, self.layers))
        wanted = frozenset(on)
        switches = np.array([name in wanted for name in self.layers], np.bool_)
        outputs = self._session.run_all(pictures, {SWITCHES: switches} if self.layers else None)
        return outputs[OUTPUT_NAME].astype(np.float32)


class _Switches:
    def __init__(self, graph: ir.Graph, layers: Sequence[str], kind: LowPrecision) -> None:
        self._graph = graph
        self._kind = kind
        if not layers:
            return
        self._all = ir.Value(name=SWITCHES, shape=ir.Shape([len(layers)]), type=ir.TensorType(ir.DataType.BOOL))
        graph.inputs.append(self._all)

    def switch(self, entry: GraphLayer, index: int, amax: float) -> None:
        """Put ``entry`` into an ``If`` on switch number ``index``."""
        node, name = entry.node, f"edgeir.switched.{index}"
        asked = ir.Node("", "Gather", [self._all, self._constant(f"{name}.index", np.asarray(index, np.int64))])
        asked.outputs[0].name = f"{name}.on"
        asked.outputs[0].dtype, asked.outputs[0].shape = ir.DataType.BOOL, ir.Shape([])
        low, plain = self._low(entry, name, amax), self._branch(f"{name}.plain", [self._copy(node, list(node.inputs))])
        chosen = ir.Node(
            "",
            "If",
            [asked.outputs[0]],
            attributes=[ir.AttrGraph("then_branch", low), ir.AttrGraph("else_branch", plain)],
            name=f"{node.name}/If",
        )
        result = node.outputs[0]
        taken = chosen.outputs[0]
        taken.type, taken.shape = result.type, result.shape
        self._graph.insert_before(node, [asked, chosen])
        result_name, result.name = result.name, f"{name}.replaced"
        taken.name = result_name
        for position, value in enumerate(self._graph.outputs):
            if value is result:
                self._graph.outputs[position] = taken
        ir.convenience.replace_all_uses_with(result, taken)
        self._graph.remove(node, safe=True)

    def _low(self, entry: GraphLayer, name: str, amax: float) -> ir.Graph:
        node, kind = entry.node, self._kind
        activation, weight = node.inputs[0], node.inputs[1]
        assert weight is not None and weight.const_value is not None
        scale = self._constant(f"{name}.scale", np.asarray(kind.scale(amax), np.float32))
        zero = self._constant(f"{name}.zero", np.zeros((), kind.dtype.numpy()))
        quantize = ir.Node("", "QuantizeLinear", [activation, scale, zero])
        restore = ir.Node("", "DequantizeLinear", [quantize.outputs[0], scale, zero])
        stored, scales = eight_bit_weight(weight.const_value.numpy(), entry.channel_axis, kind)
        shape = [-1 if axis == entry.channel_axis else 1 for axis in range(stored.ndim)]
        numbers = stored.astype(np.float32) * scales.astype(np.float32).reshape(shape)
        low_weight = self._constant(f"{name}.weight", numbers)
        layer = self._copy(node, [restore.outputs[0], low_weight, *node.inputs[2:]])
        return self._branch(f"{name}.low", [quantize, restore, layer])

    @staticmethod
    def _copy(node: ir.Node, inputs: Sequence[ir.Value | None]) -> ir.Node:
        copied = ir.Node("", node.op_type, inputs, attributes=list(node.attributes.values()))
        copied.outputs[0].type, copied.outputs[0].shape = node.outputs[0].type, node.outputs[0].shape
        return copied

    @staticmethod
    def _branch(name: str, nodes: Sequence[ir.Node]) -> ir.Graph:
        for number, node in enumerate(nodes):
            node.name = node.outputs[0].name = f"{name}.{number}"
        return ir.Graph([], [nodes[-1].outputs[0]], nodes=nodes, name=name)

    def _constant(self, name: str, numbers: NDArray[np.generic]) -> ir.Value:
        tensor = ir.tensor(numbers, name=name)
        value = ir.Value(name=name, const_value=tensor, shape=ir.Shape(numbers.shape), type=ir.TensorType(tensor.dtype))
        self._graph.register_initializer(value)
        return value
