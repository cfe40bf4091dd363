"""The graph whose tiles can share a picture's statistics: made for an export's measurement, and kept where it wins."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir

from edgeir.bundle import BundleWriter, prepared_name, tiles_name
from edgeir.cli.console import Console
from edgeir.errors import GraphError
from edgeir.export.graph import TraceShape, save_graph
from edgeir.export.tile_statistics import with_tile_statistics
from edgeir.runtime.ort_session import OrtSession
from edgeir.runtime.tile_statistics import StatisticsSession
from edgeir.spec import ModelSpec

_RUNTIME = "onnxruntime"


def sharing_session(reference: Path, shape: TraceShape, spec: ModelSpec, console: Console) -> StatisticsSession | None:
    """The FP32 graph as tiles take it that share statistics; ``None`` where there is nothing to share.

    That is: the network attends in windows only, or the graph is dynamic or takes a batch, which one set of statistics
    would not fit.
    """
    if spec.attends_in_windows or shape.dynamic is not None or shape.batch > 1:
        return None
    try:
        graph = with_tile_statistics(ir.load(reference))
    except GraphError as error:
        console.say(f"      tiles cannot share statistics: {error}")
        return None
    return None if graph is None else StatisticsSession(OrtSession(ir.to_proto(graph).SerializeToString(), arena=False))


def write_tile_graphs(writer: BundleWriter, console: Console) -> dict[str, Path]:
    """``model.tiles.onnx``, and the same of the graph that was prepared for ONNX Runtime, where there is one; by name.

    Each is the graph in its own types, with statistics in and out.

    Raises:
        GraphError: onnx.checker refuses one.
    """
    prepared = prepared_name(_RUNTIME)
    sources = {tiles_name(): "model.onnx"}
    if any(file.path == prepared for file in writer.artifacts):
        sources[tiles_name(_RUNTIME)] = prepared
    for name, source in sources.items():
        graph = with_tile_statistics(ir.load(writer.path(source)))
        assert graph is not None  # as its FP32 form had some
        save_graph(graph, writer.path(name))
        writer.add(name, "tiles", parents=(source,))
        console.say(f"      {name}: tiles that share the picture's statistics come closer to the whole")
    return {name: writer.path(name) for name in sources}
