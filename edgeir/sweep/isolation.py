"""One command in a process group of its own, bounded in time and memory, and what became of it.

Memory is the resident memory of all its processes together, sampled: pages that two of them share count twice, what
comes and goes between two samples is not seen, and a new process is within half a second. Where the kernel runs out of
memory before the bound is reached, it is asked to take these processes first.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import IO, Any

from edgeir.errors import MissingDependency
from edgeir.sweep.outcome import Status

_SAMPLE_S = 0.05
_FAMILY_S = 0.5  # finding all children reads every process of the machine, which would disturb what is measured
_TAIL_BYTES = 1 << 16
_WARDEN = Path(__file__).with_name("warden.py")


class Stopped(Exception):
    """The sweep was told to stop: the command was killed and is no row."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one command may take: wall time in seconds, resident memory of all its processes in bytes."""

    seconds: float
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Ending:
    """How a command ended.

    Attributes:
        status: as in `edgeir.sweep.outcome.Outcome`.
        reason: one sentence where it is not ok, else ``""``.
        output: the end of its stdout.
        seconds: wall time.
        peak_bytes: largest resident memory of its processes together that was seen.
    """

    status: Status
    reason: str
    output: str
    seconds: float
    peak_bytes: int


def run_isolated(
    command: Sequence[str], limits: Limits, *, log: Path | None = None, stop: threading.Event | None = None
) -> Ending:
    """Run ``command`` to its end or to a bound; what is left of its processes is killed when this returns or raises.

    Args:
        command: program and arguments.
        limits: of time and memory.
        log: file that its stderr is appended to, for reading up; its last line becomes the reason in any case.
        stop: set from another thread to kill it.

    Raises:
        Stopped: ``stop`` was set.
        MissingDependency: psutil is not installed, or the system has no process groups.
    """
    psutil = _psutil()
    ours, theirs = socket.socketpair()
    started = time.perf_counter()
    peak, looked = 0, -_FAMILY_S
    family: list[Any] = []
    status: Status | None = None
    with contextlib.ExitStack() as stack:
        stack.enter_context(ours)
        output = stack.enter_context(tempfile.TemporaryFile())
        errors: IO[bytes] = stack.enter_context(_stderr(log))
        begin = errors.seek(0, os.SEEK_END)
        with theirs:
            warden = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_WARDEN), str(theirs.fileno()), *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        stack.callback(_end, warden, psutil)
        while status is None:
            try:
                warden.wait(timeout=_SAMPLE_S)
                break
            except subprocess.TimeoutExpired:
                pass
            if time.perf_counter() - looked > _FAMILY_S:
                family, looked = _family(warden.pid, psutil), time.perf_counter()
            peak = max(peak, _resident_bytes(family, psutil))
            if stop is not None and stop.is_set():
                raise Stopped
            if peak > limits.memory_bytes:
                status = "out of memory"
            elif time.perf_counter() - started > limits.seconds:
                status = "timed out"
        seconds = time.perf_counter() - started
        if status is not None:
            _end(warden, psutil)
        said = _tail(output, 0)
        if status == "timed out":
            return Ending(status, f"not done after {limits.seconds:.0f} s, its limit", said, seconds, peak)
        if status == "out of memory":
            reason = f"took {_gib(peak)}, its limit is {_gib(limits.memory_bytes)}"
            return Ending(status, reason, said, seconds, peak)
        status, reason = _judge(_returncode(ours), _last_line(_tail(errors, begin)))
        return Ending(status, reason, said, seconds, peak)


def _stderr(log: Path | None) -> IO[bytes]:
    return tempfile.TemporaryFile() if log is None else log.open("a+b")


def _judge(returncode: int | None, last: str) -> tuple[Status, str]:
    if returncode == 0:
        return "ok", ""
    if returncode is None:
        return "crashed", "the process that watched over it was killed"
    if returncode > 0:
        return "failed", f"exit code {returncode}: {last}"
    known = {number.value: number.name for number in signal.Signals}
    return "crashed", f"{known.get(-returncode, f'signal {-returncode}')}: {last}"


def _returncode(link: socket.socket) -> int | None:
    """What the warden said of the command; ``None`` if it never came to that."""
    link.settimeout(1)
    try:
        return int(link.recv(64))
    except (OSError, ValueError):
        return None


def _psutil() -> ModuleType:
    if sys.platform == "win32":
        raise MissingDependency(
            "a sweep needs process groups, which this system does not have", expected="Linux or macOS"
        )
    try:
        import psutil
    except ImportError as error:
        raise MissingDependency(
            "a sweep needs psutil, which is not installed", fix="Run: pip install psutil"
        ) from error
    return psutil


def _family(pid: int, psutil: Any) -> list[Any]:
    """The process and everything below it, those that left the group included."""
    try:
        first = psutil.Process(pid)
        return [first, *first.children(recursive=True)]
    except psutil.Error:
        return []


def _resident_bytes(family: Sequence[Any], psutil: Any) -> int:
    total = 0
    for process in family:
        with contextlib.suppress(psutil.Error):
            total += process.memory_info().rss
    return total


def _end(warden: subprocess.Popen[bytes], psutil: Any) -> None:
    """Kill what is left of the group, and what left the group."""
    for process in _family(warden.pid, psutil)[1:]:
        with contextlib.suppress(psutil.Error):
            process.kill()
    with contextlib.suppress(OSError):  # the group is there as long as anybody in it is
        os.killpg(warden.pid, signal.SIGKILL)
    warden.wait()


def _tail(file: IO[bytes], begin: int) -> str:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(begin, size - _TAIL_BYTES))
    return file.read().decode("utf-8", "replace")


def _last_line(text: str) -> str:
    """The sentence of an edgeir error where there is one, else the last thing that was said."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    ours = [line for line in lines[-3:] if line.startswith("edgeir: ")]
    return (ours or lines or ["it said nothing"])[-1].removeprefix("edgeir: ")


def _gib(count: int) -> str:
    return f"{count / 2**30:.2f} GiB"
