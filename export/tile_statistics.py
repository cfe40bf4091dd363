"""Tiles that know their picture: what a network computes of the whole picture becomes an input and an output.

A network with channel attention, prompts or adapters computes small tensors from all positions (a matrix between
channels, weights of prompts) and applies them at every position. On a tile these are the tile's own, and the tile is
restored as if it were the picture. The graph made here says what they are and takes others in their place, so that
tiles can share what was found for the picture: `edgeir.runtime.tile_statistics` gathers and gives them.

What is cut is found by following positions through the graph (`edgeir.export.positions`): wherever a value without
positions is computed from one that has some. These are sums and means over positions, and once what they were scaled
by is taken out of them (`edgeir.export.position_scales`), the mean of those of all tiles is the picture's. What
follows, such as a softmax over a matrix between channels, is computed from them anew.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

import onnx
import onnx.shape_inference
import onnx_ir as ir
from onnx_ir.passes.common import InlinePass, LiftConstantsToInitializersPass, RemoveUnusedNodesPass
from onnxscript.optimizer import fold_constants

from edgeir.errors import GraphError
from edgeir.export.position_scales import NodeMaker, Scales, split_softmax
from edgeir.export.positions import Layout, has_positions, layouts, picture_inputs, static_shape
from edgeir.spec import STATISTICS_INPUT, STATISTICS_OUTPUT, USE_STATISTICS_INPUT

_FLOAT = ir.DataType.FLOAT


def with_tile_statistics(model: ir.Model) -> ir.Model | None:
    """The same network with its statistics as an output, and as an input that may stand in their place.

    Inputs are ``image`` as before, `STATISTICS_INPUT` ``(S,) float32`` and `USE_STATISTICS_INPUT` ``(1,) bool``;
    outputs the restored picture as before and `STATISTICS_OUTPUT` ``(S,) float32``, means over the batch of the tile's
    own. With ``False`` the picture is what the graph gave before, but for the order in which a runtime rounds.

    Args:
        model: a graph of a static size; functions are inlined. It is not changed.

    Returns:
        ``None`` where the network has no statistics: everything it computes belongs to a place in the picture.

    Raises:
        GraphError: sides are dynamic, or the graph has an op whose positions cannot be followed.
    """
    result = _inlined(model)
    shifts = split_softmax(result, layouts(result))
    known = layouts(result)
    statistics = _statistics(result, known, own=shifts.values())
    if not statistics:
        return None
    _exchange(result, statistics, Scales(result, known, shifts))
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


def _statistics(model: ir.Model, known: Mapping[ir.Value, Layout], *, own: Collection[ir.Value] = ()) -> list[ir.Value]:
    """Where positions end, on all ways to the output, in the order of the graph; but for what stays each tile's own."""
    found: set[ir.Value] = set()
    seen: set[ir.Value] = set()
    waiting = list(model.graph.outputs)
    while waiting:
        value = waiting.pop()
        node = value.producer()
        if value in seen or value not in known or node is None:
            continue
        seen.add(value)
        sources = [source for source in picture_inputs(node) if source in known]
        if not has_positions(known[value]) and any(has_positions(known[source]) for source in sources):
            found.add(value)
        waiting += sources
    order = {output: place for place, node in enumerate(model.graph) for output in node.outputs}
    return sorted(found.difference(own), key=order.__getitem__)


def _elements(value: ir.Value) -> int:
    return math.prod(static_shape(value))


def _exchange(model: ir.Model, statistics: list[ir.Value], scales: Scales) -> None:
    """Add the inputs, choose between own and given, and gather what is the tile's own."""
    graph = model.graph
    batch = static_shape(graph.inputs[0])[0]
    for value in statistics:
        if static_shape(value)[:1] != (batch,):
            raise GraphError("a statistic has no axis for the batch", where=str(value.name))
    sizes = [_elements(value) // batch for value in statistics]
    given = ir.Value(name=STATISTICS_INPUT, shape=ir.Shape([sum(sizes)]), type=ir.TensorType(_FLOAT))
    use = ir.Value(name=USE_STATISTICS_INPUT, shape=ir.Shape([1]), type=ir.TensorType(ir.DataType.BOOL))
    graph.inputs.extend([given, use])
    of_sums = [scales.of_sum(value) for value in statistics]  # from values that are exchanged as well, all of them
    own, start = [], 0
    for value, size, scale in zip(statistics, sizes, of_sums, strict=True):
        maker = NodeMaker(graph, f"{value.name}.statistics")
        readers = list(value.uses())
        shape, dtype = static_shape(value), value.dtype
        if dtype is None:
            raise GraphError("the type of a value is not known", where=str(value.name))
        unscaled = maker.as_type(value, _FLOAT)
        if scale is not None:
            unscaled = maker.made("Div", [unscaled, scale], shape)
        rows = maker.made("Reshape", [unscaled, maker.constant([batch, size])], [batch, size])
        own.append(maker.made("ReduceMean", [rows, maker.constant([0])], [size], keepdims=0))
        ends = [maker.constant([number]) for number in (start, start + size, 0)]
        part = maker.made("Slice", [given, *ends], [size])
        one = [1, *shape[1:]]
        taken = maker.made("Reshape", [part, maker.constant(one)], one)
        if scale is not None:
            taken = maker.made("Mul", [taken, scale], shape)
        chosen = maker.made("Where", [use, maker.as_type(taken, dtype), value], shape, dtype=dtype)
        for node, index in readers:
            node.replace_input_with(index, chosen)
        start += size
    output = NodeMaker(graph, STATISTICS_OUTPUT).made("Concat", own, [sum(sizes)], axis=0)
    output.name = STATISTICS_OUTPUT
    graph.outputs.append(output)
    graph.sort()
