"""The measuring pictures are the ones that the yardstick was measured on."""

from __future__ import annotations

import importlib.machinery
import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeir.errors import MissingDependency, PictureError, UsageError
from edgeir.imaging import measuring
from edgeir.imaging.measuring import MEASURING_PICTURES, load_measuring, measuring_pictures
from edgeir.imaging.metrics import psnr_float
from edgeir.imaging.noise import gaussian_noise

INSTALLED = all(importlib.util.find_spec(package) for package in ("skimage", "sklearn"))
needs_pictures = pytest.mark.skipif(not INSTALLED, reason="scikit-image or scikit-learn is not installed")


def test_order() -> None:
    assert [picture.name for picture in measuring_pictures()] == [
        "astronaut",
        "coffee",
        "chelsea",
        "rocket",
        "ihc",
        "hubble_deep_field",
        "retina",
        "china",
        "flower",
        "motorcycle_left",
        "motorcycle_right",
        "camera",
        "brick",
        "grass",
        "gravel",
        "moon",
    ]
    assert measuring_pictures(3) == MEASURING_PICTURES[:3]
    assert [picture.name for picture in MEASURING_PICTURES if picture.grey] == [p.name for p in MEASURING_PICTURES[11:]]
    for limit in (0, 17):
        with pytest.raises(UsageError, match="not that many measuring pictures"):
            measuring_pictures(limit)


def test_the_set_is_the_published_one() -> None:
    # Whoever changes the table changes every number measured on it: a new set, and this line, on purpose.
    assert measuring.MEASURING_SET_SHA256 == "84b9d4b266210249a42f0be4696923f5e315ab6f7375d1174d86a94e4412d733"


@needs_pictures
@pytest.mark.parametrize("picture", MEASURING_PICTURES, ids=lambda picture: picture.name)
def test_every_picture_is_here(picture: measuring.MeasuringPicture) -> None:
    pixels = load_measuring(picture.name)
    assert (pixels.shape, pixels.dtype) == ((256, 256, 3), np.float32)
    assert pixels.min() >= 0
    assert pixels.max() <= 1
    assert pixels.std() > 0.01
    assert np.array_equal(pixels[..., 0], pixels[..., 2]) is picture.grey


@needs_pictures
def test_the_crop_is_the_middle() -> None:
    larger = load_measuring("coffee", crop_px=100)
    np.testing.assert_array_equal(load_measuring("coffee", crop_px=50), larger[25:75, 25:75])
    for crop_px in (0, 401):
        with pytest.raises(UsageError, match="does not fit the measuring picture"):
            load_measuring("coffee", crop_px=crop_px)


@needs_pictures
@pytest.mark.parametrize(("sigma_8bit", "yardstick_db"), [(15, 24.96), (25, 20.76), (50, 15.31)])
def test_yardstick_of_the_noisy_pictures(sigma_8bit: float, yardstick_db: float) -> None:
    """Nine pictures, noise from a fresh ``default_rng(0)`` each, float, not clipped; the noisy picture clipped."""
    noisy_db = []
    for picture in measuring_pictures(9):
        clean = load_measuring(picture.name)
        noisy = gaussian_noise(clean, np.random.default_rng(0), sigma_8bit=sigma_8bit)
        noisy_db.append(psnr_float(noisy, clean))
    assert np.mean(noisy_db) == pytest.approx(yardstick_db, abs=0.006)  # the yardstick has two decimals


def test_unknown_name() -> None:
    with pytest.raises(UsageError, match="Did you mean 'astronaut'"):
        load_measuring("astronout")


def pretend_package(monkeypatch: pytest.MonkeyPatch, folder: Path | None) -> None:
    spec = None
    if folder is not None:
        spec = importlib.machinery.ModuleSpec("skimage", None, is_package=True)
        spec.submodule_search_locations = [str(folder)]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)


def test_package_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_package(monkeypatch, None)
    with pytest.raises(MissingDependency, match=r"skimage are not here.*pip install 'edgeir\[export\]'.*--images DIR"):
        load_measuring("astronaut")


def test_package_without_the_picture(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pretend_package(monkeypatch, tmp_path)
    with pytest.raises(MissingDependency, match=r"does not ship data/astronaut\.png"):
        load_measuring("astronaut")


def test_another_file_under_the_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "astronaut.png").write_bytes(b"another")
    pretend_package(monkeypatch, tmp_path)
    with pytest.raises(PictureError, match="not the measuring picture"):
        load_measuring("astronaut")


def test_the_hash_covers_content_and_order(monkeypatch: pytest.MonkeyPatch) -> None:
    hashes = {measuring.table_sha256()}
    first, second, *rest = MEASURING_PICTURES
    for table in ((second, first, *rest), (replace(first, sha256="0" * 64), second, *rest), (first, *rest)):
        monkeypatch.setattr(measuring, "MEASURING_PICTURES", table)
        hashes.add(measuring.table_sha256())
    assert len(hashes) == 4
