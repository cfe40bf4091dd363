"""KGT, the key-graph transformer (arXiv 2402.02634), published again as SemanIR (NeurIPS 2024).

Method and macro layout are published. The columnar settings reproduce all six published parameter counts; the U
layout's widths and depths are derived (models.md 2.4 and 2.5). No code or weights are public.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeir.models.blocks import Downsample, LayerNorm, Upsample
from edgeir.models.kgt_config import KGTConfig
from edgeir.models.kgt_stage import KGTStage
from edgeir.models.network import RestorationNetwork

RECONSTRUCTOR_CHANNELS = 64


class ColumnarBody(nn.Module):
    """Stages in series between two layer norms, a conv 3x3, and the residual: ``(N, C, H, W) -> (N, C, H, W)``.

    Odd stages cut windows that are shifted by half a window.
    """

    def __init__(self, config: KGTConfig) -> None:
        super().__init__()
        window = config.windows[0]
        self.embed_norm = LayerNorm(config.dim, bias=True)
        self.stages = nn.ModuleList(
            _stage(config, 0, layers, shift=window // 2 if number % 2 else 0)
            for number, layers in enumerate(config.layers)
        )
        self.norm = LayerNorm(config.dim, bias=True)
        self.conv = nn.Conv2d(config.dim, config.dim, 3, padding=1)

    def forward(self, x: Tensor, k: int) -> Tensor:
        y = self.embed_norm(x)
        for stage in self.stages:
            y = stage(y, k)
        out: Tensor = x + self.conv(self.norm(y))
        return out


class UShapeBody(nn.Module):
    """Encoder, bottleneck, decoder with concatenated skips, and a final stage: ``(N, C, H, W) -> (N, C, H, W)``.

    ``decoder``, ``up`` and ``reduce`` are ordered deepest level first, as they run.
    """

    def __init__(self, config: KGTConfig) -> None:
        super().__init__()
        deepest = config.levels - 1
        rising = range(deepest)
        falling = tuple(reversed(rising))
        layers = config.layers
        self.encoder = nn.ModuleList(_stage(config, level, layers[level]) for level in rising)
        self.down = nn.ModuleList(Downsample(config.dim << level) for level in rising)
        self.latent = _stage(config, deepest, layers[deepest])
        self.up = nn.ModuleList(Upsample(config.dim << (level + 1)) for level in falling)
        self.reduce = nn.ModuleList(
            nn.Conv2d(2 * (config.dim << level), config.dim << level, 1, bias=False) for level in falling
        )
        self.decoder = nn.ModuleList(
            _stage(config, level, layers[deepest + 1 + number]) for number, level in enumerate(falling)
        )
        self.final = _stage(config, 0, layers[-1])

    def forward(self, x: Tensor, k: int) -> Tensor:
        skips: list[Tensor] = []
        for stage, down in zip(self.encoder, self.down, strict=True):
            x = stage(x, k)
            skips.append(x)
            x = down(x)
        x = self.latent(x, k)
        for up, reduce, stage in zip(self.up, self.reduce, self.decoder, strict=True):
            x = stage(reduce(torch.cat([up(x), skips.pop()], dim=1)), k)
        out: Tensor = self.final(x, k)
        return out


class Reconstructor(nn.Module):
    """Features to a picture, ``(N, C, H, W) -> (N, 3, s*H, s*W)``, by pixel shuffle (SwinIR's)."""

    def __init__(self, channels: int, scale: int) -> None:
        super().__init__()
        wide = RECONSTRUCTOR_CHANNELS
        self.conv_before_upsample = nn.Conv2d(channels, wide, 3, padding=1)
        steps: list[nn.Module] = []
        for factor in {2: (2,), 3: (3,), 4: (2, 2)}[scale]:
            steps += [nn.Conv2d(wide, wide * factor * factor, 3, padding=1), nn.PixelShuffle(factor)]
        self.upsample = nn.Sequential(*steps)
        self.conv_last = nn.Conv2d(wide, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv_last(self.upsample(F.leaky_relu(self.conv_before_upsample(x))))
        return out


class KGT(RestorationNetwork):
    """``(N, 3, H, W) -> (N, 3, s*H, s*W)`` RGB in [0, 1]; H and W as `KGTConfig.size_rule` says; no clamp.

    At scale 1 the network adds its output to the picture; above it, `Reconstructor` makes the picture.
    In training mode k is drawn from ``config.k_choices`` (torch's global RNG) once per forward pass.
    """

    def __init__(self, config: KGTConfig) -> None:
        super().__init__()
        self.config = config
        self.head = nn.Conv2d(3, config.dim, 3, padding=1)
        self.body = ColumnarBody(config) if config.layout == "columnar" else UShapeBody(config)
        self.tail: nn.Module = (
            nn.Conv2d(config.dim, 3, 3, padding=1) if config.scale == 1 else Reconstructor(config.dim, config.scale)
        )

    def fold_position_bias(self) -> None:
        """Store every layer's position bias as a constant for evaluation and export, instead of running its MLP.

        Call it before an export, on the final weights; training mode ignores it and loading weights drops it.
        """
        for module in self.modules():
            if isinstance(module, KGTStage):
                module.fold_position_bias()

    def forward(self, image: Tensor) -> Tensor:
        features = self.body(self.head(image), self._neighbours())
        out: Tensor = self.tail(features)
        return out + image if self.config.scale == 1 else out

    def _neighbours(self) -> int:
        choices = self.config.k_choices
        return choices[int(torch.randint(len(choices), ()))] if self.training else self.config.k


def _stage(config: KGTConfig, level: int, layers: int, *, shift: int = 0) -> KGTStage:
    return KGTStage(
        config.dim << level,
        config.heads[level],
        layers=layers,
        window=config.windows[level],
        shift=shift,
        mlp_ratio=config.mlp_ratio,
        cpb_hidden=config.cpb_hidden,
        keep_self=config.keep_self,
        post_norm=config.norm == "post",
    )
