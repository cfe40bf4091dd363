"""The exponential moving average of the weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class MovingAverage:
    """``average = d * average + (1 - d) * weights`` after every step, with ``d = min(decay, (1 + n) / (10 + n))``.

    The ramp lets the average forget the initialisation (source: TensorFlow's ExponentialMovingAverage and its
    ``num_updates``).

    Args:
        network: whose parameters are averaged; the average begins as a copy of them.
        decay: d after the ramp, in [0, 1).
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.average = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Take in the weights after optimiser step ``step``, counted from 0."""
        decay = min(self.decay, (1 + step) / (10 + step))
        ours, theirs = [], []
        for name, tensor in network.state_dict().items():
            if tensor.is_floating_point():
                ours.append(self.average[name])
                theirs.append(tensor.detach())
            else:
                self.average[name].copy_(tensor)
        torch._foreach_lerp_(ours, theirs, 1 - decay)

    def state_dict(self) -> dict[str, Tensor]:
        """The averaged weights by name."""
        return self.average

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from a saved average."""
        for name, tensor in self.average.items():
            tensor.copy_(state[name])
