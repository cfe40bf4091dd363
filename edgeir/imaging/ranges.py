"""The one check that all degradations make of their parameters."""

from __future__ import annotations

import math

from edgeir.errors import UsageError


def require(where: str, name: str, value: float, low: float, high: float) -> None:
    """Raise ``UsageError`` unless ``low <= value <= high`` (``high`` may be infinite, ``value`` may not)."""
    if not (low <= value <= high and math.isfinite(value)):
        raise UsageError(f"{name} is out of range", where=where, expected=f"{low:g} to {high:g}", got=f"{value:g}")
