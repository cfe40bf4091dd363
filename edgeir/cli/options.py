"""Values of command-line options, from text to types."""

from __future__ import annotations

import re

from edgeir.errors import UsageError

_SIZE = re.compile(r"(\d{1,6})[xX](\d{1,6})", re.ASCII)


def parse_size(text: str, *, where: str) -> tuple[int, int]:
    """``"256x320"`` to (256, 320): height, width in pixels; raises ``UsageError`` for anything else."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise UsageError("not a size", where=where, expected="HEIGHTxWIDTH in pixels, such as 256x256", got=repr(text))
    return int(match[1]), int(match[2])
