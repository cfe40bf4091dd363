"""What a sweep shows while it runs, on stderr: a live table on a terminal, a line per trial anywhere else."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from edgeir.cli.console import Console
from edgeir.sweep.estimate import expected_seconds
from edgeir.sweep.job import Job
from edgeir.sweep.outcome import Outcome

if TYPE_CHECKING:
    from rich.table import Table

_SHOWN = 12


class Progress:
    """Looks on while a sweep runs (`edgeir.sweep.campaign.Watcher`).

    Args:
        console: where lines go.
        rows: gives the ledger's rows, which remaining time is estimated from.
        width: how many trials run at a time.
    """

    def __init__(self, console: Console, rows: Callable[[], Sequence[Outcome]], width: int) -> None:
        self._console = console
        self._rows = rows
        self._width = width
        self._began = time.monotonic()
        self._left: list[Job] = []
        self._running: dict[str, tuple[Job, float]] = {}
        self._ended: list[Outcome] = []
        self._total = 0
        self._live: Any = None

    def __enter__(self) -> Progress:
        if sys.stderr.isatty():
            from rich.console import Console as RichConsole
            from rich.live import Live

            self._live = Live(
                get_renderable=self._table, console=RichConsole(stderr=True), refresh_per_second=2, transient=True
            )
            self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.__exit__(kind, error, trace)

    def begin(self, jobs: Sequence[Job], done: Sequence[Outcome]) -> None:
        """A rung begins."""
        self._left, self._total = list(jobs), len(jobs)
        there = f", {len(done)} are done already" if done else ""
        settings = jobs[0].settings if jobs else None
        how = f", {settings.pictures} pictures and {settings.rounds} rounds each" if settings else ""
        self._say(f"{len(jobs)} trials to run{how}{there}")

    def start(self, job: Job) -> None:
        """One job starts."""
        self._left = [other for other in self._left if other.key != job.key]
        self._running[job.key] = (job, time.monotonic())

    def end(self, outcome: Outcome) -> None:
        """One job ended."""
        self._running.pop(outcome.key, None)
        self._ended.append(outcome)
        number = self._total - len(self._left) - len(self._running)
        seconds = time.monotonic() - self._began
        text = f"{outcome.trial.label}: {outcome_text(outcome)}{self._remaining()}"
        self._say(f"[{number}/{self._total}] {seconds:4.0f} s  {text}")

    def _say(self, text: str) -> None:
        if self._live is None:
            self._console.say(text)

    def _remaining(self) -> str:
        seconds = self._seconds_left()
        return "" if seconds is None else f"; about {duration_text(seconds)} left"

    def _seconds_left(self) -> float | None:
        """Of what did not end; ``None`` while nothing was measured, or nothing is left."""
        rows = self._rows()
        now = time.monotonic()
        running = [(expected_seconds(job, rows), now - since) for job, since in self._running.values()]
        waiting = [(expected_seconds(job, rows), 0.0) for job in self._left]
        known = [max(0.0, expected - spent) for expected, spent in running + waiting if expected is not None]
        return sum(known) / self._width if known else None

    def _table(self) -> Table:
        from rich.table import Table

        number = self._total - len(self._left) - len(self._running)
        table = Table(title=f"{number} of {self._total} trials{self._remaining()}", title_justify="left")
        for column in ("trial", "how it ended", "seconds"):
            table.add_column(column, justify="right" if column == "seconds" else "left")
        for row in self._ended[-_SHOWN:]:
            table.add_row(row.trial.label, outcome_text(row), f"{row.seconds:.0f}")
        now = time.monotonic()
        for job, since in self._running.values():
            table.add_row(job.trial.label, "running", f"{now - since:.0f}")
        return table


def outcome_text(outcome: Outcome) -> str:
    """``"p50 210.4 ms, drift 0.0003 dB"``, or how it ended and why."""
    if not outcome.ok:
        return f"{outcome.status}: {outcome.reason}"
    latency, drift = outcome.figures.get("p50_ms"), outcome.figures.get("mean_drift_db")
    parts = ([] if latency is None else [f"p50 {latency:.1f} ms"]) + (
        [] if drift is None else [f"drift {drift:.4f} dB"]
    )
    return ", ".join(parts) or "done"


def duration_text(seconds: float) -> str:
    """``"40 s"``, ``"12 min"`` or ``"3.5 h"``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
