"""What a recipe's data section makes of a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from edgeir.errors import UsageError
from edgeir.models.checkpoint import save_checkpoint
from edgeir.models.loading import load_seeded
from edgeir.train.recipe import parse_recipe
from edgeir.train.setup import network_of, training_pictures


def test_a_section_decides_how_many_pictures_and_how_many_of_them_change_colour(
    content: Callable[..., dict[str, Any]], pictures: Path
) -> None:
    spec = load_seeded("cea-tiny", seed=0).spec
    section = content()["data"][0]
    changed = {**section, "sharpest": 0.5, "grey": 0.25, "channel_shuffle": 0.5}
    all_of_them, half = (
        training_pictures(parse_recipe(content(data=[part]), where="test"), spec, pictures)[0].source
        for part in (section, changed)
    )
    assert len(half.examples) == (len(all_of_them.examples) + 1) // 2
    assert set(half.examples) < set(all_of_them.examples)
    assert (all_of_them.grey, half.grey) == (0.0, 0.25)
    assert (all_of_them.channel_shuffle, half.channel_shuffle) == (0.0, 0.5)


def test_shipped_weights_to_begin_with(content: Callable[..., dict[str, Any]], pictures: Path) -> None:
    recipe = parse_recipe(content(model={"variant": "cea-tiny", "initial": "shipped"}), where="test")
    weights = network_of(recipe, pictures).spec.weights
    assert weights is not None
    assert (weights.trained, weights.source) == (True, "shipped")


def test_checkpoints_that_went_on_from_one_another_are_averaged(
    content: Callable[..., dict[str, Any]], pictures: Path
) -> None:
    parts = [load_seeded("cea-tiny", seed=seed) for seed in (1, 2)]
    for number, part in enumerate(parts):
        save_checkpoint(pictures / f"part-{number}.safetensors", part.module, part.spec)
    model = {"variant": "cea-tiny", "initial": [f"part-{number}.safetensors" for number in range(2)]}
    found = network_of(parse_recipe(content(model=model), where="test"), pictures).module.state_dict()
    first, second = (part.module.state_dict() for part in parts)
    moved = 0
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, (first[name] + second[name]) / 2 if tensor.is_floating_point() else tensor)
        moved += not torch.equal(tensor, first[name])
    assert moved > 10


def test_one_checkpoint_is_no_list(content: Callable[..., dict[str, Any]]) -> None:
    with pytest.raises(UsageError, match=r"model\.initial"):
        parse_recipe(content(model={"variant": "cea-tiny", "initial": ["part-0.safetensors"]}), where="test")


def test_all_of_several_checkpoints_are_of_the_network(content: Callable[..., dict[str, Any]], pictures: Path) -> None:
    for file, variant in (("a", "cea-tiny"), ("b", "kgt-tiny")):
        loaded = load_seeded(variant, seed=1)
        save_checkpoint(pictures / f"{file}.safetensors", loaded.module, loaded.spec)
    model = {"variant": "cea-tiny", "initial": ["a.safetensors", "b.safetensors"]}
    with pytest.raises(UsageError, match=r"b\.safetensors: the initial checkpoint is of another network"):
        network_of(parse_recipe(content(model=model), where="test"), pictures)


def test_there_are_none_for_every_network(content: Callable[..., dict[str, Any]], pictures: Path) -> None:
    model = {"variant": "cea-tiny", "overrides": {"dim": 8}, "initial": "shipped"}
    recipe = parse_recipe(content(model=model), where="test")
    with pytest.raises(UsageError, match=r"model\.initial: no weights come for cea-custom"):
        network_of(recipe, pictures)
