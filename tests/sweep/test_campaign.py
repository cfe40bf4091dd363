"""The sweep: what is done again, what is not, and what time allows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from edgeir.sweep.campaign import Campaign, run_campaign
from edgeir.sweep.estimate import expected_seconds
from edgeir.sweep.job import Job
from edgeir.sweep.ledger import Ledger
from edgeir.sweep.outcome import Outcome
from edgeir.sweep.trial import Machine, Settings, Trial, trial_key

FULL = Settings(2, 9)


class Pretending:
    """An executor that only keeps a clock: preparing takes 10 s once per build, measuring a second per round."""

    width = 1

    def __init__(self, machines: Sequence[Machine], bad: Sequence[str] = ()) -> None:
        self.machines = tuple(machines)
        self.now = 0.0
        self.ran: list[Job] = []
        self._bad = bad
        self._built: set[Any] = set()

    def run(self, jobs: Sequence[Job], *, may_start: Any, on_start: Any, on_done: Any) -> None:
        for job in jobs:
            if not may_start(job):
                continue
            on_start(job)
            self.ran.append(job)
            prepare = 0.0 if job.trial.build in self._built else 10.0
            self._built.add(job.trial.build)
            measure = float(job.settings.rounds)
            self.now += prepare + measure
            bad = job.trial.build.name in self._bad
            number = float(job.trial.build.name)
            figures = {
                "p50_ms": number,
                "mean_drift_db": -number if number % 2 else number,  # the even ones are dominated by 0
                "prepare_s": prepare,
                "measure_s": measure,
            }
            status: Any = "crashed" if bad else "ok"
            on_done(
                Outcome(
                    job.key, job.trial, job.settings, job.machine, job.rung, status, "", prepare + measure, 0,
                    {} if bad else figures,
                )
            )  # fmt: skip

    def close(self) -> None:
        pass


@pytest.fixture
def sweep(tmp_path: Path, machine: Machine, watcher: Any, trial: Callable[..., Trial]) -> Callable[..., Any]:
    def run(number: int = 8, machines: Sequence[Machine] = (), bad: Sequence[str] = (), **options: Any) -> Any:
        executor = Pretending(machines or (machine,), bad)
        trials = [trial(str(index)) for index in range(number)]
        with Ledger(tmp_path) as ledger:
            campaign = run_campaign(
                trials, FULL, executor, ledger, watcher=watcher, clock=lambda: executor.now, **options
            )
        return campaign, executor

    return run


def names(rows: Sequence[Any]) -> list[str]:
    return [row.trial.build.name for row in rows]


def test_everything_once_and_not_again(sweep: Any, watcher: Any) -> None:
    campaign, executor = sweep()
    assert len(executor.ran) == len(campaign.rows) == len(campaign.final()) == 8
    assert (campaign.skipped, campaign.left_out) == (0, ())
    campaign, executor = sweep()
    assert executor.ran == []
    assert len(campaign.rows) == campaign.skipped == 8
    assert watcher.begun == [(8, 0), (0, 8)]
    campaign, executor = sweep(10)
    assert names(executor.ran) == ["8", "9"]


def test_failures_stay_unless_asked_to_be_tried_again(sweep: Any) -> None:
    sweep(bad=["3"])
    campaign, executor = sweep()
    assert executor.ran == []
    assert [row.status for row in campaign.final()].count("crashed") == 1
    campaign, executor = sweep(retry=True)
    assert names(executor.ran) == ["3"]
    assert all(row.ok for row in campaign.final())


def test_every_kind_of_machine_gets_every_trial(sweep: Any, machine: Machine) -> None:
    board = Machine({**machine.device, "processor": "a board"}, machine.versions)
    campaign, executor = sweep(3, machines=(machine, board))
    assert len(executor.ran) == 6
    assert len(campaign.final()) == 6


def test_paths_survive_a_stop_between_rungs(
    tmp_path: Path, machine: Machine, watcher: Any, trial: Callable[..., Trial]
) -> None:
    """A row of the ledger holds no path: what goes on after a stop must still know where its bundle lies."""
    trials = [trial(str(index), bundle=f"somewhere/{index}") for index in range(4)]
    for _ in range(2):  # the second time every first rung comes from the disk
        executor = Pretending((machine,))
        with Ledger(tmp_path) as ledger:
            rows = ledger.rows
            run_campaign(trials, FULL, executor, ledger, watcher=watcher, minutes=60, clock=lambda of=executor: of.now)
        ran = executor.ran
        assert all(job.trial.build.bundle == f"somewhere/{job.trial.build.name}" for job in ran)
        kept = [row for row in rows if row.rung == 0]
        assert len(kept) == 4
        (tmp_path / "trials.jsonl").write_text("".join(row.to_line() for row in kept), encoding="utf-8")
    assert ran, "nothing went on to the next rung"


def test_halving_goes_on_with_the_better_half(sweep: Any, machine: Machine) -> None:
    campaign, executor = sweep(minutes=1000)
    by_rung = {rung: names([job for job in executor.ran if job.rung == rung]) for rung in (0, 1, 2)}
    assert by_rung[0] == [str(index) for index in range(8)]
    assert by_rung[1] == ["0", "3", "5", "7"]  # of the front 0 1 3 5 7 both ends, and those with most room
    assert len(by_rung[2]) == 2
    assert {job.settings for job in executor.ran if job.rung == 0} == {Settings(1, 3)}
    final = {row.trial.build.name: row.settings for row in campaign.final()}
    assert len(final) == 8
    assert [name for name, settings in final.items() if settings == FULL] == by_rung[2]
    again, executor = sweep(minutes=1000)
    assert executor.ran == []
    assert {row.key for row in again.rows} == {row.key for row in campaign.rows}


def test_what_failed_does_not_go_on(sweep: Any) -> None:
    campaign, executor = sweep(minutes=1000, bad=["0", "1"])
    assert not {"0", "1"} & set(names([job for job in executor.ran if job.rung]))
    assert {row.trial.build.name for row in campaign.final() if not row.ok} == {"0", "1"}


@pytest.mark.parametrize("minutes", [0.01, 0.5, 1.0, 1.7, 2.5, 3.0])
def test_nothing_starts_that_would_not_end_in_time(sweep: Any, minutes: float) -> None:
    campaign, executor = sweep(minutes=minutes)
    # Nothing is known of the first, which may overrun; after that every estimate here is exact or above the truth.
    assert executor.now <= max(60 * minutes, 13)
    assert len(executor.ran) >= 1
    if minutes < 2.5:
        assert campaign.left_out


def test_expected_time(trial: Callable[..., Trial], row: Callable[..., Outcome], machine: Machine) -> None:
    small, large, other = trial("a"), trial("a", side=64), trial("b")
    rows = [row(small)]  # prepared in 5 s, measured in 2 s with 2 pictures and 9 rounds
    job = Job(small, Settings(4, 9), machine)
    assert expected_seconds(job, []) is None
    assert expected_seconds(job, [row(small, status="crashed")]) is None
    assert expected_seconds(job, rows) == pytest.approx(2 * 2)
    assert expected_seconds(Job(large, Settings(2, 9), machine), rows) == pytest.approx(4 * 2 + 5)
    assert expected_seconds(Job(other, Settings(2, 18), machine), rows) == pytest.approx(2 * 2 + 5)
    elsewhere = Machine({**machine.device, "processor": "a board"}, machine.versions)
    assert expected_seconds(Job(small, FULL, elsewhere), rows) is None


def test_the_most_thorough_row_that_is_ok_counts(trial: Callable[..., Trial], row: Callable[..., Outcome]) -> None:
    rows = [row(trial(), settings=Settings(1, 3)), row(trial(), status="crashed")]
    (final,) = Campaign(tuple(rows), (), 0).final()
    assert final == rows[0]
    assert final.key == trial_key(trial(), Settings(1, 3), final.machine)
