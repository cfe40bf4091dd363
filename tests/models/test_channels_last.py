"""Channels last: the same numbers in the other memory order, and no step that falls back to the usual one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from edgeir.models.blocks import WithBiasNorm
from edgeir.models.channels_last import is_channels_last
from edgeir.models.exda import ExDA, ExDAConfig
from edgeir.models.exda_attention import ExDAAttention, GstValueScale

Randomise = Callable[[nn.Module, int], nn.Module]
RELATIVE = 1e-12
"""The gate of design section 5 for an exact rewrite, in float64."""


def last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def relative_error(got: Tensor, wanted: Tensor) -> float:
    return float((got - wanted).abs().max() / wanted.abs().max())


@pytest.mark.parametrize("scale", ["raw", "mean1"])
@pytest.mark.parametrize("heads", [1, 3])
@pytest.mark.parametrize("size", [(16, 16), (32, 80)])
def test_attention_equals_the_published_form(
    heads: int, size: tuple[int, int], scale: GstValueScale, trained_like: Randomise
) -> None:
    attention = ExDAAttention(
        12, heads, nlv_ratio=0.5, gst_proj="grouped", stride=2, value_scale=scale, alpha=0.1
    ).double()
    trained_like(attention, heads)
    x = torch.randn(2, 12, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        fast = attention(last(x))
        attention.form = "reference"
        published = attention(x)
    assert relative_error(fast, published) <= RELATIVE
    assert is_channels_last(fast)


def test_rows_of_zeros_stay_zeros(trained_like: Randomise) -> None:
    attention = ExDAAttention(8, 2, nlv_ratio=0, gst_proj="none", stride=2, value_scale="raw", alpha=0.1)
    trained_like(attention, 0)
    with torch.no_grad():
        dark = attention(last(torch.zeros(1, 8, 16, 16)))
    assert bool(torch.isfinite(dark).all())


def test_layer_norm_equals_its_formula(trained_like: Randomise) -> None:
    norm = trained_like(WithBiasNorm(6).double(), 2)
    x = torch.randn(2, 6, 5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        assert relative_error(norm(last(x)), norm(x)) <= RELATIVE
        assert is_channels_last(norm(last(x)))


def test_gradients_are_the_same(trained_like: Randomise) -> None:
    network = ExDA(ExDAConfig(dim=6, blocks=(1, 1, 1, 1), refine=1, heads=(1, 2, 3, 4))).double()
    trained_like(network, 3)
    x = torch.rand(1, 3, 16, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    gradients = []
    for picture in (x, last(x)):
        network.zero_grad()
        network(picture).square().sum().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None]))
    assert relative_error(gradients[1], gradients[0]) <= 1e-10  # two orders of summation through ten layers


def test_no_layer_of_exda_leaves_the_order() -> None:
    network = ExDA(ExDAConfig(dim=8, blocks=(1, 1, 1, 1), refine=1)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    strayed: list[str] = []

    def watch(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def look(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            if not is_channels_last(inputs[0]):
                strayed.append(name)

        return look

    for name, module in network.named_modules():
        if isinstance(module, (nn.Conv2d, WithBiasNorm)):
            module.register_forward_pre_hook(watch(name))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        network(last(torch.rand(1, 3, 64, 64)))
    assert strayed == []


@pytest.mark.parametrize("shape", [(1, 1, 4, 4), (2, 4, 3, 3)])
def test_the_usual_order_is_not_mistaken(shape: tuple[int, ...]) -> None:
    assert not is_channels_last(torch.zeros(shape))
    assert not is_channels_last(torch.zeros(shape).transpose(2, 3))
