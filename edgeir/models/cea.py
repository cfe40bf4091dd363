"""CEA, continuous expert assembly (arXiv 2605.06127, 7 May 2026), on the slim Restormer backbone.

The adapter's idea is published; its formulas, its places and the backbone are derived (models.md section 3).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Literal

from torch import Tensor, nn

from edgeir.models.blocks import TransformerBlock
from edgeir.models.cea_adapter import HyperAdapter
from edgeir.models.config import require, require_choice
from edgeir.models.encoder_decoder import EncoderDecoder, require_levels
from edgeir.spec import SizeRule

Placement = Literal["decoder3", "all_blocks"]


@dataclass(frozen=True, slots=True)
class CEAConfig:
    """Settings of `CEA`; the defaults are ``cea-base`` (24.3 M parameters).

    Attributes:
        dim: channels of level 1.
        blocks: blocks at levels 1 to 4.
        refine: blocks after the decoder.
        heads: attention heads at levels 1 to 4; each divides its level's channels.
        ffn_ratio: hidden width of the feed-forward network over its channels.
        norm_bias: layer norm with mean and bias or bias-free.
        rank: r, number of probes and of synthesised components.
        adapter_width: d, at most; an adapter on C channels has width ``min(C, adapter_width)``.
        placement: ``"decoder3"``: one adapter after each of the three decoder levels; ``"all_blocks"``: one in every
            block, parallel to its feed-forward network.
        probe_pool: side of the average pooling before the probes.

    Raises:
        UsageError: a value is out of range.
    """

    dim: int = 48
    blocks: tuple[int, ...] = (4, 6, 6, 8)
    refine: int = 4
    heads: tuple[int, ...] = (1, 2, 4, 8)
    ffn_ratio: float = 2.66
    norm_bias: bool = True
    rank: int = 8
    adapter_width: int = 64
    placement: Placement = "decoder3"
    probe_pool: int = 1

    def __post_init__(self) -> None:
        require_levels("cea", self.dim, self.blocks, self.refine, self.heads, self.ffn_ratio)
        for name in ("rank", "adapter_width", "probe_pool"):
            value = getattr(self, name)
            require(value >= 1, f"{name} is too small", where="cea", expected=">= 1", got=value)
        require_choice(self.placement, ("decoder3", "all_blocks"), where="cea: placement")

    @property
    def size_rule(self) -> SizeRule:
        """Three halvings, and whole pooling cells at the deepest adapter: level 3, or level 4 for ``all_blocks``."""
        deepest = 4 if self.placement == "decoder3" else 8
        multiple = math.lcm(8, deepest * self.probe_pool)
        return SizeRule(multiple, multiple)

    @property
    def scale(self) -> int:
        return 1


class CEABlock(TransformerBlock):
    """`TransformerBlock` with an adapter beside the feed-forward network, ``(N, C, H, W) -> (N, C, H, W)``."""

    def __init__(self, channels: int, heads: int, *, config: CEAConfig) -> None:
        super().__init__(channels, heads, config.ffn_ratio, norm_bias=config.norm_bias)
        self.adapter = _adapter(channels, config)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        out: Tensor = x + self.ffn(self.norm2(x)) + self.adapter(x)
        return out


class CEA(EncoderDecoder):
    """``(N, 3, H, W) -> (N, 3, H, W)`` RGB in [0, 1]; H and W as `CEAConfig.size_rule` says; no clamp.

    At initialisation every adapter adds zero: the network equals its backbone.
    """

    def __init__(self, config: CEAConfig) -> None:
        everywhere = config.placement == "all_blocks"
        super().__init__(
            dim=config.dim,
            blocks=config.blocks,
            refine=config.refine,
            heads=config.heads,
            make_block=partial(CEABlock, config=config)
            if everywhere
            else partial(TransformerBlock, ffn_ratio=config.ffn_ratio, norm_bias=config.norm_bias),
            decoder_entry="slim",
        )
        self.config = config
        widths = {"decoder_level3": 4 * config.dim, "decoder_level2": 2 * config.dim, "decoder_level1": 2 * config.dim}
        self.adapters = nn.ModuleDict(
            {} if everywhere else {stage: _adapter(channels, config) for stage, channels in widths.items()}
        )

    def after_stage(self, stage: str, features: Tensor) -> Tensor:
        """Add the adapter's residual, where there is one."""
        if stage not in self.adapters:
            return features
        out: Tensor = features + self.adapters[stage](features)
        return out


def _adapter(channels: int, config: CEAConfig) -> HyperAdapter:
    return HyperAdapter(
        channels, rank=config.rank, width=min(channels, config.adapter_width), probe_pool=config.probe_pool
    )
