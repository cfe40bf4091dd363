"""Cutting a graph into pieces that run one after the other.

A piece is a model of its own: what it reads from earlier pieces are its inputs, what later ones read its outputs.
Measuring uses it twice: `edgeir.calibrate.switched` runs only the pieces behind a change, and a benchmark gives values
back between pieces that would not fit into memory together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnx.inliner
from numpy.typing import NDArray

from edgeir.runtime.ort_session import OrtSession
from edgeir.spec import INPUT_NAME

Values = dict[str, NDArray[np.generic]]
"""By the name that a value has in the graph."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Some nodes of a graph, in its order.

    Attributes:
        model: the nodes with their initializers.
        reads: values of the graph that it needs, sorted.
        makes: values that later pieces or the caller need, sorted.
        last: those it reads that nothing behind it needs.
    """

    model: onnx.ModelProto
    reads: tuple[str, ...]
    makes: tuple[str, ...]
    last: tuple[str, ...]

    def behind(self, values: Values, made: Values) -> Values:
        """What is still needed behind the piece, of ``values`` in front of it and those it ``made``."""
        return {name: value for name, value in values.items() if name not in self.last} | made


def run_pieces(pieces: Sequence[Piece], pictures: NDArray[np.float32], *, threads: int | None = None) -> Values:
    """What the whole graph gives; one piece is open at a time, and a value is given back after its last reader.

    Args:
        pieces: all of them, see `cut`.
        pictures: ``(N, 3, H, W)``.
        threads: as of `OrtSession`.
    """
    values: Values = {INPUT_NAME: pictures}
    for piece in pieces:
        session = OrtSession(piece.model.SerializeToString(), threads=threads, arena=False, integer_kernels=False)
        values = piece.behind(values, session.run_values({name: values[name] for name in piece.reads}))
    return values


def cut(model: bytes, *, pieces: int) -> list[Piece]:
    """Cut a graph into pieces of equally many nodes; functions are inlined first.

    Args:
        model: serialized, topologically sorted, without control flow.
        pieces: how many, at least 1; a graph of fewer nodes gives fewer.
    """
    inlined = onnx.inliner.inline_local_functions(onnx.load_model_from_string(model))
    proto = onnx.shape_inference.infer_shapes(inlined, strict_mode=True, data_prop=True)
    graph = proto.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    typed = {value.name: value for value in (*graph.input, *graph.value_info, *graph.output)}
    nodes = -(-len(graph.node) // pieces)
    groups = [list(graph.node[start : start + nodes]) for start in range(0, len(graph.node), nodes)]
    read = [{name for node in group for name in node.input if name} for group in groups]
    needed_behind: list[set[str]] = []
    needed = {value.name for value in graph.output}
    for names in reversed(read):
        needed_behind.append(set(needed))
        needed |= names
    found = []
    for group, names, behind in zip(groups, read, reversed(needed_behind), strict=True):
        made = {name for node in group for name in node.output}
        reads = tuple(sorted(names - made - constants.keys()))
        makes = tuple(sorted(made & behind))
        part = onnx.GraphProto(
            name="piece",
            node=group,
            input=[typed[name] for name in reads],
            output=[typed[name] for name in makes],
            initializer=[constants[name] for name in sorted(names & constants.keys())],
            value_info=[typed[name] for name in sorted(made - behind) if name in typed],
        )
        whole = onnx.ModelProto(ir_version=proto.ir_version, opset_import=proto.opset_import, graph=part)
        found.append(Piece(whole, reads, makes, tuple(name for name in reads if name not in behind)))
    return found
