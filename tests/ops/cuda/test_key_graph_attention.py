"""The attention kernel against its NumPy twin, in the emulator: every width, three types, hard key graphs."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from edgeir.ops.reference import key_graph_attention

BFLOAT16 = ml_dtypes.bfloat16
# Rounded rows, weights and results: a few times 2^-11 (FP16), 2^-8 (BF16) of values of order 1 to 3; FP32 sums.
TOLERANCE = {np.dtype(np.float32): 2e-5, np.dtype(np.float16): 4e-3, np.dtype(BFLOAT16): 3e-2}
TYPES = [np.float32, np.float16, BFLOAT16]


def inputs(n: int, d: int, dtype: Any, *, heads: int = 2, windows: int = 1, share: float = 0.4) -> list[np.ndarray]:
    rng = np.random.default_rng(n * 100 + d)
    rows = [rng.standard_normal((windows, heads, n, d)).astype(dtype) for _ in range(3)]
    keep = rng.random((windows, n, n)) < share
    keep |= np.eye(n, dtype=bool)
    bias = rng.standard_normal((heads, n, n)).astype(dtype)
    scale = rng.uniform(1, 10, (heads, 1, 1)).astype(dtype)
    return [*rows, keep, bias, scale]


def attend(emulated: Any, arrays: list[np.ndarray], *, cosine: bool = True, seed: int = 1) -> np.ndarray:
    windows, heads, n, d = arrays[0].shape
    output = np.zeros_like(arrays[0])
    sizes = [windows, heads, n, d, int(cosine)]
    assert emulated.call("edgeir_key_graph_attention", arrays, output, sizes, seed=seed) == 0
    return output


def truth(arrays: list[np.ndarray]) -> np.ndarray:
    return key_graph_attention(*(one if one.dtype == bool else one.astype(np.float64) for one in arrays))


def assert_close(got: np.ndarray, wanted: np.ndarray) -> None:
    assert np.isfinite(got.astype(np.float32)).all()
    assert float(np.abs(got.astype(np.float64) - wanted).max()) <= TOLERANCE[got.dtype]


# Every width; rows that are read number by number (n no multiple of 16, odd d), by two and by four; broken blocks of 64
# keys and of 128 queries.
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(
    ("n", "d"),
    [(1, 8), (16, 8), (16, 16), (17, 5), (64, 30), (65, 32), (100, 44), (130, 48), (64, 64), (70, 58), (80, 30),
     (32, 7), (144, 12), (144, 64), (208, 48), (272, 32)],
)  # fmt: skip
def test_sizes(n: int, d: int, dtype: Any, emulated: Any) -> None:
    arrays = inputs(n, d, dtype)
    assert_close(attend(emulated, arrays), truth(arrays))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", TYPES)
def test_the_largest_window(dtype: Any, emulated: Any) -> None:
    arrays = inputs(1024, 30, dtype, heads=1, share=0.5)
    assert_close(attend(emulated, arrays), truth(arrays))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("heads", [3, 4, 7])  # one block, two equal ones, three that are not
def test_windows_and_heads_are_their_own(dtype: Any, heads: int, emulated: Any) -> None:
    arrays = inputs(32, 8, dtype, heads=heads, windows=3)
    assert_close(attend(emulated, arrays), truth(arrays))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("n", [200, 208])
def test_key_graphs_of_blocks(n: int, dtype: Any, emulated: Any) -> None:
    """Blocks of keys that no query keeps are skipped, one key alone is the answer, and no key is the mean."""
    arrays = inputs(n, 16, dtype)
    keep = np.zeros_like(arrays[3])
    keep[:, :64, 128:] = True  # the first block of queries starts with two empty blocks
    keep[:, 64:128, 3] = True
    keep[:, 128:190, 64:70] = True
    arrays[3] = keep
    got = attend(emulated, arrays).astype(np.float64)
    assert_close(got.astype(dtype), truth(arrays))
    value = arrays[2].astype(np.float64)
    assert np.allclose(got[:, :, 64:128], value[:, :, 3:4], atol=TOLERANCE[np.dtype(dtype)])
    assert np.allclose(got[:, :, 190:], value.mean(axis=2, keepdims=True), atol=TOLERANCE[np.dtype(dtype)])


@pytest.mark.parametrize("dtype", TYPES[1:])  # in FP32 a weight of 0 is multiplied all the same
def test_what_nobody_keeps_is_not_looked_at(dtype: Any, emulated: Any) -> None:
    """Keys, values and biases of a block of 64 that none of the queries keeps may be anything."""
    arrays = inputs(256, 16, dtype)
    arrays[3][:, :, 64:128] = False
    wanted = truth(arrays)
    for place in (1, 2):
        arrays[place][:, :, 64:128] = np.nan
    arrays[4][:, :, 64:128] = np.nan
    assert_close(attend(emulated, arrays), wanted)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("which", "where"), [(0, np.s_[:, :, 5]), (1, np.s_[:, :, 7]), (4, np.s_[:, 5, 7])])
def test_no_number_gives_no_number(which: int, where: Any, dtype: Any, emulated: Any) -> None:
    """A query whose one logit is none, by itself, by its key or by the bias, is not taken for one that keeps no key."""
    arrays = inputs(32, 8, dtype, heads=1)
    arrays[3][:, 5] = False
    arrays[3][:, 5, 7] = True
    arrays[which][where] = np.nan
    assert np.isnan(attend(emulated, arrays)[:, :, 5].astype(np.float32)).all()


@pytest.mark.parametrize("dtype", TYPES)
def test_plain_products(dtype: Any, emulated: Any) -> None:
    """Scaled dot products: rows are not divided by their norms."""
    arrays = inputs(40, 12, dtype)
    arrays[5] = np.full_like(arrays[5], 0.25)
    query, key, value, keep, bias, scale = (one.astype(np.float64) for one in arrays)
    logits = np.where(keep[:, None] > 0, query @ key.swapaxes(-2, -1) * scale + bias, -1e4)
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    wanted = weights / weights.sum(axis=-1, keepdims=True) @ value
    assert_close(attend(emulated, arrays, cosine=False), wanted)


@pytest.mark.parametrize("dtype", TYPES)
def test_zero_rows_and_large_scales(dtype: Any, emulated: Any) -> None:
    arrays = inputs(48, 16, dtype)
    arrays[0][:, :, 5] = 0  # a row of zeros has no direction
    arrays[1][:, :, 7] = 0
    arrays[4][:] *= 20
    got = attend(emulated, arrays)
    assert np.isfinite(got.astype(np.float32)).all()
    bound = np.abs(arrays[2].astype(np.float64)).max()
    assert float(np.abs(got.astype(np.float64)).max()) <= bound * 1.01  # a mean of values


@pytest.mark.parametrize("dtype", TYPES)
def test_the_order_of_threads_changes_nothing(dtype: Any, emulated: Any) -> None:
    arrays = inputs(70, 20, dtype, heads=1)
    first, *others = (attend(emulated, arrays, seed=seed) for seed in (1, 2, 3))
    assert all(np.array_equal(first.view(np.uint8), other.view(np.uint8)) for other in others)


@pytest.mark.parametrize("sizes", [(0, 1, 4, 4, 1), (1, 0, 4, 4, 1), (1, 1, 1025, 4, 1), (1, 1, 4, 65, 1)])
def test_what_there_is_no_kernel_for(sizes: tuple[int, ...], emulated: Any) -> None:
    arrays = inputs(4, 4, np.float16, heads=1)
    assert emulated.call("edgeir_key_graph_attention", arrays, np.zeros_like(arrays[0]), list(sizes)) == -1
