"""``edgeir train`` as a user meets it: the result, the check, the stop, and every refusal."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from edgeir.models.checkpoint import load_checkpoint

MICRO = {"dim": 8, "blocks": [1, 1, 1, 1], "refine": 1, "heads": [1, 2, 1, 2], "rank": 4, "adapter_width": 8}


def recipe_file(folder: Path, **changes: Any) -> Path:
    content = {
        "name": "micro",
        "model": {"variant": "cea-tiny", "overrides": MICRO},
        "data": [{"layout": "folder", "root": "photos"}],
        "degradations": {"noise": {"steps": [{"kind": "gaussian-noise", "sigma_8bit": [5, 40]}]}},
        "stages": [{"steps": 3, "patch_px": 16, "batch": 2}],
        "workers": 0,
        **changes,
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in content.items() if value is not None}), "utf-8")
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data" / "photos"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for index in range(3):
        Image.fromarray(rng.integers(0, 255, (24, 32, 3), np.uint8)).save(folder / f"{index}.png")
    return tmp_path / "data"


def train(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgeir.cli.main", "train", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=240, check=False)


def test_from_a_recipe_to_weights(tmp_path: Path, data: Path) -> None:
    (data / "photos" / "torn.png").write_bytes(b"no picture")
    path = recipe_file(tmp_path)
    result = train(path, "--data", data, "--out", "run", "--json", "--tensorboard", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["steps"] == 3
    assert "torn.png: this is not a picture" in result.stderr
    assert "step      3 of 3" in result.stderr
    weights = load_checkpoint(tmp_path / found["weights"]).spec.weights
    assert weights is not None
    assert weights.trained
    assert list((tmp_path / "run" / "tensorboard").iterdir())
    again = train(path, "--data", data, "--out", "run", cwd=tmp_path)
    assert again.returncode == 2
    assert "there is a run in this folder already" in again.stderr
    assert train("run/recipe.yaml", "--data", data, "--out", "run", "--resume", cwd=tmp_path).returncode == 0


def test_the_check_counts_and_trains_nothing(tmp_path: Path, data: Path) -> None:
    result = train(recipe_file(tmp_path), "--data", data, "--check", "--json", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["pictures"] == {"photos": 3}
    assert (found["steps"], found["epochs"]) == (3, 2.0)
    assert found["weights_and_optimiser_bytes"] == 4 * 4 * found["parameters"]
    assert found["activation_bytes"] > 0
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_after_the_step_and_saves(tmp_path: Path, data: Path, number: int, code: int) -> None:
    path = recipe_file(tmp_path, stages=[{"steps": 100_000, "patch_px": 16, "batch": 1}])
    command = [sys.executable, "-m", "edgeir.cli.main", "train", str(path), "--data", str(data), "--out", "run"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    while "step " not in (line := process.stderr.readline()):
        assert line, "it ended before its first step"
    time.sleep(0.2)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == code, said
    assert "--resume goes on" in said
    load_checkpoint(tmp_path / "run" / "latest.safetensors")
    assert not list((tmp_path / "run").glob("*.tmp"))


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"stagse": []}, "unknown key 'stagse'. Did you mean 'stages'?"),
    ({"stages": [{"steps": 3, "patch_px": 15, "batch": 2}]}, "stages[0].patch_px"),
    ({"stages": [{"steps": 3, "patch_px": 16, "batch": 3}], "accumulate": 2}, "cannot be shared out evenly"),
    ({"stages": [{"steps": 3, "patch_px": 64, "batch": 2}]}, "not one of these pictures can be used"),
    ({"data": [{"layout": "foldr", "root": "photos"}]}, "Did you mean 'folder'?"),
    ({"data": [{"layout": "folder", "root": "nowhere"}]}, "nowhere"),
    ({"model": {"variant": "cea-tyni"}}, "Did you mean 'cea-tiny'?"),
    ({"model": {"variant": "cea-tiny", "initial": "none.safetensors"}}, "no such checkpoint"),
    ({"data": [{"layout": "folder", "root": "photos", "only": ["nois"]}]}, "Did you mean 'noise'?"),
    (
        {"validation": {"data": [{"layout": "folder", "root": "photos"}], "crop_px": 16}},
        "3 validation pictures are trained on as well",
    ),
    (
        {"validation": {"data": [{"layout": "folder", "root": "photos"}], "crop_px": 16, "conditions": ["noise-26"]}},
        "Did you mean 'noise-25'?",
    ),
]


@pytest.mark.parametrize(("changes", "says"), REFUSED, ids=[says[:24] for _, says in REFUSED])
def test_one_sentence(tmp_path: Path, data: Path, changes: dict[str, Any], says: str) -> None:
    result = train(recipe_file(tmp_path, **changes), "--data", data, "--out", "run", cwd=tmp_path)
    assert result.returncode == 2, result.stderr
    assert says in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_pairs_of_two_sizes(tmp_path: Path, data: Path) -> None:
    for folder, side in (("input", 24), ("target", 32)):
        (data / "pairs" / folder).mkdir(parents=True)
        Image.new("RGB", (side, side)).save(data / "pairs" / folder / "a.png")
    path = recipe_file(tmp_path, data=[{"layout": "paired-folders", "root": "pairs"}], degradations=None)
    result = train(path, "--data", data, "--out", "run", cwd=tmp_path)
    assert result.returncode == 2
    assert "a.png" in result.stderr
    assert result.stderr.count("\n") == 1


def test_initial_weights_of_another_network(tmp_path: Path, data: Path) -> None:
    from edgeir.models.checkpoint import save_checkpoint
    from edgeir.models.loading import load_seeded

    loaded = load_seeded("cea-tiny", seed=0, overrides=MICRO)
    save_checkpoint(data / "other.safetensors", loaded.module, loaded.spec)
    path = recipe_file(tmp_path, model={"variant": "cea-tiny", "initial": "other.safetensors"})
    result = train(path, "--data", data, "--out", "run", cwd=tmp_path)
    assert result.returncode == 2
    assert "expected cea-tiny, got cea-custom" in result.stderr
    assert result.stderr.count("\n") == 1


def test_unknown_recipe(tmp_path: Path) -> None:
    result = train("quik", cwd=tmp_path)
    assert result.returncode == 2
    assert "unknown recipe 'quik'. Did you mean 'quick'?" in result.stderr
