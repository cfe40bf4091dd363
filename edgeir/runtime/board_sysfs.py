"""Reading the one-value files of /proc and /sys, and finding a board's own programs, below any root.

Nothing here raises for a file that is missing, unreadable or not what was expected: the answer is then ``None``.
Sensors of a Jetson that are switched off fail with EAGAIN or ENODATA when read: that a file exists says nothing yet.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/")
_DIGITS = re.compile(r"(\d+)")


def read_text(path: Path) -> str | None:
    """What is in a small text file, without white space and NUL around it; ``None`` where it is empty or unreadable."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip(" \t\r\n\0") or None
    except OSError:
        return None


def read_number(path: Path) -> int | None:
    """The whole number in a file, ``None`` where there is none."""
    try:
        return int(read_text(path) or "")
    except ValueError:
        return None


def matching(folder: Path, pattern: str) -> Iterator[Path]:
    """What matches a glob in ``folder``, numbers in names in their own order: ``policy2`` before ``policy10``."""
    try:
        found = list(folder.glob(pattern))
    except OSError:  # a folder that may not be listed
        found = []
    yield from sorted(found, key=lambda path: [int(part) if part.isdigit() else part for part in _pieces(path)])


def find_program(root: Path, name: str) -> str | None:
    """Full path of a program of the system: on the PATH and where root's programs lie, or below another ``root``."""
    beside = [str(root / folder) for folder in ("usr/bin", "usr/sbin", "bin", "sbin")]
    on_path = shutil.which(name) if root == ROOT else None
    return on_path or next((found for folder in beside if (found := shutil.which(name, path=folder))), None)


def _pieces(path: Path) -> list[str]:
    # Text and numbers take turns in every list, text first, so that two lists can always be compared.
    return _DIGITS.split(path.as_posix())
