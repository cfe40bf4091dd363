"""Fine-tuning for INT8 as a part of a run: where rounding goes, the ranges it uses, and the float network to stay near.

The ranges come from the run's own first samples before the first step, and stay: every process of a run, and a run
that goes on after a stop, has the same ones.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgeir.quantization_placement import place
from edgeir.spec import ModelSpec
from edgeir.train.data import Place, TrainingSet, collate
from edgeir.train.distillation import Distillation, frozen_copy
from edgeir.train.fake_quant import (
    FakeQuantSettings,
    activation_ranges,
    insert_fake_quant,
    observe_ranges,
    quantizable_layers,
    set_activation_ranges,
)
from edgeir.train.recipe import Qat, Recipe


class Quantised:
    """A network under fake quantisation; building one changes the network in place.

    Args:
        network: with the float weights that fine-tuning begins with.
        settings: of the recipe.
        spec: of the network, for a size it takes.
    """

    def __init__(self, network: nn.Module, settings: Qat, spec: ModelSpec) -> None:
        self._network = network
        self._settings = settings
        self._distillation = Distillation(frozen_copy(network), settings.distill_weight)
        device = next(network.parameters()).device
        side = spec.size.near(2 * spec.size.multiple)
        placement = place(quantizable_layers(network, torch.zeros(1, 3, side, side, device=device)), keep=settings.keep)
        insert_fake_quant(network, placement, FakeQuantSettings(settings.percentile, observe_steps=0))

    def observe(self, samples: TrainingSet, recipe: Recipe) -> None:
        """Take the ranges from the first samples of the run."""
        device = next(self._network.parameters()).device
        patch = recipe.stages[0].patch_px
        observe_ranges(
            self._network,
            (
                collate([samples[Place(number, patch)]]).degraded.to(device)
                for number in range(self._settings.observe_pictures)
            ),
        )

    def ranges(self) -> dict[str, float]:
        """Layer name to the largest absolute value its input can have on the grid."""
        return activation_ranges(self._network)

    def load_ranges(self, ranges: dict[str, float]) -> None:
        """Use the ranges of an earlier session."""
        set_activation_ranges(self._network, ranges)

    def loss(self, to_truth: Tensor, degraded: Tensor, output: Tensor) -> Tensor:
        """What is trained on, a scalar: the distance to the truth, weighted, and that to the float network's answer.

        Args:
            to_truth: the recipe's own loss, a scalar.
            degraded: ``(N, 3, H, W)`` in [0, 1].
            output: ``(N, 3, s*H, s*W)``, what the network under fake quantisation made of it.
        """
        return self._settings.truth_weight * to_truth + self._distillation(output.float(), degraded)
