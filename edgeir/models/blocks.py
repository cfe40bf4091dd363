"""The parts of the Restormer family: layer norm over channels, MDTA, GDFN, the block, and the resamplers.

Written from the formulas in the Restormer paper (CVPR 2022, sections 3.1 and 3.2); parameter names are the published
ones, so that published checkpoints load. Tensors are ``(N, C, H, W) float`` throughout.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeir.models import channels_last, fused
from edgeir.models.network import TwoForms

LAYER_NORM_EPS = 1e-5


class BiasFreeNorm(nn.Module):
    """``x / sqrt(var_C(x) + eps) * weight``: the variance is centred, ``x`` itself is not (Restormer, denoising)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def initialise_own(self, generator: torch.Generator) -> None:
        nn.init.ones_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(1, keepdim=True)
        variance = (centred * centred).mean(1, keepdim=True)
        return x * torch.rsqrt(variance + LAYER_NORM_EPS) * self.weight[:, None, None]


class WithBiasNorm(nn.Module):
    """``(x - mean_C(x)) / sqrt(var_C(x) + eps) * weight + bias``."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def initialise_own(self, generator: torch.Generator) -> None:
        nn.init.ones_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        if channels_last.is_channels_last(x):
            return channels_last.layer_norm(x, self.weight, self.bias, LAYER_NORM_EPS)
        centred = x - x.mean(1, keepdim=True)
        variance = (centred * centred).mean(1, keepdim=True)
        normed = centred * torch.rsqrt(variance + LAYER_NORM_EPS)
        return normed * self.weight[:, None, None] + self.bias[:, None, None]


class LayerNorm(nn.Module):
    """Layer norm over C at every pixel, biased variance, eps 1e-5; ``bias`` chooses the variant held in ``body``."""

    def __init__(self, channels: int, *, bias: bool) -> None:
        super().__init__()
        self.body: nn.Module = WithBiasNorm(channels) if bias else BiasFreeNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x)
        return out


def split_heads(x: Tensor, heads: int) -> Tensor:
    """``(N, C, H, W) -> (N, heads, C / heads, H*W)``; channel index = head * (C / heads) + channel of the head."""
    return x.reshape(x.shape[0], heads, x.shape[1] // heads, -1)


class MDTA(TwoForms):
    """Multi-Dconv-head transposed attention: softmax attention between channels, ``(N, C, H, W) -> (N, C, H, W)``.

    Reference: rows of Q and K are divided by ``max(|row|, 1e-12)``. Fast: `edgeir.models.fused.channel_attention`.
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.qkv = nn.Conv2d(channels, 3 * channels, 1, bias=False)
        self.qkv_dwconv = nn.Conv2d(3 * channels, 3 * channels, 3, padding=1, groups=3 * channels, bias=False)
        self.project_out = nn.Conv2d(channels, channels, 1, bias=False)

    def initialise_own(self, generator: torch.Generator) -> None:
        nn.init.ones_(self.temperature)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.qkv_dwconv(self.qkv(x)).chunk(3, dim=1)
        if self.form == "fast":
            mixed = fused.channel_attention(query, key, value, self.temperature, heads=self.heads)
        else:
            rows_q = F.normalize(split_heads(query, self.heads), dim=-1)
            rows_k = F.normalize(split_heads(key, self.heads), dim=-1)
            attention = (rows_q @ rows_k.transpose(-2, -1) * self.temperature).softmax(dim=-1)
            mixed = (attention @ split_heads(value, self.heads)).reshape(x.shape)
        out: Tensor = self.project_out(mixed)
        return out


class GDFN(nn.Module):
    """Gated-Dconv feed-forward, ``(N, C, H, W) -> (N, C, H, W)``: ``GELU(a) * b`` on ``int(C * ratio)`` channels.

    ``pre_gelu`` adds a GELU between the first 1x1 and the depth-wise convolution (MIRAGE, ICLR 2026); default off.
    """

    def __init__(self, channels: int, ratio: float, *, pre_gelu: bool = False) -> None:
        super().__init__()
        hidden = int(channels * ratio)
        self.pre_gelu = pre_gelu
        self.project_in = nn.Conv2d(channels, 2 * hidden, 1, bias=False)
        self.dwconv = nn.Conv2d(2 * hidden, 2 * hidden, 3, padding=1, groups=2 * hidden, bias=False)
        self.project_out = nn.Conv2d(hidden, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.project_in(x)
        if self.pre_gelu:
            x = F.gelu(x)
        gate, linear = self.dwconv(x).chunk(2, dim=1)
        out: Tensor = self.project_out(F.gelu(gate) * linear)
        return out


class TransformerBlock(nn.Module):
    """``x += MDTA(norm1(x)); x += GDFN(norm2(x))``, the shape stays ``(N, C, H, W)``."""

    def __init__(
        self, channels: int, heads: int, ffn_ratio: float, *, norm_bias: bool, ffn_pre_gelu: bool = False
    ) -> None:
        super().__init__()
        self.norm1 = LayerNorm(channels, bias=norm_bias)
        self.attn = MDTA(channels, heads)
        self.norm2 = LayerNorm(channels, bias=norm_bias)
        self.ffn = GDFN(channels, ffn_ratio, pre_gelu=ffn_pre_gelu)

    @property
    def residual_outputs(self) -> tuple[nn.Conv2d, nn.Conv2d]:
        """The convolutions whose results are added to the residual stream; their initial weights shrink with depth."""
        return self.attn.project_out, self.ffn.project_out

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        out: Tensor = x + self.ffn(self.norm2(x))
        return out


class Downsample(nn.Module):
    """``(N, C, H, W) -> (N, 2C, H/2, W/2)``: conv 3x3 to C/2, then pixel unshuffle."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(channels, channels // 2, 3, padding=1, bias=False), nn.PixelUnshuffle(2))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x)
        return out


class Upsample(nn.Module):
    """``(N, C, H, W) -> (N, C/2, 2H, 2W)``: conv 3x3 to 2C, then pixel shuffle."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(channels, channels * 2, 3, padding=1, bias=False), nn.PixelShuffle(2))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x)
        return out


class OverlapPatchEmbed(nn.Module):
    """``(N, 3, H, W) -> (N, C, H, W)``: one bias-free conv 3x3."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.proj(x)
        return out
