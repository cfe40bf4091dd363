"""What a recipe would take, found without computing anything: the network runs on PyTorch's meta device."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from edgeir.models.build import build
from edgeir.train.recipe import Recipe
from edgeir.train.setup import spec_of

_FLOAT_BYTES = 4


@dataclass(frozen=True, slots=True)
class Needs:
    """Memory of one process.

    Attributes:
        parameters: of the network.
        state_bytes: weights, gradients, both moments of AdamW and, where there is one, the moving average.
        activation_bytes: what the forward pass keeps for the backward pass, for the largest share of a batch, in
            float32; workspace of single operators comes on top.
    """

    parameters: int
    state_bytes: int
    activation_bytes: int


def estimate(recipe: Recipe, *, world: int = 1) -> Needs:
    """Count for one process of ``world``; raises ``UsageError`` for an unknown variant or setting."""
    spec = spec_of(recipe)
    network = (
        build(spec.architecture, spec.config, device="meta").to("meta").train()
    )  # constant tables are built on the CPU
    parameters = sum(parameter.numel() for parameter in network.parameters())
    copies = 4 + (recipe.ema_decay is not None)
    most = 0
    for stage in recipe.stages:
        share = max(1, stage.batch // (world * recipe.accumulate))
        most = max(most, share * _kept_bytes(network, stage.patch_px))
    return Needs(parameters, copies * parameters * _FLOAT_BYTES, most)


def _kept_bytes(network: torch.nn.Module, side: int) -> int:
    """Bytes that autograd keeps for one ``(1, 3, side, side)`` picture, weights not counted."""
    weights = {id(parameter) for parameter in network.parameters()}
    held: list[Tensor] = []  # kept alive: a freed storage would lend its address to the next

    def pack(tensor: Tensor) -> Tensor:
        held.append(tensor)
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        network(torch.empty(1, 3, side, side, device="meta"))
    storages = {tensor.untyped_storage()._cdata: tensor for tensor in held if id(tensor) not in weights}
    return sum(tensor.untyped_storage().nbytes() for tensor in storages.values())
