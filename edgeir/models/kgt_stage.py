"""A KGT stage: windows are cut once, the key graph is built once, and every layer of the stage reads both.

    x ──┬─ roll? ─ windows ─┬─► layers (all read the graph) ─► picture ─ roll back? ─ conv 3x3 ─ + x
        │                   └─► key graph ──┘                                                   │
        └───────────────────────────────────────────────────────────────────────────────────────┘

Windows are never shifted inside a stage: the graph names tokens by their place in the window (models.md 2.2).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgeir.models import fused
from edgeir.models.kgt_layers import KGTLayer, relative_positions
from edgeir.models.network import TwoForms


def windows_from_picture(x: Tensor, window: int) -> Tensor:
    """``(N, C, H, W) -> (N * H/w * W/w, w*w, C)``, H and W multiples of w; windows row by row, tokens row by row."""
    batch, channels, height, width = x.shape
    cut = x.reshape(batch, channels, height // window, window, width // window, window)
    return cut.permute(0, 2, 4, 3, 5, 1).reshape(-1, window * window, channels)


def picture_from_windows(tokens: Tensor, window: int, shape: torch.Size) -> Tensor:
    """Inverse of `windows_from_picture`; ``shape`` is that of the picture."""
    batch, channels, height, width = shape
    cut = tokens.reshape(batch, height // window, width // window, window, window, channels)
    return cut.permute(0, 5, 1, 3, 2, 4).reshape(shape)


class KGTStage(TwoForms):
    """``(N, C, H, W) -> (N, C, H, W)``, H and W multiples of ``window``.

    Args:
        channels: C, a multiple of ``heads``.
        heads: attention heads.
        layers: number of layers.
        window: w, side of the windows.
        shift: roll the picture by this many pixels (up and left) before cutting windows, and back after the layers.
        mlp_ratio: hidden width of the MLP over C.
        cpb_hidden: hidden width of the position-bias MLP.
        keep_self: every token keeps itself among its neighbours.
        post_norm: see `edgeir.models.kgt_layers.KGTLayer`.
    """

    coords: Tensor
    index: Tensor

    def __init__(
        self,
        channels: int,
        heads: int,
        *,
        layers: int,
        window: int,
        shift: int,
        mlp_ratio: float,
        cpb_hidden: int,
        keep_self: bool,
        post_norm: bool,
    ) -> None:
        super().__init__()
        self.window = window
        self.shift = shift
        self.keep_self = keep_self
        self.layers = nn.ModuleList(
            KGTLayer(
                channels, heads, mlp_ratio=mlp_ratio, cpb_hidden=cpb_hidden, keep_self=keep_self, post_norm=post_norm
            )
            for _ in range(layers)
        )
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        coords, index = relative_positions(window)
        self.register_buffer("coords", coords, persistent=False)
        self.register_buffer("index", index, persistent=False)

    def fold_position_bias(self) -> None:
        """Store the position bias of every layer as a constant."""
        for layer in self.layers:
            layer.attn.position_bias.fold(self.coords, self.index)  # type: ignore[union-attr,operator]

    def key_graph(self, tokens: Tensor, k: int) -> Tensor:
        """Neighbours by raw dot product of the stage input: ``(nW, n, n) bool`` (fast) or ``(nW, n, k) int64``.

        With ``keep_self`` the reference form gets one more column, the token itself.
        """
        n = self.window * self.window
        k = min(k, n)
        own = torch.arange(n, device=tokens.device)
        if self.form == "fast":
            keep = fused.key_graph(tokens, k)
            return keep | (own[:, None] == own) if self.keep_self else keep
        neighbours = (tokens @ tokens.transpose(-2, -1)).topk(k, dim=-1).indices
        if self.keep_self:
            neighbours = torch.cat([neighbours, own[:, None].expand(tokens.shape[0], n, 1)], dim=-1)
        return neighbours

    def forward(self, x: Tensor, k: int) -> Tensor:
        """``k``: neighbours per token, capped at the tokens of a window."""
        rolled = torch.roll(x, (-self.shift, -self.shift), dims=(2, 3)) if self.shift else x
        tokens = windows_from_picture(rolled, self.window)
        graph = self.key_graph(tokens, k)
        for layer in self.layers:
            tokens = layer(tokens, graph, self.coords, self.index)
        mixed = picture_from_windows(tokens, self.window, x.shape)
        if self.shift:
            mixed = torch.roll(mixed, (self.shift, self.shift), dims=(2, 3))
        out: Tensor = x + self.conv(mixed)
        return out
