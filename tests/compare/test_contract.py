"""A contract's limits as checks: each at its own figure, on the right side, with a way out; mistakes are refused."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from edgeir.compare.contract import (
    Contract,
    Measured,
    cost_checks,
    quality_checks,
    read_contract,
    require_conditions,
    require_truth,
)
from edgeir.compare.drift import PictureDrift
from edgeir.errors import UsageError
from edgeir.imaging.look import Look


def row(picture: str, condition: str, loss_db: float) -> PictureDrift:
    return PictureDrift(
        picture,
        condition,
        20,
        30,
        30 - loss_db,
        50 - loss_db,
        -loss_db,
        0,
        Look(2 * loss_db, 0, 0, 0),
        1 - loss_db,
        False,
    )


DRIFT = [row("a", "rain", 0.1), row("b", "rain", 0.3), row("a", "haze", 0.0), row("b", "haze", 0.1)]

# key of quality -> (limit that holds exactly, limit that does not, words of the check)
LIMITS = {
    "mean_drift_db": (0.125, 0.124, "mean drift"),
    "worst_degradation_db": (0.2, 0.199, "worst degradation (rain)"),
    "worst_picture_db": (0.3, 0.299, "worst picture (b under rain)"),
    "fidelity_db": (49.7, 49.8, "worst fidelity"),
    "ssim": (0.7, 0.71, "worst SSIM"),
    "brightness_shift_8bit": (0.3, 0.29, "brightness shift"),
    "hue_shift_deg": (0.6, 0.59, "hue shift"),
    "degradations": ({"haze": 0.05}, {"haze": 0.049}, "mean drift under haze"),
    "least_gain_db": ({"rain": 9.8}, {"rain": 9.81}, "gain under rain"),
}
# A limit may be an exact binary fraction away from its figure: both are rounded here, not in the check.
SLACK = 1e-9


@pytest.mark.parametrize("key", LIMITS)
def test_a_limit_is_held_against_its_own_figure(key: str) -> None:
    holds, fails, words = LIMITS[key]
    least = key in ("fidelity_db", "ssim", "least_gain_db")

    def loose(limit: float) -> float:
        return limit - SLACK if least else limit + SLACK

    for limit, passes in ((holds, True), (fails, False)):
        value = {name: loose(one) for name, one in limit.items()} if isinstance(limit, dict) else loose(limit)
        (check,) = quality_checks(Contract.model_validate({"quality": {key: value}}), DRIFT, where="contract.yaml")
        assert check.passed is passes, check
        assert words in check.name
        assert check.advice


def test_costs_are_judged_where_they_are_limited_and_what_was_not_measured_fails() -> None:
    contract = Contract.model_validate(
        {"latency": {"p95_ms": 40, "pictures_per_second": 20}, "memory": {"peak_mib": 100, "bundle_mb": 5}}
    )
    good = Measured(p95_ms=40, pictures_per_second=20, peak_mib=100, bundle_mb=5)
    assert [check.passed for check in cost_checks(contract, good)] == [True] * 4
    bad = Measured(p95_ms=41, pictures_per_second=19, peak_mib=101, bundle_mb=6)
    assert [check.passed for check in cost_checks(contract, bad)] == [False] * 4
    unmeasured = cost_checks(contract, Measured())
    assert [check.passed for check in unmeasured] == [False] * 4
    assert all(math.isnan(check.value) for check in unmeasured)
    assert cost_checks(Contract(), good) == []


def test_a_degradation_that_was_not_measured_is_refused() -> None:
    for key in ("degradations", "least_gain_db"):
        contract = Contract.model_validate({"quality": {key: {"rian": 1}}})
        with pytest.raises(UsageError, match=rf"c.yaml: quality.{key}: no degradation 'rian'.*'rain'"):
            quality_checks(contract, DRIFT, where="c.yaml")


def test_names_are_looked_at_before_anything_is_measured() -> None:
    contract = Contract.model_validate({"quality": {"degradations": {"rain": 1}, "least_gain_db": {"fogg": 1}}})
    require_conditions(contract, ["rain", "fogg"], where="c.yaml")
    with pytest.raises(UsageError, match=r"c.yaml: quality.least_gain_db: no degradation 'fogg' is measured.*'fog'"):
        require_conditions(contract, ["rain", "fog"], where="c.yaml")


def test_a_gain_over_a_smaller_input_means_nothing() -> None:
    contract = Contract.model_validate({"quality": {"least_gain_db": {"downsampled x2": 1}}})
    with pytest.raises(UsageError, match="least_gain_db cannot be judged: the network enlarges"):
        require_truth(contract, trained=True, scale=2, where="c.yaml")


def test_limits_against_the_truth_need_a_trained_network() -> None:
    contract = Contract.model_validate({"quality": {"worst_picture_db": 1}})
    require_truth(contract, trained=True, where="c.yaml")
    with pytest.raises(UsageError, match=r"c.yaml: quality: worst_picture_db cannot be judged"):
        require_truth(contract, trained=False, where="c.yaml")
    require_truth(Contract.model_validate({"quality": {"ssim": 0.9}}), trained=False, where="c.yaml")


def test_reading(tmp_path: Path) -> None:
    file = tmp_path / "contract.yaml"
    file.write_text("about: camera\nquality: {mean_drift_db: 0.05, degradations: {rain: 0.1}}\n", encoding="utf-8")
    contract = read_contract(file)
    assert contract.about == "camera"
    assert contract.quality.degradations == {"rain": 0.1}
    assert not contract.costs
    for text, words in {
        "quality: {mean_drift_db: -1}": "greater than 0",
        "quality: {mean_drift_db: .inf}": "finite",
        "[1, 2]": "a contract is a table of keys",
        "latency: {p5_ms: 3}": "Did you mean 'p[59][05]?_ms'",
        "quality: {}": "states no limit",
    }.items():
        file.write_text(text, encoding="utf-8")
        with pytest.raises(UsageError, match=words):
            read_contract(file)
    with pytest.raises(UsageError, match="cannot be read"):
        read_contract(tmp_path / "gone.yaml")
