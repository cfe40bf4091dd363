"""Sweep recipes: what they multiply to, and every mistake in one sentence before anything starts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from edgeir.errors import BundleError, EdgeIRError, PictureError, UsageError
from edgeir.models.registry import VARIANTS
from edgeir.precision import read_plan
from edgeir.sweep.expansion import expand
from edgeir.sweep.recipe import PUBLISHED, load_recipe, recipe_names
from edgeir.sweep.trial import Trial

SMALL = "name: small\nmodels: [exda-tiny]\nsizes: [64x64]\n"
Expand = Callable[..., tuple[Trial, ...]]


@pytest.fixture
def trials(tmp_path: Path) -> Expand:
    """``trials(text)``: of a recipe with this text."""

    def make(text: str, **options: Any) -> tuple[Trial, ...]:
        path = tmp_path / "recipe.yaml"
        path.write_text(text)
        loaded, found = load_recipe(str(path))
        return expand(loaded, found, **options)

    return make


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "clean"
    folder.mkdir()
    for shade in (10, 200):
        Image.new("RGB", (8, 8), (shade, 0, 0)).save(folder / f"{shade}.png")
    return folder


def test_the_product_in_order(trials: Expand, pictures: Path) -> None:
    found = trials(
        "name: all\nmodels: [exda-tiny, kgt-tiny]\nprecisions: [fp32, int8]\nsizes: [128x128, 64X96]\nbatches: [1, 2]\n"
        "k: [null, 32]\ntiles: [null, 32]\nbackends: [ort, torch]\nthreads: [1]\ntargets: [rtx]\nfor: [onnxruntime]\n"
        "drift_budget: 0.1\nexclude: [{model: kgt-tiny, precision: int8}, {backend: torch, tile: 32}]\n",
        calibration=pictures,
    )
    # exda: 2 precisions x 2 sizes x 2 batches x 3 of tile and backend; kgt: twice the k, half the precisions.
    assert Counter(trial.build.name for trial in found) == {"exda-tiny": 24, "kgt-tiny": 24}
    assert len(set(found)) == 48
    assert found[0].label == "exda-tiny fp32 128x128 ort threads 1"
    assert {trial.build.k for trial in found if trial.build.name == "exda-tiny"} == {None}
    tiled = [trial for trial in found if trial.tile_px]
    assert {(trial.build.height, trial.build.width) for trial in tiled} == {(32, 32)}
    assert {trial.size for trial in tiled} == {"128x128", "64x96"}
    eight = [trial.build for trial in found if trial.build.precision == "int8"]
    assert {build.drift_budget_db for build in eight} == {0.1}
    assert len({build.calibration_sha256 for build in eight}) == 1
    assert {trial.build.calibration for trial in found if trial.build.precision == "fp32"} == {None}
    assert {trial.build.runtimes for trial in found} == {("onnxruntime",)}


def test_a_checkpoint_is_a_model(trials: Expand, tmp_path: Path) -> None:
    (tmp_path / "mine.safetensors").write_bytes(b"weights")
    (one,) = trials("name: own\nmodels: [mine.safetensors]\nsizes: [64x64]\n")
    assert one.build.name == "mine"
    assert one.build.checkpoint == str(tmp_path / "mine.safetensors")
    (tmp_path / "mine.safetensors").write_bytes(b"others")
    (other,) = trials("name: own\nmodels: [mine.safetensors]\nsizes: [64x64]\n")
    assert other.build.content_sha256 != one.build.content_sha256


def test_calibration_by_content(trials: Expand, pictures: Path, tmp_path: Path) -> None:
    text = SMALL + "precisions: [int8]\ncalibration: clean\n"
    (one,) = trials(text)
    (tmp_path / "clean").rename(tmp_path / "elsewhere")
    (moved,) = trials(text, calibration=tmp_path / "elsewhere")
    assert moved == one
    (tmp_path / "elsewhere" / "10.png").unlink()
    assert trials(text, calibration=tmp_path / "elsewhere") != (one,)


@pytest.mark.parametrize("name", recipe_names())
def test_published_recipes(name: str, pictures: Path) -> None:
    recipe, path = load_recipe(name)
    assert recipe.name == name
    assert expand(recipe, path, calibration=pictures)


def test_the_tiny_recipe(pictures: Path) -> None:
    recipe, path = load_recipe("tiny")
    found = expand(recipe, path, calibration=pictures)
    assert len(found) == 18
    assert {trial.build.name for trial in found} == {"exda-tiny", "kgt-tiny", "cea-tiny"}
    assert {trial.build.targets for trial in found} == {("rtx",)}
    assert all((trial.build.plan is not None) == (trial.build.precision == "int8") for trial in found)
    with pytest.raises(UsageError, match=r"tiny.yaml: int8 needs pictures .* --calibration FOLDER\."):
        expand(recipe, path)


def test_published_plans_name_nothing_of_a_machine() -> None:
    plans = sorted((PUBLISHED / "plans").glob("*.yaml"))
    assert len(plans) == 3
    for path in plans:
        assert str(read_plan(path).eight_bit_type) == "int8"
        text = path.read_text()
        assert not any(word in text for word in ("/tmp", "/home", "/work", "\\"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("- a\n", r"a recipe is a table of keys"),
        ("name: [\n", r"the recipe is not YAML"),
        ("name: small\nsizes: [64x64]\n", r"name either models or bundles, and neither is given"),
        (SMALL + "bundles: [b.edgeir]\n", r"name either models or bundles, and both is given"),
        (SMALL + "presisions: [fp16]\n", r"unknown key 'presisions'. Did you mean 'precisions'\?"),
        (SMALL + "fro: [onnxruntime]\n", r"unknown key 'fro'. Did you mean 'for'\?"),
        (SMALL + "limits: {second: 3}\n", r"limits.second: unknown key 'second'. Did you mean 'seconds'\?"),
        (SMALL + "limits: {seconds: 0}\n", r"limits.seconds: input should be greater than 0"),
        (SMALL + "precisions: [fp64]\n", r"precisions.0: .*'fp32', 'fp16', 'int8' or 'fp8'.*got 'fp64'"),
        (SMALL + "precisions: []\n", r"precisions: .*at least 1"),
        (SMALL + "rounds: 2\n", r"rounds: .*greater than or equal to 3"),
        (SMALL + "pictures: 17\n", r"pictures: .*less than or equal to 16"),
        (SMALL + "backends: [orrt]\n", r"unknown backend 'orrt'. Did you mean 'ort'\?"),
        (SMALL + "exclude: [{}]\n", r"an exclusion names at least one key"),
        (SMALL + "exclude: [{precision: fp32}]\n", r"exclude.0: no trial matches this exclusion"),
        (SMALL + "exclude: [{size: 64X64}]\n", r"every trial is excluded"),
        (SMALL + "tiles: [96]\n", r"a tile is smaller than the picture \(expected below 64x64, got 96\)"),
        (SMALL + "tiles: [40]\n", r"exda-tiny: the size does not fit .*multiples of 16.* Use 48x48"),
        (SMALL + "precisions: [int8]\n", r"int8 needs pictures to find the ranges"),
        (SMALL + "plans: {kgt-tiny: {int8: a.yaml}}\n", r"a plan for 'kgt-tiny', which is not swept"),
        ("name: small\nmodels: [exda-tiny]\n", r"name at least one size"),
        ("name: small\nmodels: [exda-tyni]\nsizes: [64x64]\n", r"unknown model 'exda-tyni'.*'exda-tiny'\?"),
        ("name: small\nmodels: [a.pth]\nsizes: [64x64]\n", r"there is no such checkpoint"),
        ("name: small\nmodels: [exda-tiny]\nsizes: [72x64]\n", r"multiples of 16.*got 72x64\). Use 80x64"),
        ("name: small\nmodels: [exda-tiny]\nsizes: [64]\n", r"sizes.0"),
        ("name: a/b\nmodels: [exda-tiny]\nsizes: [64x64]\n", r"name: string should match pattern"),
        ("name: small\nbundles: [b.edgeir]\nprecisions: [fp16]\n", r"a finished bundle has its own precisions"),
        ("name: small\nbundles: [b.edgeir]\n", r"there is no such bundle"),
    ],
)
def test_every_mistake_is_one_sentence(trials: Expand, text: str, says: str) -> None:
    with pytest.raises(EdgeIRError, match=says) as raised:
        trials(text)
    assert isinstance(raised.value, (UsageError, BundleError))
    assert "\n" not in str(raised.value)


def test_a_plan_for_another_precision(trials: Expand, tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text("plan_version: 1\ndefault: fp16\nlayers: {a: {type: int8, reason: b}}\n")
    with pytest.raises(UsageError, match=r"the plan of exda-tiny for fp16 has int8 layers"):
        trials(SMALL + "plans: {exda-tiny: {fp16: plan.yaml}}\n")
    with pytest.raises(PictureError, match="there is no such folder"):
        trials(SMALL + "precisions: [int8]\nplans: {exda-tiny: {int8: plan.yaml}}\ncalibration: nowhere\n")


def test_an_unknown_recipe_offers_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"unknown sweep recipe 'tyni'. Did you mean 'tiny'\?"):
        load_recipe("tyni")


def test_kgt_is_the_only_one_with_k() -> None:
    assert {entry.architecture for entry in VARIANTS.values() if "k" in entry.config} <= {"kgt"}
