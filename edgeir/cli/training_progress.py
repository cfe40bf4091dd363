"""What ``edgeir train`` shows while it works: a bar on a terminal, lines in a file."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING

from edgeir.cli.console import Console

if TYPE_CHECKING:
    from edgeir.train.loop import Progress

_LINE_EVERY_S = 10.0


class TrainingProgress:
    """Loss, PSNR, patches per second and the remaining time, on stderr.

    Args:
        console: says the lines.
        steps: of the recipe.
    """

    def __init__(self, console: Console, steps: int) -> None:
        self._console = console
        self._steps = steps
        self._stack = ExitStack()
        self._said = -_LINE_EVERY_S
        self._loss = self._psnr_db = 0.0
        self._since = 0

    def __enter__(self) -> TrainingProgress:
        self._bar = None
        if sys.stderr.isatty():
            from rich.console import Console as RichConsole
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

            columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
            self._bar = self._stack.enter_context(Progress(*columns, console=RichConsole(stderr=True), transient=True))
            self._task = self._bar.add_task("", total=self._steps)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def stepped(self, progress: Progress) -> None:
        """Show the mean since the last line."""
        self._loss += progress.loss
        self._psnr_db += progress.psnr_db
        self._since += 1
        now = time.perf_counter()
        last = progress.step == progress.steps
        text = (
            f"loss {self._loss / self._since:.4f}  {self._psnr_db / self._since:.2f} dB  "
            f"{progress.pictures_per_second:.1f} patches/s  {_duration(progress.seconds_left)} left"
        )
        if self._bar is not None:
            self._bar.update(self._task, completed=progress.step, description=text)
        if now - self._said < _LINE_EVERY_S and not last:
            return
        if self._bar is None:
            self._console.say(f"step {progress.step:>6} of {progress.steps}  {text}")
        self._said, self._loss, self._psnr_db, self._since = now, 0.0, 0.0, 0

    def saved(self, step: int) -> None:
        """Nothing to say: it happens every minute."""

    def validated(self, step: int, psnr_db: dict[str, float]) -> None:
        """One line with every condition."""
        self._console.say(
            f"step {step:>6}  held out: " + "  ".join(f"{k} {v:.2f}" for k, v in psnr_db.items()) + "  dB"
        )


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
