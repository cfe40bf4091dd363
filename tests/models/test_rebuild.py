"""From a spec back to the network with the very same weights."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from edgeir.errors import CheckpointError
from edgeir.models.build import LoadedModel, build_seeded, describe
from edgeir.models.checkpoint import load_checkpoint, save_checkpoint
from edgeir.models.digest import weights_digest
from edgeir.models.loading import load_named
from edgeir.models.rebuild import rebuild

CONFIG = {"dim": 8, "blocks": [1, 1, 1, 1], "refine": 1, "heads": [1, 1, 1, 1]}


def saved(path: Path, seed: int) -> LoadedModel:
    save_checkpoint(path, build_seeded("exda", CONFIG, seed=seed), describe("exda-custom", "exda", CONFIG, None))
    return load_checkpoint(path)


def test_a_named_network_comes_back() -> None:
    spec = load_named("kgt-tiny", overrides={"k": 32}).spec
    again = rebuild(spec)
    assert again.spec.config == spec.config
    assert spec.weights is not None
    assert weights_digest(again.module.state_dict()) == spec.weights.sha256


def test_a_named_network_of_other_weights_is_refused() -> None:
    spec = load_named("kgt-tiny").spec
    assert spec.weights is not None
    other = dataclasses.replace(spec, weights=dataclasses.replace(spec.weights, sha256="0" * 64))
    with pytest.raises(CheckpointError, match="not the weights that the bundle was made from"):
        rebuild(other)


def test_a_users_network_needs_its_checkpoint(tmp_path: Path) -> None:
    loaded = saved(tmp_path / "own.safetensors", seed=1)
    with pytest.raises(CheckpointError, match="--checkpoint FILE"):
        rebuild(loaded.spec)
    again = rebuild(loaded.spec, checkpoint=tmp_path / "own.safetensors")
    assert weights_digest(again.module.state_dict()) == weights_digest(loaded.module.state_dict())


def test_another_checkpoint_is_refused(tmp_path: Path) -> None:
    loaded = saved(tmp_path / "own.safetensors", seed=1)
    saved(tmp_path / "other.safetensors", seed=2)
    with pytest.raises(CheckpointError, match="not the weights that the bundle was made from"):
        rebuild(loaded.spec, checkpoint=tmp_path / "other.safetensors")
