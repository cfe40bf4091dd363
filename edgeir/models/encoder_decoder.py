"""The four-level encoder-decoder that Restormer, ExDA and CEA share, with two ways into the decoder.

    level 1   C  H    encoder_level1 ──────────────────────────── cat ─► decoder_level1 ─► refinement ─► output + input
    level 2  2C  H/2    └► encoder_level2 ────────────── cat+1x1 ─► decoder_level2 (2C) ─┘ (2C, no 1x1)
    level 3  4C  H/4         └► encoder_level3 ─ cat+1x1 ─► decoder_level3 (4C) ─┘
    level 4  8C  H/8              └► latent ─────┘ decoder entry

Decoder entry ``"restormer"``: upsample 8C -> 4C, cat to 8C, 1x1 to 4C (Restormer, section 4.1 of models.md).
Decoder entry ``"slim"``: 1x1 8C -> 4C first, upsample 4C -> 2C, cat to 6C, 1x1 to 4C (MIRAGE; section 1.1).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from edgeir.models.blocks import Downsample, OverlapPatchEmbed, Upsample
from edgeir.models.config import require
from edgeir.models.network import RestorationNetwork

DecoderEntry = Literal["slim", "restormer"]
MakeBlock = Callable[[int, int], nn.Module]
"""``(channels, heads) -> block``."""


def require_levels(
    where: str, dim: int, blocks: tuple[int, ...], refine: int, heads: tuple[int, ...], ffn_ratio: float
) -> None:
    """Raise ``UsageError`` unless the settings fit a four-level `EncoderDecoder`."""
    require(dim >= 2 and dim % 2 == 0, "dim is not a positive even number", where=where, expected="even", got=dim)
    for name, values in (("blocks", blocks), ("heads", heads)):
        require(
            len(values) == 4 and all(value >= 1 for value in values),
            f"{name} does not describe four levels",
            where=where,
            expected="four numbers >= 1",
            got=list(values),
        )
    require(refine >= 0, "refine is negative", where=where, expected=">= 0", got=refine)
    for level, count in enumerate(heads):
        channels = dim << level
        require(
            channels % count == 0,
            f"the heads of level {level + 1} do not divide its channels",
            where=where,
            expected=f"a divisor of {channels}",
            got=count,
        )
    require(
        int(dim * ffn_ratio) >= 1, "ffn_ratio leaves no channel", where=where, expected=f">= 1/{dim}", got=ffn_ratio
    )


class EncoderDecoder(RestorationNetwork):
    """``(N, 3, H, W) -> (N, 3, H, W)``, H and W multiples of 8.

    Args:
        dim: C, channels of level 1.
        blocks: number of blocks at levels 1 to 4.
        refine: number of blocks after the decoder.
        heads: attention heads at levels 1 to 4.
        make_block: builds one block from its channels and heads.
        decoder_entry: ``"slim"`` or ``"restormer"``, see above.
    """

    def __init__(
        self,
        *,
        dim: int,
        blocks: Sequence[int],
        refine: int,
        heads: Sequence[int],
        make_block: MakeBlock,
        decoder_entry: DecoderEntry,
    ) -> None:
        super().__init__()

        def stage(count: int, channels: int, heads: int) -> nn.Sequential:
            return nn.Sequential(*(make_block(channels, heads) for _ in range(count)))

        slim = decoder_entry == "slim"
        self.patch_embed = OverlapPatchEmbed(3, dim)
        self.encoder_level1 = stage(blocks[0], dim, heads[0])
        self.down1_2 = Downsample(dim)
        self.encoder_level2 = stage(blocks[1], 2 * dim, heads[1])
        self.down2_3 = Downsample(2 * dim)
        self.encoder_level3 = stage(blocks[2], 4 * dim, heads[2])
        self.down3_4 = Downsample(4 * dim)
        self.latent = stage(blocks[3], 8 * dim, heads[3])
        self.reduce_dim_level3 = nn.Conv2d(8 * dim, 4 * dim, 1, bias=False) if slim else nn.Identity()
        self.up4_3 = Upsample(4 * dim if slim else 8 * dim)
        self.reduce_chan_level3 = nn.Conv2d(6 * dim if slim else 8 * dim, 4 * dim, 1, bias=False)
        self.decoder_level3 = stage(blocks[2], 4 * dim, heads[2])
        self.up3_2 = Upsample(4 * dim)
        self.reduce_chan_level2 = nn.Conv2d(4 * dim, 2 * dim, 1, bias=False)
        self.decoder_level2 = stage(blocks[1], 2 * dim, heads[1])
        self.up2_1 = Upsample(2 * dim)
        self.decoder_level1 = stage(blocks[0], 2 * dim, heads[0])
        self.refinement = stage(refine, 2 * dim, heads[0])
        self.output = nn.Conv2d(2 * dim, 3, 3, padding=1, bias=False)

    def after_stage(self, stage: str, features: Tensor) -> Tensor:
        """Called with the output of every decoder level; a subclass may change the features there."""
        return features

    def forward(self, image: Tensor) -> Tensor:
        level1 = self.encoder_level1(self.patch_embed(image))
        level2 = self.encoder_level2(self.down1_2(level1))
        level3 = self.encoder_level3(self.down2_3(level2))
        latent = self.latent(self.down3_4(level3))
        x = self.up4_3(self.reduce_dim_level3(latent))
        x = self.decoder_level3(self.reduce_chan_level3(torch.cat([x, level3], dim=1)))
        x = self.after_stage("decoder_level3", x)
        x = self.decoder_level2(self.reduce_chan_level2(torch.cat([self.up3_2(x), level2], dim=1)))
        x = self.after_stage("decoder_level2", x)
        x = self.decoder_level1(torch.cat([self.up2_1(x), level1], dim=1))
        x = self.after_stage("decoder_level1", x)
        out: Tensor = self.output(self.refinement(x)) + image
        return out
