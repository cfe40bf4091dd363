"""``--cpus``: the processors that a measurement stays on."""

from __future__ import annotations

import os
import re

from edgeir.errors import MissingDependency, UsageError

_RANGE = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?", re.ASCII)


def parse_cpus(text: str) -> frozenset[int]:
    """``"0,2-3"`` to {0, 2, 3}; raises ``UsageError`` for anything else."""
    chosen: set[int] = set()
    for part in text.split(","):
        match = _RANGE.fullmatch(part.strip())
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if first > last:
            raise UsageError("not a list of processors", where="--cpus", expected="such as 0,2-3", got=repr(text))
        chosen.update(range(first, last + 1))
    return frozenset(chosen)


def stay_on(text: str) -> tuple[int, ...]:
    """Keep this process, its later threads and children on these processors; gives them in order.

    Raises:
        UsageError: not a list, or a processor that this process may not use.
        MissingDependency: the system cannot do that.
    """
    chosen = parse_cpus(text)
    if not hasattr(os, "sched_setaffinity"):
        raise MissingDependency("this system cannot keep a process on processors", where="--cpus", expected="Linux")
    allowed = os.sched_getaffinity(0)
    if not chosen <= allowed:
        raise UsageError(
            "this process may not use these processors",
            where="--cpus",
            expected=f"some of {', '.join(map(str, sorted(allowed)))}",
            got=", ".join(map(str, sorted(chosen - allowed))),
        )
    os.sched_setaffinity(0, chosen)
    return tuple(sorted(chosen))
