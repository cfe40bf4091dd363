"""A wrong range is named first, whatever its layer costs; a calibrated one is not called wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from edgeir.calibrate.observe import Observation, observe
from edgeir.calibrate.observers import OBSERVERS, Magnitudes, make_observer
from edgeir.calibrate.qdq import FP8, INT8, LowPrecision, input_tensors
from edgeir.calibrate.range_fit import fit_of, range_fits
from edgeir.calibrate.ranges import Ranges
from edgeir.errors import GraphError

Micro = Callable[..., Any]


@pytest.fixture(scope="module", params=["exda", "kgt", "cea"])
def observed(request: pytest.FixtureRequest, micro: Micro) -> Callable[[str], Observation]:
    network = micro(request.param)
    model = network.graph()
    pictures = [network.picture(seed=seed) for seed in range(3)]
    return lambda method: observe(model, list(input_tensors(model.graph).values()), lambda: pictures, method=method)


@pytest.mark.parametrize("method", sorted(OBSERVERS.keys() - {"entropy"}))  # which clips more than it should
def test_ten_faults_of_ten_are_named_first(method: str, observed: Callable[[str], Observation]) -> None:
    observation = observed(method)
    ranges = observation.ranges
    fits = range_fits(ranges, observation.seen, INT8)
    assert [fit.tensor for fit in fits if fit.wrong] == []
    rng = np.random.default_rng(0)
    for tensor in rng.choice(list(ranges.tensors), 10, replace=len(ranges.tensors) < 10):
        entry = ranges.tensors[tensor]
        broken = Ranges(
            method, ranges.pictures, dict(ranges.tensors) | {str(tensor): replace(entry, amax=8 * entry.amax)}
        )
        first, second, *_ = range_fits(broken, observation.seen, INT8)
        assert (first.tensor, first.wrong, second.wrong) == (tensor, True, False)
        assert first.best < first.amax / 2


def test_too_narrow_a_range_is_wrong_too(observed: Callable[[str], Observation]) -> None:
    observation = observed("minmax")
    for tensor, entry in list(observation.ranges.tensors.items())[:10]:
        fit = fit_of(tensor, observation.seen[tensor], entry.amax / 32, INT8)
        assert fit.wrong
        assert fit.best > fit.amax


def test_what_was_seen_needs_a_range() -> None:
    with pytest.raises(GraphError, match=r"no range for the tensor 'a'.*calibrate again"):
        range_fits(Ranges("minmax", 1, {}), {"a": Magnitudes()}, INT8)


def test_zeros_fit_every_range() -> None:
    magnitudes = Magnitudes()
    magnitudes.add(np.zeros(10))
    assert fit_of("a", magnitudes, 3.0, INT8).lost_db == 0


@pytest.mark.parametrize("kind", [INT8, FP8], ids=lambda kind: kind.name)
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 99), factor=st.floats(0.1, 10), tail=st.floats(0.5, 3))
def test_nothing_fits_better_than_the_best(kind: LowPrecision, seed: int, factor: float, tail: float) -> None:
    rng = np.random.default_rng(seed)
    observer = make_observer("mse")
    observer.observe(np.sign(rng.standard_normal(4000)) * np.abs(rng.standard_normal(4000)) ** tail)
    fit = fit_of("a", observer.magnitudes, factor * observer.amax(), kind)
    assert fit.lost_db >= 0
    assert fit_of("a", observer.magnitudes, fit.best, kind).lost_db == 0
    if kind is INT8:
        assert fit_of("a", observer.magnitudes, observer.amax(), INT8).lost_db == 0


@pytest.mark.parametrize("kind", [INT8, FP8], ids=lambda kind: kind.name)
def test_rounding_is_that_of_onnx(kind: LowPrecision) -> None:
    """Values beyond the range included; ONNX Runtime's own QuantizeLinear and DequantizeLinear are the oracle."""
    values = np.concatenate([np.linspace(0, 3, 1001), 2.0 ** np.arange(-12, 3)]).astype(np.float32)
    amax = 2.0
    scale = helper.make_tensor("scale", 1, [], [kind.scale(amax)])
    zero = helper.make_tensor("zero", int(kind.dtype), [], [0])
    graph = helper.make_graph(
        [
            helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
            helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"]),
        ],
        "pair",
        [helper.make_tensor_value_info("x", 1, [len(values)])],
        [helper.make_tensor_value_info("y", 1, [len(values)])],
        [scale, zero],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    expected = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": values})[0]
    np.testing.assert_allclose(kind.rounded(values, amax), expected, rtol=1e-6, atol=1e-9)
