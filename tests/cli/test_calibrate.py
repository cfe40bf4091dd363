"""``edgeir calibrate``: from a bundle and pictures to ranges, blame and a plan that ``edgeir export`` takes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeir.calibrate.ranges import Ranges, ranges_to_json, read_ranges
from edgeir.precision import read_plan

FILES = ["calibration.json", "plan.yaml", "ranges.json", "report.html", "report.json"]


@pytest.fixture
def photographs(scene: Any, tmp_path: Path) -> Path:
    folder = tmp_path / "photographs"
    folder.mkdir()
    for index in range(2):
        scene(70 + 9 * index, 100).save(folder / f"mine-{index}.png")
    return folder


@pytest.fixture
def bundle(made_wide: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made_wide, tmp_path / "b.edgeir"))


def titles(report: dict[str, Any]) -> list[str]:
    return [table["title"] for table in report["tables"]]


def test_what_is_written_is_what_export_takes(
    cli: Any, wide_file: Path, bundle: Path, photographs: Path, tmp_path: Path
) -> None:
    before = sorted(bundle.iterdir())
    outcome = cli("calibrate", bundle, "--images", photographs, "--samples", 11, "--json").done()
    result = json.loads(outcome.out)
    folder = tmp_path / "b-int8-calibration"
    assert Path(result["folder"]) == folder
    assert sorted(path.name for path in folder.iterdir()) == FILES
    assert sorted(bundle.iterdir()) == before
    assert not list(tmp_path.glob("*.planning.json"))
    assert titles(result["report"]) == [
        "Calibration: what was seen",
        "Calibration: ranges that fit least",
        "Drift by layer",
        "Drift by layer and degradation",
    ]
    plan = read_plan(folder / "plan.yaml")
    low = [layer for layer in plan.layers if layer.type.eight_bits]
    assert len(low) > 10
    assert all(layer.evidence_db is not None for layer in low)
    assert "mine-" not in "".join((folder / name).read_text() for name in FILES)
    shares = next(table for table in result["report"]["tables"] if table["title"] == "Drift by layer")["rows"]
    assert [row[3] for row in shares] == sorted(row[3] for row in shares)  # cumulative

    given = ("--calibration", photographs, "--calibration-samples", 11, "--ranges", folder / "ranges.json")
    exported = ("export", "--checkpoint", wide_file, "--int8", *given, "--plan", folder / "plan.yaml")
    cli(*exported, "--size", "32x32", "--target", "ort", "--out", tmp_path / "low.edgeir").done()
    assert (tmp_path / "low.edgeir" / "ranges.json").read_text() == (folder / "ranges.json").read_text()
    assert read_plan(tmp_path / "low.edgeir" / "plan.yaml") == plan

    outcome = cli(*exported, "--size", "64x64", "--rewrite", "split-convs", "--out", tmp_path / "no.edgeir")
    outcome.sentence(2, "ranges.json", "of another graph", "Calibrate again")
    cli("calibrate", bundle, "--images", photographs).sentence(2, "not empty", "--force")


def test_a_fault_is_named_first_ten_times_of_ten(cli: Any, bundle: Path, photographs: Path, tmp_path: Path) -> None:
    """One layer's scale eight times too large: its layer is named in the first place of the report and of the error."""
    asked = ("calibrate", bundle, "--images", photographs, "--samples", 11, "--no-attribute", "--json")
    cli(*asked).done()
    good = read_ranges(tmp_path / "b-int8-calibration" / "ranges.json")
    rng = np.random.default_rng(0)
    for number, tensor in enumerate(rng.choice(list(good.tensors), 10, replace=False)):
        entry = good.tensors[tensor]
        broken = Ranges(good.method, 11, dict(good.tensors) | {str(tensor): replace(entry, amax=8 * entry.amax)})
        (tmp_path / "broken.json").write_text(ranges_to_json(broken))
        outcome = cli(*asked, "--ranges", tmp_path / "broken.json", "--out", tmp_path / f"out-{number}")
        table = json.loads(outcome.out)["report"]["tables"][1]
        layers, named, *_ = table["rows"][0]
        assert named == tensor
        outcome.sentence(1, "ranges that do not fit", layers.replace(", ", " and "), "mend it in ranges.json")
        assert f"the range of '{tensor}'" in outcome.err


def test_a_budget_chooses_and_goes_on_from_its_state(
    cli: Any, bundle: Path, photographs: Path, tmp_path: Path, stopped_planner: Callable[[], Any]
) -> None:
    asked = ("calibrate", bundle, "--images", photographs, "--samples", 11, "--drift-budget", 2e-5)
    with stopped_planner():
        assert cli(*asked).code == 130
    assert (tmp_path / "b-int8-calibration.planning.json").is_file()
    assert not (tmp_path / "b-int8-calibration").exists()
    outcome = cli(*asked).done()
    assert "going on with what was measured before: 1 of" in outcome.err
    assert not (tmp_path / "b-int8-calibration.planning.json").exists()
    plan = read_plan(tmp_path / "b-int8-calibration" / "plan.yaml")
    left = [layer for layer in plan.layers if "under the budget" in layer.reason]
    assert left
    assert "edgeir export --checkpoint FILE --int8 --calibration" in outcome.out
    cli(*asked, "--force", "--out", tmp_path / "b-int8-calibration").done()
    assert read_plan(tmp_path / "b-int8-calibration" / "plan.yaml") == plan


REFUSED = {
    "no bundle": (("gone.edgeir",), ("gone.edgeir", "no such bundle")),
    "unknown method": (("b.edgeir", "--method", "entopy"), ("'entopy'", "Did you mean 'entropy'?")),
    "a budget without costs": (
        ("b.edgeir", "--no-attribute", "--drift-budget", "0.1"),
        ("needs to know what each layer costs", "--no-attribute"),
    ),
    "no budget": (("b.edgeir", "--drift-budget", "0"), ("not a loss in dB", "--drift-budget")),
    "out is a file": (("b.edgeir", "--out", "file"), ("a folder is needed", "--out")),
    "no ranges": (("b.edgeir", "--ranges", "gone.json"), ("gone.json", "cannot be read")),
    "too few": (("b.edgeir", "--samples", "3"), ("fewer calibration samples than degradations",)),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(
    cli: Any, bundle: Path, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    arguments, words = REFUSED[case]
    before = sorted(tmp_path.iterdir())
    cli("calibrate", *arguments, "--images", photographs).sentence(2, *words)
    assert sorted(tmp_path.iterdir()) == before
