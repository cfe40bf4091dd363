"""What a layer costs alone, what layers cost together, and that a fault is found by its layer's name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeir.calibrate.eight_bits import placement_of
from edgeir.calibrate.observe import observe
from edgeir.calibrate.qdq import INT8, input_tensors
from edgeir.calibrate.sensitivity import (
    Effect,
    Sensitivity,
    Yardstick,
    jaccard,
    mean_square,
    measure_sensitivity,
)
from edgeir.calibrate.switched import SwitchedGraph
from edgeir.compare.drift import Sample
from edgeir.errors import UsageError
from edgeir.imaging.metrics import brightness_shift_8bit, psnr_float


def samples(network: Any, count: int = 3) -> list[Sample]:
    """Noise, and a truth that the network comes close to, so that a difference costs decibels."""
    graph = SwitchedGraph(network.graph(), {}, INT8)
    made = []
    for seed in range(count):
        picture = network.picture(seed=seed)
        near = graph.run(picture)[0].transpose(1, 2, 0)
        rng = np.random.default_rng(seed)
        clean = np.clip(near + 0.03 * rng.standard_normal(near.shape), 0, 1).astype(np.float32)
        made.append(Sample(str(seed), "noise" if seed % 2 else "clean", picture[0].transpose(1, 2, 0), clean))
    return made


def calibrated(network: Any) -> dict[str, float]:
    """Ranges of the layers that may be in eight bits, found on the samples' own pictures."""
    model = network.graph()
    names, tensors = placement_of(model.graph).quantized, input_tensors(model.graph)
    wanted = [tensors[name] for name in names]
    ranges = observe(model, wanted, lambda: [network.picture(seed=seed) for seed in range(3)], method="minmax").ranges
    return {name: ranges.tensors[tensors[name]].amax for name in names}


def test_errors_add_up(micro: Any) -> None:
    network = micro("cea")
    graph = SwitchedGraph(network.graph(), calibrated(network), INT8)
    taken = samples(network)
    found = measure_sensitivity(graph, taken)
    assert list(found.effects) == list(graph.layers)
    assert found.conditions == ("clean", "noise", "clean")
    yardstick = Yardstick(graph, taken)
    together = yardstick.measure(graph.layers).drift_db
    expected = found.costs_db(graph.layers)
    assert np.all(expected > 0)
    # Independent errors add; on a few thousand pixels the sum is met within half of itself.
    assert together.mean() == pytest.approx(expected.mean(), rel=0.5)
    nothing = yardstick.measure(())
    assert nothing.drift_db == pytest.approx(0, abs=1e-9)
    assert nothing.shifts == pytest.approx(0, abs=1e-4)


def test_drift_is_the_loss_of_psnr(micro: Any) -> None:
    network = micro("cea")
    graph = SwitchedGraph(network.graph(), calibrated(network), INT8)
    (sample,) = samples(network, 1)
    low, plain = (np.clip(graph.run(sample.batch(), on)[0].transpose(1, 2, 0), 0, 1) for on in (graph.layers, ()))
    wanted = psnr_float(plain, sample.clean) - psnr_float(low, sample.clean)
    measured = Yardstick(graph, [sample]).measure(graph.layers)
    assert measured.drift_db[0] == pytest.approx(wanted, abs=1e-6)
    assert measured.shifts[0] == pytest.approx(brightness_shift_8bit(low, plain), abs=1e-4)


@pytest.mark.parametrize("architecture", ["exda", "cea"])
def test_a_fault_shows_at_its_layer_and_nowhere_else(architecture: str, micro: Any) -> None:
    """A scale eight times too large, in ten layers one after the other: noise of 64 times the power, where it is."""
    network = micro(architecture)
    amax = calibrated(network)
    taken = samples(network, 1)
    healthy = measure_sensitivity(SwitchedGraph(network.graph(), amax, INT8), taken).effects
    rng = np.random.default_rng(0)
    for chosen in rng.choice(sorted(amax), size=min(10, len(amax)), replace=False):
        name = str(chosen)
        graph = SwitchedGraph(network.graph(), amax | {name: 8 * amax[name]}, INT8)
        found = measure_sensitivity(graph, taken, known={other: healthy[other] for other in amax if other != name})
        growth = {layer: float(found.effects[layer].errors.sum() / healthy[layer].errors.sum()) for layer in amax}
        # The weight's own rounding does not grow, so it is less than 64.
        assert max(growth, key=lambda layer: growth[layer]) == name
        assert growth[name] > 4


def effect(errors: list[float], shifts: list[float]) -> Effect:
    return Effect(np.array(errors), np.array(shifts))


def test_ranking() -> None:
    effects = {
        "x": effect([1e-6, 3e-6], [0.1, -0.2]),
        "y": effect([1e-5, 1e-5], [0.05, 0.3]),
        "z": effect([0.0, 0.0], [0.0, 0.0]),
    }
    found = Sensitivity(("a", "b"), np.array([1e-3, 1e-3]), effects)
    ranked = found.ranked()
    assert [name for name, _, _ in ranked] == ["y", "x", "z"]
    assert sum(share for _, _, share in ranked) == pytest.approx(1)
    assert ranked[0][1] == pytest.approx(10 * np.log10(1.01))
    assert found.costs_db(["x", "y"]) == pytest.approx(10 * np.log10(1 + np.array([0.011, 0.013])))
    assert not found.costs_db([]).any()
    assert found.shift_8bit(["x"]) == pytest.approx(0.2)
    assert found.shift_8bit(["x", "y"]) == pytest.approx(0.15)  # shifts have signs
    assert found.shift_8bit([]) == 0


def test_what_was_measured_is_not_measured_again(micro: Any) -> None:
    network = micro("cea")
    graph = SwitchedGraph(network.graph(), calibrated(network), INT8)
    taken = samples(network, 1)
    kept: dict[str, Effect] = {}
    first = measure_sensitivity(graph, taken, on_layer=lambda name, effect: kept.update({name: effect}))
    assert list(kept) == list(graph.layers)
    again: list[str] = []
    half = dict(list(kept.items())[::2])
    second = measure_sensitivity(graph, taken, known=half, on_layer=lambda name, effect: again.append(name))
    assert again == [name for name in graph.layers if name not in half]
    assert all(np.array_equal(first.effects[name].errors, second.effects[name].errors) for name in graph.layers)
    with pytest.raises(UsageError, match="no picture to measure sensitivity on"):
        measure_sensitivity(graph, [])


def test_what_is_not_finite_is_the_largest_error() -> None:
    one, other = np.zeros((1, 3, 2, 2), np.float32), np.zeros((1, 3, 2, 2), np.float32)
    one[0, 0, 0, 0] = np.nan
    assert mean_square(one, other) == pytest.approx(1 / 12)
    one[0, 0, 0, 0] = np.inf
    assert mean_square(one, other) == pytest.approx(1 / 12)
    assert mean_square(other + 3, other + 1) == 0  # both white


def test_lost_neighbours(micro: Any) -> None:
    """None without eight bits, some with all layers in them, and nothing where none are chosen."""
    network = micro("kgt")
    graph = SwitchedGraph(network.graph(), dict.fromkeys(calibrated(network), 2.0), INT8)
    yardstick = Yardstick(graph, samples(network, 2))
    assert yardstick.measure([]).lost_neighbours.tolist() == [0.0, 0.0]
    assert (yardstick.measure(graph.layers).lost_neighbours > 0).all()
    other = micro("cea")
    without = Yardstick(SwitchedGraph(other.graph(), calibrated(other), INT8), samples(other, 1))
    assert len(without.measure([]).lost_neighbours) == 0


def test_jaccard() -> None:
    one, other = np.array([True, True, False, False]), np.array([True, False, True, False])
    assert jaccard(one, other) == pytest.approx(1 / 3)
    assert jaccard(one, one) == 1
    assert jaccard(~(one | ~one), np.zeros(4, bool)) == 1
