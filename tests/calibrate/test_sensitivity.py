"""What a layer costs alone, what layers cost together, and that a fault is found by its layer's name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeir.calibrate.eight_bits import placement_of
from edgeir.calibrate.observe import observe
from edgeir.calibrate.qdq import INT8, input_tensors
from edgeir.calibrate.sensitivity import (
    PlanningSample,
    Sensitivity,
    mean_square,
    measure_drift_db,
    measure_sensitivity,
)
from edgeir.calibrate.switched import SwitchedGraph
from edgeir.errors import UsageError
from edgeir.imaging.metrics import psnr_float


def samples(network: Any, count: int = 3) -> list[PlanningSample]:
    """Noise, and a truth that the network comes close to, so that a difference costs decibels."""
    graph = SwitchedGraph(network.graph(), {}, INT8, threads=1)
    made = []
    for seed in range(count):
        picture = network.picture(seed=seed)
        near = graph.run(picture)[0].transpose(1, 2, 0)
        rng = np.random.default_rng(seed)
        clean = np.clip(near + 0.03 * rng.standard_normal(near.shape), 0, 1).astype(np.float32)
        made.append(PlanningSample("noise" if seed % 2 else "clean", picture[0].transpose(1, 2, 0), clean))
    return made


def calibrated(network: Any) -> dict[str, float]:
    """Ranges of the layers that may be in eight bits, found on the samples' own pictures."""
    model = network.graph()
    names, tensors = placement_of(model.graph).quantized, input_tensors(model.graph)
    wanted = [tensors[name] for name in names]
    ranges = observe(model, wanted, lambda: [network.picture(seed=seed) for seed in range(3)], method="minmax")
    return {name: ranges.tensors[tensors[name]].amax for name in names}


def test_errors_add_up(micro: Any) -> None:
    network = micro("cea")
    graph = SwitchedGraph(network.graph(), calibrated(network), INT8, threads=1)
    taken = samples(network)
    found = measure_sensitivity(graph, taken)
    assert list(found.errors) == list(graph.layers)
    assert found.conditions == ("clean", "noise", "clean")
    together = measure_drift_db(graph, taken, found.own_errors, graph.layers)
    expected = found.costs_db(graph.layers)
    assert np.all(expected > 0)
    # Independent errors add; on a few thousand pixels the sum is met within half of itself.
    assert together.mean() == pytest.approx(expected.mean(), rel=0.5)
    assert measure_drift_db(graph, taken, found.own_errors, ()) == pytest.approx(0, abs=1e-9)


def test_drift_is_the_loss_of_psnr(micro: Any) -> None:
    network = micro("cea")
    graph = SwitchedGraph(network.graph(), calibrated(network), INT8, threads=1)
    (sample,) = samples(network, 1)
    found = measure_sensitivity(graph, [sample])
    low, plain = (np.clip(graph.run(sample.batch(), on)[0].transpose(1, 2, 0), 0, 1) for on in (graph.layers, ()))
    wanted = psnr_float(plain, sample.clean) - psnr_float(low, sample.clean)
    (drift,) = measure_drift_db(graph, [sample], found.own_errors, graph.layers)
    assert drift == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("architecture", ["exda", "cea"])
def test_a_fault_shows_at_its_layer_and_nowhere_else(architecture: str, micro: Any) -> None:
    """A scale eight times too large, in ten layers one after the other: noise of 64 times the power, where it is."""
    network = micro(architecture)
    amax = calibrated(network)
    taken = samples(network, 1)
    healthy = measure_sensitivity(SwitchedGraph(network.graph(), amax, INT8, threads=1), taken).errors
    rng = np.random.default_rng(0)
    for chosen in rng.choice(sorted(amax), size=min(10, len(amax)), replace=False):
        name = str(chosen)
        graph = SwitchedGraph(network.graph(), amax | {name: 8 * amax[name]}, INT8, threads=1)
        found = measure_sensitivity(graph, taken, known={other: healthy[other] for other in amax if other != name})
        growth = {layer: float(found.errors[layer].sum() / healthy[layer].sum()) for layer in amax}
        # The weight's own rounding does not grow, so it is less than 64.
        assert max(growth, key=lambda layer: growth[layer]) == name
        assert growth[name] > 4


def test_ranking() -> None:
    found = Sensitivity(
        ("a", "b"), np.array([1e-3, 1e-3]), {"x": np.array([1e-6, 3e-6]), "y": np.array([1e-5, 1e-5]), "z": np.zeros(2)}
    )
    ranked = found.ranked()
    assert [name for name, _, _ in ranked] == ["y", "x", "z"]
    assert sum(share for _, _, share in ranked) == pytest.approx(1)
    assert ranked[0][1] == pytest.approx(10 * np.log10(1.01))
    assert found.costs_db(["x", "y"]) == pytest.approx(10 * np.log10(1 + np.array([0.011, 0.013])))
    assert not found.costs_db([]).any()


def test_what_was_measured_is_not_measured_again(micro: Any) -> None:
    network = micro("cea")
    graph = SwitchedGraph(network.graph(), calibrated(network), INT8, threads=1)
    taken = samples(network, 1)
    kept: dict[str, list[float]] = {}
    first = measure_sensitivity(graph, taken, on_layer=lambda name, errors: kept.update({name: list(errors)}))
    assert list(kept) == list(graph.layers)
    again: list[str] = []
    half = dict(list(kept.items())[::2])
    second = measure_sensitivity(graph, taken, known=half, on_layer=lambda name, errors: again.append(name))
    assert again == [name for name in graph.layers if name not in half]
    assert all(np.array_equal(first.errors[name], second.errors[name]) for name in graph.layers)
    with pytest.raises(UsageError, match="no picture to measure sensitivity on"):
        measure_sensitivity(graph, [])


def test_what_is_not_finite_is_the_largest_error() -> None:
    one, other = np.zeros((1, 3, 2, 2), np.float32), np.zeros((1, 3, 2, 2), np.float32)
    one[0, 0, 0, 0] = np.nan
    assert mean_square(one, other) == pytest.approx(1 / 12)
    one[0, 0, 0, 0] = np.inf
    assert mean_square(one, other) == pytest.approx(1 / 12)
    assert mean_square(other + 3, other + 1) == 0  # both white
