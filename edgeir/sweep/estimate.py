"""How long a job will take, from the rows there are. Nothing is guessed before something was measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from edgeir.sweep.job import Job
from edgeir.sweep.outcome import Outcome
from edgeir.sweep.trial import Settings, Trial


def expected_seconds(job: Job, rows: Sequence[Outcome]) -> float | None:
    """Seconds of preparing and measuring, ``None`` where no row says anything of that.

    Measuring: from the same trial, else from the same model, else from all; in proportion to pixels, and to pictures
    or rounds, whichever grew more. Preparing: nothing where a row shows that the bundle is there, else as others took;
    most of it is tracing, which does not grow with the size.
    """
    here = [row for row in rows if row.ok and row.machine == job.machine]
    if not here:
        return None
    same_model = [row for row in here if row.trial.build.name == job.trial.build.name]
    same_trial = [row for row in same_model if row.trial == job.trial]
    measuring = [
        row.figures["measure_s"] * _growth(row.settings, job.settings) * _pixels(job.trial) / _pixels(row.trial)
        for row in same_trial or same_model or here
    ]
    preparing: Iterable[float] = [0.0]
    if not any(row.trial.build == job.trial.build for row in here):
        preparing = [row.figures["prepare_s"] for row in same_model or here if row.figures["prepare_s"] > 0] or [0.0]
    return _mean(measuring) + _mean(preparing)


def _growth(was: Settings, will_be: Settings) -> float:
    return max(will_be.pictures / was.pictures, will_be.rounds / was.rounds)


def _pixels(trial: Trial) -> int:
    return trial.height * trial.width * trial.build.batch


def _mean(values: Iterable[float]) -> float:
    known = list(values)
    return sum(known) / len(known)
