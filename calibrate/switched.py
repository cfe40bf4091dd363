"""A graph in which every layer can be switched between float and eight bits, run by run.

What one layer costs, and what a set of layers costs, is then a matter of running: no graph is written and no session
opened per question. Each layer becomes an ``If`` that asks an input of booleans; its branches are the layer as it is,
and the layer behind the Q/DQ that `edgeir.calibrate.qdq` would write. For measuring and for nothing else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from threading import Lock

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeir.calibrate.layers import GraphLayer, graph_layers
from edgeir.calibrate.observe import exposed
from edgeir.calibrate.pieces import Piece, Values, cut
from edgeir.calibrate.qdq import LowPrecision, eight_bit_weight
from edgeir.errors import GraphError, nearest
from edgeir.ops import table
from edgeir.runtime.ort_session import OrtSession
from edgeir.spec import INPUT_NAME, OUTPUT_NAME

SWITCHES = "edgeir.switches"
PIECES = 12
MOST_KEPT = 2**30
"""Bytes of values between pieces that are kept for pictures to come again."""

Pictures = NDArray[np.float32]
Choices = tuple[NDArray[np.bool_], ...]


class SwitchedGraph:
    """An FP32 graph whose layers go into eight bits on demand.

    Asked about one layer after the other, in the order of the graph, it computes what is in front of the layer once per
    picture, and only the piece that holds the layer with switches.

    Args:
        model: FP32, as `edgeir.calibrate.observe` saw it; not changed.
        amax: range of the input of every layer that can be switched, by the layer's name; layers that read one tensor
            may have different ones here.
        kind: the eight-bit type.
        at_once: pictures that `run_each` runs at the same time, each in one thread and in memory that is kept for the
            next: what small pictures want. With 1 ONNX Runtime has all cores, and gives memory back at once.

    Raises:
        GraphError: the graph has no such layer with a weight.
    """

    def __init__(
        self,
        model: ir.Model,
        amax: Mapping[str, float],
        kind: LowPrecision,
        *,
        at_once: int = 1,
    ) -> None:
        self.layers = tuple(amax)
        nodes = {
            entry.layer.name: entry.node.name for entry in graph_layers(model.graph) if entry.weight_index is not None
        }
        for name in self.layers:
            if name not in nodes:
                raise GraphError(
                    f"the graph has no layer with a weight called '{name}'", where="switching", fix=nearest(name, nodes)
                )
        wanted = {nodes[name]: (name, amax[name]) for name in self.layers}
        chosen = (node.outputs[0].name for node in model.graph if node.op_type == table.KEY_GRAPH.name)
        self._chosen = tuple(name for name in chosen if name)
        pieces = cut(exposed(model, self._chosen), pieces=PIECES)
        threads = None if at_once == 1 else 1
        opened = partial(OrtSession, threads=threads, arena=at_once > 1, integer_kernels=False)
        self._parts = [_Part(piece, wanted, kind, opened) for piece in pieces]
        self._at_once = at_once
        self._place = {name: index for index, part in enumerate(self._parts) for name in part.layers}
        self._kept: dict[bytes, tuple[int, Values]] = {}
        self._lock = Lock()

    @property
    def chooses(self) -> bool:
        """Whether the graph chooses neighbours."""
        return bool(self._chosen)

    def run(self, pictures: Pictures, on: Collection[str] = ()) -> Pictures:
        """``(N, 3, H, W) -> (N, 3, s*H, s*W)`` with the layers ``on`` in eight bits and all others in FP32.

        Raises:
            GraphError: one of them cannot be switched.
        """
        return self.run_each([pictures], on)[0]

    def run_each(self, batches: Sequence[Pictures], on: Collection[str] = ()) -> list[Pictures]:
        """`run` for each of several batches, some at the same time."""
        return [output for output, _ in self.run_and_choose(batches, on)]

    def run_and_choose(self, batches: Sequence[Pictures], on: Collection[str] = ()) -> list[tuple[Pictures, Choices]]:
        """`run_each`, and for each batch the key graphs that were chosen: ``(windows, n, n) bool`` each, or none."""
        for name in on:
            if name not in self._place:
                raise GraphError(f"'{name}' cannot be switched", where="switching", fix=nearest(name, self.layers))
        wanted = frozenset(on)
        first = min((self._place[name] for name in wanted), default=len(self._parts))
        for part in self._parts:
            part.open(wanted)  # before threads ask for it
        run = partial(self._run, first=first, wanted=wanted)
        if self._at_once == 1:
            return [run(batch) for batch in batches]
        with ThreadPoolExecutor(self._at_once) as pool:
            return list(pool.map(run, batches))

    def _run(self, pictures: Pictures, *, first: int, wanted: frozenset[str]) -> tuple[Pictures, Choices]:
        values = self._in_front_of(first, np.ascontiguousarray(pictures, np.float32))
        for part in self._parts[first:]:
            values = part.run(values, wanted)
        choices = tuple(values[name].astype(np.bool_) for name in self._chosen)
        return values[OUTPUT_NAME].astype(np.float32), choices

    def _in_front_of(self, place: int, pictures: Pictures) -> Values:
        """What the pieces from ``place`` on read, all layers in FP32."""
        key = hashlib.blake2b(pictures.tobytes()).digest()
        with self._lock:
            reached, values = self._kept.pop(key, (0, {}))
        if reached > place or not values:
            reached, values = 0, {INPUT_NAME: pictures}
        for part in self._parts[reached:place]:
            values = part.run(values, frozenset())
        if place < len(self._parts):
            with self._lock:
                self._kept[key] = (place, values)
                while sum(value.nbytes for _, kept in self._kept.values() for value in kept.values()) > MOST_KEPT:
                    del self._kept[next(iter(self._kept))]
        return values


class _Part:
    """One piece, as it is and with switches; sessions are opened when they are first needed."""

    def __init__(
        self,
        piece: Piece,
        wanted: Mapping[str | None, tuple[str, float]],
        kind: LowPrecision,
        opened: Callable[[bytes], OrtSession],
    ) -> None:
        self._piece = piece
        self._amax = dict(wanted[node.name] for node in piece.model.graph.node if node.name in wanted)
        self._nodes = [node.name for node in piece.model.graph.node if node.name in wanted]
        self._kind = kind
        self._opened = opened

    @property
    def layers(self) -> tuple[str, ...]:
        """That can be switched here, in the order of the graph."""
        return tuple(self._amax)

    def open(self, on: Collection[str]) -> None:
        """Open the sessions that `run` will want, for these layers and for none."""
        for wanted in (on, ()):
            self._session(wanted)

    def run(self, values: Values, on: Collection[str]) -> Values:
        """From the values in front of the piece to those behind it."""
        feeds = {name: values[name] for name in self._piece.reads}
        if self._switches(on).any():
            feeds[SWITCHES] = self._switches(on)
        made = self._session(on).run_values(feeds)
        return self._piece.behind(values, made)

    def _switches(self, on: Collection[str]) -> NDArray[np.bool_]:
        return np.array([name in on for name in self.layers], np.bool_)

    def _session(self, on: Collection[str]) -> OrtSession:
        return self._switched if self._switches(on).any() else self._plain

    @cached_property
    def _plain(self) -> OrtSession:
        return self._opened(self._piece.model.SerializeToString())

    @cached_property
    def _switched(self) -> OrtSession:
        twin = ir.from_proto(self._piece.model)
        entries = {entry.node.name: entry for entry in graph_layers(twin.graph)}
        writer = _Switches(twin.graph, self.layers, self._kind)
        for index, (node, amax) in enumerate(zip(self._nodes, self._amax.values(), strict=True)):
            writer.switch(entries[node], index, amax)
        return self._opened(ir.to_proto(twin).SerializeToString())


class _Switches:
    def __init__(self, graph: ir.Graph, layers: Sequence[str], kind: LowPrecision) -> None:
        self._graph = graph
        self._kind = kind
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
        value = ir.val(name, const_value=ir.tensor(numbers, name=name))
        self._graph.register_initializer(value)
        return value
