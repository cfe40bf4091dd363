"""Real sweeps of a cheap worker on this machine: every ending, side by side, killed and resumed."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

psutil = pytest.importorskip("psutil", reason="psutil is not installed: no sweep can run here")

from edgeir.sweep.campaign import Campaign, run_campaign  # noqa: E402
from edgeir.sweep.isolation import Limits  # noqa: E402
from edgeir.sweep.ledger import Ledger, read_rows  # noqa: E402
from edgeir.sweep.local import LocalExecutor  # noqa: E402
from edgeir.sweep.running import bundle_path  # noqa: E402
from edgeir.sweep.trial import Settings, Trial  # noqa: E402

FULL = Settings(2, 9)
PROGRAM = """
import sys
from pathlib import Path
from edgeir.sweep.campaign import run_campaign
from edgeir.sweep.isolation import Limits
from edgeir.sweep.ledger import Ledger
from edgeir.sweep.local import LocalExecutor
from edgeir.sweep.trial import Build, Settings, Trial

class Nobody:
    def begin(self, jobs, done): pass
    def start(self, job): pass
    def end(self, outcome): print(outcome.key, flush=True)

folder, worker = Path(sys.argv[1]), tuple(sys.argv[2:])
trials = [Trial(Build(f"m{n}", "0" * 64, p, 32, 32), 32, 32) for n in range(4) for p in ("fp32", "fp16")]
trials.append(Trial(Build("abort", "0" * 64, "fp16", 32, 32), 32, 32))
with Ledger(folder) as ledger:
    executor = LocalExecutor(folder, worker, Limits(60, 1 << 30), width=2)
    run_campaign(trials, Settings(2, 9), executor, ledger, watcher=Nobody())
"""


@pytest.fixture
def sweep(tmp_path: Path, worker: tuple[str, ...], watcher: Any) -> Callable[..., Campaign]:
    def run(trials: list[Trial], limits: Limits, *, width: int = 1, seconds: str = "0", **options: Any) -> Campaign:
        executor = LocalExecutor(tmp_path, (*worker, seconds), limits, width=width)
        with Ledger(tmp_path) as ledger:
            return run_campaign(trials, FULL, executor, ledger, watcher=watcher, **options)

    return run


def test_every_ending_is_a_row(sweep: Any, trial: Callable[..., Trial], tmp_path: Path) -> None:
    names = ["abort", "good", "hang", "eat", "mute", "untold", "unbuildable", "fine"]
    campaign = sweep([trial(name) for name in names], Limits(seconds=4, memory_bytes=200 << 20))
    rows = {row.trial.build.name: row for row in campaign.rows}
    assert list(rows) == names
    assert {name: row.status for name, row in rows.items()} == {
        "abort": "crashed",
        "good": "ok",
        "hang": "timed out",
        "eat": "out of memory",
        "mute": "failed",
        "untold": "failed",
        "unbuildable": "failed",
        "fine": "ok",
    }
    assert rows["abort"].reason == "SIGABRT: free(): invalid pointer"
    assert rows["hang"].reason == "not done after 4 s, its limit"
    assert "its limit is 0.20 GiB" in rows["eat"].reason
    assert rows["eat"].peak_bytes > 200 << 20
    assert rows["mute"].reason.startswith("the worker ended without an answer")
    assert rows["untold"].reason == "exit code 1: ValueError: seven"
    assert rows["unbuildable"].reason == "exit code 4: the engine build for rtx failed: no such layer."
    assert rows["good"].figures["prepare_s"] > 0
    assert read_rows(tmp_path) == list(campaign.rows)


def test_a_bundle_is_made_once(sweep: Any, trial: Callable[..., Trial], tmp_path: Path) -> None:
    from dataclasses import replace

    trials = [replace(trial(), threads=threads) for threads in (None, 1, 2)]
    trials += [replace(trial("unbuildable"), threads=threads) for threads in (None, 1)]
    rows = sweep(trials, Limits(60, 1 << 30), width=3).rows
    assert [row.figures["prepare_s"] > 0 for row in rows[:3]].count(True) == 1
    assert bundle_path(tmp_path, trials[0].build, rows[0].machine).is_dir()
    assert [row.status for row in rows[3:]] == ["failed", "failed"]
    logs = [path for path in (tmp_path / "logs").iterdir() if "unbuildable" in path.name]
    assert len(logs) == 1, "an export that failed was tried again for another trial"


def test_measuring_goes_alone(sweep: Any, trial: Callable[..., Trial]) -> None:
    rows = sweep([trial(f"m{index}") for index in range(5)], Limits(60, 1 << 30), width=3, seconds="0.3").rows
    times = sorted((row.figures["began"], row.figures["ended"]) for row in rows)
    assert len(times) == 5
    for (_, ended), (began, _) in pairwise(times):
        assert ended <= began


def test_an_interruption_kills_what_runs(sweep: Any, trial: Callable[..., Trial], watcher: Any, tmp_path: Path) -> None:
    def interrupt(job: Any) -> None:
        if job.trial.build.name == "later":
            time.sleep(1.5)
            assert left_over(tmp_path), "nothing runs yet"
            raise KeyboardInterrupt

    watcher.start = interrupt
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        sweep([trial("hang"), trial("later")], Limits(300, 1 << 30), width=2)
    assert time.monotonic() - began < 60
    assert read_rows(tmp_path) == []
    assert left_over(tmp_path) == []


def left_over(folder: Path) -> list[int]:
    """Processes that still work for a sweep in ``folder``."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        if process.info["status"] != psutil.STATUS_ZOMBIE and str(folder) in " ".join(process.info["cmdline"] or []):
            found.append(process.pid)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_killed_at_random_moments_and_resumed(
    tmp_path: Path, worker: tuple[str, ...], seed: int, within: Callable[[float, Callable[[], bool]], bool]
) -> None:
    draw = random.Random(seed)

    def start(folder: Path) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", PROGRAM, str(folder), *worker, "0.1"]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    whole = start(tmp_path / "whole")
    assert whole.communicate()[1] == b""
    expected = {row.key: row.status for row in read_rows(tmp_path / "whole")}
    assert sorted(expected.values()) == ["crashed"] + ["ok"] * 8

    broken = tmp_path / "broken"
    for _ in range(4):
        process = start(broken)
        assert process.stdout is not None
        if draw.random() < 0.7:
            process.stdout.readline()  # at least one row further
        time.sleep(draw.uniform(0, 0.6))
        process.send_signal(draw.choice([signal.SIGKILL, signal.SIGTERM]))
        process.communicate()
        assert within(10, lambda: not left_over(broken)), "a process outlived its sweep"
    last = start(broken)
    assert last.communicate()[1] == b""
    rows = read_rows(broken)
    assert {row.key: row.status for row in rows} == expected
    assert len(rows) == len(expected), "a trial ran twice"
