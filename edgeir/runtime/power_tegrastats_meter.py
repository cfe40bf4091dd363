"""``tegrastats`` as a power meter: a child process whose latest line is the reading."""

from __future__ import annotations

import subprocess
import threading
import time
import weakref
from pathlib import Path

from edgeir.errors import MissingDependency
from edgeir.runtime.board_sysfs import ROOT, find_program
from edgeir.runtime.power_rails import summed_rails, with_total
from edgeir.runtime.power_tegrastats import Tegrastats, parse_tegrastats

_STARTS_WITHIN_S = 5.0
_STOPS_WITHIN_S = 2.0


class TegrastatsMeter:
    """Runs ``tegrastats`` as long as somebody reads: started by the first reading, ended by `close`.

    The child also ends with this object and with the interpreter. It may be read again after `close`.

    Args:
        program: the path of tegrastats.
        interval_ms: how often it shall print.
        name: what reports call this meter.
    """

    def __init__(self, program: str | Path, *, interval_ms: int = 100, name: str = "tegrastats") -> None:
        self.name = name
        self.period_s = interval_ms / 1000
        self._command = [str(program), "--interval", str(interval_ms)]
        self._news = threading.Condition()
        self._latest: tuple[float, Tegrastats] | None = None
        self._said = "nothing"
        self._child: subprocess.Popen[str] | None = None  # the one whose lines count; None once it ended
        self._stop: weakref.finalize[[subprocess.Popen[str]], TegrastatsMeter] | None = None

    def read(self) -> Tegrastats:
        """The latest line; waits for one where none is newer than three intervals.

        Raises:
            MissingDependency: tegrastats cannot be run, ended, or prints nothing within five seconds.
        """
        if self._stop is None or not self._stop.alive:
            self._start()
        fresh_s = 3 * self.period_s
        with self._news:
            deadline = time.monotonic() + _STARTS_WITHIN_S + fresh_s
            while self._latest is None or time.monotonic() - self._latest[0] > fresh_s:
                if self._child is None or not self._news.wait(max(deadline - time.monotonic(), 0)):
                    break
            else:
                return self._latest[1]
        self.close()
        raise MissingDependency("tegrastats gives no values", where=self._command[0], expected="a line", got=self._said)

    def read_watts(self) -> dict[str, float]:
        """Power of every rail at the time of the latest line, and of ``"total"``, in watts.

        Raises:
            MissingDependency: as `read`.
        """
        return with_total(self.read().watts)

    def read_joules(self) -> None:
        """Tegrastats counts no energy."""
        return

    def close(self) -> None:
        """End the child process and wait for its end."""
        with self._news:
            self._child = None
        if self._stop is not None:
            self._stop()
        self._stop = None

    def _start(self) -> None:
        self._latest, self._said = None, "nothing"
        try:
            child = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
                errors="replace",
            )
        except OSError as error:
            raise MissingDependency(
                "tegrastats cannot be run", where=self._command[0], got=error.strerror or "an error"
            ) from error
        self._child = child
        self._stop = weakref.finalize(self, _end, child)
        threading.Thread(target=_listen, args=(weakref.ref(self), child), name="tegrastats", daemon=True).start()

    def _hear(self, child: subprocess.Popen[str], line: str | None) -> None:
        """Take in a line of ``child``; ``None``: it ended."""
        with self._news:
            if child is not self._child:  # an earlier one, which was told to end
                return
            if line is None:
                self._child = None
            elif (values := parse_tegrastats(line)) is not None:
                self._latest = (time.monotonic(), values)
            else:
                self._said = line.strip()
            self._news.notify_all()


def find_tegrastats(root: Path = ROOT) -> tuple[tuple[TegrastatsMeter, ...], tuple[str, ...]]:
    """The meter of this board's tegrastats, if it prints rails, and a sentence where it is there and does not.

    Starts it once, for one line.
    """
    program = find_program(root, "tegrastats")
    if program is None:
        return (), ()
    meter = TegrastatsMeter(program)
    try:
        summed = summed_rails(meter.read().watts)
    except MissingDependency as error:
        return (), (f"tegrastats: {error.what} ({error.got})",)
    finally:
        meter.close()
    if not summed:
        return (), ("tegrastats: prints no power rails",)
    return (TegrastatsMeter(program, name=f"tegrastats (total: {' + '.join(summed)})"),), ()


def _listen(meter: weakref.ref[TegrastatsMeter], child: subprocess.Popen[str]) -> None:
    # Holds the meter only while a line is handed over, so that a forgotten meter is collected and its child ended.
    assert child.stdout is not None
    with child.stdout as lines:
        for line in lines:
            if (listener := meter()) is None:
                return
            listener._hear(child, line)
            del listener
    if (listener := meter()) is not None:
        listener._hear(child, None)


def _end(child: subprocess.Popen[str]) -> None:
    child.terminate()
    try:
        child.wait(_STOPS_WITHIN_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
