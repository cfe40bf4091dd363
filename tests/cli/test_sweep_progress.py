"""What a sweep shows while it runs, on a terminal and elsewhere."""

from __future__ import annotations

import io
import sys

import pytest

from edgeir.cli.console import Console
from edgeir.cli.sweep_progress import Progress
from edgeir.sweep.job import Job
from edgeir.sweep.outcome import Outcome
from edgeir.sweep.trial import Build, Machine, Settings, Trial

HERE = Machine({"machine": "x86_64", "processor": "some processor", "processors": 2, "gpu": None}, {"edgeir": "0"})
JOBS = [Job(Trial(Build(name, "0" * 64, "fp16", 64, 64), 64, 64), Settings(2, 9), HERE) for name in ("a", "b", "c")]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def outcome(job: Job, status: str = "ok") -> Outcome:
    figures = {"p50_ms": 12.0, "mean_drift_db": 0.01, "prepare_s": 50.0, "measure_s": 10.0}
    good = status == "ok"
    return Outcome(
        job.key, job.trial, job.settings, job.machine, 0, status, "" if good else "SIGABRT: oh", 60.0, 0,  # type: ignore[arg-type]
        figures if good else {},
    )  # fmt: skip


def show(stream: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(sys, "stderr", stream)
    rows: list[Outcome] = []
    with Progress(Console(), lambda: rows, width=1) as progress:
        progress.begin(JOBS, [])
        for job, status in zip(JOBS, ("ok", "crashed", "ok"), strict=True):
            progress.start(job)
            rows.append(outcome(job, status))
            progress.end(rows[-1])
    return stream.getvalue()


def test_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = show(io.StringIO(), monkeypatch).splitlines()
    assert lines[0] == "3 trials to run, 2 pictures and 9 rounds each"
    assert [line[:5] for line in lines[1:]] == ["[1/3]", "[2/3]", "[3/3]"]
    assert lines[1].endswith("a fp16 64x64 ort: p50 12.0 ms, drift 0.0100 dB; about 2 min left")
    assert lines[2].endswith("b fp16 64x64 ort: crashed: SIGABRT: oh; about 60 s left")
    assert lines[3].endswith("c fp16 64x64 ort: p50 12.0 ms, drift 0.0100 dB")


def test_a_live_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    text = show(Terminal(), monkeypatch)
    assert "3 of 3 trials" in text
    assert "crashed: SIGABRT: oh" in text
    assert "\x1b[" in text
