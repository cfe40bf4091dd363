"""Checkpoints: what comes back is what was saved, and everything else is refused with a sentence."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from edgeir.errors import CheckpointError, OutputError, UsageError
from edgeir.models import checkpoint_file
from edgeir.models.build import LoadedModel, describe
from edgeir.models.checkpoint import load_checkpoint, save_checkpoint, weights_digest
from edgeir.models.loading import load_named

OVERRIDES = {"dim": 4, "blocks": [1, 1, 1, 1], "refine": 1, "heads": [1, 1, 2, 2]}


@pytest.fixture(scope="module")
def small() -> LoadedModel:
    return load_named("exda-tiny", seed=7, overrides=OVERRIDES)


def test_round_trip(small: LoadedModel, tmp_path: Path) -> None:
    path = tmp_path / "small.safetensors"
    stored = save_checkpoint(path, small.module, small.spec)
    assert stored == small.spec
    back = load_checkpoint(path)
    assert back.spec == replace(small.spec, weights=replace(small.spec.weights, source="checkpoint"))  # type: ignore[type-var]
    assert weights_digest(back.module.state_dict()) == weights_digest(small.module.state_dict())
    assert not back.module.training
    image = torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        assert torch.equal(back.module(image), small.module(image))
    assert [file.name for file in tmp_path.iterdir()] == ["small.safetensors"]


def test_a_failed_write_leaves_the_old_file(
    small: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "small.safetensors"
    save_checkpoint(path, small.module, small.spec)
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint_file.os, "fsync", full)
    with pytest.raises(OutputError, match="No space left on device"):
        save_checkpoint(path, small.module, small.spec)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["small.safetensors"]
    with pytest.raises(OutputError):
        save_checkpoint(tmp_path / "missing" / "small.safetensors", small.module, small.spec)


def test_spec_without_weights_is_stored_as_untrained(small: LoadedModel, tmp_path: Path) -> None:
    stored = save_checkpoint(tmp_path / "a.safetensors", small.module, replace(small.spec, weights=None))
    assert stored.weights is not None
    assert (stored.weights.source, stored.weights.trained) == ("checkpoint", False)
    trained = replace(small.spec, weights=replace(stored.weights, trained=True, sha256="stale"))
    save_checkpoint(tmp_path / "b.safetensors", small.module, trained)
    weights = load_checkpoint(tmp_path / "b.safetensors").spec.weights
    assert weights is not None
    assert weights.trained


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".ckpt", ".bin", ".safetensors"])
@pytest.mark.parametrize("prefix", ["", "module.", "net.", "module._orig_mod."])
def test_bare_weights_of_every_kind(small: LoadedModel, tmp_path: Path, suffix: str, prefix: str) -> None:
    state = {prefix + name: tensor.clone() for name, tensor in small.module.state_dict().items()}
    path = tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    _same_as_trained(load_checkpoint(path), small)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"params": state},
        lambda state: {"params": {"wrong": torch.ones(1)}, "params_ema": state},
        lambda state: {"state_dict": state, "epoch": 3, "hyper_parameters": {"lr": 2e-4}},
        lambda state: {"model_state_dict": state, "optimizer": {"state": {}}},
        lambda state: {"model": {"state_dict": state}},
    ],
)
def test_wrapped_weights(small: LoadedModel, tmp_path: Path, wrap: Callable[[Any], Any]) -> None:
    path = tmp_path / "weights.pth"
    torch.save(wrap(small.module.state_dict()), path)
    _same_as_trained(load_checkpoint(path), small)


def test_half_precision_weights_become_float32(small: LoadedModel, tmp_path: Path) -> None:
    path = tmp_path / "half.pth"
    torch.save({name: tensor.half() for name, tensor in small.module.state_dict().items()}, path)
    assert {tensor.dtype for tensor in load_checkpoint(path).module.state_dict().values()} == {torch.float32}


class Attack:
    """Creates a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("suffix", [".pth", ".pt", ".ckpt", ".bin"])
def test_a_pickle_that_wants_to_run_code_is_refused(tmp_path: Path, suffix: str, zipped: bool) -> None:
    target, path = tmp_path / "owned", tmp_path / f"evil{suffix}"
    torch.save({"state_dict": {"a": torch.ones(1)}, "x": Attack(target)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match="refused and nothing was run"):
        load_checkpoint(path)
    assert not target.exists()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_plain_pickle_runs_nothing_either(tmp_path: Path) -> None:
    target, path = tmp_path / "owned", tmp_path / "evil.pth"
    path.write_bytes(pickle.dumps(Attack(target)))
    with pytest.raises(CheckpointError):
        load_checkpoint(path)
    assert not target.exists()


def test_missing_empty_truncated_and_foreign_files(small: LoadedModel, tmp_path: Path) -> None:
    torch.save(small.module.state_dict(), tmp_path / "good.pth")
    save_checkpoint(tmp_path / "good.safetensors", small.module, small.spec)
    good = {suffix: (tmp_path / f"good{suffix}").read_bytes() for suffix in (".pth", ".safetensors")}
    cases = {
        "empty.pth": (b"", "is empty"),
        "empty.safetensors": (b"", "is empty"),
        "half.pth": (good[".pth"][: len(good[".pth"]) // 2], "truncated, damaged"),
        "half.safetensors": (good[".safetensors"][:-100], "damaged or not a safetensors"),
        "text.pth": (b"this is not a checkpoint\n" * 9, "not a PyTorch checkpoint"),
        "text.safetensors": (b"this is not a checkpoint\n" * 9, "not a safetensors"),
        "picture.png": (b"\x89PNG", "unknown kind of checkpoint file"),
    }
    for name, (data, sentence) in cases.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(CheckpointError, match=sentence):
            load_checkpoint(tmp_path / name)
    for name in ("absent.pth", ""):
        with pytest.raises(CheckpointError, match="no such checkpoint file"):
            load_checkpoint(tmp_path / name)


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, {"state_dict": {}}], ids=str)
def test_files_without_weights(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="no weights were found"):
        load_checkpoint(tmp_path / "a.pth")


def test_no_tensors_and_no_numbers(small: LoadedModel, tmp_path: Path) -> None:
    save_file({}, tmp_path / "none.safetensors")
    with pytest.raises(CheckpointError, match="no tensors"):
        load_checkpoint(tmp_path / "none.safetensors")
    state = {name: tensor.clone() for name, tensor in small.module.state_dict().items()}
    state["output.weight"][0, 0, 0, 0] = float("nan")
    torch.save(state, tmp_path / "nan.pth")
    with pytest.raises(CheckpointError, match=r"output\.weight: the weights hold NaN"):
        load_checkpoint(tmp_path / "nan.pth")


def test_another_network(tmp_path: Path) -> None:
    torch.save(torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2)).state_dict(), tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="no network that edgeir knows"):
        load_checkpoint(tmp_path / "a.pth")


def test_a_mismatch_lists_names_by_kind(small: LoadedModel, tmp_path: Path) -> None:
    path = tmp_path / "small.safetensors"
    save_checkpoint(path, small.module, small.spec)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path, variant="exda-tiny")
    text = str(caught.value)
    assert "does not fit exda-tiny" in text
    assert "missing: encoder_level1.1.norm1.body.weight" in text
    assert "wrong shape: patch_embed.proj.weight [4, 3, 3, 3] instead of [24, 3, 3, 3]" in text
    assert text.count("instead of") == 5
    with pytest.raises(CheckpointError, match=r"unexpected: .*alpha"):
        load_checkpoint(path, variant="restormer-bias")
    with pytest.raises(UsageError, match="Did you mean 'exda-tiny'"):
        load_checkpoint(path, variant="exda-tinny")


def test_same_tensors_under_other_settings_are_refused(tmp_path: Path) -> None:
    changed = load_named("kgt-tiny", overrides={"norm": "pre"})
    path = tmp_path / "a.safetensors"
    save_checkpoint(path, changed.module, changed.spec)
    assert load_checkpoint(path).spec.config["norm"] == "pre"
    with pytest.raises(CheckpointError, match="expected norm=post, got norm=pre"):
        load_checkpoint(path, variant="kgt-tiny")


def test_a_spec_that_lies_is_refused(small: LoadedModel, tmp_path: Path) -> None:
    path = tmp_path / "small.safetensors"
    save_checkpoint(path, small.module, small.spec)
    state = load_file(path)
    state["output.weight"] += 1
    save_file(state, path, metadata={"edgeir_spec": small.spec.to_json()})
    with pytest.raises(CheckpointError, match="not those that the spec in the file vouches for"):
        load_checkpoint(path)
    wrong = describe("exda-custom", "exda", {**OVERRIDES, "refine": 3}, small.spec.weights)
    save_file(state, path, metadata={"edgeir_spec": wrong.to_json()})
    with pytest.raises(CheckpointError, match=r"missing: refinement\.1\."):
        load_checkpoint(path)
    for text in ("{", "{}", small.spec.to_json().replace('"exda"', '"exdo"')):
        save_file(state, path, metadata={"edgeir_spec": text})
        with pytest.raises(CheckpointError, match="the spec in the checkpoint cannot be used"):
            load_checkpoint(path)


def test_digest_sees_names_shapes_types_and_bits() -> None:
    base = {"a": torch.tensor([1.0, 2.0]), "b": torch.zeros(2, 3)}
    assert weights_digest(base) == weights_digest(dict(reversed(list(base.items()))))
    assert weights_digest(base) == weights_digest({**base, "a": torch.tensor([1.0, 9.0, 2.0])[::2]})
    others = (
        {**base, "a": torch.tensor([1.0, 2.0000002])},
        {**base, "b": torch.zeros(3, 2)},
        {**base, "b": torch.zeros(2, 3, dtype=torch.int32)},
        {"a": base["a"], "c": base["b"]},
        {**base, "c": torch.zeros(())},
    )
    assert len({weights_digest(state) for state in (base, *others)}) == 6


def _same_as_trained(loaded: LoadedModel, wanted: LoadedModel) -> None:
    """The same network, with the settings that leave a trace, taken as trained because nothing says otherwise."""
    assert loaded.spec.weights is not None
    assert wanted.spec.weights is not None
    assert loaded.spec.config == wanted.spec.config
    assert loaded.spec.weights.sha256 == wanted.spec.weights.sha256
    assert (loaded.spec.weights.source, loaded.spec.weights.trained) == ("checkpoint", True)
