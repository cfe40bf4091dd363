"""Distillation: a network that is being changed stays close to what it was, measured on its own outputs.

In quantisation-aware training the float network is the teacher. It has no noise of its own and a target at every
picture, degraded ones without a truth included.
"""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn

from edgeir.errors import UsageError
from edgeir.train.fake_quant import is_fake_quantized

_Network = TypeVar("_Network", bound=nn.Module)


def frozen_copy(network: _Network) -> _Network:
    """A copy of a network, in evaluation mode for good and without gradients; later training leaves it alone.

    Raises:
        UsageError: the network is fake-quantised: its float self is not what it computes.
    """
    if is_fake_quantized(network):
        raise UsageError("the teacher is fake-quantised", where="distillation", fix="Copy it before insert_fake_quant.")
    return copy.deepcopy(network).eval().requires_grad_(False)


class Distillation:
    """The loss term ``weight * mean |student - teacher|``.

    Args:
        teacher: from `frozen_copy`.
        weight: of the term, at least 0.

    Raises:
        UsageError: the weight is negative.
    """

    def __init__(self, teacher: nn.Module, weight: float) -> None:
        if not weight >= 0:
            raise UsageError("the weight is negative", where="distillation", expected=">= 0", got=str(weight))
        self.teacher = teacher
        self.weight = weight

    def __call__(self, student_output: Tensor, degraded: Tensor) -> Tensor:
        """The term, a scalar with a gradient to the student only.

        Args:
            student_output: ``(N, 3, s*H, s*W)``, what the student made of ``degraded``.
            degraded: ``(N, 3, H, W)`` in [0, 1], the input of both.
        """
        with torch.no_grad():
            target: Tensor = self.teacher(degraded)
        return self.weight * (student_output - target).abs().mean()
