"""One job on this machine: prepare its bundle, measure it, and say how it ended, whatever happens."""

from __future__ import annotations

import json
import re
import sys
import threading
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgeir.bundle import bundle_name
from edgeir.storage import writing
from edgeir.sweep.isolation import Ending, Limits, Stopped, run_isolated
from edgeir.sweep.job import Job
from edgeir.sweep.ledger import PICTURES
from edgeir.sweep.outcome import Outcome
from edgeir.sweep.trial import Build, Machine, bundle_key
from edgeir.sweep.turns import turn

BUNDLES, LOGS = "bundles", "logs"


def bundle_path(folder: Path, build: Build, machine: Machine) -> Path:
    """Where a sweep keeps the bundle of ``build``, or where it was given: the name is for people, the key decides."""
    if build.bundle is not None:
        return Path(build.bundle)
    name = Path(bundle_name(build.name, build.precision, build.height, build.width)).stem
    return folder / BUNDLES / f"{name}-{bundle_key(build, machine)[:12]}.edgeir"


def drift_path(folder: Path, build: Build, machine: Machine) -> Path:
    """Where a sweep keeps the drift that was measured of a bundle, for the trials that share it."""
    key = build.content_sha256 if build.bundle is not None else bundle_key(build, machine)
    return folder / BUNDLES / f"{key[:16]}.drift.json"


class Runner:
    """Runs jobs in one folder; several threads may use it.

    Args:
        folder: of the sweep; bundles, logs and pictures go there.
        worker: what Python is to run for one trial; a task in JSON is added as its last argument
            (`edgeir.cli.sweep_trial`).
        limits: of every export and of every measurement.
        stop: set to kill what runs and to refuse what follows.
    """

    def __init__(self, folder: Path, worker: tuple[str, ...], limits: Limits, stop: threading.Event) -> None:
        self._folder = folder
        self._worker = worker
        self._limits = limits
        self._stop = stop
        self._guards: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._failed: dict[str, Ending] = {}
        for name in (BUNDLES, LOGS, PICTURES):
            with writing(folder / name):
                (folder / name).mkdir(parents=True, exist_ok=True)

    def run(self, job: Job) -> Outcome:
        """Prepare and measure.

        Raises:
            Stopped: ``stop`` was set; this is no outcome.
        """
        prepared = self._prepared(job)
        if prepared is not None and prepared.status != "ok":
            return _outcome(job, prepared, {}, prepared.seconds)
        with turn(alone=True, stop=self._stop):
            measured = self._worker_run("measure", job)
        took = 0.0 if prepared is None else prepared.seconds
        figures, ending = _figures(measured)
        if figures:
            figures |= {"prepare_s": round(took, 2), "measure_s": round(measured.seconds, 2)}
        return _outcome(job, ending, figures, took + measured.seconds, 0 if prepared is None else prepared.peak_bytes)

    def _prepared(self, job: Job) -> Ending | None:
        """How preparing its bundle ended; ``None`` where it was there. A bundle that failed once is not tried again."""
        key = bundle_key(job.trial.build, job.machine)
        with self._guards[key]:
            if self._stop.is_set():
                raise Stopped
            if key in self._failed:
                return self._failed[key]
            if bundle_path(self._folder, job.trial.build, job.machine).is_dir():
                return None
            with turn(alone=False, stop=self._stop):
                ending = self._worker_run("prepare", job)
            if ending.status != "ok":
                self._failed[key] = ending
            return ending

    def _worker_run(self, phase: str, job: Job) -> Ending:
        task = {
            "phase": phase,
            "trial": asdict(job.trial),
            "settings": asdict(job.settings),
            "bundle": str(bundle_path(self._folder, job.trial.build, job.machine)),
            "drift": str(drift_path(self._folder, job.trial.build, job.machine)),
            "pictures": str(self._folder / PICTURES / job.key[:16]),
        }
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", job.trial.label)
        log = self._folder / LOGS / f"{name}-{job.key[:8]}.txt"
        return run_isolated([sys.executable, *self._worker, json.dumps(task)], self._limits, log=log, stop=self._stop)


def _figures(ending: Ending) -> tuple[dict[str, Any], Ending]:
    """The JSON value on the last line of the worker's output; an ending without one is a failure."""
    if ending.status != "ok":
        return {}, ending
    lines = ending.output.strip().splitlines() or [""]
    try:
        value = json.loads(lines[-1])
    except ValueError:
        value = None
    if not isinstance(value, dict) or not value:
        reason = f"the worker ended without an answer: {lines[-1][:80]!r}"
        return {}, Ending("failed", reason, ending.output, ending.seconds, ending.peak_bytes)
    return value, ending


def _outcome(job: Job, ending: Ending, figures: dict[str, Any], seconds: float, peak_before: int = 0) -> Outcome:
    return Outcome(
        key=job.key,
        trial=job.trial,
        settings=job.settings,
        machine=job.machine,
        rung=job.rung,
        status=ending.status,
        reason=ending.reason,
        seconds=round(seconds, 2),
        peak_bytes=max(ending.peak_bytes, peak_before),
        figures=figures,
    )
