"""Calibration pictures: a choice of seed and content, spread over degradations and light, without the measuring set."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgeir.calibrate.pictures import CalibrationSet, calibration_set
from edgeir.errors import PictureError, UsageError
from edgeir.imaging.conditions import VALIDATION_CONDITIONS, condition_named
from edgeir.imaging.measuring import measuring_pictures

CONDITIONS = [condition_named(name) for name in ("clean", "noise-25", "haze", "low-light")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six pictures from dark to bright, one in a subfolder, one smaller than a crop, and a text."""
    rng = np.random.default_rng(0)
    (tmp_path / "photos" / "more").mkdir(parents=True)
    for index in range(6):
        side = 20 if index == 5 else 48 + 8 * index
        values = (40 * index + rng.integers(0, 40, (side, side + 5, 3))).astype(np.uint8)
        place = tmp_path / "photos" / ("more" if index == 2 else "") / f"p{index}.png"
        Image.fromarray(values).save(place)
    (tmp_path / "photos" / "notes.txt").write_text("no picture", encoding="utf-8")
    return tmp_path / "photos"


def chosen(folder: Path, **changes: object) -> CalibrationSet:
    settings = {"height": 32, "width": 40, "conditions": CONDITIONS, "count": 16, "seed": 0} | changes
    return calibration_set(folder, **settings)  # type: ignore[arg-type]


def test_spread_over_degradations_and_brightness(folder: Path) -> None:
    found = chosen(folder)
    assert len(found.samples) == 16
    assert Counter(sample.condition for sample in found.samples) == {condition.name: 4 for condition in CONDITIONS}
    for condition in CONDITIONS:
        light = [sample.luminance for sample in found.samples if sample.condition == condition.name]
        assert max(light) - min(light) > 0.4, condition.name
    assert {sample.picture for sample in found.samples} >= {"p0.png", "more/p2.png", "p5.png"}
    assert found.skipped == ("notes.txt",)
    assert set(found.sha256) == {sample.picture for sample in found.samples}


def test_the_same_folder_and_seed_give_the_same_samples(folder: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    shutil.copytree(folder, moved)
    first, second = chosen(folder), chosen(moved)
    assert (first.samples, first.sha256) == (second.samples, second.sha256)
    assert chosen(folder, seed=1).samples != first.samples
    for one, other in zip(first.batches(), second.batches(), strict=True):
        assert one.shape == (1, 3, 32, 40)
        assert one.dtype == np.float32
        assert np.array_equal(one, other)


def test_pairs_are_degraded_and_clean(folder: Path) -> None:
    found = chosen(folder)
    for sample, (degraded, clean) in zip(found.samples, found.pairs(), strict=True):
        assert degraded.shape == clean.shape == (32, 40, 3)
        assert np.array_equal(degraded, clean) == (sample.condition == "clean")
        assert float((clean @ [0.299, 0.587, 0.114]).mean()) == pytest.approx(sample.luminance, abs=1e-5)


def test_measuring_pictures_are_refused_by_content(folder: Path) -> None:
    from edgeir.imaging.measuring import _located

    shutil.copy(_located(measuring_pictures()[1]), folder / "holiday.png")
    with pytest.raises(UsageError, match=r"'holiday.png' is the measuring picture 'coffee'.*Take it out"):
        chosen(folder)


def test_what_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"fewer calibration samples than degradations .*expected at least 11, got 4"):
        chosen(folder, conditions=VALIDATION_CONDITIONS, count=4)
    (tmp_path / "none").mkdir()
    with pytest.raises(PictureError, match="there is no picture in this folder"):
        chosen(tmp_path / "none")
