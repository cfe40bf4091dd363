"""Recipes: what is wrong with one is said before anything is computed, and names the place and the way out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from edgeir.errors import UsageError
from edgeir.train.recipe import PUBLISHED, Recipe, find_recipe, parse_recipe, published, read_recipe, recipe_yaml


def table(**changes: Any) -> dict[str, Any]:
    return {
        "name": "small",
        "model": {"variant": "cea-tiny"},
        "data": [{"layout": "folder", "root": "a"}, {"layout": "folder", "root": "b"}],
        "stages": [{"steps": 20, "patch_px": 16, "batch": 4}, {"steps": 10, "patch_px": 32, "batch": 2}],
        **changes,
    }


def recipe(**changes: Any) -> Recipe:
    return parse_recipe(table(**changes), where="r")


def refused(content: Any) -> str:
    with pytest.raises(UsageError) as caught:
        parse_recipe(content, where="r.yaml")
    return str(caught.value)


FULL = {
    "about": 'Grüße: "quotes" and # signs',
    "seed": 5,
    "model": {"variant": "exda-tiny", "overrides": {"dim": 8, "heads": [1, 2]}, "initial": "w/a.safetensors"},
    "data": [
        {
            "layout": "folder",
            "root": "a",
            "repeat": 3,
            "shrink": 2,
            "sharpest": 0.5,
            "grey": 0.1,
            "channel_shuffle": 0.2,
            "only": ["noise"],
        }
    ],
    "degradations": {"noise": {"weight": 0.5, "steps": [{"kind": "gaussian-noise", "sigma_8bit": [1.0e-7, 50]}]}},
    "loss": {"kind": "l1+fft", "fft_weight": 0.05},
    "optimiser": {"learning_rate": 1e-05, "betas": [0.9, 0.99], "schedule": "multistep", "milestones": [3, 9]},
    "ema_decay": 0.99,
    "validation": {"data": [{"layout": "folder", "root": "v"}], "conditions": ["clean"]},
    "qat": {"keep": ["latent.*"]},
}


def test_steps_and_samples() -> None:
    assert (recipe().steps, recipe().samples) == (30, 20 * 4 + 10 * 2)


def test_without_degradations_there_is_no_mixture() -> None:
    assert recipe().mixture() is None
    mixture = recipe(**FULL).mixture()
    assert mixture is not None
    assert [part.name for part in mixture.parts] == ["noise"]


def test_a_recipe_does_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        recipe().seed = 3  # type: ignore[misc]


@pytest.mark.parametrize("changes", [{}, FULL])
def test_written_and_read_it_is_equal(tmp_path: Path, changes: dict[str, Any]) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(recipe_yaml(recipe(**changes)), encoding="utf-8")
    assert read_recipe(path) == recipe(**changes)
    assert read_recipe(path).digest() == recipe(**changes).digest()
    assert "accumulate: 1" in path.read_text(encoding="utf-8")  # defaults are written out


@pytest.mark.parametrize("name", sorted(path.stem for path in PUBLISHED.glob("*.yaml")))
def test_every_published_recipe_can_be_read(name: str) -> None:
    assert name in published()
    assert find_recipe(name) == PUBLISHED / f"{name}.yaml"
    assert read_recipe(find_recipe(name)).name == name


def test_a_file_goes_before_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_recipe("quick") == PUBLISHED / "quick.yaml"
    (tmp_path / "quick").write_text("x")
    assert find_recipe("quick") == Path("quick")


def test_an_unknown_name_offers_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"^unknown recipe 'quik'. Did you mean 'quick'\?$"):
        find_recipe("quik")


def test_a_missing_file_lists_the_names(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"gone\.yaml: there is no such recipe file. Or name one of: .*quick"):
        find_recipe(str(tmp_path / "gone.yaml"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (table(sed=1), "r.yaml: sed: unknown key 'sed'. Did you mean 'seed'?"),
        (table(model={"varient": "x", "variant": "y"}), "r.yaml: model.varient: .*Did you mean 'variant'"),
        (table(optimiser={"learning_rat": 1}), "r.yaml: optimiser.learning_rat: .*Did you mean 'learning_rate'"),
        (table(qat={"percentil": 1}), "r.yaml: qat.percentil: .*Did you mean 'percentile'"),
        (table(data=[{"layout": "x", "root": "y", "repeats": 2}]), "r.yaml: data.0.repeats: .*Did you mean 'repeat'"),
        (
            table(stages=[table()["stages"][0], {"steps": 1, "patch_px": 8, "batch": 1, "patch": 1}]),
            "r.yaml: stages.1.patch: unknown key 'patch'. Did you mean '(patch_px|batch)'",
        ),
        (
            table(validation={"data": [{"layout": "x", "root": "y", "shrinks": 2}]}),
            "r.yaml: validation.data.0.shrinks: .*Did you mean 'shrink'",
        ),
    ],
)
def test_unknown_keys_offer_the_nearest(content: Any, message: str) -> None:
    import re

    assert re.match(message.replace("?", r"\?") if ".*" not in message else message, refused(content))


def test_a_stage_may_have_a_loss_of_its_own() -> None:
    first, second = table()["stages"]
    own = parse_recipe(table(stages=[first | {"loss": {"kind": "psnr"}}, second]), where="r.yaml")
    last = first["steps"] - 1
    assert [own.loss_at(step).kind for step in (0, last, last + 1, own.steps - 1)] == ["psnr", "psnr", "l1", "l1"]
    shared = parse_recipe(table(stages=[first | {"loss": None}, second]), where="r.yaml")
    assert shared.digest() == parse_recipe(table(), where="r.yaml").digest() != own.digest()


@pytest.mark.parametrize("key", ["name", "model", "data", "stages"])
def test_missing_keys(key: str) -> None:
    assert refused({k: v for k, v in table().items() if k != key}) == f"r.yaml: {key}: a key is missing."


def test_missing_keys_of_sections() -> None:
    assert refused(table(data=[{"layout": "folder"}])) == "r.yaml: data.0.root: a key is missing."
    assert refused(table(validation={})) == "r.yaml: validation.data: a key is missing."


@pytest.mark.parametrize(
    ("changes", "place", "got"),
    [
        ({"seed": -1}, "seed", "-1"),
        ({"version": 2}, "version", "2"),
        ({"ema_decay": 1.0}, "ema_decay", "1.0"),
        ({"ema_decay": -0.1}, "ema_decay", "-0.1"),
        ({"workers": -1}, "workers", "-1"),
        ({"accumulate": 0}, "accumulate", "0"),
        ({"autocast": "fp16"}, "autocast", "'fp16'"),
        ({"cache_mib": "many"}, "cache_mib", "'many'"),
        ({"data": []}, "data", "[]"),
        ({"stages": []}, "stages", "[]"),
        ({"stages": [{"steps": 0, "patch_px": 8, "batch": 1}]}, "stages.0.steps", "0"),
        ({"stages": [{"steps": 1.5, "patch_px": 8, "batch": 1}]}, "stages.0.steps", "1.5"),
        ({"data": [{"layout": "x", "root": "y", "repeat": 0}]}, "data.0.repeat", "0"),
        ({"loss": {"kind": "l2"}}, "loss.kind", "'l2'"),
        ({"loss": {"charbonnier_epsilon": 0}}, "loss.charbonnier_epsilon", "0"),
        ({"optimiser": {"learning_rate": 0}}, "optimiser.learning_rate", "0"),
        ({"optimiser": {"learning_rate": float("nan")}}, "optimiser.learning_rate", "nan"),
        ({"optimiser": {"gamma": 1.5}}, "optimiser.gamma", "1.5"),
        ({"optimiser": {"milestones": [0]}}, "optimiser.milestones.0", "0"),
        ({"qat": {"percentile": 101}}, "qat.percentile", "101"),
    ],
)
def test_values_out_of_range_or_of_another_type(changes: dict[str, Any], place: str, got: str) -> None:
    message = refused(table(**changes))
    assert message.startswith(f"r.yaml: {place}: ")
    assert message.endswith(f"(got {got}).")


def test_fine_tuning_on_nothing() -> None:
    message = refused(table(qat={"distill_weight": 0, "truth_weight": 0}))
    assert message == "r.yaml: qat: distill_weight and truth_weight are both 0: nothing would be trained."


@pytest.mark.parametrize(("warmup", "hold"), [(30, 0), (0, 30), (20, 10), (31, 0)])
def test_warm_up_and_hold_leave_steps(warmup: int, hold: int) -> None:
    message = refused(table(optimiser={"warmup_steps": warmup, "hold_steps": hold}))
    assert message == "r.yaml: warmup_steps + hold_steps leave nothing of the 30 steps."
    assert recipe(optimiser={"warmup_steps": 20, "hold_steps": 9}).steps == 30


@pytest.mark.parametrize("milestones", [[9, 3], [3, 3]])
def test_milestones_ascend(milestones: list[int]) -> None:
    assert refused(table(optimiser={"milestones": milestones})) == "r.yaml: milestones must ascend."


def test_degradations_are_checked_too() -> None:
    steps = [{"kind": "gausian-noise", "sigma_8bit": 3}]
    assert refused(table(degradations={"noise": {"weight": 1, "steps": steps}})) == (
        "small: degradations.noise.steps[0]: unknown degradation 'gausian-noise'. Did you mean 'gaussian-noise'?"
    )


@pytest.mark.parametrize(("content", "got"), [(None, "NoneType"), ([1], "list"), ("text", "str"), (3, "int")])
def test_not_a_table(content: Any, got: str) -> None:
    assert refused(content) == f"r.yaml: a recipe is a table of keys (got {got})."


def test_a_section_that_is_no_table() -> None:
    assert refused(table(model="cea-tiny")).startswith("r.yaml: model: ")


def test_keys_that_are_no_words() -> None:
    assert refused({**table(), 3: 4}).startswith("r.yaml: 3")


def test_not_yaml_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("name: a\nmodel: {variant: [\nx: }\n", encoding="utf-8")
    with pytest.raises(UsageError, match=r"r\.yaml:3: the recipe is not YAML \(got "):
        read_recipe(path)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00broken", b"name: \x00", b"name: !!python/object:os.system {}"])
def test_not_text_or_not_safe(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "r.yaml"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"r\.yaml.*the recipe is not YAML"):
        read_recipe(path)


def test_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"the recipe cannot be read \(got No such file"):
        read_recipe(tmp_path / "gone.yaml")
    with pytest.raises(UsageError, match=r"the recipe cannot be read \(got Is a directory"):
        read_recipe(tmp_path)


def test_read_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump(table(sed=1)), encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        read_recipe(path)
    assert str(caught.value).startswith(f"{path}: sed: unknown key")


@pytest.mark.parametrize(
    "changes",
    [
        {"workers": 7},
        {"cache_mib": 3},
        {"saving": {"every_steps": 7, "every_seconds": 7}},
        {"about": "other"},
        {"compile": True},
    ],
)
def test_the_digest_leaves_out_what_decides_no_weight(changes: dict[str, Any]) -> None:
    assert recipe(**changes).digest() == recipe().digest()


def test_an_option_that_came_later_changes_no_digest_until_it_is_used() -> None:
    section = {"layout": "folder", "root": "a"}
    said = {**section, "sharpest": 1.0, "grey": 0.0, "channel_shuffle": 0.0}
    watched = {"every_steps": 5, "conditions": ["clean"], "crop_px": 32}
    plain = recipe(data=[section], validation={**watched, "data": [section]}).digest()
    assert recipe(data=[said], validation={**watched, "data": [said]}).digest() == plain
    for used in ({"sharpest": 0.5}, {"grey": 0.5}, {"channel_shuffle": 0.5}):
        assert recipe(data=[{**section, **used}], validation={**watched, "data": [section]}).digest() != plain


def test_the_digest_takes_in_the_order_of_the_degradations() -> None:
    parts = {name: {"steps": [{"kind": "jpeg", "quality": 20}]} for name in ("one", "two")}
    turned = dict(reversed(parts.items()))
    assert recipe(degradations=parts).digest() != recipe(degradations=turned).digest()


@pytest.mark.parametrize("betas", [[1.5, 2], [0.9, 1], [-0.1, 0.9]])
def test_betas_are_shares(betas: list[float]) -> None:
    with pytest.raises(UsageError, match=r"optimiser\.betas\.\d"):
        recipe(optimiser={"betas": betas})


@pytest.mark.parametrize(
    "changes",
    [
        {"optimiser": {"learning_rate": 1e-3}},
        {"seed": 1},
        {"flips": False},
        {"accumulate": 2},
        {"autocast": "bf16"},
        {"ema_decay": 0.9},
        {"model": {"variant": "exda-tiny"}},
        {"stages": list(reversed(table()["stages"]))},
        {"data": list(reversed(table()["data"]))},
        {"loss": {"kind": "charbonnier"}},
        {"degradations": {"clean": {"weight": 1, "steps": []}}},
    ],
)
def test_the_digest_takes_in_the_rest(changes: dict[str, Any]) -> None:
    assert recipe(**changes).digest() != recipe().digest()
    assert len(recipe(**changes).digest()) == 64


@pytest.mark.parametrize("name", [name for name in published() if name.startswith("synthetic-")])
def test_the_patches_of_the_synthetic_recipes_fit_their_tiles(name: str) -> None:
    """The photographs come as tiles of 320 pixels; a source whose shrunk tiles are smaller than a patch has none."""
    found = read_recipe(find_recipe(name))
    largest = max(stage.patch_px for stage in found.stages)
    assert all(320 // section.shrink >= largest for section in found.data)
