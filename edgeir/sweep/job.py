"""What is to be done, and what can do it: a machine, or a cluster of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from edgeir.sweep.outcome import Outcome
from edgeir.sweep.trial import Machine, Settings, Trial, trial_key


@dataclass(frozen=True, slots=True)
class Job:
    """One trial on one kind of machine, measured so thoroughly, on one rung of successive halving."""

    trial: Trial
    settings: Settings
    machine: Machine
    rung: int = 0

    @property
    def key(self) -> str:
        """`edgeir.sweep.trial.trial_key`."""
        return trial_key(self.trial, self.settings, self.machine)


class Executor(Protocol):
    """Runs jobs somewhere."""

    @property
    def machines(self) -> tuple[Machine, ...]:
        """The kinds of machine it has; each is swept for itself."""
        ...

    @property
    def width(self) -> int:
        """How many jobs it runs at a time."""
        ...

    def run(
        self,
        jobs: Sequence[Job],
        *,
        may_start: Callable[[Job], bool],
        on_start: Callable[[Job], None],
        on_done: Callable[[Outcome], None],
    ) -> None:
        """Run jobs in order; all callbacks come on the caller's thread.

        Args:
            jobs: what to do, each for one of `machines`.
            may_start: asked right before each; a job that may not is left out.
            on_start: told of each that starts.
            on_done: told how each ended.
        """
        ...

    def close(self) -> None:
        """Let go of what it holds; nothing of it runs afterwards."""
        ...
