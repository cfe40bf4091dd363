"""Reading a power meter while something runs."""

from __future__ import annotations

import dataclasses
import threading
import time
from types import TracebackType

from edgeir.errors import EdgeIRError
from edgeir.runtime.power import PowerMeter
from edgeir.runtime.power_energy import Energy, Reading, conclude

INTERVAL_S = 0.02


class EnergyRecorder:
    """Context manager that reads a meter in a thread of its own while its block runs; `energy` is the result.

    >>> with EnergyRecorder(meter) as recorder:  # doctest: +SKIP
    ...     restore(pictures)
    >>> recorder.energy.joules  # doctest: +SKIP
    41.7

    A meter that stops to answer, or a block too short for it, does not stop the work: `Energy.reason` says so. The
    readings at the two ends are taken in the calling thread, just before and just after the block.

    Args:
        meter: where to read.
        interval_s: time between readings; a meter's own ``period_s``, where longer, takes its place.
    """

    def __init__(self, meter: PowerMeter, *, interval_s: float = INTERVAL_S) -> None:
        self._meter = meter
        self._interval_s = max(interval_s, meter.period_s)
        self._readings: list[Reading] = []
        self._failure: str | None = None
        self._counts = False
        self._started_s = self._ended_s = 0.0
        self._finished = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> EnergyRecorder:
        if self._thread is not None:
            raise RuntimeError("An EnergyRecorder records one period. Make another one.")
        self._thread = threading.Thread(target=self._sample, name="energy", daemon=True)
        self._counts = self._has_counter()
        self._started_s = time.perf_counter()
        self._read()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._thread is not None
        self._ended_s = time.perf_counter()
        self._finished.set()
        self._thread.join()
        if not self._readings or self._readings[-1].at_s < self._ended_s:
            self._read()

    @property
    def energy(self) -> Energy:
        """What the block took."""
        if not self._finished.is_set():
            raise RuntimeError("The energy of a block is known when the block has ended.")
        energy = conclude(self._meter.name, self._readings, started_s=self._started_s, ended_s=self._ended_s)
        if energy.joules is None and self._failure is not None:
            return dataclasses.replace(energy, reason=f"{energy.reason}; {self._failure}")
        return energy

    def _sample(self) -> None:
        due_s = time.perf_counter() + self._interval_s
        while not self._finished.wait(max(due_s - time.perf_counter(), 0)):
            self._read()
            due_s = max(due_s + self._interval_s, time.perf_counter())

    def _read(self) -> None:
        started_s = time.perf_counter()
        try:
            joules = self._meter.read_joules() if self._counts else None
            watts = None if self._counts else self._meter.read_watts()
        except EdgeIRError as error:
            self._failure = str(error)
            return
        at_s = (started_s + time.perf_counter()) / 2
        self._readings.append(Reading(at_s, watts, joules))

    def _has_counter(self) -> bool:
        try:
            return self._meter.read_joules() is not None
        except EdgeIRError:
            return False


def idle_watts(meter: PowerMeter, seconds: float = 5.0, *, interval_s: float = INTERVAL_S) -> float:
    """Mean power in watts while this process does nothing for ``seconds``.

    Measure it before the work, with the model loaded and everything else as it will be, and on a board that has rested:
    a warm chip takes more. What other programs do in that time counts as idle.

    Raises:
        MissingDependency: nothing can be concluded from what the meter gave.
    """
    with EnergyRecorder(meter, interval_s=interval_s) as recorder:
        time.sleep(seconds)
    energy = recorder.energy
    return energy.known_joules() / energy.seconds
