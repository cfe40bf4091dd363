"""``ranges.json``: it comes back as it was, one line per tensor, and what is no such file is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeir.calibrate.qdq import INT8
from edgeir.calibrate.ranges import FARTHEST, Ranges, TensorRange, ranges_from_json, ranges_to_json, read_ranges
from edgeir.errors import GraphError
from edgeir.quantization_placement import SMALLEST_SCALE

NUMBER = st.floats(0, 1e9)
RANGES = st.builds(
    Ranges,
    st.sampled_from(["minmax", "entropy"]),
    st.integers(1, 999),
    st.dictionaries(st.text(min_size=1, max_size=9), st.builds(TensorRange, NUMBER, NUMBER, st.floats(0, 1))),
    st.dictionaries(st.text(min_size=1, max_size=9), st.lists(st.integers(-FARTHEST, FARTHEST)).map(tuple)),
)


@given(ranges=RANGES)
def test_it_comes_back(ranges: Ranges) -> None:
    text = ranges_to_json(ranges)
    back = ranges_from_json(text, where="r.json")
    assert back == ranges
    assert list(back.tensors) == list(ranges.tensors)


def test_a_tensor_is_a_line() -> None:
    tensors = {"conv2d": TensorRange(1.5, 2.0, 0.25), "mul_1": TensorRange(0, 0)}
    text = ranges_to_json(Ranges("percentile", 16, tensors))
    assert [line.strip().rstrip(",") for line in text.splitlines() if "amax" in line] == [
        '"conv2d": {"amax": 1.5, "largest": 2.0, "saturated": 0.25}',
        '"mul_1": {"amax": 0, "largest": 0, "saturated": 0.0}',
    ]


def test_scales() -> None:
    assert INT8.scale(TensorRange(127.0, 200.0).amax) == 1
    assert INT8.scale(TensorRange(0.0, 0.0).amax) == SMALLEST_SCALE


GOOD = {
    "ranges_version": 2,
    "method": "mse",
    "pictures": 2,
    "migrated": {"conv": [0, 1]},
    "tensors": {"a": {"amax": 1, "largest": 2, "saturated": 0}},
}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "r.json: not a mapping"),
        (GOOD | {"ranges_version": 1}, "another version (expected 2, got 1)"),
        (GOOD | {"methode": 1}, "unknown key 'methode'. Did you mean 'method'"),
        ({key: value for key, value in GOOD.items() if key != "pictures"}, "the key 'pictures' is missing"),
        (GOOD | {"tensors": []}, "r.json, tensors: not a mapping"),
        (GOOD | {"tensors": {"a": {"amax": 1, "largest": 2}}}, "r.json, tensor a: the key 'saturated' is missing"),
        (GOOD | {"tensors": {"a": {"amax": -1, "largest": 2, "saturated": 0}}}, "tensor a, amax: not a number"),
        (GOOD | {"tensors": {"a": {"amax": "1", "largest": 2, "saturated": 0}}}, "got '1'"),
        (GOOD | {"migrated": [1]}, "r.json, migrated: not a mapping"),
        (GOOD | {"migrated": {"conv": [0, 9]}}, "layer conv: not a list of exponents (expected a whole number from -8"),
        (GOOD | {"migrated": {"conv": [True]}}, "layer conv: not a list of exponents"),
        (GOOD | {"migrated": {"conv": 1}}, "layer conv: not a list of exponents"),
    ],
)
def test_what_is_refused(content: object, message: str) -> None:
    with pytest.raises(GraphError) as caught:
        ranges_from_json(json.dumps(content), where="r.json")
    assert message in str(caught.value)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(GraphError, match="the ranges cannot be read"):
        read_ranges(tmp_path / "ranges.json")
    (tmp_path / "ranges.json").write_text('{\n "a": }', encoding="utf-8")
    with pytest.raises(GraphError, match=r"ranges.json:2: the ranges are not JSON"):
        read_ranges(tmp_path / "ranges.json")
    (tmp_path / "ranges.json").write_text('{"ranges_version": NaN}', encoding="utf-8")
    with pytest.raises(GraphError, match="is missing"):
        read_ranges(tmp_path / "ranges.json")
