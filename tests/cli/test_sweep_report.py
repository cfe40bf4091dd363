"""What a sweep recommends, and what it never does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgeir.cli.sweep_progress import duration_text, outcome_text
from edgeir.cli.sweep_report import SweepFacts, recommendation, sweep_report, write_report
from edgeir.cli.sweep_tables import groups
from edgeir.imaging.writing import png_bytes
from edgeir.provenance import collect
from edgeir.report.formats import FORMATS, emit
from edgeir.report.json_format import report_from_json
from edgeir.sweep.outcome import Outcome
from edgeir.sweep.trial import Build, Machine, Settings, Trial, trial_key

HERE = Machine({"machine": "x86_64", "processor": "some processor", "processors": 2, "gpu": None}, {"edgeir": "0"})
BOARD = Machine({"machine": "aarch64", "processor": "a board", "processors": 6, "gpu": "its GPU"}, {"edgeir": "0"})
FULL = Settings(2, 9)


def made(name: str, precision: str, p50: float, gain: float, *, side: int = 64, **changes: Any) -> Outcome:
    """A row that is ok; ``changes`` are figures, and the machine."""
    machine = changes.pop("machine", HERE)
    trial = Trial(Build(name, "0" * 64, precision, side, side), side, side)
    drift = changes.pop("drift", 0.01)
    figures = {
        **dict.fromkeys(("p50_ms", "p90_ms", "p95_ms", "p99_ms", "first_ms"), p50),
        "pictures_per_s": 1e3 / p50,
        "time_ratio": 0.5,
        "time_ratio_low": 0.4,
        "time_ratio_high": 0.6,
        "trained": True,
        "within_gates": True,
        "failed_checks": [],
        "peak_mib": 100,
        "bundle_mb": 5.0,
        "engines": [],
        "mean_drift_db": drift,
        "mean_gain_db": gain,
        "min_fidelity_db": 60.0,
        "worst_degradation": {"name": "rain", "drift_db": 2 * drift},
        "worst_picture": {"name": "coffee", "condition": "rain", "drift_db": 3 * drift},
        "by_degradation": {"clean": 0.0, "rain": 2 * drift},
        "prepare_s": 3.0,
        "measure_s": 1.0,
        **changes,
    }
    key = trial_key(trial, FULL, machine)
    return Outcome(key, trial, FULL, machine, 0, "ok", "", 4.0, 1 << 20, figures)


def said(*rows: Outcome) -> str:
    return recommendation(groups(rows))


def test_the_fastest_at_the_largest_size() -> None:
    rows = [made("a", "fp32", 10, 5, side=32), made("a", "fp32", 40, 5), made("b", "fp16", 30, 4.5)]
    text = said(*rows)
    assert text.startswith("At 64x64 b fp16 ort is recommended: p50 30.0 ms, 0.0100 dB lost")
    assert text.endswith("the next better one, a fp32 ort, restores 0.500 dB more and takes 1.33 times as long.")


def test_of_two_that_are_as_fast_the_better_one() -> None:
    assert "a fp32 ort is recommended" in said(made("b", "fp16", 30, 4), made("a", "fp32", 30.5, 5))
    assert "b fp16 ort is recommended" in said(made("b", "fp16", 30, 4), made("a", "fp32", 30.7, 5))
    assert said(made("a", "fp32", 30, 5)).endswith("nothing that was measured restores more.")


def test_what_is_never_recommended() -> None:
    untrained = made("a", "fp32", 1, 5, trained=False)
    beyond = made("b", "fp16", 2, 5, within_gates=False, failed_checks=["mean drift"])
    unknown = made("c", "fp16", 3, 5)
    for key in ("mean_gain_db", "within_gates", "mean_drift_db"):
        del unknown.figures[key]  # type: ignore[attr-defined]
    good = made("d", "fp16", 90, 5)
    assert "d fp16 ort is recommended" in said(untrained, beyond, unknown, good)
    assert "without trained weights and known drift" in said(untrained, unknown)
    assert "every one loses more than its precision's gates allow" in said(beyond)
    assert said() == "No trial is recommended: none could be measured."


@pytest.mark.parametrize("precision", ["int8", "fp8"])
def test_eight_bits_only_where_they_are_faster(precision: str) -> None:
    eight, slow, fast = made("a", precision, 30, 4.9), made("a", "fp16", 40, 5), made("a", "fp32", 30.2, 5)
    other = made("b", "fp32", 90, 6)
    assert f"a {precision} ort is recommended" in said(eight, slow)
    assert "a fp32 ort is recommended" in said(eight, slow, fast)
    assert "eight bits are not faster" in said(eight)
    assert "b fp32 ort is recommended" in said(eight, other), "another network is no comparison"


def test_every_machine_for_itself() -> None:
    text = said(made("a", "fp32", 40, 5), made("a", "fp32", 10, 5, machine=BOARD))
    assert text.startswith("On 2 x some processor, at 64x64 a fp32")
    assert "; on 6 x a board, its GPU, at 64x64 a fp32 ort is recommended: p50 10.0 ms" in text


def test_a_busy_machine_does_not_decide() -> None:
    rows = [  # the second was slowed to a third of its speed, and its reference with it
        made("a", "int8", 107, 4.99, time_ratio=1.7, reference_p50_ms=63.0),
        made("a", "fp32", 113, 5, time_ratio=0.75, reference_p50_ms=150.0),
        made("a", "fp16", 60, 4.999, time_ratio=1.0, reference_p50_ms=60.0),
    ]
    assert "a fp32 ort is recommended" in said(*rows)


def test_minus_nothing_is_nothing() -> None:
    assert "p50 30.0 ms, 0.0000 dB lost" in said(made("a", "fp32", 30, 5, drift=-1e-6))


@pytest.fixture
def facts(tmp_path: Path) -> SweepFacts:
    import numpy as np

    folder = tmp_path / "pictures" / "key"
    folder.mkdir(parents=True)
    for name in ("reference", "engine"):
        (folder / f"{name}.png").write_bytes(png_bytes(np.zeros((8, 8, 3), np.float32)))
    shown = {"caption": "coffee under rain", "layers": {n: f"key/{n}.png" for n in ("reference", "engine")}}
    gone = {"caption": "cat", "layers": {"reference": "gone/reference.png", "engine": "gone/engine.png"}}
    rewrites = {"columns": ["after", "fired", "ms"], "rows": [["tracing", None, 9.0], ["some-rule", 3, 7.0]]}
    crashed = Trial(Build("c", "0" * 64, "fp16", 64, 64), 64, 64)
    rows = [
        made("a", "fp32", 40, 5, comparison=shown, rewrites=rewrites),
        made("a", "fp16", 50, 5, comparison=gone, drift=0.001),
        made("b", "fp32", 20, 4, comparison=gone, trained=False),
        made("b", "fp32", 20, 4, side=96, no_drift="no pictures here."),
        Outcome("k", crashed, FULL, HERE, 0, "crashed", "SIGSEGV: oh", 1.0, 2 << 20),
    ]
    return SweepFacts("all", "a try", rows, ["d fp32 64x64 ort"], tmp_path)


def test_the_report_has_it_all(facts: SweepFacts) -> None:
    report = sweep_report(facts, collect(seconds=1, argv=["edgeir", "sweep"]))
    titles = [table.title for table in report.tables]
    assert titles[:2] == ["Trials at 64x64", "Trials at 96x96"]
    assert "What each rewrite bought: a at 64x64" in titles
    assert {chart.kind for chart in report.charts} == {"pareto", "waterfall"}
    assert [comparison.caption for comparison in report.comparisons] == [
        "a fp32 64x64 ort: what loses most, coffee under rain"
    ]
    notes = " ".join(report.notes)
    for words in ("UNTRAINED: b.", "d fp32 64x64 ort", "no pictures here."):
        assert words in notes
    assert {fact.label: fact.value for fact in report.facts}["trials"] == "4 measured, 1 not, 1 not started"
    for form in FORMATS:
        assert "SIGSEGV" in emit(report, form) or form == "junit"


def _kept(*rows: tuple[Any, ...], columns: tuple[str, ...] = ("layer", "ms", "share %", "type", "cost dB")) -> Any:
    return {"columns": list(columns), "rows": [list(row) for row in rows], "note": "as it was measured"}


def test_where_the_time_goes_of_the_trial_that_could_be_shipped(facts: SweepFacts) -> None:
    rows = [
        made("a", "fp16", 10, 5, side=96, within_gates=False, layers=_kept(("beyond.gates", 1.0, 9.0, "fp16", None))),
        made("a", "fp32", 40, 5, side=96, layers=_kept(("slower", 1.0, 9.0, "fp32", None))),
        made("a", "int8", 30, 5, side=96, layers=_kept(("x.conv", 3.5, 50.0, "int8", 0.01))),
        made("a", "fp16", 5, 5, side=64, layers=_kept(("smaller", 1.0, 9.0, "fp16", None))),
        made("b", "fp16", 5, 5, side=64),
    ]
    report = sweep_report(replace(facts, rows=rows), collect(seconds=1, argv=["edgeir", "sweep"]))
    (table,) = [table for table in report.tables if table.title.startswith("Layers by time")]
    assert table.title == "Layers by time: a int8 ort at 96x96"
    assert table.rows == (("x.conv", 3.5, 50.0, "int8", 0.01),)
    (chart,) = [chart for chart in report.charts if chart.kind == "bars"]
    assert chart.find(report.tables) is table
    assert chart.group == "type"
    assert "x.conv" in emit(report, "html")


def test_what_the_calibration_saw_is_in_the_report(facts: SweepFacts) -> None:
    seen = _kept(("rain", 9), columns=("degradation", "crops"))
    rows = [made("a", "int8", 30, 5, calibration={"what was seen": seen}), made("a", "fp16", 20, 5)]
    report = sweep_report(replace(facts, rows=rows), collect(seconds=1, argv=["edgeir", "sweep"]))
    (table,) = [table for table in report.tables if table.title.startswith("Calibration")]
    assert table.title == "Calibration of a int8 ort at 64x64: what was seen"
    assert (table.rows, table.note) == ((("rain", 9),), "as it was measured")


def test_joules_stand_where_a_meter_answered(facts: SweepFacts) -> None:
    def titles(*rows: Outcome) -> list[str]:
        report = sweep_report(replace(facts, rows=rows), collect(seconds=1, argv=["edgeir", "sweep"]))
        return [table.title for table in report.tables]

    silent = made("a", "fp16", 20, 5)
    metered = made("a", "fp32", 30, 5, joules=2.5, joules_above_idle=1.25, power_meter="INA3221")
    assert "Energy of one picture" not in titles(silent)
    assert "Energy of one picture" in titles(silent, metered)


def test_the_files_hold_one_value(facts: SweepFacts) -> None:
    report = sweep_report(facts, collect(seconds=1, argv=["edgeir", "sweep"]))
    write_report(report, facts.folder)
    back = report_from_json((facts.folder / "report.json").read_text())
    assert (back.tables, back.charts, back.summary) == (report.tables, report.charts, report.summary)
    assert "SIGSEGV: oh" in (facts.folder / "trials.csv").read_text()
    assert [path.name for path in facts.folder.iterdir() if path.name.startswith(".")] == []


def test_lines_of_progress(facts: SweepFacts) -> None:
    assert outcome_text(facts.rows[0]) == "p50 40.0 ms, drift 0.0100 dB"
    assert outcome_text(facts.rows[-1]) == "crashed: SIGSEGV: oh"
    assert [duration_text(seconds) for seconds in (40, 720, 12600)] == ["40 s", "12 min", "3.5 h"]


def test_a_trial_is_compared_by_its_own_kind_of_reference() -> None:
    """A reference on one thread is slow as well: the ratio to it says nothing of another number of threads."""
    slow, fast = (
        replace(
            made("a", "fp16", p50, 4, time_ratio=p50 / reference, reference_p50_ms=reference),
            trial=Trial(Build("a", "0" * 64, "fp16", 64, 64), 64, 64, threads=threads),
        )
        for threads, p50, reference in ((1, 400.0, 500.0), (4, 130.0, 150.0))
    )
    assert "threads 4 is recommended: p50 130.0 ms" in recommendation(groups([slow, fast]))
