"""Publishing: only finished runs, float16 that still restores the same, and a record of how it was trained."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from edgeir.errors import CheckFailed, UsageError
from edgeir.models.checkpoint import load_checkpoint, save_checkpoint
from edgeir.models.loading import load_seeded
from edgeir.train.data import TrainingSet
from edgeir.train.distributed import Group
from edgeir.train.loop import Trainer
from edgeir.train.publish import main, publish
from edgeir.train.recipe import Recipe, parse_recipe, recipe_yaml
from edgeir.train.setup import network_of, training_pictures
from edgeir.train.state import load_state, save_state

Content = Callable[..., dict[str, Any]]


class Silent:
    def stepped(self, progress: object) -> None: ...
    def saved(self, step: int) -> None: ...
    def validated(self, step: int, psnr_db: dict[str, float]) -> None: ...


@pytest.fixture
def recipe(content: Content) -> Recipe:
    stages = [{"steps": 2, "patch_px": 16, "batch": 1}]
    return parse_recipe(content(model={"variant": "cea-tiny"}, stages=stages), where="test")


def run(recipe: Recipe, data: Path, out: Path, *, stop: bool = False) -> Path:
    out.mkdir()
    (out / "recipe.yaml").write_text(recipe_yaml(recipe), encoding="utf-8")
    loaded = network_of(recipe, data)
    sources = [part.source for part in training_pictures(recipe, loaded.spec, data)]
    samples = TrainingSet(sources, seed=recipe.seed, flips=True, scale=1, cache_bytes=2**20)
    alone = Group(0, 1, torch.device("cpu"))
    Trainer(recipe, loaded, samples, alone, out, watcher=Silent(), validator=None, should_stop=lambda: stop).run()
    return out


def test_half_the_bytes_and_the_same_network(recipe: Recipe, pictures: Path, tmp_path: Path) -> None:
    record = publish(run(recipe, pictures, tmp_path / "run"), tmp_path, hardware="two cores")
    shipped = tmp_path / "cea-tiny.safetensors"
    assert {tensor.dtype for tensor in load_file(shipped).values()} == {torch.float16}
    loaded = load_checkpoint(shipped, variant="cea-tiny")
    trained = load_checkpoint(tmp_path / "run" / "latest.safetensors")
    assert loaded.spec.weights is not None
    assert loaded.spec.weights.trained
    for name, tensor in trained.module.state_dict().items():
        assert torch.equal(loaded.module.state_dict()[name], tensor.half().float())
    assert (record.steps, record.patches, record.pixels) == (2, 2, 512)
    assert json.loads((tmp_path / "cea-tiny.json").read_text())["weights_sha256"] == record.weights_sha256
    assert record.loaded_sha256 == loaded.spec.weights.sha256
    assert (record.chosen, record.hardware) == ("latest", "two cores")


def test_the_last_weights_may_be_kept_beside_better_ones(
    recipe: Recipe, pictures: Path, tmp_path: Path, content: Content
) -> None:
    folder = run(recipe, pictures, tmp_path / "run")
    other = load_checkpoint(folder / "latest.safetensors")
    with torch.no_grad():
        next(other.module.parameters()).mul_(0.5)
    save_checkpoint(folder / "best.safetensors", other.module, other.spec)
    best, last = (publish(folder, tmp_path, hardware="x", keep=keep) for keep in (None, "latest"))
    assert (best.chosen, last.chosen, last.held_out_db) == ("best", "latest", None)
    assert best.weights_sha256 != last.weights_sha256
    assert load_file(tmp_path / "cea-tiny.safetensors").keys() == load_file(folder / "latest.safetensors").keys()


def test_a_run_before_its_end_is_refused(
    recipe: Recipe, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run(recipe, pictures, tmp_path / "run", stop=True)
    assert main([str(folder), "--to", str(tmp_path), "--hardware", "x"]) == UsageError.exit_code
    assert "the run has not come to its end" in capsys.readouterr().err
    assert not (tmp_path / "cea-tiny.safetensors").exists()


def test_a_run_that_went_on_from_another_names_it(
    recipe: Recipe, pictures: Path, tmp_path: Path, content: Content
) -> None:
    (tmp_path / "first").mkdir()
    first = publish(run(recipe, pictures, tmp_path / "1"), tmp_path / "first", hardware="x")
    shutil.copy(tmp_path / "first" / "cea-tiny.safetensors", pictures)
    stages = [{"steps": 3, "patch_px": 16, "batch": 1}]
    model = {"variant": "cea-tiny", "initial": "cea-tiny.safetensors"}
    second = run(parse_recipe(content(model=model, stages=stages), where="test"), pictures, tmp_path / "2")
    with pytest.raises(UsageError, match=r"began with the weights cea-tiny\.safetensors, no record"):
        publish(second, tmp_path, hardware="x")
    record = publish(second, tmp_path, hardware="x", before=tmp_path / "first" / "cea-tiny.json")
    assert record.steps == 3
    assert record.before == asdict(first)
    stored = json.loads((tmp_path / "cea-tiny.json").read_text())
    assert stored["before"]["weights_sha256"] == first.weights_sha256
    with pytest.raises(UsageError, match="began from its seed"):
        publish(tmp_path / "1", tmp_path, hardware="x", before=tmp_path / "cea-tiny.json")
    (tmp_path / "other.json").write_text('{"variant": "exda-tiny"}')
    with pytest.raises(UsageError, match=r"of another network.*exda-tiny"):
        publish(second, tmp_path, hardware="x", before=tmp_path / "other.json")
    with pytest.raises(UsageError, match="cannot be read"):
        publish(second, tmp_path, hardware="x", before=tmp_path / "missing.json")


def test_the_mean_with_published_weights(recipe: Recipe, pictures: Path, tmp_path: Path) -> None:
    for name in ("other", "mean"):
        (tmp_path / name).mkdir()
    folder = run(recipe, pictures, tmp_path / "run")
    shutil.copy(folder / "latest.safetensors", folder / "best.safetensors")
    save_state(folder, replace(load_state(folder, recipe_digest=recipe.digest()), best_db=30.0))
    other = publish(folder, tmp_path / "other", hardware="x")
    theirs = load_checkpoint(tmp_path / "other" / "cea-tiny.safetensors")
    with torch.no_grad():
        for parameter in theirs.module.parameters():
            parameter.mul_(1.5)
    published = save_checkpoint(tmp_path / "other" / "cea-tiny.safetensors", theirs.module, theirs.spec)
    assert published.weights is not None
    record = publish(folder, tmp_path / "mean", hardware="x", average_with=tmp_path / "other" / "cea-tiny.safetensors")
    assert record.averaged_with == published.weights.sha256 != other.loaded_sha256
    assert other.held_out_db == 30.0
    assert record.held_out_db is None  # it is the run's own weights', not the mean's
    mean = load_checkpoint(tmp_path / "mean" / "cea-tiny.safetensors").module.state_dict()
    own = load_checkpoint(folder / "best.safetensors" if record.chosen == "best" else folder / "latest.safetensors")
    for name, tensor in own.module.named_parameters():
        torch.testing.assert_close(mean[name].float(), tensor * 1.25, rtol=2e-3, atol=1e-6)  # float16, twice


def test_the_mean_with_another_network_is_refused(recipe: Recipe, pictures: Path, tmp_path: Path) -> None:
    folder = run(recipe, pictures, tmp_path / "run")
    loaded = load_seeded("kgt-tiny", seed=0)
    save_checkpoint(tmp_path / "k.safetensors", loaded.module, loaded.spec)
    with pytest.raises(UsageError, match=r"k\.safetensors: weights of another network"):
        publish(folder, tmp_path, hardware="x", average_with=tmp_path / "k.safetensors")
    assert not (tmp_path / "cea-tiny.safetensors").exists()


def test_weights_that_float16_cannot_hold_are_refused(recipe: Recipe, pictures: Path, tmp_path: Path) -> None:
    folder = run(recipe, pictures, tmp_path / "run")
    loaded = load_checkpoint(folder / "latest.safetensors")
    with torch.no_grad():
        next(loaded.module.parameters()).view(-1)[0] = 1e5
    save_checkpoint(folder / "latest.safetensors", loaded.module, loaded.spec)
    with pytest.raises(CheckFailed, match="do not survive float16"):
        publish(folder, tmp_path, hardware="x")
    assert not (tmp_path / "cea-tiny.safetensors").exists()


def test_nothing_to_publish(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        publish(tmp_path / "nowhere", tmp_path, hardware="x")
