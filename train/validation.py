"""What is watched while training: PSNR on held-out pictures under the fixed conditions of `edgeir.imaging`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from edgeir.imaging.colour import Pixels
from edgeir.imaging.conditions import condition_named, degrade
from edgeir.imaging.layout import middle_of, nchw_from_hwc
from edgeir.imaging.metrics import psnr_float
from edgeir.train.layouts import Example
from edgeir.train.pictures import decode


@dataclass(frozen=True, slots=True)
class _Pair:
    condition: str
    degraded: Pixels
    clean: Pixels


class HeldOut:
    """Held-out pictures, degraded once and kept; calling it measures a network.

    Args:
        examples: pictures or pairs, each with the area-average factor that it is read with.
        conditions: names of validation conditions, for pictures without a degraded partner.
        crop_px: side of the square in the middle, pixels of the input.
        scale: s of the network.
        device: where the network is.

    Attributes:
        shown: per condition, the first picture of the last measurement: degraded, restored and clean side by side,
            ``(H, 3*W, 3) float32``; empty for super-resolution.
    """

    def __init__(
        self,
        examples: Sequence[tuple[Example, int]],
        *,
        conditions: Sequence[str],
        crop_px: int,
        scale: int,
        device: torch.device,
    ) -> None:
        self.device = device
        self.shown: dict[str, Pixels] = {}
        self._pairs: list[_Pair] = []
        for example, shrink in examples:
            clean = _middle(decode(example.clean, shrink=shrink), crop_px * scale)
            if example.degraded is not None:
                low = _middle(decode(example.degraded, shrink=shrink), crop_px)
                self._pairs.append(_Pair(example.group, low, clean))
                continue
            for name in conditions:
                low = degrade(condition_named(name), clean, example.clean.stem)
                if scale > 1:
                    from edgeir.imaging.resampling import downsample

                    low = downsample(low, scale)
                self._pairs.append(_Pair(name, low, clean))

    @torch.no_grad()
    def __call__(self, network: nn.Module) -> dict[str, float]:
        """Mean PSNR (float, RGB) per condition, dB; the network is in evaluation mode meanwhile."""
        found: dict[str, list[float]] = {}
        training = network.training
        network.eval()
        for pair in self._pairs:
            batch = torch.from_numpy(nchw_from_hwc(pair.degraded)).to(self.device)
            output = network(batch).float().cpu().numpy()[0].transpose(1, 2, 0)
            if pair.condition not in found and output.shape == pair.degraded.shape:
                self.shown[pair.condition] = np.concatenate([pair.degraded, output, pair.clean], axis=1)
            found.setdefault(pair.condition, []).append(psnr_float(output, pair.clean))
        network.train(training)
        return {name: float(np.mean(values)) for name, values in found.items()}


def _middle(values: np.ndarray[tuple[int, ...], np.dtype[np.uint8 | np.uint16]], side: int) -> Pixels:
    crop = middle_of(values, side, side)
    return crop.astype(np.float32) / np.float32(np.iinfo(crop.dtype).max)
