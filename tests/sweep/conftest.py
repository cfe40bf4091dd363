"""Trials that cost nothing, and a worker that stands in for the real one."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edgeir.sweep.isolation import Limits
from edgeir.sweep.outcome import Outcome
from edgeir.sweep.trial import Build, Machine, Settings, Trial, trial_key

WORKER = (str(Path(__file__).with_name("fake_worker.py")),)
LIMITS = Limits(seconds=60, memory_bytes=1 << 30)
MACHINE = Machine({"machine": "x86_64", "processor": "some processor", "processors": 2, "gpu": None}, {"edgeir": "0"})


def make_trial(name: str = "one", precision: str = "fp16", side: int = 32, **fields: Any) -> Trial:
    return Trial(Build(name, "0" * 64, precision, side, side, **fields), side, side)


FULL = Settings(2, 9)


def make_row(trial: Trial, *, settings: Settings = FULL, status: Any = "ok", **fields: Any) -> Outcome:
    figures = {"p50_ms": 10.0, "mean_drift_db": 0.01, "prepare_s": 5.0, "measure_s": 2.0}
    defaults: dict[str, Any] = {
        "key": trial_key(trial, settings, fields.get("machine", MACHINE)),
        "machine": MACHINE,
        "rung": 0,
        "reason": "" if status == "ok" else "for a reason",
        "seconds": 7.0,
        "peak_bytes": 1 << 20,
        "figures": figures if status == "ok" else {},
    }
    return Outcome(trial=trial, settings=settings, status=status, **{**defaults, **fields})


@pytest.fixture(scope="module", autouse=True)  # "package" would last to the end of the run: there is no __init__.py
def own_turns(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Locks of the tests' own, here and in what they start: a sweep that runs on this machine is not waited for."""
    folder = str(tmp_path_factory.mktemp("turns"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", folder)
        patch.setattr(tempfile, "tempdir", folder)
        yield


class Watcher:
    """Remembers what it saw."""

    def __init__(self) -> None:
        self.begun: list[tuple[int, int]] = []
        self.started: list[Any] = []
        self.ended: list[Outcome] = []

    def begin(self, jobs: Any, done: Any) -> None:
        self.begun.append((len(jobs), len(done)))

    def start(self, job: Any) -> None:
        self.started.append(job)

    def end(self, outcome: Outcome) -> None:
        self.ended.append(outcome)


@pytest.fixture
def trial() -> Callable[..., Trial]:
    return make_trial


@pytest.fixture
def row() -> Callable[..., Outcome]:
    return make_row


@pytest.fixture
def watcher() -> Watcher:
    return Watcher()


@pytest.fixture
def worker() -> tuple[str, ...]:
    return WORKER


@pytest.fixture
def limits() -> Limits:
    return LIMITS


@pytest.fixture
def machine() -> Machine:
    return MACHINE


@pytest.fixture
def within() -> Callable[[float, Callable[[], bool]], bool]:
    """``within(seconds, condition)``: whether it comes true in time."""
    import time

    def wait(seconds: float, condition: Callable[[], bool]) -> bool:
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                return False
            time.sleep(0.02)
        return True

    return wait
