"""The plan that puts every layer that may be into INT8 or FP8: where `edgeir.quantization_placement` says so.

The rest of the graph keeps the plan it would have without: FP16 with its islands, or FP32.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import onnx_ir as ir

from edgeir.calibrate.layers import graph_layers
from edgeir.precision import LayerPlan, Precision, PrecisionPlan
from edgeir.quantization_placement import Placement, place

_WHY = {
    "conv": "convolution with channels enough for eight bits",
    "depthwise": "depth-wise convolution of a multiple of 8 channels",
    "pointwise": "1x1 convolution with channels enough for eight bits",
    "linear": "matrix product with channels enough for eight bits",
}


def placement_of(graph: ir.Graph) -> Placement:
    """What `place` decides for a graph as it was traced: rewrites change channels, and training knows only modules."""
    return place(entry.layer for entry in graph_layers(graph))


def plan_eight_bits(
    graph: ir.Graph,
    base: PrecisionPlan,
    placement: Placement,
    kind: Precision,
    *,
    costs_db: Mapping[str, float] | None = None,
    left: Mapping[str, str] | None = None,
) -> PrecisionPlan:
    """Add to ``base`` the layers in eight bits, and say of every other layer with weights why it is not.

    Args:
        graph: the one that the plan is for, rewritten, in FP32; not changed.
        base: the plan of the rest. A layer that it keeps in FP32 stays there.
        placement: of the same network, see `placement_of`.
        kind: `Precision.INT8` or `Precision.FP8`.
        costs_db: what each layer costs, where it was measured, for ``evidence_db``.
        left: layers that could be in eight bits and are not, with the reason.
    """
    layers = _layers(graph, base, placement, kind, costs_db or {}, left or {})
    return PrecisionPlan(base.default, (*base.layers, *layers))


def candidates(graph: ir.Graph, base: PrecisionPlan, placement: Placement, kind: Precision) -> tuple[str, ...]:
    """The layers that `plan_eight_bits` puts into eight bits where none is left out, in the order of the graph."""
    plan = plan_eight_bits(graph, base, placement, kind)
    return tuple(layer.layer for layer in plan.layers if layer.type.eight_bits)


def _layers(
    graph: ir.Graph,
    base: PrecisionPlan,
    placement: Placement,
    kind: Precision,
    costs_db: Mapping[str, float],
    left: Mapping[str, str],
) -> Iterator[LayerPlan]:
    here = {entry.layer.name: entry.node.name or "" for entry in graph_layers(graph)}
    taken = {layer.layer for layer in base.layers}
    for placed in placement.layers:
        name = placed.layer.name
        if name not in here or name in taken:
            continue  # a rewrite took it away; or a rule of FP16 speaks about it
        kept = base.exception_for(here[name])
        if kept is not None and kept.type is not base.default:
            continue
        if name in left:
            yield LayerPlan(name, base.default, left[name], costs_db.get(name))
        elif placed.quantized:
            yield LayerPlan(name, kind, _WHY[placed.layer.kind], costs_db.get(name))
        else:
            yield LayerPlan(name, base.default, placed.reason)
