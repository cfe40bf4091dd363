"""Jobs on a device, from here: started or found, followed through broken connections, and their result taken."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgeir.errors import MissingDependency
from edgeir.remote.connection import Connection
from edgeir.remote.refusals import Unreachable

RETRIES = 6
_WAITS_S = (0.5, 1, 2, 5, 10, 20)


@dataclass(frozen=True, slots=True)
class JobEnd:
    """How a job ended.

    Attributes:
        exit: its exit code.
        output: its stdout.
        found: ``"started"`` by this call, found ``"running"``, or found ``"ended"`` and not taken yet.
        last_line: the last line of its log, for the reason where it failed.
    """

    exit: int
    output: str
    found: str
    last_line: str


def run_job(
    connection: Connection,
    key: str,
    command: Sequence[str],
    say: Callable[[str], None],
    *,
    fresh: bool = False,
    sleep: Callable[[float], None] = time.sleep,
) -> JobEnd:
    """Run a command on a device, detached from the connection, and stay with it until it ends.

    Args:
        connection: to the device.
        key: what makes two calls the same; a folder name.
        command: program and arguments there.
        say: told every line of its log as it comes, and what becomes of the connection.
        fresh: start anew even where an old result waits; one that is running is attached to all the same.
        sleep: waits that many seconds.

    Raises:
        Unreachable: the connection could not be made again; the job goes on there.
        MissingDependency: its processes were ended from outside.
    """
    device = connection.device
    begun = connection.ask("start", key=key, command=list(command), fresh=fresh)
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
        raise MissingDependency(
            "the work was ended from outside" if answer["state"] == "died" else "another call took its place",
            where=device.name,
            got=last or "it said nothing",
            fix="Run the command again.",
        )
    output = str(connection.ask("take", key=key, token=token)["output"])
    return JobEnd(int(answer["exit"]), output, found, last)
