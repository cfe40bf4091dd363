"""The honesty gate: eight bits are recommended where they were measured to be faster, and lose no more than allowed.

Nothing is recommended on a runtime that was not timed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgeir.compare.drift import PictureDrift, mean_drift_db
from edgeir.manifest import EngineNote
from edgeir.report.value import Check, Table

_LEAST_GAIN = 0.02  # of the time; a smaller one is noise


@dataclass(frozen=True, slots=True)
class Recommendation:
    """What to do on one runtime.

    Attributes:
        runtime: in words.
        time_ratio: time of the eight-bit graph divided by the fastest other one's there; ``None`` if not measured.
        drift_db: mean loss of PSNR.
        within: every check of the drift passed.
    """

    runtime: str
    time_ratio: float | None
    drift_db: float
    within: bool

    @property
    def verdict(self) -> str:
        """``"not recommended: +8 % time, -0.31 dB"`` and the like."""
        quality = f"{-self.drift_db:+.2f} dB"
        if self.time_ratio is None:
            return f"not measured, so not recommended: {quality}"
        figures = f"{100 * (self.time_ratio - 1):+.0f} % time, {quality}"
        if not self.within:
            return f"not recommended: {figures}, which is more than allowed"
        faster = self.time_ratio <= 1 - _LEAST_GAIN
        return f"{'recommended' if faster else 'not recommended'}: {figures}"


def recommendations(
    ratio: float | None, drift: Sequence[PictureDrift], checks: Sequence[Check], engines: Sequence[EngineNote], ort: str
) -> list[Recommendation]:
    """One for ONNX Runtime on this machine, and one for each engine, which nobody has timed."""
    mean = mean_drift_db(drift)
    within = all(check.passed for check in checks)
    rows = [Recommendation(f"{ort}, this machine", ratio, mean, within)]
    return rows + [Recommendation(f"{note.runtime} {note.architecture}", None, mean, within) for note in engines]


def recommendation_table(rows: Sequence[Recommendation], kind: str) -> Table:
    """What the report says of eight bits on each runtime."""
    return Table(
        title=f"Is {kind} worth it?",
        columns=("runtime", "time, of the best without", "verdict"),
        rows=tuple(
            (row.runtime, None if row.time_ratio is None else round(row.time_ratio, 2), row.verdict) for row in rows
        ),
        note="Medians of rounds in turn, against the same graph in FP32 (a CPU has no FP16 kernels). Engines cannot be "
        "run here: time them on the device before you ship them.",
    )
