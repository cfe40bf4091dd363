"""Ranges of a graph's tensors: those of the arrays, however the pictures and the tensors are grouped."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from edgeir.calibrate.observe import channel_magnitudes, observe
from edgeir.errors import CheckFailed, GraphError, UsageError

NODES = "a = Relu(image)\n b = Mul(a, three)\n y = Add(b, a)"
CONSTANTS = "float[1] three = {3.0}"
PICTURES = np.random.default_rng(0).standard_normal((5, 1, 4, 8, 8)).astype(np.float32)


@pytest.fixture
def model(build: Any) -> ir.Model:
    made: ir.Model = build(NODES, constants=CONSTANTS)
    for node in made.graph:
        node.name = f"{node.outputs[0].name}/{node.op_type}"
    made.graph.outputs[0].name = "restored"
    return made


def batches() -> Iterator[np.ndarray]:
    yield from PICTURES


@pytest.mark.parametrize("method", ["minmax", "percentile", "mse", "entropy"])
def test_ranges_are_those_of_the_arrays(method: str, model: ir.Model) -> None:
    ranges = observe(model, ["image", "b", "a", "restored"], batches, method=method).ranges
    assert (ranges.method, ranges.pictures, list(ranges.tensors)) == (method, 5, ["image", "b", "a", "restored"])
    relu = np.maximum(PICTURES, 0)
    for name, array in (("image", PICTURES), ("a", relu), ("b", 3 * relu), ("restored", 4 * relu)):
        entry = ranges.tensors[name]
        assert entry.largest == pytest.approx(float(np.abs(array).max()), rel=1e-6)
        assert entry.amax <= entry.largest
        assert entry.saturated == pytest.approx(float(np.mean(np.abs(array) > entry.amax)), abs=2e-3)  # to a bin


def test_groups_change_nothing(model: ir.Model) -> None:
    names = ["a", "b", "restored"]
    counted: list[int] = []
    whole = observe(model, names, batches)
    parts = observe(model, names, batches, most_memory=1, on_picture=lambda: counted.append(1))
    assert parts.ranges == whole.ranges
    assert len(counted) == 3 * len(PICTURES)
    assert len(model.graph.outputs) == 1


def test_channels_are_those_of_the_arrays(model: ir.Model) -> None:
    found = channel_magnitudes(model, ["image", "a"], batches, most_memory=1)
    relu = np.maximum(PICTURES, 0)
    assert np.array_equal(found["image"], np.abs(PICTURES).max(axis=(0, 1, 3, 4)))
    assert np.array_equal(found["a"], relu.max(axis=(0, 1, 3, 4)))


def test_who_set_the_largest_magnitude(model: ir.Model) -> None:
    observation = observe(model, ["image", "a"], batches, most_memory=1)
    relu = np.maximum(PICTURES, 0)
    for name, array in (("image", PICTURES), ("a", relu)):
        assert observation.extremes[name] == int(np.abs(array).max(axis=(1, 2, 3, 4)).argmax())
    assert observe(model, ["a"], lambda: [np.zeros((1, 4, 8, 8), np.float32)]).extremes == {}


def test_what_is_refused(model: ir.Model) -> None:
    with pytest.raises(GraphError, match=r"no tensor 'bb'.*Did you mean 'b'"):
        observe(model, ["bb"], batches)
    with pytest.raises(UsageError, match="no picture to calibrate with"):
        observe(model, ["a"], list)
    with pytest.raises(CheckFailed, match="NaN or infinite"):
        observe(model, ["a"], lambda: [np.full((1, 4, 8, 8), np.nan, np.float32)])
    with pytest.raises(CheckFailed, match="tensor a"):
        channel_magnitudes(model, ["a"], lambda: [np.full((1, 4, 8, 8), np.inf, np.float32)])
    with pytest.raises(UsageError, match="unknown calibration method"):
        observe(model, ["a"], batches, method="max")
