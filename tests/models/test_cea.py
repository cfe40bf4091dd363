"""CEA's adapter: the five properties of models.md 3.2, on random weights."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from edgeir.errors import UsageError
from edgeir.models.build import build
from edgeir.models.cea_adapter import HyperAdapter
from edgeir.models.cost import count_parameters

Randomise = Callable[[nn.Module, int], nn.Module]
SMALL = {"dim": 4, "blocks": [1, 1, 1, 1], "refine": 1, "heads": [1, 2, 4, 4], "rank": 2, "adapter_width": 6}


@pytest.fixture
def adapter(trained_like: Randomise) -> HyperAdapter:
    made = HyperAdapter(10, rank=3, width=5, probe_pool=1).double()
    trained_like(made, 0)
    return made


def features(*size: int) -> torch.Tensor:
    return torch.randn(2, 10, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_delta_is_one_matrix_of_rank_r_per_picture(adapter: HyperAdapter) -> None:
    x = features(6, 8)
    routing, direction = adapter.synthesise(x)
    matrix = direction.transpose(1, 2) @ routing @ adapter.query.weight[:, :, 0, 0] / 5**0.5
    assert torch.linalg.matrix_rank(matrix).tolist() == [3, 3]
    wanted = adapter.gamma * (matrix @ adapter.norm(x).flatten(2)).reshape(x.shape)
    assert torch.allclose(adapter(x), wanted, rtol=1e-12, atol=1e-13)


def test_equals_linear_attention_with_r_slots(adapter: HyperAdapter) -> None:
    x = features(4, 4)
    keys, values = adapter.synthesise(x)
    queries = adapter.query(adapter.norm(x)).flatten(2).transpose(1, 2)
    state = torch.einsum("nrd,nrc->ndc", keys, values)
    wanted = adapter.gamma * (queries @ state / 5**0.5).transpose(1, 2).reshape(x.shape)
    assert torch.allclose(adapter(x), wanted, rtol=1e-12, atol=1e-13)
    assert (queries @ keys.transpose(1, 2)).min() < 0  # signed affinities


def test_is_permutation_equivariant(adapter: HyperAdapter) -> None:
    x = features(4, 6)
    order = torch.randperm(24, generator=torch.Generator().manual_seed(2))
    shuffled = x.flatten(2)[:, :, order].reshape(x.shape)
    wanted = adapter(x).flatten(2)[:, :, order].reshape(x.shape)
    assert torch.allclose(adapter(shuffled), wanted, rtol=1e-12, atol=1e-13)


def test_basis_does_not_depend_on_resolution(adapter: HyperAdapter) -> None:
    x = features(4, 6)
    for small, large in zip(adapter.synthesise(x), adapter.synthesise(x.repeat(1, 1, 3, 2)), strict=True):
        assert torch.allclose(small, large, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("placement", ["decoder3", "all_blocks"])
def test_network_starts_as_its_backbone(placement: str) -> None:
    network = build("cea", {**SMALL, "placement": placement}).eval()
    backbone = build(
        "restormer",
        {name: SMALL[name] for name in ("dim", "blocks", "refine", "heads")} | {"decoder_entry": "slim"},
    ).eval()
    backbone.load_state_dict(network.state_dict(), strict=False)
    image = torch.rand(1, 3, 16, 24)
    with torch.no_grad():
        assert torch.equal(network(image), backbone(image))


def test_pooled_probes_read_the_pooled_features(trained_like: Randomise) -> None:
    pooled = HyperAdapter(10, rank=3, width=5, probe_pool=2).double()
    plain = HyperAdapter(10, rank=3, width=5, probe_pool=1).double()
    plain.load_state_dict(trained_like(pooled, 3).state_dict())
    x = features(4, 6)
    enlarged = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert torch.allclose(pooled.synthesise(enlarged)[0], plain.synthesise(x)[0], rtol=1e-12, atol=1e-13)


def test_adapter_counts() -> None:
    """models.md 3.3: +113,475, +80,323 and +53,731 at dims 48, 32 and 24."""
    for dim, wanted in ((48, 113_475), (32, 80_323), (24, 53_731)):
        backbone = build("restormer", {"dim": dim, "decoder_entry": "slim"}, device="meta")
        assert count_parameters(build("cea", {"dim": dim}, device="meta")) - count_parameters(backbone) == wanted


@pytest.mark.parametrize("placement", ["decoder3", "all_blocks"])
def test_every_parameter_gets_a_gradient_once_the_directions_move(placement: str, trained_like: Randomise) -> None:
    network = trained_like(build("cea", {**SMALL, "placement": placement, "probe_pool": 2}), 1).train()
    network(torch.rand(1, 3, 32, 32)).square().mean().backward()
    silent = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert silent == []


def test_size_rule_and_errors() -> None:
    assert build("cea", {**SMALL, "probe_pool": 4}, device="meta").config.size_rule.multiple == 16  # type: ignore[union-attr]
    assert build("cea", SMALL, device="meta").config.size_rule.multiple == 8  # type: ignore[union-attr]
    with pytest.raises(UsageError, match="rank is too small"):
        build("cea", {"rank": 0})
    with pytest.raises(UsageError, match="Did you mean 'all_blocks'"):
        build("cea", {"placement": "allblocks"})
