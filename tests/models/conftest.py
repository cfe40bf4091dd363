"""What the tests of the networks share."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn


@pytest.fixture
def trained_like() -> Callable[[nn.Module, int], nn.Module]:
    """Gives every parameter a value that only training would give it: no temperature, scale or bias at its start."""

    def randomise(module: nn.Module, seed: int) -> nn.Module:
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, parameter in module.named_parameters():
                noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64).to(parameter.dtype)
                leaf = name.rsplit(".", 1)[-1]
                if leaf in ("temperature", "logit_scale"):
                    parameter.copy_(1.5 + noise.abs())
                elif leaf in ("alpha", "gamma"):
                    parameter.copy_(0.7 * noise)
                elif parameter.ndim == 1:
                    parameter.add_(0.3 * noise)
                else:
                    parameter.copy_(noise / parameter[0].numel() ** 0.5)
        return module

    return randomise
