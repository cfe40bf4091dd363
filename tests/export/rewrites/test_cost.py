"""What a graph costs on paper: the products inside fused ops included, at every size."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir
import pytest

from edgeir.export.graph import TraceShape
from edgeir.export.rewrites.apply import rewrite
from edgeir.export.rewrites.cost import cost_of, macs_of, sized
from edgeir.export.trace import trace
from edgeir.models.build import LoadedModel
from edgeir.models.cost import count_gmac

Micro = Callable[[str], LoadedModel]


@pytest.mark.parametrize("name", ["exda-tiny", "cea-tiny"])
def test_the_graph_has_the_products_of_the_network(name: str, micro: Micro) -> None:
    loaded = micro(name)
    graph = trace(loaded, TraceShape(1, 32, 32))
    loaded.module.set_form("fast")
    assert cost_of(graph).gmac == pytest.approx(count_gmac(loaded.module, 32, 32), rel=1e-9)
    products = [node for node in sized(graph).graph if node.op_type in ("Conv", "MatMul", "Gemm")]
    assert all(macs_of(node) > 0 for node in products)


def test_an_open_size_has_no_cost(micro: Micro) -> None:
    graph = trace(micro("cea-tiny"), TraceShape(1, 32, 32))
    for value in graph.graph.inputs:
        value.shape = ir.Shape(["N", 3, "H", "W"])
    cost = cost_of(graph)
    assert (cost.gmac, cost.moved_mb) == (None, None)
    assert cost.nodes == len(graph.graph)


def test_a_rewritten_graph_says_what_it_saves(micro: Micro) -> None:
    graph = trace(micro("exda-tiny"), TraceShape(1, 32, 32))
    steps = {step.rule: step.cost for step in rewrite(graph, also=["gst-projected"])}
    before, after = steps["pad-gated-width"], steps["gst-projected"]
    assert after.gmac is not None
    assert before.gmac is not None
    assert after.gmac < before.gmac
