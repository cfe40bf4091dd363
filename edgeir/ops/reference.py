"""NumPy twins of the fused ops: the readable statement of what bodies and kernels compute, in the type of the inputs.

Same names, same shape comments as `edgeir.ops.table`. Nothing here is meant to be fast.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgeir.ops.table import LEAST_NORM, MASKED_LOGIT

Array: TypeAlias = NDArray[Any]
Mask: TypeAlias = NDArray[np.bool_]


def unit_rows(rows: Array) -> Array:
    """``(..., L)``: each row divided by max(its L2 norm, 1e-12)."""
    norm = np.sqrt((rows * rows).sum(axis=-1, keepdims=True))
    unit: Array = rows / np.maximum(norm, LEAST_NORM)
    return unit


def softmax(logits: Array) -> Array:
    """Softmax over the last axis."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    weights: Array = shifted / shifted.sum(axis=-1, keepdims=True)
    return weights


def bilinear_upsample(low: Array, height: int, width: int) -> Array:
    """``(..., h, w) -> (..., height, width)``, half-pixel centres, edges clamped."""
    rows, columns = _bilinear_matrix(low.shape[-2], height), _bilinear_matrix(low.shape[-1], width)
    high: Array = np.einsum("Hh,...hw,Ww->...HW", rows, low, columns).astype(low.dtype)
    return high


def _bilinear_matrix(low: int, high: int) -> Array:
    centre = np.clip((np.arange(high) + 0.5) * low / high - 0.5, 0, low - 1)
    left = np.floor(centre).astype(int)
    right = np.minimum(left + 1, low - 1)
    matrix = np.zeros((high, low))
    np.add.at(matrix, (np.arange(high), left), 1 - (centre - left))
    np.add.at(matrix, (np.arange(high), right), centre - left)
    return matrix


def key_graph(tokens: Array, k: int) -> Mask:
    """Twin of ``EdgeirKeyGraph``: ``(windows, n, c) -> (windows, n, n)``.

    Subtracting the window's mean from the keys changes no row's order and keeps rounding out of the comparison.
    """
    centred = tokens - tokens.mean(axis=1, keepdims=True)
    similarity = tokens @ centred.swapaxes(-2, -1)  # (windows, n, n)
    threshold = np.sort(similarity, axis=-1)[..., -k, None]  # k-th largest of each row
    keep: Mask = similarity >= threshold
    return keep


def key_graph_attention(query: Array, key: Array, value: Array, keep: Mask, bias: Array, scale: Array) -> Array:
    """Twin of ``EdgeirKeyGraphAttention``: ``(windows, heads, n, d)`` in and out."""
    logits = unit_rows(query) @ unit_rows(key).swapaxes(-2, -1) * scale + bias  # (windows, heads, n, n)
    logits = np.where(keep[:, None], logits, np.asarray(MASKED_LOGIT, logits.dtype))
    return softmax(logits) @ value


def gst_attention(
    query: Array, key: Array, value: Array, tokens: Array, temperature: Array, alpha: Array, heads: int
) -> Array:
    """Twin of ``EdgeirGstAttention``, written as published: concatenate, attend, split, re-inject."""
    n, c, height, width = query.shape
    head_rows = (n, heads, c // heads, height * width)
    low = softmax(tokens.reshape(n, c, -1)).reshape(tokens.shape)  # each token sums to 1 over the picture
    g = bilinear_upsample(low, height, width).reshape(head_rows)
    q_star = np.concatenate([query.reshape(head_rows), g], axis=2)  # (N, heads, 2C/heads, HW)
    k_star = np.concatenate([key.reshape(head_rows), g], axis=2)
    v_star = np.concatenate([value.reshape(head_rows), g], axis=2)
    attention = softmax(unit_rows(q_star) @ unit_rows(k_star).swapaxes(-2, -1) * temperature)
    both = attention @ v_star
    local, of_tokens = both[:, :, : c // heads], both[:, :, c // heads :]
    output: Array = (local + alpha * of_tokens).reshape(query.shape)
    return output
