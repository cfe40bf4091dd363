"""A graph run piece by piece, for pictures whose intermediate values do not fit into memory together.

ONNX Runtime computes FP16 nodes of the CPU in float32 between casts and decides itself in which order: at 512x512 the
FP16 graph of exda-tiny takes two and a half times the memory of the FP32 one. Here each piece of a few nodes is a
session of its own, and a value is given back after the last piece that reads it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx

from benchmarks.op_times import session
from edgeir.runtime.memory import free_at_once
from edgeir.spec import INPUT_NAME, OUTPUT_NAME


@dataclass(frozen=True)
class Segment:
    """A piece of a graph.

    Attributes:
        model: its nodes with their initializers, serialized.
        reads: values of the graph that it needs.
        last: those of them that no later piece needs.
    """

    model: bytes
    reads: tuple[str, ...]
    last: tuple[str, ...]


def segments(model: bytes, *, nodes: int) -> Iterator[Segment]:
    """Cut a graph without functions and subgraphs into pieces of ``nodes`` nodes, in its order.

    Args:
        model: serialized, topologically sorted, of static shapes.
        nodes: per piece, at least 1.
    """
    proto = onnx.shape_inference.infer_shapes(onnx.load_model_from_string(model), strict_mode=True, data_prop=True)
    graph = proto.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    typed = {value.name: value for value in (*graph.input, *graph.value_info, *graph.output)}
    pieces = [list(graph.node[start : start + nodes]) for start in range(0, len(graph.node), nodes)]
    read = [{name for node in piece for name in node.input if name} for piece in pieces]
    later = {value.name for value in graph.output}
    needed: list[set[str]] = []
    for names in reversed(read):
        needed.append(set(later))
        later |= names
    for piece, names, kept in zip(pieces, read, reversed(needed), strict=True):
        made = {name for node in piece for name in node.output}
        inputs = sorted(names - made - constants.keys())
        part = onnx.GraphProto(
            name="segment",
            node=piece,
            input=[typed[name] for name in inputs],
            output=[typed[name] for name in sorted(made & kept)],
            initializer=[constants[name] for name in sorted(names & constants.keys())],
        )
        whole = onnx.ModelProto(ir_version=proto.ir_version, opset_import=proto.opset_import, graph=part)
        yield Segment(whole.SerializeToString(), tuple(inputs), tuple(name for name in inputs if name not in kept))


def run_in_segments(pieces: list[Segment], picture: np.ndarray, *, threads: int) -> np.ndarray:
    """What the whole graph gives for ``(N, 3, H, W) float32``."""
    free_at_once()
    values = {INPUT_NAME: picture}
    for piece in pieces:
        part = session(piece.model, threads, arena=False)
        results = part.run(None, {name: values[name] for name in piece.reads})
        values |= {made.name: result for made, result in zip(part.get_outputs(), results, strict=True)}
        del results
        for name in piece.last:
            del values[name]
    return values[OUTPUT_NAME]
