"""The torch functions against the twins in float64, and the identities that the docstrings claim."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeir.models import fused
from edgeir.ops import reference

Case = Callable[..., tuple[dict[str, np.ndarray], dict[str, int]]]
Run = Callable[..., np.ndarray]
EXACT = 1e-12
"""Float64 rounding of a few hundred operations on numbers of order 1."""


def tensors(inputs: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array) for name, array in inputs.items()}


def difference(got: torch.Tensor, wanted: np.ndarray) -> float:
    return float(np.abs(got.numpy() - wanted).max())


@pytest.mark.parametrize(
    "sizes",
    [
        {},
        {"heads": 1, "stride": 1, "size": (5, 3)},
        {"heads": 3, "stride": 1, "size": (2, 2)},
        {"heads": 6, "stride": 2, "size": (2, 2)},
        {"heads": 2, "stride": 4, "size": (16, 12)},
        {"heads": 5, "stride": 2, "channels": 10},
    ],
    ids=str,
)
def test_gst_attention(sizes: dict[str, Any], case: Case, twin: Run) -> None:
    inputs, attributes = case("EdgeirGstAttention", np.float64, seed=2, **sizes)
    got = fused.gst_attention(**tensors(inputs), **attributes)
    assert difference(got, twin("EdgeirGstAttention", inputs, attributes)) <= EXACT


def test_gst_attention_mean1_scales_the_token_values(case: Case) -> None:
    """``mean1`` is ``raw`` with token values times the positions: the difference is linear in what the tokens add."""
    inputs, attributes = case("EdgeirGstAttention", np.float64)
    given_ = tensors(inputs)
    raw = fused.gst_attention(**given_, **attributes)
    scaled = fused.gst_attention(**given_, **attributes, value_scale="mean1")
    without = fused.gst_attention(**{**given_, "value": torch.zeros_like(given_["value"])}, **attributes)
    positions = inputs["tokens"].shape[2] * inputs["tokens"].shape[3]
    assert float((scaled - (raw + (positions - 1) * without)).abs().max()) <= EXACT * positions


@pytest.mark.parametrize(("k", "n"), [(1, 16), (16, 16), (5, 16), (1, 1)])
def test_key_graph(k: int, n: int, case: Case, twin: Run) -> None:
    inputs, attributes = case("EdgeirKeyGraph", np.float64, k=k, n=n)
    got = fused.key_graph(torch.from_numpy(inputs["tokens"]), k)
    assert np.array_equal(got.numpy(), twin("EdgeirKeyGraph", inputs, attributes))


def test_key_graph_keeps_all_ties() -> None:
    keep = fused.key_graph(torch.ones(1, 4, 2), 2)
    assert keep.all()


def test_key_graph_attention(case: Case, twin: Run) -> None:
    inputs, _ = case("EdgeirKeyGraphAttention", np.float64)
    inputs["query"][:, :, 3] = 0
    got = fused.key_graph_attention(**tensors(inputs))
    assert difference(got, twin("EdgeirKeyGraphAttention", inputs, {})) <= EXACT


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(0, 2**32 - 1))
def test_attention_does_not_know_the_order_of_the_tokens(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, order = 9, rng.permutation(9)
    query, key, value = (torch.from_numpy(rng.standard_normal((2, 3, n, 4))) for _ in range(3))
    keep = torch.from_numpy((rng.random((2, n, n)) < 0.5) | np.eye(n, dtype=bool))
    bias = torch.from_numpy(rng.standard_normal((3, n, n)))
    scale = torch.from_numpy(rng.uniform(1, 20, (3, 1, 1)))
    before = fused.key_graph_attention(query, key, value, keep, bias, scale)
    moved = [part[:, :, order] for part in (query, key, value)]
    after = fused.key_graph_attention(*moved, keep[:, order][:, :, order], bias[:, order][:, :, order], scale)
    assert float((after - before[:, :, order]).abs().max()) <= EXACT


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(0, 2**32 - 1), st.floats(1e-3, 1e3), st.floats(1e-3, 1e3))
def test_attention_sees_directions_not_lengths(seed: int, of_query: float, of_key: float) -> None:
    rng = np.random.default_rng(seed)
    query, key, value = (torch.from_numpy(rng.standard_normal((1, 2, 6, 4))) for _ in range(3))
    keep = torch.ones(1, 6, 6, dtype=torch.bool)
    bias, scale = torch.zeros(2, 6, 6, dtype=torch.float64), torch.full((2, 1, 1), 7.0, dtype=torch.float64)
    before = fused.key_graph_attention(query, key, value, keep, bias, scale)
    after = fused.key_graph_attention(query * of_query, key * of_key, value, keep, bias, scale)
    assert float((after - before).abs().max()) <= EXACT
    picture = torch.from_numpy(rng.standard_normal((3, 1, 4, 4, 4)))
    heads = torch.ones(2, 1, 1, dtype=torch.float64)
    plain = fused.channel_attention(*picture, heads, heads=2)
    assert (
        float(
            (fused.channel_attention(picture[0] * of_query, picture[1] * of_key, picture[2], heads, heads=2) - plain)
            .abs()
            .max()
        )
        <= EXACT
    )


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.integers(0, 2**32 - 1), st.integers(1, 300), st.floats(-6, 6))
def test_unit_rows_have_unit_norm(seed: int, length: int, exponent: float) -> None:
    rows = np.random.default_rng(seed).standard_normal((3, length)) * 10.0**exponent
    for got in (reference.unit_rows(rows), fused.unit_rows(torch.from_numpy(rows)).numpy()):
        assert np.abs(np.linalg.norm(got, axis=-1) - 1).max() <= EXACT
    assert (
        float((fused.unit_rows(torch.from_numpy(rows)) - F.normalize(torch.from_numpy(rows), dim=-1)).abs().max())
        <= EXACT
    )


def test_unit_rows_of_nothing_are_nothing() -> None:
    for dtype in (torch.float32, torch.float64):
        tiny = torch.tensor([[0.0, 0.0], [1e-15, 0.0]], dtype=dtype)
        assert torch.allclose(fused.unit_rows(tiny), F.normalize(tiny, dim=-1), rtol=1e-6, atol=0)
    assert not reference.unit_rows(np.zeros((2, 3))).any()


@pytest.mark.parametrize(("low", "high"), [((1, 1), (2, 2)), ((2, 3), (4, 6)), ((3, 5), (12, 20)), ((4, 4), (4, 4))])
def test_upsampling_twin_is_torchs(low: tuple[int, int], high: tuple[int, int]) -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, *low))
    wanted = F.interpolate(torch.from_numpy(x), size=high, mode="bilinear", align_corners=False).numpy()
    assert np.abs(reference.bilinear_upsample(x, *high) - wanted).max() <= EXACT
