"""What a network moves and holds, counted on networks small enough to count by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import ModuleType

import pytest
import torch
from torch import nn

from edgeir.models.registry import VARIANTS
from edgeir.models.work import count_work

PIXELS = 32 * 48


def work_per_pixel(*layers: nn.Module) -> tuple[float, float, float, float]:
    work = count_work(nn.Sequential(*layers), 32, 48)
    return tuple(value / PIXELS for value in (work.macs, work.least_values, work.most_values, work.live_values))  # type: ignore[return-value]


def test_a_convolution_reads_and_writes() -> None:
    assert work_per_pixel(nn.Conv2d(3, 8, 3, padding=1)) == (216, 11, 11, 11)


def test_what_is_fused_moves_nothing_at_least() -> None:
    layers = nn.Conv2d(3, 8, 1), nn.GELU(), nn.Conv2d(8, 3, 1)
    assert work_per_pixel(*layers) == (48, 22, 38, 19)  # the input stays alive: its caller holds it


def test_operators_are_counted() -> None:
    work = count_work(nn.Sequential(nn.Conv2d(3, 8, 1), nn.GELU(), nn.Conv2d(8, 3, 1), nn.Flatten()), 32, 48)
    assert (work.kernels, work.operators) == (2, 3)


def test_in_place_and_views() -> None:
    assert work_per_pixel(nn.Conv2d(3, 8, 1), nn.ReLU(inplace=True), nn.Flatten())[1:] == (11, 27, 11)


def test_what_is_held_is_given_back() -> None:
    class Wide(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(nn.Conv2d(8, 8, 1) for _ in range(6))
            self.first = nn.Conv2d(3, 8, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.first(x)
            for layer in self.layers:
                x = layer(x)
            return x

    assert work_per_pixel(Wide())[3] == 3 + 8 + 8


def test_weights_do_not_count() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1000, 1, 1, 1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * self.scale[:1]

    assert work_per_pixel(Scaled()) == (0, 0, 6, 6)


def test_the_module_stays_as_it_was() -> None:
    network = nn.Sequential(nn.Conv2d(3, 3, 1)).train()
    count_work(network, 8, 8)
    assert network.training
    assert next(network.parameters()).device.type == "cpu"


# The others are of the same architectures, and counting all of them takes a minute.
@pytest.mark.parametrize("name", ["cea-tiny", "kgt-tiny", "exda-tiny"])
def test_the_table_is_what_is_counted(tool: Callable[[str], ModuleType], name: str) -> None:
    network_work = tool("network_work")
    table = json.loads(network_work.TABLE.read_text(encoding="utf-8"))
    assert list(table) == list(VARIANTS)
    counted = network_work.row(name)
    assert counted.keys() == table[name].keys()
    # Another PyTorch may split an operator otherwise; what matters is the size of it.
    assert counted == {key: pytest.approx(value, rel=0.02) for key, value in table[name].items()}
    assert table[name]["macs"] * 65536 / 1e9 == pytest.approx(VARIANTS[name].gmac_256_fast, abs=0.01)


def test_costs_are_in_proportion_to_the_pixels(tool: Callable[[str], ModuleType]) -> None:
    small, large = (tool("network_work").row("kgt-tiny", side) for side in (128, 384))
    assert large == {key: pytest.approx(value, rel=0.03) for key, value in small.items()}
