"""ExDA's attention: channel attention whose values pass a non-linear branch and whose token axis is doubled by GST.

Per head, with ``c = C / heads`` channels and ``X`` the normed input (ExDA, ICLR 2026; models.md 1.2 and 1.3)::

    Q, K, V = split(DWConv3x3(Conv1x1(X)))            V' = V + nlv(V)
    G       = up_s(softmax_space(gst_proj(AvgPool_s(X))))               as many rows as Q: c per head
    A       = softmax(norm([Q;G]) norm([K;G])^T * temperature)          (2c x 2c)
    O       = (A [V';G])[:c] + alpha * (A [V';G])[c:]

The fast form (models.md 1.6) combines the rows of ``A`` before the second product and keeps ``G`` at low resolution
there; with real numbers both are equal.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeir.models import fused
from edgeir.models.blocks import split_heads
from edgeir.models.network import TwoForms

GstProjection = Literal["none", "grouped", "full"]
GstValueScale = Literal["raw", "mean1"]


class NonLinearValue(nn.Module):
    """``Conv1x1 -> DWConv3x3 -> GELU -> Conv1x1`` on the values, ``(N, C, H, W) -> (N, C, H, W)``, bias-free.

    Hidden width ``int(C * ratio)`` and the missing biases are derived (models.md 1.3).
    """

    def __init__(self, channels: int, ratio: float) -> None:
        super().__init__()
        hidden = int(channels * ratio)
        self.project_in = nn.Conv2d(channels, hidden, 1, bias=False)
        self.dwconv = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden, bias=False)
        self.project_out = nn.Conv2d(hidden, channels, 1, bias=False)

    def forward(self, value: Tensor) -> Tensor:
        out: Tensor = self.project_out(F.gelu(self.dwconv(self.project_in(value))))
        return out


class ExDAAttention(TwoForms):
    """``(N, C, H, W) -> (N, C, H, W)``, H and W multiples of ``stride``.

    Args:
        channels: C, a multiple of ``heads``.
        heads: attention heads.
        nlv_ratio: hidden width of the non-linear value branch over C; 0 leaves the branch out.
        gst_proj: the projection of the pooled tokens: ``"none"``, ``"grouped"`` (1x1 conv per head) or ``"full"``.
        stride: s, side of the average pooling that makes the tokens.
        value_scale: ``"raw"``: G enters the values as the softmax left it (published, sums to 1 over the picture);
            ``"mean1"``: scaled to mean 1, so its weight does not depend on the resolution.
        alpha: initial weight of the token rows.
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        *,
        nlv_ratio: float,
        gst_proj: GstProjection,
        stride: int,
        value_scale: GstValueScale,
        alpha: float,
    ) -> None:
        super().__init__()
        self.heads = heads
        self.stride = stride
        self.value_scale = value_scale
        self.alpha_init = alpha
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.alpha = nn.Parameter(torch.full((1,), alpha))
        self.qkv = nn.Conv2d(channels, 3 * channels, 1, bias=False)
        self.qkv_dwconv = nn.Conv2d(3 * channels, 3 * channels, 3, padding=1, groups=3 * channels, bias=False)
        self.nlv = NonLinearValue(channels, nlv_ratio) if nlv_ratio > 0 else None
        self.gst_proj = None
        if gst_proj != "none":
            groups = heads if gst_proj == "grouped" else 1
            self.gst_proj = nn.Conv2d(channels, channels, 1, groups=groups, bias=False)
        self.project_out = nn.Conv2d(channels, channels, 1, bias=False)

    def initialise_own(self, generator: torch.Generator) -> None:
        nn.init.ones_(self.temperature)
        nn.init.constant_(self.alpha, self.alpha_init)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.qkv_dwconv(self.qkv(x)).chunk(3, dim=1)
        if self.nlv is not None:
            value = value + self.nlv(value)
        tokens = F.avg_pool2d(x, self.stride)
        if self.gst_proj is not None:
            tokens = self.gst_proj(tokens)
        if self.form == "fast":
            mixed = fused.gst_attention(
                query,
                key,
                value,
                tokens,
                self.temperature,
                self.alpha,
                heads=self.heads,
                stride=self.stride,
                value_scale=self.value_scale,
            )
        else:
            mixed = self._as_published(query, key, value, tokens)
        out: Tensor = self.project_out(mixed)
        return out

    def _as_published(self, query: Tensor, key: Tensor, value: Tensor, tokens: Tensor) -> Tensor:
        """Concatenate, normalise, attend, split, re-inject: models.md 1.2 line by line."""
        positions = tokens.shape[2] * tokens.shape[3]
        weights = tokens.flatten(2).softmax(dim=-1).reshape(tokens.shape)
        upsampled = F.interpolate(weights, scale_factor=self.stride, mode="bilinear", align_corners=False)
        rows_g = split_heads(upsampled, self.heads)
        rows_v = rows_g if self.value_scale == "raw" else rows_g * positions
        queries = F.normalize(torch.cat([split_heads(query, self.heads), rows_g], dim=2), dim=-1)
        keys = F.normalize(torch.cat([split_heads(key, self.heads), rows_g], dim=2), dim=-1)
        values = torch.cat([split_heads(value, self.heads), rows_v], dim=2)
        attention = (queries @ keys.transpose(-2, -1) * self.temperature).softmax(dim=-1)
        image_rows, token_rows = (attention @ values).chunk(2, dim=2)
        return (image_rows + self.alpha * token_rows).reshape(query.shape)
