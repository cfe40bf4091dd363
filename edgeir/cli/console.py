"""What a command says while it works, all of it on stderr: stages, and bars where a terminal is there to draw them."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Console:
    """Progress of one command.

    Args:
        stages: how many stages the command has, to number them; 0 for none.
        quiet: say nothing.
    """

    def __init__(self, stages: int = 0, *, quiet: bool = False) -> None:
        self._stages = stages
        self._stage = 0
        self._quiet = quiet
        self._started = time.perf_counter()

    def stage(self, text: str) -> None:
        """Begin the next stage: ``[2/6]  19 s  tracing exda-tiny``, with the seconds since the command began."""
        self._stage += 1
        seconds = time.perf_counter() - self._started
        self.say(f"[{self._stage}/{self._stages}] {seconds:4.0f} s  {text}")

    def say(self, text: str) -> None:
        """One line."""
        if not self._quiet:
            sys.stderr.write(text + "\n")
            sys.stderr.flush()

    @contextmanager
    def bar(self, text: str, total: int) -> Iterator[Callable[[], None]]:
        """A progress bar with counts and remaining time; the value it gives is called once per step.

        Without a terminal there is no bar, only a line at each tenth.
        """
        if self._quiet or total == 0:
            yield lambda: None
        elif sys.stderr.isatty():
            from rich.console import Console as RichConsole
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            with Progress(*columns, console=RichConsole(stderr=True), transient=True) as progress:
                task = progress.add_task(f"      {text}", total=total)
                yield lambda: progress.advance(task)
        else:
            done = 0

            def advance() -> None:
                nonlocal done
                done += 1
                if total >= 10 and done * 10 // total > (done - 1) * 10 // total:
                    self.say(f"      {text}: {done} of {total}")

            yield advance


def print_result(text: str) -> None:
    """Print a command's result on stdout."""
    sys.stdout.write(text if text.endswith("\n") else text + "\n")
