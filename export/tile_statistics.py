"""Tiles that know their picture: what a network computes of the whole picture becomes an input and an output.

A network with channel attention, prompts or adapters computes small tensors from all positions (a matrix between
channels, weights of prompts) and applies them at every position. On a tile these are the tile's own, and the tile is
restored as if it were the picture. The graph made here says what they are and takes others in their place, so that
tiles can share what was found for the picture: `edgeir.runtime.tile_statistics` gathers and gives them.

What is cut is found by following positions through the graph (`edgeir.export.positions`): the last tensors on the way
to the output that have none. Of a tensor and what it alone is computed from, the smaller one is taken.
"""

from __future__ import annotations

import math

import numpy as np
import onnx
import onnx.shape_inference
import onnx_ir as ir
from onnx_ir.passes.common import InlinePass, LiftConstantsToInitializersPass, RemoveUnusedNodesPass
from onnxscript.optimizer import fold_constants

from edgeir.errors import GraphError
from edgeir.export.positions import Layout, has_positions, layouts, picture_inputs, static_shape
from edgeir.spec import STATISTICS_INPUT, STATISTICS_OUTPUT, USE_STATISTICS_INPUT

_FLOAT = ir.DataType.FLOAT


def with_tile_statistics(model: ir.Model) -> ir.Model | None:
    """The same network with its statistics as an output, and as an input that may stand in their place.

    Inputs are ``image`` as before, `STATISTICS_INPUT` ``(S,) float32`` and `USE_STATISTICS_INPUT` ``(1,) bool``;
    outputs the restored picture as before and `STATISTICS_OUTPUT` ``(S,) float32``, means over the batch of the tile's
    own. With ``False`` the picture is what the graph gave before, bit for bit.

    Args:
        model: a graph of a static size; functions are inlined. It is not changed.

    Returns:
        ``None`` where the network has no statistics: everything it computes belongs to a place in the picture.

    Raises:
        GraphError: sides are dynamic, or the graph has an op whose positions cannot be followed.
    """
    result = _inlined(model)
    statistics = _statistics(result, layouts(result))
    if not statistics:
        return None
    _exchange(result, statistics)
    RemoveUnusedNodesPass()(result)
    return result


def statistics_of(model: ir.Model) -> list[ir.Value]:
    """The values that `with_tile_statistics` exchanges, of a graph without functions; empty where there are none."""
    return _statistics(model, layouts(model))


def _inlined(model: ir.Model) -> ir.Model:
    """A copy without functions, in which every value has its shape: what bodies compute of shapes is folded."""
    copy = ir.from_proto(ir.to_proto(model))
    InlinePass()(copy)
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(copy)
    fold_constants(copy, onnx_shape_inference=True, should_fold=lambda node: None if _is_of_shapes(node) else False)
    try:
        proto = onnx.shape_inference.infer_shapes(ir.to_proto(copy), strict_mode=True, data_prop=True)
    except onnx.shape_inference.InferenceError as error:
        raise GraphError("the shapes of the graph cannot be inferred", got=str(error).strip()) from error
    return ir.from_proto(proto)


def _is_of_shapes(node: ir.Node) -> bool:
    """Whether a node computes with sides: weights are left as they are, in the type they are in."""
    return node.op_type == "Shape" or all(value.dtype == ir.DataType.INT64 for value in node.outputs)


def _statistics(model: ir.Model, known: dict[ir.Value, Layout]) -> list[ir.Value]:
    """In the order of the graph, each once."""
    found: set[ir.Value] = set()
    seen: set[ir.Value] = set()
    waiting = list(model.graph.outputs)
    while waiting:
        value = waiting.pop()
        if value in seen or value not in known:
            continue
        seen.add(value)
        if not has_positions(known[value]):
            found.add(_smallest(value, known))
            continue
        node = value.producer()
        if node is not None:
            waiting += picture_inputs(node)
    order = {output: place for place, node in enumerate(model.graph) for output in node.outputs}
    return sorted(found, key=order.__getitem__)


def _smallest(value: ir.Value, known: dict[ir.Value, Layout]) -> ir.Value:
    """What ``value`` alone is computed from, as far back as it has no positions and no more elements."""
    while True:
        node = value.producer()
        assert node is not None  # the picture itself has positions
        sources = {source for source in picture_inputs(node) if source in known}
        if len(sources) != 1:
            return value
        (source,) = sources
        if has_positions(known[source]) or _elements(source) > _elements(value):
            return value
        value = source


def _elements(value: ir.Value) -> int:
    return math.prod(static_shape(value))


def _exchange(model: ir.Model, statistics: list[ir.Value]) -> None:
    """Add the inputs, choose between own and given, and gather what is the tile's own."""
    graph = model.graph
    batch = static_shape(graph.inputs[0])[0]
    for value in statistics:
        if static_shape(value)[0] != batch:
            raise GraphError("a statistic has no axis for the batch", where=str(value.name))
    sizes = [_elements(value) // batch for value in statistics]
    given = ir.Value(name=STATISTICS_INPUT, shape=ir.Shape([sum(sizes)]), type=ir.TensorType(_FLOAT))
    use = ir.Value(name=USE_STATISTICS_INPUT, shape=ir.Shape([1]), type=ir.TensorType(ir.DataType.BOOL))
    graph.inputs.extend([given, use])
    own, start = [], 0
    for value, size in zip(statistics, sizes, strict=True):
        maker = _Maker(graph, value)
        readers = list(value.uses())
        rows = maker.made("Reshape", [maker.as_float(value), maker.constant("rows", [batch, size])], "own_rows")
        own.append(maker.made("ReduceMean", [rows, maker.constant("batch", [0])], "own", keepdims=0))
        part = maker.made(
            "Slice",
            [
                given,
                maker.constant("start", [start]),
                maker.constant("end", [start + size]),
                maker.constant("axis", [0]),
            ],
            "given_row",
        )
        shape = [1, *static_shape(value)[1:]]
        shaped = maker.made("Reshape", [part, maker.constant("shape", shape)], "given_shaped")
        chosen = maker.made("Where", [use, maker.as_type_of(shaped, value), value], "chosen")
        chosen.shape, chosen.type = value.shape, value.type
        for node, index in readers:
            node.replace_input_with(index, chosen)
        start += size
    gather = _Maker(graph, own[-1])
    output = gather.made("Concat", own, "", axis=0)
    output.name = STATISTICS_OUTPUT
    output.shape, output.type = ir.Shape([sum(sizes)]), ir.TensorType(_FLOAT)
    graph.outputs.append(output)
    graph.sort()


class _Maker:
    """Adds nodes behind a value, named after it."""

    def __init__(self, graph: ir.Graph, after: ir.Value) -> None:
        producer = after.producer()
        assert producer is not None
        self._graph = graph
        self._place = producer
        self._prefix = f"{producer.name}.statistics"

    def made(self, op: str, inputs: list[ir.Value], name: str, **attributes: int) -> ir.Value:
        node = ir.node(op, inputs, attributes=attributes, name=f"{self._prefix}/{op}_{name}")
        node.outputs[0].name = f"{self._prefix}_{name}"
        self._graph.insert_after(self._place, node)
        self._place = node
        return node.outputs[0]

    def constant(self, name: str, numbers: list[int]) -> ir.Value:
        tensor = ir.tensor(np.array(numbers, np.int64), name=f"{self._prefix}_{name}")
        value = ir.Value(
            name=tensor.name,
            shape=ir.Shape([len(numbers)]),
            type=ir.TensorType(ir.DataType.INT64),
            const_value=tensor,
        )
        self._graph.register_initializer(value)
        return value

    def as_float(self, value: ir.Value) -> ir.Value:
        return value if value.dtype == _FLOAT else self.made("Cast", [value], "own_float", to=int(_FLOAT))

    def as_type_of(self, value: ir.Value, like: ir.Value) -> ir.Value:
        if like.dtype is None:
            raise GraphError("the type of a value is not known", where=str(like.name))
        return value if like.dtype == _FLOAT else self.made("Cast", [value], "given_typed", to=int(like.dtype))
