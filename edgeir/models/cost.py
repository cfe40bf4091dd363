"""What a network costs: parameters and multiply-accumulates, counted without computing anything."""

from __future__ import annotations

import torch
from torch import nn
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode


def count_parameters(module: nn.Module) -> int:
    """Number of parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def count_gmac(module: nn.Module, height: int, width: int) -> float:
    """Multiply-accumulates of convolutions and matrix products for one picture, in units of 1e9.

    The module runs once in evaluation mode on tensors of the meta device, so no memory is used and nothing is
    computed; the module itself is left as it was.

    Args:
        module: the network, on any device; its current form is counted.
        height: H of the input in pixels.
        width: W of the input in pixels.
    """
    meta = {
        name: torch.empty_like(tensor, device="meta")
        for tensors in (module.named_parameters(), module.named_buffers())
        for name, tensor in tensors
    }
    dtype = next(module.parameters()).dtype
    image = torch.empty(1, 3, height, width, device="meta", dtype=dtype)
    was_training = module.training
    module.eval()
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            functional_call(module, meta, (image,))
    finally:
        module.train(was_training)
    return float(counter.get_total_flops()) / 2 / 1e9
