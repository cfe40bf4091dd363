"""What every network of the zoo has in common: two interchangeable forms and an initialisation from one generator.

*Reference* form computes as published. *Fast* form computes the same numbers in a cheaper, FP16-safe order and is
the one that is exported. Both use the same parameters, so the form can change at any time after construction.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from edgeir.errors import UsageError, nearest

Form = Literal["fast", "reference"]


class TwoForms(nn.Module):
    """A layer whose ``forward`` looks at ``self.form``."""

    form: Form = "fast"


class RestorationNetwork(nn.Module):
    """Base of the networks: ``(N, 3, H, W) float -> (N, 3, s*H, s*W) float``, RGB in [0, 1], never pads or clamps."""

    form: Form = "fast"

    def set_form(self, form: str) -> None:
        """Choose ``"fast"`` or ``"reference"`` for the network and all its layers.

        Raises:
            UsageError: unknown form.
        """
        if form not in get_args(Form):
            raise UsageError(
                "unknown form of the network",
                where="set_form",
                expected="fast or reference",
                got=repr(form),
                fix=nearest(form, get_args(Form)),
            )
        for module in self.modules():
            if isinstance(module, (TwoForms, RestorationNetwork)):
                module.form = form  # type: ignore[assignment]


def initialise(network: nn.Module, generator: torch.Generator) -> None:
    """Fill every parameter from ``generator`` in the order of ``network.modules()``; the global RNG is not touched.

    Convolutions and linear layers get PyTorch's default (Kaiming uniform with a = sqrt(5): bound 1/sqrt(fan_in)),
    layer norms ones and zeros. What a block adds to the residual stream (its ``residual_outputs``) is then divided by
    the square root of the number of such branches (Radford et al. 2019, section 2.3): without it the stream grows with
    depth, and an untrained network magnifies rounding like chaos. A module that owns parameters of another kind has a
    method ``initialise_own(generator)``, which also has the last word on its children (zero-initialised layers).
    Only uniform draws are used: they are bit-identical whatever the number of threads and the vector unit.

    Raises:
        TypeError: a module owns parameters and has no rule (a bug in that module).
    """
    modules = list(network.modules())
    for module in modules:
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            fan_in = module.weight[0].numel()
            _uniform(module.weight, 1 / math.sqrt(fan_in), generator)
            if module.bias is not None:
                _uniform(module.bias, 1 / math.sqrt(fan_in), generator)
        elif isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        elif not hasattr(module, "initialise_own") and next(module.parameters(recurse=False), None) is not None:
            raise TypeError(f"{type(module).__name__} owns parameters and has no initialise_own(generator)")
    branches = [layer for module in modules for layer in getattr(module, "residual_outputs", ())]
    with torch.no_grad():
        for layer in branches:
            layer.weight.mul_(len(branches) ** -0.5)
    for module in modules:
        own = getattr(module, "initialise_own", None)
        if own is not None:
            own(generator)


def _uniform(tensor: Tensor, bound: float, generator: torch.Generator) -> None:
    with torch.no_grad():
        tensor.uniform_(-bound, bound, generator=generator)
