"""TensorRT's own account of a build, where it gives one (8.6 and later): phases within phases, each with its steps.

Steps of the outer phases say little: `"Building engine"` announces six and ends after three, and nearly all of the time
goes into one of them. What can be told honestly is the innermost phase that has many steps, such as
`"Timing graph nodes"`: how far it is, and how long it will take at its own pace.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edgeir.export.engines.target import Progress

_TELLING_STEPS = 8
_EVERY_S = 0.5


@dataclass(slots=True)
class _Phase:
    steps: int
    started: float
    done: int = 0


class Phases:
    """The phases that are open now; calls may come from several threads.

    Args:
        tell: called with what is to be told, at most twice a second.
        clock: seconds that never go back.
    """

    def __init__(self, tell: Callable[[Progress], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._tell = tell
        self._clock = clock
        self._open: dict[str, _Phase] = {}
        self._told = -_EVERY_S
        self._lock = threading.Lock()

    def start(self, name: str, steps: int) -> None:
        """A phase begins."""
        with self._lock:
            self._open[name] = _Phase(steps, self._clock())

    def finish(self, name: str) -> None:
        """A phase ends, whether or not it made all of its steps."""
        with self._lock:
            self._open.pop(name, None)

    def step(self, name: str, step: int) -> None:
        """Step number ``step`` (from 0) of a phase is done."""
        with self._lock:
            phase = self._open.get(name)
            if phase is None:
                return
            phase.done = min(step + 1, phase.steps)
            now = self._clock()
            telling = [at for at, one in self._open.items() if one.steps >= _TELLING_STEPS]
            if not telling or now - self._told < _EVERY_S:
                return
            self._told = now
            inner = self._open[telling[-1]]
            progress = Progress(telling[-1], inner.done, inner.steps, now - inner.started)
        self._tell(progress)


def watch(trt: Any, config: Any, tell: Callable[[Progress], None]) -> bool:
    """Have a builder's configuration report to ``tell``; whether this version can."""
    if not hasattr(trt, "IProgressMonitor") or not hasattr(config, "progress_monitor"):
        return False
    phases = Phases(tell)

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        """Passes everything on; its last answer would stop a build, and never does."""

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            phases.start(phase_name, num_steps)

        def phase_finish(self, phase_name: str) -> None:
            phases.finish(phase_name)

        def step_complete(self, phase_name: str, step: int) -> bool:
            phases.step(phase_name, step)
            return True

    config.progress_monitor = Monitor()
    return True
