"""The mean of several networks' weights."""

from __future__ import annotations

import torch

from edgeir.train.averaging import mean_weights


def test_the_mean_of_every_weight_and_the_first_ones_indices() -> None:
    states = [
        {"w": torch.tensor([1.0, 2.0]), "index": torch.tensor([0, 1])},
        {"w": torch.tensor([3.0, 8.0]), "index": torch.tensor([0, 1])},
        {"w": torch.tensor([5.0, -1.0]), "index": torch.tensor([0, 1])},
    ]
    found = mean_weights(states)
    assert torch.equal(found["w"], torch.tensor([3.0, 3.0]))
    assert torch.equal(found["index"], torch.tensor([0, 1]))


def test_the_mean_of_one_is_itself_bit_for_bit() -> None:
    state = {"w": torch.rand(7, generator=torch.Generator().manual_seed(0))}
    assert torch.equal(mean_weights([state])["w"], state["w"])
