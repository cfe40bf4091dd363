"""Values of command-line options, from text to types."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from edgeir.errors import UsageError

if TYPE_CHECKING:
    from edgeir.calibrate.planner import Loss

_SIZE = re.compile(r"(\d{1,6})[xX](\d{1,6})", re.ASCII)


def parse_size(text: str, *, where: str) -> tuple[int, int]:
    """``"256x320"`` to (256, 320): height, width in pixels; raises ``UsageError`` for anything else."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise UsageError("not a size", where=where, expected="HEIGHTxWIDTH in pixels, such as 256x256", got=repr(text))
    return int(match[1]), int(match[2])


def drift_budget(mean_db: float | None, worst_db: float | None) -> Loss | None:
    """What ``--drift-budget`` and ``--worst-drift-budget`` allow, and half the shift of brightness that its gate does.

    A shift is the largest of all pictures, and other pictures have larger ones: exda-tiny, planned for 0.19 of 255,
    came to 0.26 on the measuring pictures.

    Raises:
        UsageError: not above 0, or the second without the first.
    """
    from edgeir.calibrate.planner import gate_limits

    for option, value in (("--drift-budget", mean_db), ("--worst-drift-budget", worst_db)):
        if value is not None and not 0 < value < float("inf"):
            raise UsageError("the budget is not a loss in dB", where=option, expected="above 0", got=f"{value:g}")
    if mean_db is None:
        if worst_db is not None:
            raise UsageError("--worst-drift-budget goes with --drift-budget", where="--worst-drift-budget")
        return None
    limits = gate_limits()
    worst = limits.worst_db if worst_db is None else worst_db
    return replace(limits, mean_db=mean_db, worst_db=worst, shift_8bit=limits.shift_8bit / 2)
