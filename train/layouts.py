"""Published data sets as they lie on disk: a root folder to a list of examples, without reading a pixel."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Example:
    """One thing to learn from.

    Attributes:
        clean: the picture without the degradation.
        degraded: the same scene with it; ``None`` where the degradation is made on the fly.
        group: the task in tables: ``"denoise"``, ``"rain"``, ``"haze"``, ...
    """

    clean: Path
    degraded: Path | None
    group: str
