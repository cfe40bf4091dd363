"""Keys: everything that decides a result changes them, and nothing else does."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import pytest

from edgeir.sweep.trial import Build, Machine, Settings, Trial, bundle_key, trial_key

BUILD = Build("exda-tiny", "1" * 64, "int8", 64, 96, plan="/x/plan.yaml", plan_sha256="2" * 64)
TRIAL = Trial(BUILD, 64, 96)
SETTINGS = Settings(2, 9)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "exda-full"},
        {"content_sha256": "3" * 64},
        {"precision": "fp8"},
        {"height": 96},
        {"width": 64},
        {"batch": 2},
        {"k": 4},
        {"targets": ("rtx",)},
        {"runtimes": ("onnxruntime",)},
        {"drift_budget_db": 0.1},
        {"plan_sha256": None},
        {"calibration_sha256": "4" * 64},
    ],
)
def test_what_decides_a_bundle(machine: Machine, change: dict[str, Any]) -> None:
    other = replace(BUILD, **change)
    assert bundle_key(other, machine) != bundle_key(BUILD, machine)
    assert trial_key(replace(TRIAL, build=other), SETTINGS, machine) != trial_key(TRIAL, SETTINGS, machine)
    assert other != BUILD


@pytest.mark.parametrize("place", ["plan", "calibration", "bundle", "checkpoint"])
def test_where_content_lies_decides_nothing(machine: Machine, place: str) -> None:
    other = replace(BUILD, **{place: "/elsewhere"})
    assert bundle_key(other, machine) == bundle_key(BUILD, machine)
    assert (other, hash(other)) == (BUILD, hash(BUILD))


@pytest.mark.parametrize("change", [{"height": 128}, {"tile_px": 64}, {"backend": "torch"}, {"threads": 2}])
def test_what_decides_a_trial_alone(machine: Machine, change: dict[str, Any]) -> None:
    other = replace(TRIAL, **change)
    assert trial_key(other, SETTINGS, machine) != trial_key(TRIAL, SETTINGS, machine)


def test_settings_versions_and_device_decide_too(machine: Machine) -> None:
    key = trial_key(TRIAL, SETTINGS, machine)
    newer = replace(machine, versions={"edgeir": "1"})
    board = replace(machine, device={**machine.device, "processor": "a board"})
    others = [
        trial_key(TRIAL, Settings(3, 9), machine),
        trial_key(TRIAL, Settings(2, 8), machine),
        *(trial_key(TRIAL, SETTINGS, one) for one in (newer, board)),
    ]
    assert len({key, *others}) == 5
    assert len({one.identity for one in (machine, newer, board)}) == 3


def test_json_and_back() -> None:
    assert Trial.from_dict(json.loads(json.dumps(asdict(TRIAL)))) == TRIAL
    assert Trial.from_dict(json.loads(json.dumps(asdict(TRIAL)))).build.plan == "/x/plan.yaml"
    bare = Trial.from_dict(json.loads(json.dumps(TRIAL.identity())))
    assert (bare, bare.build.plan) == (TRIAL, None)


def test_labels(trial: Callable[..., Trial]) -> None:
    assert trial().label == "one fp16 32x32 ort"
    usual = replace(trial(batch=4, k=16), tile_px=16, threads=2, backend="torch")
    assert usual.label == "one fp16 32x32 torch batch 4 k 16 tile 16 threads 2"
    assert usual.comparable == ("32x32", 1)
    assert trial(batch=4).comparable == ("32x32", 4)
