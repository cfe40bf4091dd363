"""Recipes' degradations are checked before anything is drawn, and what is drawn lies in the ranges they give."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest

from edgeir.errors import UsageError
from edgeir.imaging.degradations import KINDS, GaussianNoise, Haze, Jpeg
from edgeir.imaging.draws import Mixture, OneOf, Uniform, parse_mixture, parse_step

NOISE = {"kind": "gaussian-noise", "sigma_8bit": [5, 50]}
HAZE = {"kind": "haze", "beta": [0.4, 2.2], "airlight": 0.8}


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def mixture() -> Mixture:
    return parse_mixture(
        {"noise": {"weight": 3, "steps": [NOISE]}, "both": {"steps": [HAZE, NOISE]}, "clean": {"weight": 0.5}},
        where="recipe",
    )


def refused(table: Any, *, step: bool = True) -> str:
    with pytest.raises(UsageError) as caught:
        parse_step(table, where="here") if step else parse_mixture(table, where="here")
    return str(caught.value)


def test_a_range_is_filled_and_never_left() -> None:
    step = parse_step(NOISE, where="x")
    drawn = [step.draw(generator).sigma_8bit for generator in [rng()] for _ in range(400)]
    assert all(isinstance(value, float) and 5 <= value <= 50 for value in drawn)
    assert min(drawn) < 6
    assert max(drawn) > 49


def test_whole_numbers_reach_both_ends() -> None:
    step = parse_step({"kind": "jpeg", "quality": [30, 33]}, where="x")
    generator = rng()
    drawn = [step.draw(generator) for _ in range(100)]
    assert all(isinstance(one, Jpeg) and type(one.quality) is int for one in drawn)
    assert {one.quality for one in drawn} == {30, 31, 32, 33}


def test_a_range_of_one_value() -> None:
    assert Uniform(7, 7, True).draw(rng()) == 7
    assert Uniform(7, 7, False).draw(rng()) == 7


def test_one_of_gives_each_value_equally_often() -> None:
    step = parse_step({"kind": "jpeg", "quality": {"one_of": [10, 50, 90]}}, where="x")
    assert step.parameters["quality"] == OneOf((10, 50, 90))
    generator = rng()
    counts = Counter(step.draw(generator).quality for _ in range(900))
    assert set(counts) == {10, 50, 90}
    assert all(abs(count - 300) < 5 * math.sqrt(900 * 2 / 9) for count in counts.values())  # five deviations


def test_one_of_true_and_false() -> None:
    step = parse_step({**NOISE, "clip": {"one_of": [True, False]}}, where="x")
    generator = rng()
    assert {step.draw(generator).clip for _ in range(30)} == {True, False}


def test_fixed_values_stay_and_draw_nothing() -> None:
    step = parse_step({"kind": "gaussian-noise", "sigma_8bit": 25, "clip": True}, where="x")
    generator = rng()
    assert step.draw(generator) == GaussianNoise(25, clip=True)
    assert generator.random() == rng().random()


def test_the_order_of_the_parameters_in_the_recipe_does_not_matter() -> None:
    table = {"kind": "haze", "beta": [0.4, 2.2], "airlight": [0.6, 1]}
    turned = dict(reversed(table.items()))
    assert parse_step(table, where="x").draw(rng()) == parse_step(turned, where="x").draw(rng())


def test_parts_come_as_often_as_they_weigh() -> None:
    generator, parts = rng(), mixture()
    counts = Counter(parts.draw(generator).name for _ in range(1800))
    for name, share in {"noise": 3 / 4.5, "both": 1 / 4.5, "clean": 0.5 / 4.5}.items():
        assert abs(counts[name] - 1800 * share) < 5 * math.sqrt(1800 * share * (1 - share))  # five deviations


def test_equal_generators_draw_and_apply_equally() -> None:
    image = np.linspace(0, 1, 16 * 16 * 3, dtype=np.float32).reshape(16, 16, 3)
    results = []
    for generator in (rng(3), rng(3)):
        drawn = [mixture().draw(generator) for _ in range(20)]
        results.append((drawn, [one.apply(image, generator) for one in drawn]))
    assert results[0][0] == results[1][0]
    np.testing.assert_array_equal(results[0][1], results[1][1])
    assert [mixture().draw(rng(seed)) for seed in range(20)] != results[0][0]


def test_steps_are_applied_first_to_last() -> None:
    drawn = mixture().only(["both"], where="x").draw(rng())
    assert [type(step) for step in drawn.steps] == [Haze, GaussianNoise]
    image = np.full((8, 8, 3), 0.3, np.float32)
    one, other = rng(1), rng(1)
    expected = drawn.steps[1].apply(drawn.steps[0].apply(image, one), one)
    np.testing.assert_array_equal(drawn.apply(image, other), expected)


def test_clean_is_the_picture_itself() -> None:
    image = np.zeros((4, 4, 3), np.float32)
    assert mixture().only(["clean"], where="x").draw(rng()).apply(image, rng()) is image


def test_only_keeps_weights_and_takes_the_order_asked_for() -> None:
    chosen = mixture().only(["clean", "noise"], where="x")
    assert [(part.name, part.weight) for part in chosen.parts] == [("clean", 0.5), ("noise", 3)]


def test_only_offers_the_nearest_part() -> None:
    with pytest.raises(UsageError, match=r"data\[0\]: unknown degradation 'nois'. Did you mean 'noise'\?"):
        mixture().only(["nois"], where="data[0]")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({}, "here: a mixture needs at least one part."),
        ({"a": [NOISE]}, "here.a: not a table (expected keys weight, steps, got list)."),
        ({"a": {"wieght": 1}}, "here.a: unknown key 'wieght'. Did you mean 'weight'?"),
        ({"a": {"weight": 0}}, "here.a.weight: a weight is a number above zero (got 0)."),
        ({"a": {"weight": -1}}, "here.a.weight: a weight is a number above zero (got -1)."),
        ({"a": {"weight": math.inf}}, "here.a.weight: a weight is a number above zero (got inf)."),
        ({"a": {"weight": math.nan}}, "here.a.weight: a weight is a number above zero (got nan)."),
        ({"a": {"weight": True}}, "here.a.weight: a weight is a number above zero (got True)."),
        ({"a": {"weight": "2"}}, "here.a.weight: a weight is a number above zero (got '2')."),
        ({"a": {"steps": NOISE}}, "here.a.steps: steps are a list (got dict)."),
        (
            {"a": {"steps": [NOISE, {"kind": "hase"}]}},
            "here.a.steps[1]: unknown degradation 'hase'. Did you mean 'haze'?",
        ),
    ],
)
def test_refused_mixtures(table: Any, message: str) -> None:
    assert refused(table, step=False) == message


@pytest.mark.parametrize("table", ["haze", None, {}, {"kind": 3}, {"sigma_8bit": 3}])
def test_a_step_without_a_kind(table: Any) -> None:
    assert refused(table).startswith("here: a degradation has a kind (expected {kind: NAME, ...}, got ")


def test_an_unknown_parameter_offers_the_nearest() -> None:
    table = {"kind": "gaussian-noise", "sigma": 3}
    assert refused(table) == "here: unknown parameter 'sigma' of gaussian-noise. Did you mean 'sigma_8bit'?"


def test_all_missing_parameters_are_named_and_defaults_are_not() -> None:
    assert refused({"kind": "low-light", "gain": 1}) == (
        "here: low-light needs gamma, full_well_electrons, read_sigma_8bit."
    )


@pytest.mark.parametrize("value", [[50, 5], [5], [1, 2, 3], [], ["a", "b"], [0, math.inf], [0, math.nan], [0, True]])
def test_not_a_range(value: Any) -> None:
    message = refused({"kind": "gaussian-noise", "sigma_8bit": value})
    assert message == f"here.sigma_8bit: not a range (expected [low, high], low <= high, got {value!r})."


@pytest.mark.parametrize("value", [[10.5, 20], [20, 10]])
def test_not_a_range_of_whole_numbers(value: Any) -> None:
    assert "low <= high, whole numbers, got" in refused({"kind": "jpeg", "quality": value})


@pytest.mark.parametrize("kind", ["rain", "motion-blur"])
@pytest.mark.parametrize("value", ["north", True, None, math.inf, math.nan, {"one_of": ["north"]}])
def test_an_angle_that_is_no_number(kind: str, value: Any) -> None:
    # These classes check every parameter but the angle.
    rest = {"rain": {"density": 0.01, "opacity": 0.5}, "motion-blur": {}}[kind]
    assert "here.angle_deg: not a value (expected a number" in refused(
        {"kind": kind, "length_px": 9, "angle_deg": value, **rest}
    )


@pytest.mark.parametrize("value", [[0, 10], {"one_of": [1, 2]}])
def test_choices_are_not_nested(value: Any) -> None:
    table = {"kind": "motion-blur", "length_px": 9, "angle_deg": {"one_of": [value]}}
    assert refused(table) == f"here.angle_deg: not a value (expected a number, got {value!r})."


@pytest.mark.parametrize("value", [1, "yes", [0, 1], None, {"one_of": [True, 1]}])
def test_clip_is_true_or_false(value: Any) -> None:
    assert "here.clip: not a value (expected true or false" in refused({**NOISE, "clip": value})


@pytest.mark.parametrize("value", [30.0, "30", True])
def test_a_whole_number_is_one(value: Any) -> None:
    assert refused({"kind": "jpeg", "quality": value}) == (
        f"here.quality: not a value (expected a whole number, [low, high] or {{one_of: [...]}}, got {value!r})."
    )


@pytest.mark.parametrize("values", [[], 3, None])
def test_one_of_nothing(values: Any) -> None:
    assert "here.quality: one_of is a list of values" in refused({"kind": "jpeg", "quality": {"one_of": values}})


def test_one_of_is_the_only_choice() -> None:
    message = refused({"kind": "jpeg", "quality": {"oneof": [1]}})
    assert message == "here.quality: unknown key 'oneof'. Did you mean 'one_of'?"


@pytest.mark.parametrize("value", [0, 96, [0, 50], [50, 96], {"one_of": [50, 30, 96]}])
def test_out_of_range_at_any_end(value: Any) -> None:
    message = refused({"kind": "jpeg", "quality": value})
    assert message.startswith("here.quality: quality is out of range (expected 1 to 95, got ")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_a_dataclass_of_known_types(kind: str) -> None:
    from dataclasses import fields

    assert {field.type for field in fields(KINDS[kind])} <= {"float", "int", "bool"}  # type: ignore[arg-type]
