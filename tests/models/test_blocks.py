"""The shared blocks: norms, attention, and the names and counts of Restormer and PromptIR."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from edgeir.errors import UsageError
from edgeir.models.blocks import GDFN, MDTA, Downsample, LayerNorm, Upsample
from edgeir.models.build import build
from edgeir.models.cost import count_parameters

Randomise = Callable[[nn.Module, int], nn.Module]
SMALL = {"dim": 4, "blocks": [1, 2, 1, 1], "refine": 1, "heads": [1, 2, 4, 4]}


def test_layer_norm_with_bias_is_torch_layer_norm() -> None:
    norm = LayerNorm(6, bias=True).double()
    nn.init.normal_(norm.body.weight)
    nn.init.normal_(norm.body.bias)
    x = 3 + torch.randn(2, 6, 4, 5, dtype=torch.float64)
    wanted = F.layer_norm(x.permute(0, 2, 3, 1), (6,), norm.body.weight, norm.body.bias, 1e-5).permute(0, 3, 1, 2)
    assert torch.allclose(norm(x), wanted, rtol=1e-12, atol=1e-13)


def test_bias_free_layer_norm_does_not_centre() -> None:
    norm = LayerNorm(6, bias=False).double()
    x = 3 + torch.randn(2, 6, 4, 5, dtype=torch.float64)
    wanted = x / torch.sqrt(x.var(1, keepdim=True, unbiased=False) + 1e-5)
    assert torch.allclose(norm(x), wanted, rtol=1e-12)
    assert list(norm.state_dict()) == ["body.weight"]


@pytest.mark.parametrize("heads", [1, 2, 3])
def test_mdta_forms_agree(heads: int, trained_like: Randomise) -> None:
    attention = trained_like(MDTA(6, heads).double(), heads)
    x = torch.randn(2, 6, 8, 24, dtype=torch.float64)
    fast = attention(x)
    attention.form = "reference"
    assert torch.allclose(fast, attention(x), rtol=1e-12, atol=1e-13)


def test_gdfn_hidden_width_is_floored() -> None:
    assert GDFN(48, 2.66).project_out.weight.shape == (48, 127, 1, 1)
    x = torch.randn(1, 4, 8, 8)
    plain, pre = GDFN(4, 2.0), GDFN(4, 2.0, pre_gelu=True)
    pre.load_state_dict(plain.state_dict())
    assert not torch.allclose(plain(x), pre(x))


def test_resamplers() -> None:
    x = torch.rand(1, 8, 4, 6)
    assert Downsample(8)(x).shape == (1, 16, 2, 3)
    assert Upsample(8)(x).shape == (1, 4, 8, 12)


@pytest.mark.parametrize("architecture", ["restormer", "promptir"])
@pytest.mark.parametrize("size", [(8, 8), (24, 40)])
def test_network_forms_agree(architecture: str, size: tuple[int, int], trained_like: Randomise) -> None:
    network = trained_like(build(architecture, SMALL).double().eval(), 1)
    image = torch.rand(2, 3, *size, dtype=torch.float64)
    with torch.no_grad():
        fast = network(image)
        network.set_form("reference")  # type: ignore[operator]
        reference = network(image)
    assert (fast - reference).abs().max() <= 1e-12 * reference.abs().max()


def test_slim_entry_count() -> None:
    """The slim Restormer of models.md 3.3."""
    assert count_parameters(build("restormer", {"decoder_entry": "slim"}, device="meta")) == 24_191_284


def test_restormer_names() -> None:
    names = build("restormer", {}, device="meta").state_dict()
    assert names["encoder_level2.5.attn.temperature"].shape == (2, 1, 1)
    assert names["latent.7.ffn.dwconv.weight"].shape == (2042, 1, 3, 3)
    for name in (
        "patch_embed.proj.weight",
        "encoder_level1.0.norm1.body.bias",
        "decoder_level1.3.attn.qkv_dwconv.weight",
        "refinement.3.norm2.body.weight",
        *(f"{step}.body.0.weight" for step in ("down1_2", "down2_3", "down3_4", "up4_3", "up3_2", "up2_1")),
        "reduce_chan_level3.weight",
        "reduce_chan_level2.weight",
        "output.weight",
    ):
        assert name in names


def test_promptir_stores_what_it_never_uses() -> None:
    network = build("promptir", SMALL).train()
    network(torch.rand(1, 3, 16, 16)).square().mean().backward()
    silent = {name.rsplit(".", 1)[0] for name, parameter in network.named_parameters() if parameter.grad is None}
    assert silent == {f"{kind}{level}" for kind in ("chnl_reduce", "reduce_noise_channel_") for level in (1, 2, 3)}


def test_promptir_prompt_is_a_weighted_sum() -> None:
    prompt = build("promptir", SMALL).prompt2
    x = torch.rand(2, 16, 32, 32)
    weights = F.softmax(F.linear(x.mean((2, 3)), prompt.linear_layer.weight, prompt.linear_layer.bias), dim=1)
    wanted = (weights[:, :, None, None, None] * prompt.prompt_param).sum(1)
    assert torch.allclose(prompt(x), prompt.conv3x3(wanted), atol=1e-5)


@pytest.mark.parametrize("architecture", ["restormer", "promptir", "cea"])
def test_config_errors(architecture: str) -> None:
    with pytest.raises(UsageError, match="Did you mean 'ffn_ratio'"):
        build(architecture, {"fnn_ratio": 2.0})
    with pytest.raises(UsageError, match="refine is negative"):
        build(architecture, {"refine": -1})
