"""CEA's cross-attention hyper-adapter: per picture, a low-rank residual map synthesised from the features themselves.

Only the abstract of CEA (arXiv 2605.06127) is public; this formulation is derived (models.md 3.2). With ``Z`` the
normed features as columns of tokens, rank ``r`` and width ``d``::

    P     = softmax(probes (W_k Z) / sqrt(d), over tokens) (W_v Z)^T            (r, d)   what the probes saw
    A, B  = phi_a(P), phi_b(P)                                        (r, d), (r, C)     routing bases, directions
    delta = B^T (A (W_q Z) / sqrt(d))                                                    signed, no softmax, no top-k
    y     = x + gamma * delta
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeir.models.blocks import LayerNorm


class HyperAdapter(nn.Module):
    """The residual ``gamma * delta`` for features, ``(N, C, H, W) -> (N, C, H, W)``; zero at initialisation.

    Equal to unnormalised linear attention with r memory slots (keys A, values B), and to one matrix of rank <= r per
    picture applied at every token.

    Args:
        channels: C.
        rank: r.
        width: d.
        probe_pool: p: keys and values are read from the features after p x p average pooling; makes the adapter
            cheaper, and less sensitive to where a tile was cut. H and W must be multiples of p.
    """

    def __init__(self, channels: int, *, rank: int, width: int, probe_pool: int) -> None:
        super().__init__()
        self.width = width
        self.probe_pool = probe_pool
        self.norm = LayerNorm(channels, bias=True)
        self.probes = nn.Parameter(torch.empty(rank, width).uniform_(-1.0, 1.0))
        self.key = nn.Conv2d(channels, width, 1, bias=False)
        self.value = nn.Conv2d(channels, width, 1, bias=False)
        self.query = nn.Conv2d(channels, width, 1, bias=False)
        self.routing = nn.Linear(width, width)
        self.direction = nn.Linear(width, channels)
        self.gamma = nn.Parameter(torch.ones(1))
        nn.init.zeros_(self.direction.weight)
        nn.init.zeros_(self.direction.bias)

    def initialise_own(self, generator: torch.Generator) -> None:
        nn.init.uniform_(self.probes, -1.0, 1.0, generator=generator)
        nn.init.zeros_(self.direction.weight)
        nn.init.zeros_(self.direction.bias)
        nn.init.ones_(self.gamma)

    def synthesise(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Routing bases ``(N, r, d)`` and residual directions ``(N, r, C)`` of each picture's features ``x``.

        Splitting here makes two engines: this one on a thumbnail of the picture, `apply_basis` on its tiles.
        """
        if self.probe_pool > 1:
            x = F.avg_pool2d(x, self.probe_pool)
        z = self.norm(x)
        logits = self.probes @ self.key(z).flatten(2) / math.sqrt(self.width)
        seen = logits.softmax(dim=-1) @ self.value(z).flatten(2).transpose(-2, -1)
        return self.routing(seen), self.direction(seen)

    def apply_basis(self, x: Tensor, routing: Tensor, direction: Tensor) -> Tensor:
        """``gamma * direction^T (routing q / sqrt(d))`` at every token of ``x``."""
        affinities = routing @ self.query(self.norm(x)).flatten(2) / math.sqrt(self.width)
        delta = direction.transpose(-2, -1) @ affinities
        out: Tensor = self.gamma * delta.reshape(x.shape)
        return out

    def forward(self, x: Tensor) -> Tensor:
        routing, direction = self.synthesise(x)
        return self.apply_basis(x, routing, direction)
