from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeir.errors import UsageError
from edgeir.imaging.padding import crop, pad_to, padded_size
from edgeir.spec import SizeRule

sides = st.integers(1, 9)
growth = st.integers(0, 25)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(sides, sides, growth, growth)
def test_is_numpys_reflection_and_crops_back(height: int, width: int, below: int, right: int) -> None:
    pixels = np.random.default_rng(0).random((height, width, 3), dtype=np.float32)
    padded = pad_to(pixels, height + below, width + right)
    np.testing.assert_array_equal(padded, np.pad(pixels, ((0, below), (0, right), (0, 0)), mode="reflect"))
    np.testing.assert_array_equal(crop(padded, height, width), pixels)
    upscaled = padded.repeat(2, axis=0).repeat(2, axis=1)
    np.testing.assert_array_equal(crop(upscaled, height, width, scale=2)[::2, ::2], pixels)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 64), st.integers(1, 128))
def test_padded_size_is_the_nearest_accepted(height: int, width: int, multiple: int, minimum: int) -> None:
    rule = SizeRule(multiple, minimum)
    size = padded_size(height, width, rule)
    assert rule.accepts(*size)
    assert all(new >= old for new, old in zip(size, (height, width), strict=True))
    assert all(new - multiple < max(old, minimum) for new, old in zip(size, (height, width), strict=True))


def test_edges() -> None:
    pixels = np.float32([[1, 2, 3]])
    assert pad_to(pixels, 1, 3) is pixels
    assert pad_to(pixels, 2, 8).tolist() == [[1, 2, 3, 2, 1, 2, 3, 2]] * 2


def test_refusals() -> None:
    pixels = np.zeros((4, 5, 3), np.float32)
    for size in ((3, 5), (4, 4)):
        with pytest.raises(UsageError, match="cannot be padded to this size"):
            pad_to(pixels, *size)
    with pytest.raises(UsageError, match="not empty"):
        pad_to(pixels[:0], 8, 8)
    with pytest.raises(UsageError, match="the output is smaller than the picture"):
        crop(pixels, 4, 5, scale=2)
