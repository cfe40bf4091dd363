"""The averaged weights against a loop by hand, and what is saved of them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from edgeir.train.ema import MovingAverage


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)
        self.register_buffer("seen", torch.tensor(0))
        self.register_buffer("mean", torch.zeros(2))
        generator = torch.Generator().manual_seed(0)
        for tensor in (self.layer.weight.data, self.layer.bias.data, self.mean):
            tensor.copy_(torch.randn(tensor.shape, generator=generator))


def move(network: Network, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator))
        network.mean += 1
        network.seen += 1


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9, 0.999])
def test_the_ramp_by_hand(decay: float) -> None:
    network = Network()
    average = MovingAverage(network, decay)
    names = ("layer.weight", "layer.bias", "mean")
    expected = {name: network.state_dict()[name].double() for name in names}
    for step in range(30):
        move(network, step)
        average.update(network, step)
        d = min(decay, (1 + step) / (10 + step))
        for name in names:
            expected[name] = d * expected[name] + (1 - d) * network.state_dict()[name].double()
    for name in names:
        torch.testing.assert_close(average.state_dict()[name].double(), expected[name], rtol=1e-5, atol=1e-5)


def test_the_first_step_takes_nine_tenths_of_the_new_weights() -> None:
    network = Network()
    before = network.layer.weight.detach().clone()
    average = MovingAverage(network, 0.999)
    move(network, 1)
    average.update(network, 0)
    torch.testing.assert_close(average.average["layer.weight"], 0.1 * before + 0.9 * network.layer.weight.detach())


def test_it_begins_as_a_copy_and_leaves_the_network_alone() -> None:
    network = Network()
    average = MovingAverage(network, 0.9)
    begun = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    move(network, 1)
    moved = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    for name, tensor in average.state_dict().items():
        assert torch.equal(tensor, begun[name])
        assert not tensor.requires_grad
    average.update(network, 5)
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, moved[name])


def test_counters_are_copied() -> None:
    network = Network()
    average = MovingAverage(network, 0.9)
    for step in range(3):
        move(network, step)
        average.update(network, step)
    assert average.state_dict()["seen"].item() == 3


def test_a_saved_average_goes_on_to_the_bit() -> None:
    network = Network()
    average = MovingAverage(network, 0.9)
    for step in range(5):
        move(network, step)
        average.update(network, step)
    saved = {name: tensor.clone() for name, tensor in average.state_dict().items()}
    resumed = MovingAverage(Network(), 0.9)
    resumed.load_state_dict(saved)
    for step in range(5, 10):
        move(network, step)
        average.update(network, step)
        resumed.update(network, step)
    assert average.state_dict().keys() == resumed.state_dict().keys()
    for name, tensor in average.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name])
        assert name == "seen" or not torch.equal(tensor, saved[name])  # the saved copy was not written to
    Network().load_state_dict(average.state_dict())
