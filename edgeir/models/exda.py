"""ExDA: exclusivity-driven attention for all-in-one restoration (ICLR 2026, OpenReview IBzmQVia88).

Block and primitives are published; widths and depths are derived (models.md 1.5: the official weights are not public
and need not fit). Every such choice is a field of `ExDAConfig`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal

from torch import Tensor, nn

from edgeir.models.blocks import GDFN, LayerNorm
from edgeir.models.config import require, require_choice
from edgeir.models.encoder_decoder import DecoderEntry, EncoderDecoder, require_levels
from edgeir.models.exda_attention import ExDAAttention, GstProjection, GstValueScale
from edgeir.spec import SizeRule

BlockStyle = Literal["restormer", "figure"]


@dataclass(frozen=True, slots=True)
class ExDAConfig:
    """Settings of `ExDA`; the defaults are ``exda-full`` (22.8 M parameters).

    Attributes:
        dim: channels of level 1.
        blocks: blocks at levels 1 to 4.
        refine: blocks after the decoder.
        heads: attention heads at levels 1 to 4; each divides its level's channels.
        ffn_ratio: hidden width of the feed-forward network over its channels.
        nlv_ratio: hidden width of the non-linear value branch over its channels; 0 leaves it out.
        gst_proj: projection of the pooled tokens: ``"none"``, ``"grouped"`` by heads, or ``"full"``.
        gst_stride: side of the token pooling.
        gst_value_scale: ``"raw"`` (published) or ``"mean1"`` (weight independent of resolution).
        decoder_entry: ``"slim"`` or ``"restormer"``, see `edgeir.models.encoder_decoder`.
        block_style: ``"restormer"`` (pre-norm, both residuals) or ``"figure"`` (as the paper's figure is drawn).
        ffn_pre_gelu: a GELU between the first 1x1 and the depth-wise convolution of the feed-forward network.
        norm_bias: layer norm with mean and bias (true) or bias-free.
        alpha: initial weight of the token rows.

    Raises:
        UsageError: a value is out of range.
    """

    dim: int = 48
    blocks: tuple[int, ...] = (4, 6, 6, 8)
    refine: int = 4
    heads: tuple[int, ...] = (1, 2, 4, 8)
    ffn_ratio: float = 2.0
    nlv_ratio: float = 0.5
    gst_proj: GstProjection = "grouped"
    gst_stride: int = 2
    gst_value_scale: GstValueScale = "raw"
    decoder_entry: DecoderEntry = "slim"
    block_style: BlockStyle = "restormer"
    ffn_pre_gelu: bool = False
    norm_bias: bool = True
    alpha: float = 0.1

    def __post_init__(self) -> None:
        require_levels("exda", self.dim, self.blocks, self.refine, self.heads, self.ffn_ratio)
        require(self.nlv_ratio >= 0, "nlv_ratio is negative", where="exda", expected=">= 0", got=self.nlv_ratio)
        require(
            self.nlv_ratio == 0 or int(self.dim * self.nlv_ratio) >= 1,
            "nlv_ratio leaves no channel at level 1",
            where="exda",
            expected=f"0 or >= 1/{self.dim}",
            got=self.nlv_ratio,
        )
        require(self.gst_stride >= 2, "gst_stride is too small", where="exda", expected=">= 2", got=self.gst_stride)
        require_choice(self.gst_proj, ("none", "grouped", "full"), where="exda: gst_proj")
        require_choice(self.gst_value_scale, ("raw", "mean1"), where="exda: gst_value_scale")
        require_choice(self.decoder_entry, ("slim", "restormer"), where="exda: decoder_entry")
        require_choice(self.block_style, ("restormer", "figure"), where="exda: block_style")

    @property
    def size_rule(self) -> SizeRule:
        """Level 4 lies at 1/8 and is pooled by ``gst_stride``."""
        return SizeRule(8 * self.gst_stride, 8 * self.gst_stride)

    @property
    def scale(self) -> int:
        return 1


class ExDABlock(nn.Module):
    """One ExDA block, ``(N, C, H, W) -> (N, C, H, W)``.

    ``"restormer"``: ``x += attn(norm1(x)); x += ffn(norm2(x))``. ``"figure"``: ``y = norm1(x);
    y += norm2(attn(y)); ffn(y)``, the literal reading of the paper's figure (models.md 1.2).
    """

    def __init__(self, channels: int, heads: int, *, config: ExDAConfig) -> None:
        super().__init__()
        self.block_style = config.block_style
        self.norm1 = LayerNorm(channels, bias=config.norm_bias)
        self.attn = ExDAAttention(
            channels,
            heads,
            nlv_ratio=config.nlv_ratio,
            gst_proj=config.gst_proj,
            stride=config.gst_stride,
            value_scale=config.gst_value_scale,
            alpha=config.alpha,
        )
        self.norm2 = LayerNorm(channels, bias=config.norm_bias)
        self.ffn = GDFN(channels, config.ffn_ratio, pre_gelu=config.ffn_pre_gelu)

    @property
    def residual_outputs(self) -> tuple[nn.Conv2d, nn.Conv2d]:
        """The convolutions whose results are added to the residual stream; their initial weights shrink with depth."""
        return self.attn.project_out, self.ffn.project_out

    def forward(self, x: Tensor) -> Tensor:
        if self.block_style == "restormer":
            x = x + self.attn(self.norm1(x))
            out: Tensor = x + self.ffn(self.norm2(x))
            return out
        y = self.norm1(x)
        y = y + self.norm2(self.attn(y))
        out = self.ffn(y)
        return out


class ExDA(EncoderDecoder):
    """``(N, 3, H, W) -> (N, 3, H, W)`` RGB in [0, 1]; H and W multiples of ``8 * gst_stride``; no clamp."""

    def __init__(self, config: ExDAConfig) -> None:
        super().__init__(
            dim=config.dim,
            blocks=config.blocks,
            refine=config.refine,
            heads=config.heads,
            make_block=partial(ExDABlock, config=config),
            decoder_entry=config.decoder_entry,
        )
        self.config = config
