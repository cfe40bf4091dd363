"""PromptIR (NeurIPS 2023): Restormer's blocks with learned prompts in the decoder, published parameter names.

Written from the formulas (models.md 4.2); users load their own licensed weights. The published checkpoints also hold
six 1x1 convolutions that the network never uses; they are built so that those checkpoints load with nothing left over.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeir.models.blocks import Downsample, OverlapPatchEmbed, TransformerBlock, Upsample
from edgeir.models.config import require
from edgeir.models.encoder_decoder import require_levels
from edgeir.models.network import RestorationNetwork
from edgeir.spec import SizeRule

PROMPT_CHANNELS = (64, 128, 320)
PROMPT_SIDES = (64, 32, 16)
PROMPT_COUNT = 5
PROMPT_BLOCK_HEADS = 4
UNUSED_CHANNELS = (64, 128, 256)
"""Prompt widths of the stored but unused convolutions."""


@dataclass(frozen=True, slots=True)
class PromptIRConfig:
    """Settings of `PromptIR`; the defaults are the published ones (35.6 M parameters).

    Attributes:
        dim: channels of level 1; ``4 * dim`` is the width after the level-3 and level-2 prompts.
        blocks: blocks at levels 1 to 4.
        refine: blocks after the decoder.
        heads: attention heads at levels 1 to 4; each divides its level's channels.
        ffn_ratio: hidden width of the feed-forward network over its channels.
        norm_bias: layer norm with mean and bias (published) or bias-free.

    Raises:
        UsageError: a value is out of range.
    """

    dim: int = 48
    blocks: tuple[int, ...] = (4, 6, 6, 8)
    refine: int = 4
    heads: tuple[int, ...] = (1, 2, 4, 8)
    ffn_ratio: float = 2.66
    norm_bias: bool = True

    def __post_init__(self) -> None:
        require_levels("promptir", self.dim, self.blocks, self.refine, self.heads, self.ffn_ratio)
        for channels in (8 * self.dim, 4 * self.dim, 2 * self.dim):
            require(
                channels % PROMPT_BLOCK_HEADS == 0,
                "dim does not fit the prompt blocks",
                where="promptir",
                expected="an even number",
                got=self.dim,
            )

    @property
    def size_rule(self) -> SizeRule:
        """Three halvings."""
        return SizeRule(8, 8)

    @property
    def scale(self) -> int:
        return 1


class PromptGenBlock(nn.Module):
    """A prompt for the features: ``(N, C, H, W) -> (N, p, H, W)``, a weighted sum of learned ones, resized.

    The weights are a softmax over a linear map of the mean feature, so they depend on the whole picture (or tile).
    """

    def __init__(self, channels: int, prompt_channels: int, side: int) -> None:
        super().__init__()
        self.prompt_param = nn.Parameter(torch.rand(1, PROMPT_COUNT, prompt_channels, side, side))
        self.linear_layer = nn.Linear(channels, PROMPT_COUNT)
        self.conv3x3 = nn.Conv2d(prompt_channels, prompt_channels, 3, padding=1, bias=False)

    def initialise_own(self, generator: torch.Generator) -> None:
        nn.init.uniform_(self.prompt_param, 0.0, 1.0, generator=generator)

    def forward(self, features: Tensor) -> Tensor:
        weights = self.linear_layer(features.mean(dim=(2, 3))).softmax(dim=1)
        prompts = self.prompt_param[0]
        prompt = (weights @ prompts.flatten(1)).unflatten(1, prompts.shape[1:])
        prompt = F.interpolate(prompt, size=features.shape[2:], mode="bilinear", align_corners=False)
        out: Tensor = self.conv3x3(prompt)
        return out


class PromptIR(RestorationNetwork):
    """``(N, 3, H, W) -> (N, 3, H, W)`` RGB in [0, 1]; H and W multiples of 8; no clamp."""

    def __init__(self, config: PromptIRConfig) -> None:
        super().__init__()
        self.config = config
        dim, blocks, heads = config.dim, config.blocks, config.heads

        def block(channels: int, heads: int) -> TransformerBlock:
            return TransformerBlock(channels, heads, config.ffn_ratio, norm_bias=config.norm_bias)

        def stage(count: int, channels: int, heads: int) -> nn.Sequential:
            return nn.Sequential(*(block(channels, heads) for _ in range(count)))

        def conv1x1(channels: int, out: int) -> nn.Conv2d:
            return nn.Conv2d(channels, out, 1, bias=False)

        prompt1, prompt2, prompt3 = PROMPT_CHANNELS
        self.patch_embed = OverlapPatchEmbed(3, dim)
        self.prompt1 = PromptGenBlock(2 * dim, prompt1, PROMPT_SIDES[0])
        self.prompt2 = PromptGenBlock(4 * dim, prompt2, PROMPT_SIDES[1])
        self.prompt3 = PromptGenBlock(8 * dim, prompt3, PROMPT_SIDES[2])
        for level, (unused, used) in enumerate(zip(UNUSED_CHANNELS, PROMPT_CHANNELS, strict=True), start=1):
            width = dim << (level - 1)
            setattr(self, f"chnl_reduce{level}", conv1x1(used, unused))
            setattr(self, f"reduce_noise_channel_{level}", conv1x1(width + unused, width))
        self.encoder_level1 = stage(blocks[0], dim, heads[0])
        self.down1_2 = Downsample(dim)
        self.encoder_level2 = stage(blocks[1], 2 * dim, heads[1])
        self.down2_3 = Downsample(2 * dim)
        self.encoder_level3 = stage(blocks[2], 4 * dim, heads[2])
        self.down3_4 = Downsample(4 * dim)
        self.latent = stage(blocks[3], 8 * dim, heads[3])
        self.noise_level3 = block(8 * dim + prompt3, PROMPT_BLOCK_HEADS)
        self.reduce_noise_level3 = conv1x1(8 * dim + prompt3, 4 * dim)
        self.up4_3 = Upsample(4 * dim)
        self.reduce_chan_level3 = conv1x1(6 * dim, 4 * dim)
        self.decoder_level3 = stage(blocks[2], 4 * dim, heads[2])
        self.noise_level2 = block(4 * dim + prompt2, PROMPT_BLOCK_HEADS)
        self.reduce_noise_level2 = conv1x1(4 * dim + prompt2, 4 * dim)
        self.up3_2 = Upsample(4 * dim)
        self.reduce_chan_level2 = conv1x1(4 * dim, 2 * dim)
        self.decoder_level2 = stage(blocks[1], 2 * dim, heads[1])
        self.noise_level1 = block(2 * dim + prompt1, PROMPT_BLOCK_HEADS)
        self.reduce_noise_level1 = conv1x1(2 * dim + prompt1, 2 * dim)
        self.up2_1 = Upsample(2 * dim)
        self.decoder_level1 = stage(blocks[0], 2 * dim, heads[0])
        self.refinement = stage(config.refine, 2 * dim, heads[0])
        self.output = nn.Conv2d(2 * dim, 3, 3, padding=1, bias=False)

    def forward(self, image: Tensor) -> Tensor:
        level1 = self.encoder_level1(self.patch_embed(image))
        level2 = self.encoder_level2(self.down1_2(level1))
        level3 = self.encoder_level3(self.down2_3(level2))
        x = self.latent(self.down3_4(level3))
        x = self.up4_3(self.reduce_noise_level3(self.noise_level3(torch.cat([x, self.prompt3(x)], dim=1))))
        x = self.decoder_level3(self.reduce_chan_level3(torch.cat([x, level3], dim=1)))
        x = self.up3_2(self.reduce_noise_level2(self.noise_level2(torch.cat([x, self.prompt2(x)], dim=1))))
        x = self.decoder_level2(self.reduce_chan_level2(torch.cat([x, level2], dim=1)))
        x = self.up2_1(self.reduce_noise_level1(self.noise_level1(torch.cat([x, self.prompt1(x)], dim=1))))
        x = self.decoder_level1(torch.cat([x, level1], dim=1))
        out: Tensor = self.output(self.refinement(x)) + image
        return out
