"""``edgeir sweep``: refusals before anything starts, a sweep of a stand-in worker, and one real trial."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("psutil", reason="psutil is not installed: no sweep can run here")

from edgeir.cli import sweep
from edgeir.cli.sweep_report import FILES
from edgeir.report.json_format import report_from_json
from edgeir.sweep.ledger import LEDGER_NAME, read_rows

SMALL = "name: small\nmodels: [exda-tiny, cea-tiny]\nprecisions: [fp32, fp16]\nsizes: [64x64]\n"

# Latency and gain by the model and the precision; cea-tiny in FP16 aborts.
WORKER = """
import json, os, sys
from pathlib import Path
task = json.loads(sys.argv[-1])
build = task["trial"]["build"]
if task["phase"] == "prepare":
    Path(task["bundle"]).mkdir()
    print('{"bundle": "made"}')
    sys.exit(0)
if (build["name"], build["precision"]) == ("cea-tiny", "fp16") or build["name"] in sys.argv[1:-1]:
    os.abort()
slow, low = build["name"] == "exda-tiny", build["precision"] == "fp16"
p50 = 40.0 + 60 * slow - 10 * low
drift = 0.005 * low
names = ("p50_ms", "p90_ms", "p95_ms", "p99_ms", "first_ms")
print(json.dumps({
    **dict.fromkeys(names, p50), "pictures_per_s": 1e3 / p50, "reference_p50_ms": 100.0,
    "time_ratio": p50 / 100, "time_ratio_low": p50 / 110, "time_ratio_high": p50 / 90, "runtime": "some runtime",
    "peak_mib": 100, "trained": True, "bundle_mb": 5.0,
    "engines": [{"runtime": "rtx", "architecture": "sm89", "mb": 3.0, "note": "Not run here."}],
    "mean_drift_db": drift, "worst_degradation": {"name": "rain", "drift_db": 2 * drift},
    "worst_picture": {"name": "coffee", "condition": "rain", "drift_db": 3 * drift},
    "min_fidelity_db": 70.0, "mean_gain_db": 5.0 + slow - drift, "within_gates": True, "failed_checks": [],
    "by_degradation": {"clean": 0.0, "rain": 2 * drift},
}))
"""


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Put the stand-in in the worker's place; models that are named abort as well."""

    def put(*aborting: str) -> None:
        monkeypatch.setattr(sweep, "WORKER", ("-c", WORKER, *aborting))

    put()
    return put


@pytest.fixture
def recipe(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "recipe.yaml"
        path.write_text(text)
        return path

    return write


@pytest.fixture(autouse=True)
def here(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder it runs in, and locks of its own: a sweep that runs on this machine is not waited for."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("turns")))


@pytest.mark.parametrize(
    ("text", "arguments", "words"),
    [
        (SMALL.replace("exda-tiny", "exda-tyni"), (), ("unknown model 'exda-tyni'. Did you mean 'exda-tiny'?",)),
        (SMALL.replace("sizes", "seizes"), (), ("unknown key 'seizes'", "'sizes'")),
        (SMALL.replace("fp16", "int8"), (), ("int8 needs pictures to find the ranges", "--calibration FOLDER")),
        (SMALL + "for: [jetpack-9.9]\n", (), ("jetpack-9.9",)),
        (SMALL + "backends: [tensort]\n", (), ("unknown backend 'tensort'. Did you mean 'tensorrt'?",)),
        (SMALL, ("--jobs", "2", "--ray", "auto"), ("--jobs is for this machine",)),
        (SMALL, ("another.yaml",), ("name one recipe", "--merge")),
        (SMALL, ("--merge",), ("say where the joined results go", "--out")),
        (SMALL, ("--merge", "--out", "new"), ("this is not the folder of a sweep", LEDGER_NAME)),
    ],
)
def test_refused_before_anything_starts(
    cli: Any, recipe: Any, stand_in: Any, tmp_path: Path, text: str, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    cli("sweep", recipe(text), *arguments).sentence(2, *words)
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.yaml"]


def test_no_such_recipe(cli: Any) -> None:
    cli("sweep", "tyni").sentence(2, "unknown sweep recipe 'tyni'. Did you mean 'tiny'?")
    cli("sweep", "mine.yaml").sentence(2, "there is no such sweep recipe file", "quick, tiny")


def test_a_sweep_and_what_it_leaves(cli: Any, recipe: Any, stand_in: Any, tmp_path: Path) -> None:
    outcome = cli("sweep", recipe(SMALL), "--jobs", 2).done()
    assert (
        "At 64x64 cea-tiny fp32 ort is recommended: p50 40.0 ms, 0.0000 dB lost against its FP32 reference,"
        in " ".join(outcome.out.split())
    )
    assert "the next better one, exda-tiny fp16 ort, restores 0.995 dB more and takes 2.25 times as long" in " ".join(
        outcome.out.split()
    )
    assert "4 trials to run, 2 pictures and 9 rounds each" in outcome.err
    assert "cea-tiny fp16 64x64 ort: crashed: SIGABRT" in outcome.err
    folder = tmp_path / "small.sweep"
    for name in (*FILES, LEDGER_NAME):
        assert (folder / name).is_file()
    report = report_from_json((folder / "report.json").read_text())
    tables = {table.title: table for table in report.tables}
    assert [row[0] for row in tables["Trials at 64x64"].rows] == [
        "cea-tiny fp32 ort",
        "exda-tiny fp16 ort",
        "exda-tiny fp32 ort",
    ]
    ((failed, status, reason, *_),) = tables["Trials without a measurement"].rows
    assert (failed, status, reason) == ("cea-tiny fp16 64x64 ort", "crashed", "SIGABRT: it said nothing")
    assert tables["Drift by degradation"].heat
    assert "3.0" in json.dumps(tables["Size and memory"].rows)
    (chart,) = [chart for chart in report.charts if chart.kind == "pareto"]
    assert (chart.table, chart.log_x) == ("Trials at 64x64", True)
    assert "SIGABRT" in (folder / "trials.csv").read_text()
    assert str(tmp_path) not in (folder / LEDGER_NAME).read_text() + (folder / "report.json").read_text()

    again = cli("sweep", recipe(SMALL), "--json").done()
    assert "0 trials to run, 4 are done already" in again.err
    value = json.loads(again.out)
    assert value["summary"] == report.summary
    retried = cli("sweep", recipe(SMALL), "--retry").done()
    assert "1 trials to run" in retried.err


def test_a_half_written_row_is_said(cli: Any, recipe: Any, stand_in: Any, tmp_path: Path) -> None:
    cli("sweep", recipe(SMALL)).done()
    path = tmp_path / "small.sweep" / LEDGER_NAME
    path.write_bytes(path.read_bytes()[:-20])
    outcome = cli("sweep", recipe(SMALL)).done()
    assert "the last row was half-written and is cut off; that trial runs again" in outcome.err
    assert "1 trials to run" in outcome.err
    assert len(read_rows(path.parent)) == 4


def test_halving_says_what_it_left_out(cli: Any, recipe: Any, stand_in: Any, tmp_path: Path) -> None:
    outcome = cli("sweep", recipe(SMALL), "--minutes", 60, "--json").done()
    report = report_from_json(outcome.out)
    tables = {table.title: table for table in report.tables}
    assert {row[-1] for row in tables["Effort"].rows} == {0, 1, 2}
    rows = [row for row in read_rows(tmp_path / "small.sweep") if row.ok]
    assert [row.rung for row in rows].count(0) == 3
    assert [row.rung for row in rows].count(1) == 2
    assert [row.rung for row in rows].count(2) == 1
    hardly = cli("sweep", recipe(SMALL), "--minutes", 0.01, "--out", "other", "--json").done()
    assert any(
        note.startswith("Not measured, or not more thoroughly, since") for note in json.loads(hardly.out)["notes"]
    )


def test_nothing_measured_is_a_failed_check(cli: Any, recipe: Any, stand_in: Any) -> None:
    stand_in("exda-tiny", "cea-tiny")
    outcome = cli("sweep", recipe(SMALL))
    outcome.sentence(1, "no trial could be measured", "crashed: SIGABRT")
    assert "No trial is recommended: none could be measured." in outcome.out


def test_sweeps_are_joined(cli: Any, recipe: Any, stand_in: Any, tmp_path: Path) -> None:
    cli("sweep", recipe(SMALL), "--out", "a").done()
    cli("sweep", recipe(SMALL.replace("small", "wide").replace("64x64", "64x96")), "--out", "b").done()
    outcome = cli("sweep", "--merge", "a", "b", "--out", "c").done()
    assert "at 64x96" in outcome.out.lower()
    assert len(read_rows(tmp_path / "c")) == 8
    cli("sweep", "--merge", "a", "b", "--out", "c").sentence(2, "there is a sweep already")


def test_a_plain_pipe_gets_no_control_characters(cli: Any, recipe: Any, stand_in: Any) -> None:
    outcome = cli("sweep", recipe(SMALL)).done()
    assert "\x1b" not in outcome.err + outcome.out
    assert [line for line in outcome.err.splitlines() if line.startswith("[4/4]")]


@pytest.mark.slow
def test_a_real_bundle(cli: Any, recipe: Any, made_static: Path, tmp_path: Path) -> None:
    text = f"name: real\nbundles: [{made_static}]\nbackends: [ort, ort-reference]\npictures: 1\nrounds: 3\n"
    outcome = cli("sweep", recipe(text), "--json").done()
    report = report_from_json(outcome.out)
    assert "is recommended: without trained weights" in report.summary
    first, second = read_rows(tmp_path / "real.sweep")
    assert (first.trial.backend, second.trial.backend) == ("ort", "ort-reference")
    assert second.figures["mean_drift_db"] == pytest.approx(0, abs=1e-4), "the reference against itself"
    assert first.figures["min_fidelity_db"] > 55
    assert len(first.figures["by_degradation"]) == 11
    assert 0.2 < second.figures["time_ratio"] < 5, "the same graph beside itself, on a machine that may be busy"
    assert first.figures["peak_mib"] > 20
    assert first.figures["bundle_mb"] > 0
    (comparison,) = report.comparisons
    assert list(comparison.layers)[:3] == ["input", "reference", "engine"]
    assert comparison.size == (64, 64)


def test_a_device_without_the_tools_of_export(made_static: Path, tmp_path: Path) -> None:
    program = """
import json, sys
for name in ("torch", "onnx", "onnx_ir", "onnxscript", "safetensors"):
    sys.modules[name] = None
from pathlib import Path
from edgeir.cli.sweep_trial import measure
from edgeir.sweep.trial import Build, Settings, Trial
bundle, here = Path(sys.argv[1]), Path(sys.argv[2])
trial = Trial(Build("micro", "0" * 64, "fp16", 64, 64, bundle=str(bundle)), 64, 64)
print(json.dumps(measure(trial, Settings(1, 3), bundle, here / "kept.json", here / "pictures")))
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(made_static), str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["p50_ms"] > 0
    assert np.isfinite(figures["mean_drift_db"])


def test_tiles_of_a_real_bundle(made_static: Path, tmp_path: Path) -> None:
    from edgeir.cli.sweep_trial import measure
    from edgeir.sweep.trial import Build, Settings, Trial

    build = Build("micro", "0" * 64, "fp16", 64, 64, bundle=str(made_static))
    kept, pictures = tmp_path / "kept.json", tmp_path / "pictures"
    tiled = Trial(build, 96, 80, tile_px=64)
    figures = measure(tiled, Settings(1, 3), made_static, kept, pictures)
    assert figures["p50_ms"] > 0
    assert sum(row[1] for row in figures["layers"]["rows"]) > 0
    assert np.isfinite(figures["mean_drift_db"])
    assert figures["comparison"]["layers"]["engine"] == "pictures/engine.png"
    assert list(json.loads(kept.read_text())) == ["typed 96x80 tile 64"]
    os.utime(kept, (1, 1))
    assert measure(tiled, Settings(1, 3), made_static, kept, pictures)["mean_drift_db"] == figures["mean_drift_db"]
    assert kept.stat().st_mtime == 1, "drift that was measured already was measured again"


def test_an_export_keeps_its_drift(quick_trace: None, weights_file: Path, tmp_path: Path) -> None:
    from edgeir.bundle import Bundle
    from edgeir.cli.sweep_trial import measure, prepare
    from edgeir.sweep.trial import Build, Settings, Trial

    build = Build("micro", "0" * 64, "fp16", 64, 64, checkpoint=str(weights_file))
    bundle, kept = tmp_path / "made.edgeir", tmp_path / "kept.json"
    prepare(build, bundle, kept)
    assert Bundle.open(bundle).manifest.precision == "fp16"
    (rows,) = json.loads(kept.read_text()).values()
    assert len(rows) == 11
    figures = measure(Trial(build, 64, 64), Settings(1, 3), bundle, kept, tmp_path / "pictures")
    assert figures["mean_drift_db"] == pytest.approx(sum(row["reference_db"] - row["engine_db"] for row in rows) / 11)
    assert figures["rewrites"]["columns"][0] == "after"
    kept.write_text('{"typed": [{"picture": "of another edgeir"}]}')
    again = measure(Trial(build, 64, 64), Settings(1, 3), bundle, kept, tmp_path / "pictures")
    assert again["mean_drift_db"] == pytest.approx(figures["mean_drift_db"], abs=1e-6)
