"""Switches: with all of them off the graph is the plain one, and each does what the Q/DQ in a graph would do."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from edgeir.calibrate.eight_bits import placement_of
from edgeir.calibrate.layers import graph_layers
from edgeir.calibrate.qdq import FP8, INT8, LowPrecision, input_tensors, insert_qdq
from edgeir.calibrate.sensitivity import jaccard
from edgeir.calibrate.switched import SwitchedGraph
from edgeir.errors import GraphError
from edgeir.export.graph import expose_key_graphs
from edgeir.imaging.metrics import fidelity_db
from edgeir.runtime.ort_session import OrtSession


def switched(model: ir.Model, kind: LowPrecision = INT8, amax: float = 4.0) -> SwitchedGraph:
    return SwitchedGraph(model, dict.fromkeys(placement_of(model.graph).quantized, amax), kind)


def run(model: ir.Model, picture: np.ndarray) -> np.ndarray:
    return OrtSession(ir.to_proto(model).SerializeToString(), threads=1, integer_kernels=False).run(picture)


@pytest.mark.parametrize("architecture", ["exda", "cea", "kgt"])
def test_off_is_the_graph_itself(architecture: str, micro: Any) -> None:
    network = micro(architecture)
    picture, model = network.picture(), network.graph()
    graph = switched(model)
    assert len(graph.layers) > 2
    # Fusions differ between the two graphs, so float32 sums do; a key graph chooses otherwise on a tie.
    least = 40 if architecture == "kgt" else 110
    assert fidelity_db(graph.run(picture), run(model, picture)) > least
    assert len(model.graph.inputs) == 1  # the caller's graph is as it was
    assert {entry.layer.name for entry in graph_layers(model.graph)} >= set(graph.layers)


@pytest.mark.parametrize("kind", [INT8, FP8])
@pytest.mark.parametrize("architecture", ["exda", "cea"])
def test_on_is_the_graph_with_qdq(architecture: str, kind: LowPrecision, micro: Any) -> None:
    network = micro(architecture)
    picture, model = network.picture(), network.graph()
    graph = switched(model, kind)
    plain = run(model, picture)
    for name in graph.layers[::7]:
        written = network.graph()
        insert_qdq(written, [name], {name: 4.0}, kind=kind)
        wanted = run(written, picture)
        got = graph.run(picture, [name])
        # As in test_qdq: a few values on the other side of a step.
        assert fidelity_db(got, wanted) >= fidelity_db(wanted, plain) + 20, name
    together = network.graph()
    insert_qdq(together, graph.layers, dict.fromkeys(graph.layers, 4.0), kind=kind)
    wanted = run(together, picture)
    assert fidelity_db(graph.run(picture, graph.layers), wanted) > fidelity_db(wanted, plain) + 6
    assert len(set(input_tensors(model.graph))) >= len(graph.layers)


def test_what_is_refused(micro: Any) -> None:
    model = micro("cea").graph()
    graph = switched(model)
    with pytest.raises(GraphError, match=r"'latent' cannot be switched"):
        graph.run(micro("cea").picture(), ["latent"])
    with pytest.raises(GraphError, match="no layer with a weight called 'nothing'"):
        SwitchedGraph(model, {"nothing": 1.0}, INT8)


def test_nothing_to_switch(micro: Any) -> None:
    network = micro("cea")
    picture = network.picture()
    graph = SwitchedGraph(network.graph(), {}, INT8)
    assert np.array_equal(graph.run(picture), run(network.graph(), picture))


def test_pictures_at_once_and_layers_in_any_order(micro: Any) -> None:
    network = micro("cea")
    model = network.graph()
    amax = dict.fromkeys(placement_of(model.graph).quantized, 4.0)
    alone, together = SwitchedGraph(model, amax, INT8), SwitchedGraph(model, amax, INT8, at_once=2)
    pictures = [network.picture(seed=seed) for seed in range(3)]
    plain = [run(model, picture) for picture in pictures]
    for on in ([alone.layers[-1]], [alone.layers[0]], alone.layers[::3], ()):
        outputs = together.run_each(pictures, on)
        for output, picture, untouched in zip(outputs, pictures, plain, strict=True):
            wanted = SwitchedGraph(model, amax, INT8).run(picture, on)  # remembers nothing
            # Threads sum in another order: as above, a few values on the other side of a step.
            least = fidelity_db(wanted, untouched) + 6 if on else 110
            assert fidelity_db(output, wanted) >= least, on
            assert fidelity_db(alone.run(picture, on), wanted) >= least, on


def test_key_graphs_that_were_chosen(micro: Any) -> None:
    """Those of the graph itself, one for each stage that has one; eight bits choose others."""
    network = micro("kgt")
    model, picture = network.graph(), network.picture()
    graph = switched(model, amax=2.0)
    exposed, names = expose_key_graphs(network.path)
    wanted = OrtSession(exposed, threads=1).run_all(picture)
    ((output, choices),) = graph.run_and_choose([picture])
    assert len(choices) == len(names) > 1
    for name, choice in zip(names, choices, strict=True):
        assert choice.dtype == np.bool_
        assert jaccard(choice, wanted[name].astype(bool)) > 0.99  # a tie may fall otherwise in pieces
    assert np.array_equal(output, graph.run(picture))
    ((_, others),) = graph.run_and_choose([picture], graph.layers)
    assert all(0 < jaccard(one, other) <= 1 for one, other in zip(choices, others, strict=True))
    assert min(jaccard(one, other) for one, other in zip(choices, others, strict=True)) < 1
    other = micro("exda")
    assert switched(other.graph()).run_and_choose([other.picture()])[0][1] == ()
