"""The shipped weights: small, described truthfully, and pictures get better by them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from edgeir.imaging.conditions import condition_named, degrade
from edgeir.imaging.layout import nchw_from_hwc
from edgeir.imaging.measuring import load_measuring
from edgeir.imaging.metrics import psnr_float
from edgeir.models.loading import SHIPPED, load_named
from edgeir.models.registry import VARIANTS, weights_state
from edgeir.train.recipe import find_recipe, read_recipe

ROOT = Path(__file__).parents[2]
NAMES = sorted(path.stem for path in SHIPPED.glob("*.safetensors"))
RESULTS = json.loads((ROOT / "benchmarks/results/restoration-cpu.json").read_text(encoding="utf-8"))

# What exda-tiny, trained without a GPU, must reach on the mean of the measuring pictures, dB. No network may make a
# degradation that it was trained on worse, nor a clean picture visibly other.
LEAST_GAIN_DB = {
    "exda-tiny": {
        "noise-25": 6,
        "noise-50": 6,
        "rain": 1.5,
        "haze": 1.5,
        "low-light": 2.5,
        "blur": 0.25,
        "jpeg-20": 0.25,
    }
}
# On a degradation that a network has not learned.
MOST_LOST_DB = {"exda-tiny": 0.1, "cea-tiny": 0.1, "kgt-tiny": 0.0}
LEAST_CLEAN_DB = 38.0
MOST_BEHIND_FFDNET_DB = 3.0


@pytest.fixture(scope="module")
def model_cards(tool: Callable[[str], ModuleType]) -> ModuleType:
    return tool("model_cards")


def rows(name: str) -> dict[str, dict[str, Any]]:
    return {row["condition"]: row for row in RESULTS["rows"] if row["model"] == name}


def test_all_of_them_stay_small() -> None:
    assert NAMES
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) <= 25e6


@pytest.mark.parametrize("name", NAMES)
def test_they_are_trained_and_vouched_for(name: str) -> None:
    record = json.loads((SHIPPED / f"{name}.json").read_text(encoding="utf-8"))
    weights = load_named(name).spec.weights
    assert weights is not None
    assert (weights.source, weights.trained, weights_state(name)) == ("shipped", True, "trained")
    assert weights.sha256 == record["loaded_sha256"]
    assert {row["weights_sha256"] for row in rows(name).values()} == {weights.sha256}
    recipe = read_recipe(find_recipe(record["recipe"]))
    assert (recipe.digest(), recipe.steps) == (record["recipe_sha256"], record["steps"])


def test_the_rest_of_the_zoo_says_untrained() -> None:
    assert {name for name in VARIANTS if weights_state(name) == "trained"} == set(NAMES)


def test_the_cards_say_what_was_measured(model_cards: ModuleType) -> None:
    for path, text in model_cards.cards().items():
        assert path.read_text(encoding="utf-8") == text, "run: python tools/model_cards.py"


@pytest.mark.parametrize("name", NAMES)
def test_no_measured_degradation_gets_worse(name: str) -> None:
    for condition, row in rows(name).items():
        if condition == "clean":
            assert row["output_db"] >= LEAST_CLEAN_DB
        else:
            assert row["gain_db"] >= LEAST_GAIN_DB.get(name, {}).get(condition, -MOST_LOST_DB[name]), condition


@pytest.mark.parametrize("name", NAMES)
def test_noise_of_25_is_close_to_ffdnet(name: str) -> None:
    row = rows(name)["noise-25"]
    assert row["output_db"] >= row["ffdnet_db"] - MOST_BEHIND_FFDNET_DB


@pytest.fixture(scope="module")
def restore() -> Callable[[str, np.ndarray], np.ndarray]:
    networks = {name: load_named(name).module for name in NAMES}

    def run(name: str, picture: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            batch = torch.from_numpy(nchw_from_hwc(picture))
            return networks[name](batch)[0].numpy().transpose(1, 2, 0)

    return run


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("condition", ["noise-25", "noise-50"])
def test_the_figures_are_those_of_the_files(
    name: str, condition: str, restore: Callable[[str, np.ndarray], np.ndarray]
) -> None:
    """Two pictures at 128 pixels, measured here: the committed table must not be of other weights."""
    for picture in ("coffee", "chelsea"):
        clean = load_measuring(picture, 128)
        degraded = degrade(condition_named(condition), clean, picture)
        assert psnr_float(restore(name, degraded), clean) - psnr_float(degraded, clean) > 4
