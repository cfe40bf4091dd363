"""Restormer (CVPR 2022): the encoder-decoder of MDTA and GDFN blocks, with the published parameter names.

Written from the formulas; users load their own licensed weights (the published ones are non-commercial).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from edgeir.models.blocks import TransformerBlock
from edgeir.models.config import require_choice
from edgeir.models.encoder_decoder import DecoderEntry, EncoderDecoder, require_levels
from edgeir.spec import SizeRule


@dataclass(frozen=True, slots=True)
class RestormerConfig:
    """Settings of `Restormer`; the defaults are the published ones (26.1 M parameters).

    Attributes:
        dim: channels of level 1.
        blocks: blocks at levels 1 to 4.
        refine: blocks after the decoder.
        heads: attention heads at levels 1 to 4; each divides its level's channels.
        ffn_ratio: hidden width of the feed-forward network over its channels.
        norm_bias: true: layer norm with mean and bias (deraining, deblurring); false: bias-free (all denoising models).
        decoder_entry: ``"restormer"``, or ``"slim"`` as ExDA and CEA have it.

    Raises:
        UsageError: a value is out of range.
    """

    dim: int = 48
    blocks: tuple[int, ...] = (4, 6, 6, 8)
    refine: int = 4
    heads: tuple[int, ...] = (1, 2, 4, 8)
    ffn_ratio: float = 2.66
    norm_bias: bool = True
    decoder_entry: DecoderEntry = "restormer"

    def __post_init__(self) -> None:
        require_levels("restormer", self.dim, self.blocks, self.refine, self.heads, self.ffn_ratio)
        require_choice(self.decoder_entry, ("slim", "restormer"), where="restormer: decoder_entry")

    @property
    def size_rule(self) -> SizeRule:
        """Three halvings."""
        return SizeRule(8, 8)

    @property
    def scale(self) -> int:
        return 1


class Restormer(EncoderDecoder):
    """``(N, 3, H, W) -> (N, 3, H, W)`` RGB in [0, 1]; H and W multiples of 8; no clamp."""

    def __init__(self, config: RestormerConfig) -> None:
        super().__init__(
            dim=config.dim,
            blocks=config.blocks,
            refine=config.refine,
            heads=config.heads,
            make_block=partial(TransformerBlock, ffn_ratio=config.ffn_ratio, norm_bias=config.norm_bias),
            decoder_entry=config.decoder_entry,
        )
        self.config = config
