"""The key-graph kernel against its NumPy twin, in the emulator: every size class, both types, ties, hard numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeir.ops.reference import key_graph

UNSUPPORTED = -1


def choose(emulated: Any, tokens: np.ndarray, k: int, seed: int = 1) -> np.ndarray:
    windows, n, c = tokens.shape
    keep = np.full((windows, n, n), 7, np.uint8)
    assert emulated.call("edgeir_key_graph", [tokens], keep, [windows, n, c, k], seed=seed) == 0
    assert set(np.unique(keep)) <= {0, 1}
    return keep.astype(bool)


def nearest(tokens: np.ndarray, k: int) -> np.ndarray:
    """The twin without its mean, which is no exact number."""
    wide = tokens.astype(np.float64)
    similarity = wide @ wide.swapaxes(-2, -1)
    return similarity >= np.sort(similarity, axis=-1)[..., -k, None]


# Whole numbers: products and sums are exact, so that ties are ties everywhere. One tile, four and sixteen per warp,
# whole and broken tiles of 8 columns and 16 rows, channels in fours and not.
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize(
    ("n", "c", "k"),
    [(1, 1, 1), (3, 5, 2), (16, 6, 5), (16, 16, 16), (37, 20, 9), (64, 4, 1), (64, 33, 64), (100, 12, 50), (256, 8, 12),
     (300, 18, 150)],
)  # fmt: skip
def test_exact_numbers(n: int, c: int, k: int, dtype: Any, emulated: Any) -> None:
    tokens = np.random.default_rng(n + c).integers(-4, 5, (2, n, c)).astype(dtype)
    tokens[:, :, :] -= tokens[:, :1] % 2  # a common part
    kept = choose(emulated, tokens, k)
    assert np.array_equal(kept, nearest(tokens, k))
    assert (kept.sum(axis=-1) >= k).all()


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_the_largest_window(dtype: Any, emulated: Any) -> None:
    tokens = np.random.default_rng(0).integers(-9, 10, (1, 1024, 20)).astype(dtype)
    assert np.array_equal(choose(emulated, tokens, 512), nearest(tokens, 512))


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("common", [0.0, 30.0])
def test_as_good_as_float32(dtype: Any, common: float, emulated: Any) -> None:
    """Where it chooses otherwise than float64 does, the two tokens were nearly equally near."""
    rng = np.random.default_rng(3)
    tokens = (common + rng.standard_normal((2, 128, 180))).astype(dtype)
    wide, k = tokens.astype(np.float64), 64
    kept, wanted = choose(emulated, tokens, k), key_graph(wide, k)
    similarity = wide @ (wide - wide.mean(axis=1, keepdims=True)).swapaxes(-2, -1)
    threshold = np.sort(similarity, axis=-1)[..., -k, None]
    # FP32 sums of 180 products, and centred numbers in 22 bits: 2^-22 of the sum of magnitudes, times a few.
    magnitudes = np.abs(wide) @ np.abs(wide - wide.mean(axis=1, keepdims=True)).swapaxes(-2, -1)
    near = np.abs(similarity - threshold) < 2**-20 * magnitudes
    assert (kept == wanted)[~near].all()
    assert (kept != wanted).mean() < 1e-3


def test_the_order_of_threads_changes_nothing(emulated: Any) -> None:
    tokens = np.random.default_rng(5).standard_normal((1, 70, 20)).astype(np.float16)
    first, *others = (choose(emulated, tokens, 20, seed=seed) for seed in (1, 2, 3))
    assert all(np.array_equal(first, other) for other in others)


def test_numbers_at_the_edges(emulated: Any) -> None:
    """Zeros of both signs tie, and the largest FP16 numbers do not overflow."""
    tokens = np.zeros((1, 8, 4), np.float16)
    tokens[0, 1] = -0.0
    assert choose(emulated, tokens, 1).all()
    large = np.zeros((1, 4, 4), np.float16)
    large[0, :, 0] = [65504, -65504, 60000, 0]
    assert choose(emulated, large, 1).argmax(axis=-1)[0].tolist() == [0, 1, 0, 0]


@pytest.mark.parametrize("sizes", [(0, 4, 4, 1), (1, 4, 4, 5), (1, 4, 4, 0), (1, 1025, 1, 1), (1, 4, 2049, 1)])
def test_what_there_is_no_kernel_for(sizes: tuple[int, ...], emulated: Any) -> None:
    tokens, keep = np.zeros(4, np.float16), np.zeros(4, np.uint8)
    assert emulated.call("edgeir_key_graph", [tokens], keep, list(sizes)) == UNSUPPORTED
