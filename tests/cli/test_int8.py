"""``edgeir export --int8`` and ``--fp8``: calibrated on the user's pictures, held to the gates of eight bits."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgeir.bundle import Bundle
from edgeir.calibrate.planner import Evaluation, Loss, PlannedLayers
from edgeir.calibrate.ranges import read_ranges
from edgeir.calibrate.sensitivity import Effect, Sensitivity
from edgeir.precision import read_plan


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a small CEA whose layers are wide enough for eight bits."""
    from edgeir.models.build import build_seeded, describe
    from edgeir.models.checkpoint import save_checkpoint
    from edgeir.spec import WeightsSpec

    settings = {"dim": 16, "blocks": [1, 1, 1, 1], "refine": 1, "heads": [1, 2, 1, 2], "rank": 4, "adapter_width": 16}
    path = tmp_path_factory.mktemp("wide") / "wide.safetensors"
    weights = WeightsSpec(source="seeded", trained=False, sha256="", seed=7)
    save_checkpoint(path, build_seeded("cea", settings, seed=7), describe("cea-custom", "cea", settings, weights))
    return path


@pytest.fixture
def photographs(scene: Any, tmp_path: Path) -> Path:
    folder = tmp_path / "photographs"
    folder.mkdir()
    for index in range(3):
        scene(70 + 9 * index, 100).save(folder / f"mine-{index}.png")
    (folder / "notes.txt").write_text("x")
    return folder


def exporting(wide: Path, photographs: Path, out: Path, *options: object) -> tuple[object, ...]:
    size = ("--size", "32x32", "--target", "ort", "--out", out)
    return ("export", "--checkpoint", wide, "--calibration", photographs, "--calibration-samples", 11, *size, *options)


def test_a_bundle_in_int8(cli: Any, wide: Path, photographs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    outcome = cli(*exporting(wide, photographs, out, "--int8")).done()
    assert "11 degraded crops of 3 pictures" in outcome.err
    assert "putting every layer into int8 that may be" in outcome.err  # it is untrained
    path = out / "cea-custom-int8-32x32.edgeir"
    bundle = Bundle.open(path)
    assert bundle.manifest.precision == "int8"
    model = next(item for item in bundle.manifest.artifacts if item.path == "model.onnx")
    assert model.parents == ("reference.onnx", "plan.yaml", "ranges.json")
    low = [layer.layer for layer in read_plan(bundle.file("plan")).layers if str(layer.type) == "int8"]
    assert len(low) > 10
    ranges = read_ranges(bundle.file("ranges"))
    assert (ranges.method, ranges.pictures) == ("mse", 11)
    assert set(ranges.migrated) <= set(low)
    assert f"moved from channels into weights in front of {len(ranges.migrated)} layers" in outcome.err
    assert any(name.endswith("ffn.project_out") for name in ranges.migrated)
    record = json.loads(bundle.file("calibration").read_text())
    assert len(record["samples"]) == 11
    assert len({sample["sha256"] for sample in record["samples"]}) == 3
    assert "mine-" not in bundle.file("calibration").read_text()  # a bundle does not name its maker's files
    report = json.loads((path / "report.json").read_text())
    titles = [table["title"] for table in report["tables"]]
    assert {"Calibration: what was seen", "Calibration: ranges that fit least"} < set(titles)
    facts = {fact["label"]: fact["value"] for fact in report["facts"]}
    assert f"{len(low)} layers in eight bits" in facts["precision"]
    assert facts["in eight bits"].endswith("% of all multiply-accumulates")
    Image.new("RGB", (32, 32), (90, 120, 60)).save(tmp_path / "p.png")
    cli("run", path, tmp_path / "p.png", "-o", tmp_path / "r.png").done()
    assert (tmp_path / "r.png").is_file()
    validated = cli("validate", path, "--checkpoint", wide, "--pictures", 1).done().out
    assert "cea-custom (UNTRAINED) in int8 on 1 pictures" in validated
    plan = path / "plan.yaml"
    again = cli(*exporting(wide, photographs, tmp_path / "again.edgeir", "--int8", "--plan", plan)).done()
    assert again.code == 0
    assert (tmp_path / "again.edgeir" / "model.onnx").read_bytes() == (path / "model.onnx").read_bytes()
    outcome = cli("export", "--checkpoint", wide, "--size", "32x32", "--plan", plan, "--out", tmp_path / "no.edgeir")
    outcome.sentence(2, "layers in int8", "Export with --int8 --calibration FOLDER")


@pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None, reason="tensorrt_rtx is not installed: no engine can be built"
)
@pytest.mark.parametrize(("kind", "cards"), [("int8", "sm86-sm89-sm120"), ("fp8", "sm89-sm120")])
def test_engines(cli: Any, wide: Path, photographs: Path, tmp_path: Path, kind: str, cards: str) -> None:
    path = tmp_path / "b.edgeir"
    cli(*exporting(wide, photographs, path, f"--{kind}", "--target", "rtx")).done()
    Image.new("RGB", (32, 32), (90, 120, 60)).save(tmp_path / "p.png")
    cli("run", path, tmp_path / "p.png", "-o", tmp_path / "r.png").done()
    (engine,) = (path / "engines").iterdir()
    assert engine.name.endswith(f"{cards}.plan")


# options, words of the sentence
REFUSED = {
    "no pictures": (("--int8",), ("--int8 needs pictures", "--calibration FOLDER")),
    "no pictures for fp8": (("--fp8",), ("--fp8 needs pictures", "--calibration FOLDER")),
    "two precisions": (("--int8", "--fp16"), ("name one precision", "--fp16 and --int8")),
    "pictures for nothing": (("--calibration", "."), ("--calibration goes with --int8 or --fp8", "--fp16")),
    "a method for nothing": (("--calibration-method", "mse"), ("--calibration-method goes with",)),
    "samples for nothing": (("--fp32", "--calibration-samples", "22"), ("--calibration-samples goes with", "--fp32")),
    "no such folder": (("--int8", "--calibration", "gone"), ("gone", "no such folder")),
    "empty folder": (("--int8", "--calibration", "empty"), ("empty", "no picture")),
    "unknown method": (
        ("--int8", "--calibration", "empty", "--calibration-method", "entopy"),
        ("'entopy'", "Did you mean 'entropy'?"),
    ),
    "too few": (
        ("--int8", "--calibration", "pictures", "--calibration-samples", "3"),
        ("fewer calibration samples than degradations", "at least 11", "got 3"),
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(
    cli: Any, wide: Path, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    (tmp_path / "empty").mkdir()
    photographs.rename(tmp_path / "pictures")
    monkeypatch.chdir(tmp_path)
    options, words = REFUSED[case]
    before = sorted(path.name for path in tmp_path.iterdir())
    cli("export", "--checkpoint", wide, "--size", "32x32", *options).sentence(2, *words)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_a_measuring_picture_is_refused(cli: Any, wide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgeir.imaging.measuring import measuring_pictures

    (picture,) = measuring_pictures(1)
    data = resources.files(picture.package).joinpath(picture.path).read_bytes()
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "copy.png").write_bytes(data)
    monkeypatch.chdir(tmp_path)
    outcome = cli("export", "--checkpoint", wide, "--int8", "--calibration", folder)
    outcome.sentence(2, "'copy.png' is the measuring picture 'astronaut'", "Take it out of the folder")


def test_a_budget_chooses_layers_and_a_stopped_plan_goes_on(
    cli: Any,
    wide_file: Path,
    photographs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stopped_planner: Callable[[], Any],
) -> None:
    from edgeir.cli import planning

    arguments = exporting(wide_file, photographs, tmp_path, "--int8", "--json")
    budget = 2e-5  # of a network that is far from the truth, so that little is lost
    asked = ("--drift-budget", budget, "--force")
    with stopped_planner():
        assert cli(*arguments, *asked).code == 130
    state = tmp_path / "cea-custom-int8-32x32.planning.json"
    assert state.is_file()
    outcome = cli(*arguments, *asked)
    assert "going on with what was measured before: 1 of" in outcome.err
    assert "under the worst degradation, brightness 0.125 of 255" in outcome.err  # half of its gate
    assert not state.exists()
    report = json.loads(outcome.out)["report"]
    layers = tables(report)["Drift by layer"]
    assert "no" in {row[5] for row in layers}
    assert tables(report)["Sets of layers that were measured"]
    verdicts = [row[2] for row in tables(report)["Is INT8 worth it?"]]
    assert len(verdicts) == 1
    assert "% time" in verdicts[0]
    plan = read_plan(tmp_path / "cea-custom-int8-32x32.edgeir" / "plan.yaml")
    low = [layer for layer in plan.layers if str(layer.type) == "int8"]
    left = [layer for layer in plan.layers if layer.reason == "too much drift for its work under the budget"]
    assert low
    assert left
    assert all(layer.evidence_db is not None for layer in (*low, *left))
    limits = {check["name"]: check["limit"] for check in report["checks"]}
    assert limits["mean drift"] == budget

    nothing = PlannedLayers((), Evaluation(0, Loss(0.0, 0.0, 0.0), True), ())
    monkeypatch.setattr(planning, "plan_within", lambda *_, **__: nothing)
    monkeypatch.setattr(
        planning,
        "measure_sensitivity",
        lambda *_, **__: Sensitivity(("a",), np.ones(1), {"x": Effect(np.ones(1), np.zeros(1))}),
    )
    cli(*arguments, *asked).sentence(1, "not one layer fits the budget", "3 dB for the cheapest, 'x'", "--drift-budget")
    assert read_plan(tmp_path / "cea-custom-int8-32x32.edgeir" / "plan.yaml") == plan  # the old bundle is still there


def test_without_a_budget_the_gates_are_planned_for(
    cli: Any, wide_file: Path, photographs: Path, tmp_path: Path
) -> None:
    outcome = cli(*exporting(wide_file, photographs, tmp_path, "--int8", "--json"))
    assert "planning for at most 0.0500 dB, 0.1667 dB under the worst degradation, brightness 0.083" in outcome.err
    report = json.loads(outcome.out)["report"]
    assert "Drift by layer" in tables(report)
    limits = {check["name"]: check["limit"] for check in report["checks"]}
    assert (limits["mean drift"], limits["mean drift under the worst degradation"]) == (0.3, 0.5)
    plan = tmp_path / "cea-custom-int8-32x32.edgeir" / "plan.yaml"
    given = cli(*exporting(wide_file, photographs, tmp_path / "again.edgeir", "--int8", "--plan", plan))
    assert f"taking the layers in int8 from {plan}" in given.err


def tables(report: dict[str, Any]) -> dict[str, Any]:
    return {table["title"]: table["rows"] for table in report["tables"]}


def test_a_budget_for_the_untrained_means_nothing(cli: Any, wide: Path, photographs: Path, tmp_path: Path) -> None:
    outcome = cli(*exporting(wide, photographs, tmp_path, "--int8", "--drift-budget", "0.05"))
    outcome.sentence(2, "untrained", "Name a checkpoint that was trained")
    for value in ("0", "-1", "inf"):
        cli("export", "--model", "exda-tiny", f"--drift-budget={value}").sentence(2, "--drift-budget", "above 0")
    cli("export", "--model", "exda-tiny", "--worst-drift-budget", "1").sentence(2, "goes with --drift-budget")
