"""What a graph costs on paper: the products inside fused ops included, at every size."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from edgeir.export.graph import TraceShape
from edgeir.export.rewrites.apply import rewrite
from edgeir.export.rewrites.cost import cost_of, macs_of, sized
from edgeir.export.trace import trace
from edgeir.models.cost import count_gmac
from edgeir.models.loading import load_seeded

MICRO = {
    "exda-tiny": {"dim": 8, "blocks": [1, 1, 1, 1], "refine": 1, "heads": [1, 2, 1, 2]},
    "cea-tiny": {"dim": 8, "blocks": [1, 1, 1, 1], "refine": 1, "heads": [1, 2, 1, 2], "rank": 4, "adapter_width": 8},
}


@pytest.mark.parametrize("name", list(MICRO))
def test_the_graph_has_the_products_of_the_network(name: str) -> None:
    loaded = load_seeded(name, seed=0, overrides=MICRO[name])
    graph = trace(loaded, TraceShape(1, 32, 32))
    loaded.module.set_form("fast")
    assert cost_of(graph).gmac == pytest.approx(count_gmac(loaded.module, 32, 32), rel=1e-9)
    products = [node for node in sized(graph).graph if node.op_type in ("Conv", "MatMul", "Gemm")]
    assert all(macs_of(node) > 0 for node in products)


def test_an_open_size_has_no_cost() -> None:
    loaded = load_seeded("cea-tiny", seed=0, overrides=MICRO["cea-tiny"])
    graph = trace(loaded, TraceShape(1, 32, 32))
    for value in graph.graph.inputs:
        value.shape = ir.Shape(["N", 3, "H", "W"])
    cost = cost_of(graph)
    assert (cost.gmac, cost.moved_mb) == (None, None)
    assert cost.nodes == len(graph.graph)


def test_a_rewritten_graph_says_what_it_saves() -> None:
    loaded = load_seeded("exda-tiny", seed=0, overrides=MICRO["exda-tiny"])
    graph = trace(loaded, TraceShape(1, 32, 32))
    steps = {step.rule: step.cost for step in rewrite(graph, also=["gst-projected"])}
    before, after = steps["split-convs"] if "split-convs" in steps else steps["pad-gated-width"], steps["gst-projected"]
    assert after.gmac is not None
    assert before.gmac is not None
    assert after.gmac < before.gmac
