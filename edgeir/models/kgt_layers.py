"""One KGT layer on window tokens: attention restricted to the key graph, then an MLP.

Letters of this file: ``nW`` windows (of all pictures), ``n`` tokens of a window (``w*w``), ``d`` channels of a head,
``k`` neighbours. Key graph: KGT (arXiv 2402.02634) / SemanIR (NeurIPS 2024); the attention around it is GRL's
(CVPR 2023), which reproduces the published parameter counts (derived, models.md 2.4).
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeir.models import fused
from edgeir.models.network import TwoForms

MAX_LOGIT_SCALE = math.log(100.0)
BIAS_RANGE = 16.0
_GATHERED_VALUES = 2**25
"""Gathered keys that the reference form holds at once where no gradient is wanted: 128 MiB in float32."""


def relative_positions(window: int) -> tuple[Tensor, Tensor]:
    """Log-spaced offsets between the pixels of a window, on the CPU (never on the meta device).

    Returns:
        coords: ``((2w-1)**2, 2) float32``: offset (rows, columns) scaled to [-8, 8], then ``sign * log2(1+|.|) / 3``.
        index: ``(n, n) int64``: row of ``coords`` for the offset from token j (column) to token i (row).
    """
    side = 2 * window - 1
    offsets = torch.arange(side, dtype=torch.float32, device="cpu") - (window - 1)
    scaled = offsets * (8.0 / max(window - 1, 1))
    logs = scaled.sign() * torch.log2(scaled.abs() + 1.0) / 3.0
    coords = torch.stack(
        [logs.repeat_interleave(side), logs.repeat(side)],
        dim=1,
    )
    pixel = torch.arange(window, device="cpu")
    rows, columns = pixel.repeat_interleave(window), pixel.repeat(window)
    row_offset = rows[:, None] - rows[None, :] + (window - 1)
    column_offset = columns[:, None] - columns[None, :] + (window - 1)
    return coords, row_offset * side + column_offset


def gather_attention(
    query: Tensor, key: Tensor, value: Tensor, neighbours: Tensor, bias: Tensor, scale: Tensor, *, self_last: bool
) -> Tensor:
    """Key-graph attention as published for inference ("Torch-Gather"): K and V of the neighbours are copied out.

    Needs ``nW * heads * n * k * d`` values twice: 24 GB for one 256x256 picture at w=32, k=512 in FP16. The mask form
    (`edgeir.models.fused.key_graph_attention`) computes the same.

    Args:
        query, key, value: ``(nW, heads, n, d)``.
        neighbours: ``(nW, n, k) int64`` tokens that each token looks at.
        bias: ``(heads, n, n)``, added to the logits.
        scale: ``(heads, 1, 1)``, multiplies the cosine similarities.
        self_last: the last neighbour is the token itself and counts only where it is not among the others.

    Returns:
        ``(nW, heads, n, d)``.
    """
    windows, heads, n, d = query.shape
    k = neighbours.shape[-1]
    block = max(1, _GATHERED_VALUES // (heads * n * k * d))
    if block < windows and not torch.is_grad_enabled():  # windows know nothing of each other
        cuts = [slice(first, first + block) for first in range(0, windows, block)]
        parts = (tuple(x[cut] for x in (query, key, value, neighbours)) for cut in cuts)
        return torch.cat([gather_attention(q, k, v, kept, bias, scale, self_last=self_last) for q, k, v, kept in parts])
    flat = neighbours.reshape(windows, 1, n * k, 1).expand(windows, heads, n * k, d)
    keys = F.normalize(key, dim=-1).gather(2, flat).reshape(windows, heads, n, k, d)
    values = value.gather(2, flat).reshape(windows, heads, n, k, d)
    per_head = neighbours[:, None].expand(windows, heads, n, k)
    biases = bias.expand(windows, heads, n, n).gather(3, per_head)
    cosine = (F.normalize(query, dim=-1)[..., None, :] @ keys.transpose(-2, -1)).squeeze(-2)
    logits = cosine * scale + biases
    if self_last:
        repeated = (neighbours[..., :-1] == neighbours[..., -1:]).any(dim=-1)
        ignore = torch.cat([torch.zeros_like(neighbours[..., :-1], dtype=torch.bool), repeated[..., None]], dim=-1)
        logits = logits.masked_fill(ignore[:, None], -math.inf)
    return (logits.softmax(dim=-1)[..., None, :] @ values).squeeze(-2)


class PositionBias(nn.Module):
    """Continuous position bias ``16 * sigmoid(MLP(log-spaced offset))``, ``-> (heads, n, n)``.

    `fold` stores the result, which then is a constant: of an exported graph, and of every later evaluation. Training
    mode ignores it, and loading weights drops it.
    """

    def __init__(self, heads: int, hidden: int) -> None:
        super().__init__()
        self.cpb_mlp = nn.Sequential(nn.Linear(2, hidden), nn.ReLU(), nn.Linear(hidden, heads, bias=False))
        self.folded: Tensor | None
        self.register_buffer("folded", None, persistent=False)
        self.register_load_state_dict_pre_hook(_drop_folded)  # type: ignore[no-untyped-call]

    def forward(self, coords: Tensor, index: Tensor) -> Tensor:
        if self.folded is not None and not self.training:
            return self.folded
        table = BIAS_RANGE * torch.sigmoid(self.cpb_mlp(coords)).transpose(0, 1)
        return table[:, index]

    @torch.no_grad()
    def fold(self, coords: Tensor, index: Tensor) -> None:
        """Store the bias: ``heads * n * n`` values (25 MB per layer at heads 6, w 32, float32)."""
        self.folded = None
        training, self.training = self.training, False
        self.folded = self.forward(coords, index).contiguous()
        self.training = training


def _drop_folded(module: nn.Module, *_: Any) -> None:
    module.folded = None  # type: ignore[assignment]


class KeyGraphAttention(TwoForms):
    """Multi-head cosine attention over each token's neighbours, ``(nW, n, C) -> (nW, n, C)``."""

    def __init__(self, channels: int, heads: int, *, cpb_hidden: int, keep_self: bool) -> None:
        super().__init__()
        self.heads = heads
        self.keep_self = keep_self
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        self.logit_scale = nn.Parameter(torch.full((heads, 1, 1), math.log(10.0)))
        self.position_bias = PositionBias(heads, cpb_hidden)

    def initialise_own(self, generator: torch.Generator) -> None:
        nn.init.constant_(self.logit_scale, math.log(10.0))

    def forward(self, tokens: Tensor, graph: Tensor, coords: Tensor, index: Tensor) -> Tensor:
        """``graph``: ``(nW, n, n) bool`` in fast form, ``(nW, n, k) int64`` neighbours in reference form."""
        shape = tokens.shape
        query, key, value = (
            part.reshape(shape[0], shape[1], self.heads, shape[2] // self.heads).transpose(1, 2)
            for part in self.qkv(tokens).chunk(3, dim=-1)
        )
        bias = self.position_bias(coords, index)
        scale = self.logit_scale.clamp(max=MAX_LOGIT_SCALE).exp()
        if self.form == "fast":
            mixed = fused.key_graph_attention(query, key, value, graph, bias, scale)
        else:
            mixed = gather_attention(query, key, value, graph, bias, scale, self_last=self.keep_self)
        out: Tensor = self.proj(mixed.transpose(1, 2).reshape(shape))
        return out


class Mlp(nn.Module):
    """``fc1, GELU, fc2`` on tokens, ``(nW, n, C) -> (nW, n, C)``, hidden width ``int(C * ratio)``."""

    def __init__(self, channels: int, ratio: float) -> None:
        super().__init__()
        hidden = int(channels * ratio)
        self.fc1 = nn.Linear(channels, hidden)
        self.fc2 = nn.Linear(hidden, channels)

    def forward(self, tokens: Tensor) -> Tensor:
        out: Tensor = self.fc2(F.gelu(self.fc1(tokens)))
        return out


class KGTLayer(nn.Module):
    """``x += LN(attn(x)); x += LN(mlp(x))`` (post-norm, GRL's), or ``x += attn(LN(x)); x += mlp(LN(x))`` (pre-norm)."""

    def __init__(
        self, channels: int, heads: int, *, mlp_ratio: float, cpb_hidden: int, keep_self: bool, post_norm: bool
    ) -> None:
        super().__init__()
        self.post_norm = post_norm
        self.norm1 = nn.LayerNorm(channels)
        self.attn = KeyGraphAttention(channels, heads, cpb_hidden=cpb_hidden, keep_self=keep_self)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = Mlp(channels, mlp_ratio)

    def forward(self, tokens: Tensor, graph: Tensor, coords: Tensor, index: Tensor) -> Tensor:
        if self.post_norm:
            tokens = tokens + self.norm1(self.attn(tokens, graph, coords, index))
            out: Tensor = tokens + self.norm2(self.mlp(tokens))
            return out
        tokens = tokens + self.attn(self.norm1(tokens), graph, coords, index)
        out = tokens + self.mlp(self.norm2(tokens))
        return out
