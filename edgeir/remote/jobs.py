"""Jobs on a device, from here: started or found, followed through broken connections, and their result read.

A result counts as taken once somebody has it in hand (`mark_taken`): whoever is cut off before finds it there again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgeir.errors import EdgeIRError, MissingDependency, OutOfSpace
from edgeir.remote.connection import Connection
from edgeir.remote.refusals import Refused, Unreachable

RETRIES = 6
_WAITS_S = (0.5, 1, 2, 5, 10, 20)
_FULL_BYTES = 64 << 10  # less than this is free where a job could not even write down how it ended


@dataclass(frozen=True, slots=True)
class JobEnd:
    """How a job ended.

    Attributes:
        exit: its exit code.
        output: its stdout.
        found: ``"started"`` by this call, found ``"running"``, or found ``"ended"`` and not taken yet.
        last_line: the last line of its log, for the reason where it failed.
        key: of the job.
        token: of this very start of it.
    """

    exit: int
    output: str
    found: str
    last_line: str
    key: str
    token: str


def run_job(
    connection: Connection,
    key: str,
    command: Sequence[str],
    say: Callable[[str], None],
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> JobEnd:
    """Run a command on a device, detached from the connection, and stay with it until it ends.

    Args:
        connection: to the device.
        key: what makes two calls the same; a folder name.
        command: program and arguments there.
        say: told every line of its log as it comes, and what becomes of the connection.
        sleep: waits that many seconds.

    Raises:
        Unreachable: the connection could not be made again; the job goes on there.
        OutOfSpace: the disk of the device became full.
        MissingDependency: its processes were ended from outside, or somebody asked for its end.
    """
    device = connection.device
    begun = connection.ask("start", key=key, command=list(command))
    token, found = str(begun["token"]), str(begun["found"])
    if found == "running":
        say(f"it is running on {device.name} already: attached to it")
    elif found == "ended":
        say(f"it ended on {device.name} while nobody listened: here is what it said")
    offset, attempt, last = 0, 0, ""
    while True:

        def on_line(line: bytes) -> None:
            nonlocal offset, attempt, last
            offset += len(line)
            attempt = 0  # it answers, so that the next break counts from the beginning
            text = line.decode("utf-8", "replace").rstrip()
            if text:
                last = text
                say(text)

        try:
            answer = connection.listen("follow", on_line, key=key, token=token, offset=offset)
            break
        except Refused:
            raise
        except Unreachable as error:
            if attempt >= RETRIES:  # a device that restarts refuses connections for a while
                raise Unreachable(
                    error.what,
                    where=device.name,
                    got=error.got,
                    fix="The work goes on there: the same command attaches to it again.",
                ) from error
            wait = _WAITS_S[attempt]
            attempt += 1
            say(f"the connection broke, the work goes on there; trying again in {wait:g} s ({attempt} of {RETRIES})")
            sleep(wait)
    if answer["state"] != "ended":
        raise _without_end(answer, device.name, last)
    output = _again(lambda: connection.ask("read", key=key, token=token), say, sleep)["output"]
    if output is None:
        raise _without_end({"state": "another"}, device.name, last)
    return JobEnd(int(answer["exit"]), str(output), found, last, key, token)


def mark_taken(
    connection: Connection, end: JobEnd, say: Callable[[str], None], *, sleep: Callable[[float], None] = time.sleep
) -> None:
    """Let the same command start anew from now on.

    Raises:
        Unreachable: the connection cannot be made again; the result is there for the next call as well.
    """
    _again(lambda: connection.ask("mark", key=end.key, token=end.token), say, sleep)


def _again(
    ask: Callable[[], dict[str, Any]], say: Callable[[str], None], sleep: Callable[[float], None]
) -> dict[str, Any]:
    for wait in _WAITS_S:
        try:
            return ask()
        except Unreachable as error:
            if not error.lost:
                raise
            say(f"the connection broke; trying again in {wait:g} s")
            sleep(wait)
    return ask()


def _without_end(answer: Mapping[str, Any], device: str, last: str) -> EdgeIRError:
    """The error for a job that left no result."""
    said = last or "it said nothing"
    if answer["state"] == "stopped":
        return MissingDependency("the work was stopped", where=device, got=said, fix="Run the command again.")
    if answer["state"] == "died" and int(answer["free_bytes"]) < _FULL_BYTES:
        return OutOfSpace("the disk of the device became full", where=device, got=said, fix="Free some space there.")
    return MissingDependency(
        "the work was ended from outside" if answer["state"] == "died" else "another call took its place",
        where=device,
        got=said,
        fix="Run the command again.",
    )
