"""Jobs on this machine, several at a time where that does no harm."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path

from edgeir.provenance import collect
from edgeir.sweep.isolation import Limits
from edgeir.sweep.job import Job
from edgeir.sweep.outcome import Outcome
from edgeir.sweep.running import Runner
from edgeir.sweep.trial import Machine


def this_machine() -> Machine:
    """What kind of machine this is, and what is installed on it."""
    facts = collect(seconds=0, argv=()).to_dict()
    return Machine(facts["device"], facts["versions"])


class LocalExecutor:
    """Runs jobs here. Exports go side by side, measuring goes alone (`edgeir.sweep.turns`).

    Args:
        folder, worker, limits: as `edgeir.sweep.running.Runner` takes them.
        width: how many jobs at a time.
    """

    def __init__(self, folder: Path, worker: tuple[str, ...], limits: Limits, *, width: int = 1) -> None:
        self._stop = threading.Event()
        self._runner = Runner(folder, worker, limits, self._stop)
        self._machine = this_machine()
        self._width = width

    @property
    def machines(self) -> tuple[Machine, ...]:
        """This one."""
        return (self._machine,)

    @property
    def width(self) -> int:
        """As given."""
        return self._width

    def run(
        self,
        jobs: Sequence[Job],
        *,
        may_start: Callable[[Job], bool],
        on_start: Callable[[Job], None],
        on_done: Callable[[Outcome], None],
    ) -> None:
        """As `edgeir.sweep.job.Executor.run`. Any exception kills what runs before it goes on its way."""
        left = deque(jobs)
        running: set[Future[Outcome]] = set()
        with ThreadPoolExecutor(self._width) as pool:
            try:
                while left or running:
                    while left and len(running) < self._width:
                        job = left.popleft()
                        if may_start(job):
                            on_start(job)
                            running.add(pool.submit(self._runner.run, job))
                    if running:
                        finished, running = wait(running, return_when=FIRST_COMPLETED)
                        for future in finished:
                            on_done(future.result())
            except BaseException:
                self._stop.set()
                raise

    def close(self) -> None:
        """Nothing runs between calls of `run`."""
        self._stop.set()
