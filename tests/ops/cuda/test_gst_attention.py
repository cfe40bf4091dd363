"""The GST kernels against their NumPy twin, in the emulator: every width, three types, peaked and flat tokens."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from edgeir.ops.reference import gst_attention

BFLOAT16 = ml_dtypes.bfloat16
# Rounded maps, weights and results: a few times 2^-11 (FP16), 2^-8 (BF16) of values of order 1 to 3; FP32 sums.
TOLERANCE = {np.dtype(np.float32): 1e-5, np.dtype(np.float16): 4e-3, np.dtype(BFLOAT16): 3e-2}
TYPES = [np.float32, np.float16, BFLOAT16]
# heads, stride, (height, width), channels, batch: one to four warps of gram and values, splits, broken steps.
SIZES = [
    (1, 1, (4, 6), 1, 1),
    (3, 2, (8, 12), 6, 2),
    (2, 4, (16, 8), 34, 1),
    (1, 2, (14, 10), 48, 2),
    (2, 8, (24, 40), 128, 1),
    (6, 2, (2, 2), 6, 1),
    (5, 3, (9, 21), 10, 3),
    (64, 2, (16, 40), 128, 4),  # many steps of one split
    (1, 2, (6, 24), 60, 1),  # eight positions at a time: steps over several rows of the picture, the last one broken
    (2, 2, (4, 136), 40, 1),  # and rows that are no whole number of steps, more of them than a block of values has
    (1, 2, (2, 8), 3, 2),
    (1, 3, (3, 999), 1, 1),  # a stride that is no power of two, far from the first column
    (1, 4, (8, 20), 20, 1),
]


def inputs(
    heads: int, stride: int, size: tuple[int, int], channels: int, batch: int, dtype: Any, spread: float = 1.0
) -> list[np.ndarray]:
    rng = np.random.default_rng(channels)
    maps = [rng.standard_normal((batch, channels, *size)).astype(dtype) for _ in range(3)]
    low = (size[0] // stride, size[1] // stride)
    tokens = (spread * rng.standard_normal((batch, channels, *low))).astype(dtype)
    temperature = rng.uniform(0.5, 3, (heads, 1, 1)).astype(dtype)
    return [*maps, tokens, temperature, np.asarray([0.3], dtype)]


def attend(emulated: Any, arrays: list[np.ndarray], heads: int, stride: int, seed: int = 1) -> np.ndarray:
    batch, channels, height, width = arrays[0].shape
    output = np.zeros_like(arrays[0])
    sizes = [batch, channels, height, width, heads, stride]
    space = emulated.count("edgeir_gst_attention_workspace", sizes, arrays[0].dtype)
    assert space > 0
    status = emulated.call("edgeir_gst_attention", arrays, output, sizes, workspace=space, seed=seed)
    assert status == 0
    return output


def truth(arrays: list[np.ndarray], heads: int) -> np.ndarray:
    return gst_attention(*(one.astype(np.float64) for one in arrays), heads=heads)


def assert_close(got: np.ndarray, wanted: np.ndarray) -> None:
    assert np.isfinite(got.astype(np.float32)).all()
    assert float(np.abs(got.astype(np.float64) - wanted).max()) <= TOLERANCE[got.dtype]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("heads", "stride", "size", "channels", "batch"), SIZES)
def test_sizes(
    heads: int, stride: int, size: tuple[int, int], channels: int, batch: int, dtype: Any, emulated: Any
) -> None:
    arrays = inputs(heads, stride, size, channels, batch, dtype)
    assert_close(attend(emulated, arrays, heads, stride), truth(arrays, heads))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("spread", [0.0, 20.0])
def test_flat_and_peaked_tokens(spread: float, dtype: Any, emulated: Any) -> None:
    """A softmax over 512 positions that is 1/512 everywhere, and one that is 1 at one of them."""
    arrays = inputs(2, 2, (32, 64), 16, 1, dtype, spread)
    assert_close(attend(emulated, arrays, 2, 2), truth(arrays, 2))


@pytest.mark.parametrize("dtype", TYPES)
def test_channels_of_zeros(dtype: Any, emulated: Any) -> None:
    """A row of zeros has no direction, and divides nothing."""
    arrays = inputs(2, 2, (8, 8), 8, 1, dtype)
    for one in arrays[:3]:
        one[:, 3] = 0
    assert_close(attend(emulated, arrays, 2, 2), truth(arrays, 2))


@pytest.mark.parametrize("dtype", TYPES)
def test_the_order_of_threads_changes_nothing(dtype: Any, emulated: Any) -> None:
    arrays = inputs(2, 2, (10, 20), 40, 1, dtype)
    first, *others = (attend(emulated, arrays, 2, 2, seed=seed) for seed in (1, 2, 3))
    assert all(np.array_equal(first.view(np.uint8), other.view(np.uint8)) for other in others)


def test_a_workspace_is_enough_for_every_smaller_call(emulated: Any) -> None:
    """TensorRT asks once, for the largest sizes of a profile. Few positions, batches that do not divide the blocks."""
    rng = np.random.default_rng(0)
    asked = "edgeir_gst_attention_workspace"
    for _ in range(3000):
        heads, per_head, stride = int(rng.integers(1, 5)), int(rng.integers(1, 65)), int(rng.choice([1, 2, 4]))
        largest = [int(rng.integers(1, 40)), int(rng.integers(1, 30)), int(rng.integers(1, 30))]
        smaller = [int(rng.integers(1, size + 1)) for size in largest]
        most, less = (
            emulated.count(
                asked, [batch, heads * per_head, stride * height, stride * width, heads, stride], np.dtype(np.float16)
            )
            for batch, height, width in (largest, smaller)
        )
        assert 0 < less <= most, (largest, smaller, heads, per_head, stride)


@pytest.mark.parametrize(
    "sizes", [(0, 4, 4, 4, 1, 1), (1, 5, 4, 4, 2, 1), (1, 4, 5, 4, 1, 2), (1, 65, 4, 4, 1, 1), (1, 4, 4, 4, 1, 0)]
)
def test_what_there_is_no_kernel_for(sizes: tuple[int, ...], emulated: Any) -> None:
    arrays = inputs(1, 1, (2, 2), 1, 1, np.float16)
    assert emulated.count("edgeir_gst_attention_workspace", list(sizes), arrays[0].dtype) == -1
    assert emulated.call("edgeir_gst_attention", arrays, np.zeros_like(arrays[0]), list(sizes), workspace=0) == -1
