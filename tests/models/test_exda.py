"""ExDA: the fast form equals the published one, and every switch builds what it says."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from edgeir.errors import UsageError
from edgeir.models.build import build
from edgeir.models.cost import count_parameters
from edgeir.models.exda import ExDABlock, ExDAConfig
from edgeir.models.exda_attention import ExDAAttention

Randomise = Callable[[nn.Module, int], nn.Module]
SMALL = {"dim": 6, "blocks": [1, 1, 1, 1], "refine": 1, "heads": [1, 2, 3, 4]}
RELATIVE = 1e-12
"""The gate of design section 5 for an exact rewrite, in float64."""


def relative_error(got: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((got - wanted).abs().max() / wanted.abs().max())


@pytest.mark.parametrize("heads", [1, 2, 3])
@pytest.mark.parametrize("size", [(16, 16), (48, 32), (32, 80)])
def test_attention_forms_agree(heads: int, size: tuple[int, int], trained_like: Randomise) -> None:
    attention = ExDAAttention(
        12, heads, nlv_ratio=0.5, gst_proj="grouped", stride=2, value_scale="raw", alpha=0.1
    ).double()
    trained_like(attention, heads)
    x = torch.randn(2, 12, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        fast = attention(x)
        attention.form = "reference"
        reference = attention(x)
    assert relative_error(fast, reference) <= RELATIVE
    assert (fast - reference)[..., [0, -1], :].abs().max() <= RELATIVE * reference.abs().max()
    assert (fast - reference)[..., [0, -1]].abs().max() <= RELATIVE * reference.abs().max()


@pytest.mark.parametrize(
    "override",
    [
        {},
        {"gst_value_scale": "mean1"},
        {"gst_proj": "none"},
        {"gst_proj": "full"},
        {"gst_stride": 4},
        {"decoder_entry": "restormer"},
        {"block_style": "figure"},
        {"ffn_pre_gelu": True},
        {"norm_bias": False},
        {"nlv_ratio": 0.0},
    ],
    ids=str,
)
def test_network_forms_agree(override: dict[str, object], trained_like: Randomise) -> None:
    network = build("exda", {**SMALL, **override}).double().eval()
    trained_like(network, 3)
    side = network.config.size_rule.minimum  # type: ignore[attr-defined,union-attr]
    image = torch.rand(2, 3, side, 2 * side, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        fast = network(image)
        network.set_form("reference")
        reference = network(image)
    assert fast.shape == image.shape
    assert relative_error(fast, reference) <= RELATIVE


def test_attention_is_the_published_formula() -> None:
    """One head, one picture, written again from models.md 1.2 and 1.3 with loops instead of products."""
    torch.manual_seed(0)
    attention = ExDAAttention(2, 1, nlv_ratio=1.0, gst_proj="none", stride=2, value_scale="raw", alpha=0.3).double()
    attention.temperature.data.fill_(1.7)
    attention.alpha.data.fill_(0.3)
    x = torch.randn(1, 2, 4, 6, dtype=torch.float64)
    query, key, value = attention.qkv_dwconv(attention.qkv(x))[0].reshape(3, 2, 24)
    branch = attention.nlv
    assert branch is not None
    value = value + branch(value.reshape(1, 2, 4, 6))[0].reshape(2, 24)
    pooled = x.reshape(2, 2, 2, 3, 2).mean(dim=(2, 4))
    weights = pooled.reshape(2, 6).exp() / pooled.reshape(2, 6).exp().sum(1, keepdim=True)
    tokens = F.interpolate(weights.reshape(1, 2, 2, 3), size=(4, 6), mode="bilinear").reshape(2, 24)
    rows_q, rows_k, rows_v = (torch.cat([part, tokens]) for part in (query, key, value))
    out = torch.zeros(4, 24, dtype=torch.float64)
    for i in range(4):
        cosine = [rows_q[i].dot(rows_k[j]) / rows_q[i].norm() / rows_k[j].norm() for j in range(4)]
        share = (1.7 * torch.stack(cosine)).exp()
        out[i] = (share / share.sum()) @ rows_v
    wanted = attention.project_out((out[:2] + 0.3 * out[2:]).reshape(1, 2, 4, 6))
    assert torch.allclose(attention(x), wanted, rtol=1e-12, atol=1e-14)


def test_figure_style_has_no_second_residual() -> None:
    block = ExDABlock(4, 1, config=ExDAConfig(dim=4, heads=(1, 1, 1, 1), block_style="figure"))
    nn.init.zeros_(block.ffn.project_out.weight)
    assert block(torch.rand(1, 4, 16, 16)).abs().max() == 0


def test_gst_projection_counts() -> None:
    """C^2/h per block for the grouped projection, C^2 for the full one (models.md 1.5)."""
    none, grouped, full = (
        count_parameters(build("exda", {**SMALL, "gst_proj": kind}, device="meta"))
        for kind in ("none", "grouped", "full")
    )
    widths = ((6, 1), (12, 2), (24, 3), (48, 4), (24, 3), (12, 2), (12, 1), (12, 1))
    assert grouped - none == sum(c * c // h for c, h in widths)
    assert full - none == sum(c * c for c, h in widths)


@pytest.mark.parametrize(("dim", "wanted"), [(24, 5_727_144), (32, 10_061_600), (48, 22_368_720)])
def test_counts_without_projection(dim: int, wanted: int) -> None:
    assert count_parameters(build("exda", {"dim": dim, "gst_proj": "none"}, device="meta")) == wanted


def test_every_parameter_gets_a_gradient() -> None:
    network = build("exda", SMALL).train()
    network(torch.rand(1, 3, 32, 32)).square().mean().backward()
    silent = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert silent == []


def test_names_are_the_family_names() -> None:
    names = set(build("exda", SMALL, device="meta").state_dict())
    assert {
        "patch_embed.proj.weight",
        "encoder_level1.0.norm1.body.weight",
        "encoder_level1.0.attn.qkv_dwconv.weight",
        "encoder_level3.0.attn.nlv.dwconv.weight",
        "latent.0.attn.gst_proj.weight",
        "decoder_level3.0.attn.alpha",
        "refinement.0.ffn.project_out.weight",
        "output.weight",
    } <= names


def test_block_exports_with_dynamic_height_and_width() -> None:
    block = ExDABlock(4, 2, config=ExDAConfig(dim=4, heads=(2, 2, 2, 2))).eval()
    height, width = (torch.export.Dim(name, min=2, max=64) for name in ("h2", "w2"))
    shapes = ({2: 2 * height, 3: 2 * width},)
    program = torch.export.export(block, (torch.rand(1, 4, 32, 48),), dynamic_shapes=shapes)
    x = torch.rand(1, 4, 20, 12)
    with torch.no_grad():
        assert torch.allclose(program.module()(x), block(x), atol=1e-6)


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"dim": 7}, "dim is not a positive even number"),
        ({"blocks": [1, 2]}, "four numbers"),
        ({"heads": [5, 1, 1, 1]}, "do not divide"),
        ({"gst_stride": 1}, "gst_stride"),
        ({"gst_proj": "groupd"}, "Did you mean 'grouped'"),
        ({"gst_strid": 2}, "Did you mean 'gst_stride'"),
        ({"dim": "48"}, "a whole number"),
        ({"ffn_pre_gelu": 1}, "true or false"),
        ({"ffn_ratio": 0.0}, "ffn_ratio leaves no channel"),
        ({"nlv_ratio": -1.0}, "nlv_ratio is negative"),
    ],
)
def test_config_errors(config: dict[str, object], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        build("exda", config)


def test_unknown_form() -> None:
    with pytest.raises(UsageError, match="Did you mean 'fast'"):
        build("exda", SMALL, device="meta").set_form("fas")
