"""The sweep itself: what is done already, what comes next, and what is not worth more time."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from edgeir.sweep.estimate import expected_seconds
from edgeir.sweep.job import Executor, Job
from edgeir.sweep.ledger import Ledger, latest
from edgeir.sweep.outcome import Outcome
from edgeir.sweep.rungs import better_half, settings_of_rungs
from edgeir.sweep.trial import Settings, Trial


class Watcher(Protocol):
    """Somebody who looks on."""

    def begin(self, jobs: Sequence[Job], done: Sequence[Outcome]) -> None:
        """A rung begins: what is to be done, and what was done before."""
        ...

    def start(self, job: Job) -> None:
        """One job starts."""
        ...

    def end(self, outcome: Outcome) -> None:
        """One job ended, and its row is on the disk."""
        ...


@dataclass(frozen=True, slots=True)
class Campaign:
    """What a sweep came to.

    Attributes:
        rows: one per trial, machine and rung that was reached, in the order they were planned.
        left_out: jobs that were not started for lack of time.
        skipped: how many rows were there before.
    """

    rows: tuple[Outcome, ...]
    left_out: tuple[Job, ...]
    skipped: int

    def final(self) -> list[Outcome]:
        """`most_thorough` of its rows."""
        return most_thorough(self.rows)


def most_thorough(rows: Iterable[Outcome]) -> list[Outcome]:
    """Of each trial on each machine the row with most pictures and rounds that is ok, else any, in the order given."""
    best: dict[tuple[Trial, str], Outcome] = {}
    for row in rows:
        place = (row.trial, row.machine.identity)
        if place not in best or _worth(row) > _worth(best[place]):
            best[place] = row
    return list(best.values())


def _worth(row: Outcome) -> tuple[bool, int, int]:
    return row.ok, row.settings.pictures, row.settings.rounds


def run_campaign(
    trials: Sequence[Trial],
    full: Settings,
    executor: Executor,
    ledger: Ledger,
    *,
    watcher: Watcher,
    minutes: float | None = None,
    retry: bool = False,
    clock: Callable[[], float] = time.monotonic,
) -> Campaign:
    """Measure all trials on every kind of machine of ``executor``; rows that the ledger has are not measured again.

    Args:
        trials: what to measure.
        full: how thoroughly.
        executor: where.
        ledger: receives every row as it comes.
        watcher: told of everything.
        minutes: with it, successive halving: everything a little first, the better half more, and nothing starts that
            is not expected to end in time.
        retry: measure again what did not end well before.
        clock: seconds, for tests.
    """
    deadline = None if minutes is None else clock() + 60 * minutes
    rungs = (full,) if deadline is None else settings_of_rungs(full)
    going = [(trial, machine) for machine in executor.machines for trial in trials]
    reached: list[Outcome] = []
    left_out: list[Job] = []
    skipped = 0
    for number, settings in enumerate(rungs):
        planned = [Job(trial, settings, machine, number) for trial, machine in going]
        before = latest(ledger.rows)
        done = [before[job.key] for job in planned if _is_done(before, job, retry)]
        todo = [job for job in planned if not _is_done(before, job, retry)]
        skipped += len(done)
        watcher.begin(todo, done)

        def may_start(job: Job) -> bool:
            if deadline is not None:
                expected = expected_seconds(job, ledger.rows) or 0.0
                if clock() + expected > deadline:
                    left_out.append(job)
                    return False
            return True

        def end(outcome: Outcome) -> None:
            ledger.append(outcome)
            watcher.end(outcome)

        executor.run(todo, may_start=may_start, on_start=watcher.start, on_done=end)
        now = latest(ledger.rows)
        rows = [now[job.key] for job in planned if job.key in now]
        reached += rows
        # A row of the ledger holds no paths: the trial goes on as it was planned.
        wanted = {row.key for row in survivors(rows)} if number + 1 < len(rungs) else set()
        going = [(job.trial, job.machine) for job in planned if job.key in wanted]
    return Campaign(tuple(reached), tuple(left_out), skipped)


def survivors(rows: Iterable[Outcome]) -> list[Outcome]:
    """The better half by latency and drift, of the rows that are ok, among those whose latencies can be compared."""
    fields: defaultdict[tuple[str, tuple[str, int]], list[Outcome]] = defaultdict(list)
    for row in rows:
        if row.ok:
            fields[row.machine.label, row.trial.comparable].append(row)
    return [group[index] for group in fields.values() for index in better_half([_point(row) for row in group])]


def _point(row: Outcome) -> tuple[float, float]:
    latency, drift = row.figures.get("p50_ms"), row.figures.get("mean_drift_db")
    return math.nan if latency is None else latency, math.nan if drift is None else drift


def _is_done(before: dict[str, Outcome], job: Job, retry: bool) -> bool:
    row = before.get(job.key)
    return row is not None and (row.ok or not retry)
