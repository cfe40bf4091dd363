"""What a run needs is counted before it begins, for every network of the recipes."""

from __future__ import annotations

import pytest
import torch

from edgeir.train.estimate import estimate
from edgeir.train.recipe import Recipe, find_recipe, parse_recipe, read_recipe

EXDA = [
    "synthetic-exda-tiny",
    *(f"synthetic-exda-tiny-{part}" for part in ("detail", "weak", "haze", "colour", "mean")),
]


def recipe(**changes: object) -> Recipe:
    content = {
        "name": "small",
        "model": {"variant": "cea-tiny"},
        "data": [{"layout": "folder", "root": "."}],
        "stages": [{"steps": 1, "patch_px": 32, "batch": 4}],
        **changes,
    }
    return parse_recipe(content, where="test")


@pytest.mark.parametrize("name", ["quick", "synthetic-cea-tiny", *EXDA, "synthetic-kgt-tiny"])
def test_every_recipe_for_this_machine_can_be_estimated(name: str) -> None:
    needs = estimate(read_recipe(find_recipe(name)))
    assert 0 < needs.parameters < 7e6
    assert 0 < needs.activation_bytes < 8 << 30


def test_state_is_weights_gradients_moments_and_average() -> None:
    plain, averaged = estimate(recipe()), estimate(recipe(ema_decay=0.99))
    assert plain.state_bytes == 4 * 4 * plain.parameters
    assert averaged.state_bytes == 5 * 4 * plain.parameters


def test_activations_are_those_of_the_largest_share() -> None:
    one = estimate(recipe(stages=[{"steps": 1, "patch_px": 32, "batch": 1}]))
    four = estimate(recipe())
    shared = estimate(recipe(accumulate=2), world=2)
    assert four.activation_bytes == 4 * one.activation_bytes
    assert shared.activation_bytes == one.activation_bytes


def test_what_autograd_keeps_is_counted_right() -> None:
    """Against the tensors that a real forward pass on the CPU keeps."""
    from edgeir.models.loading import load_seeded

    network = load_seeded("cea-tiny", seed=0).module.train()
    weights = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    kept: dict[int, int] = {}
    alive: list[torch.Tensor] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        alive.append(tensor)
        address = tensor.untyped_storage().data_ptr()
        if address not in weights:
            kept[address] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        network(torch.rand(1, 3, 32, 32))
    counted = estimate(recipe(stages=[{"steps": 1, "patch_px": 32, "batch": 1}])).activation_bytes
    assert counted == pytest.approx(sum(kept.values()), rel=0.05)  # a kernel may keep a workspace that meta has not
