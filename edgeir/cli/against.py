"""``edgeir validate --against``: another bundle on the same pictures, and whether what lies between them is real."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeir.bundle import Bundle
from edgeir.cli.console import Console
from edgeir.cli.measuring import check_drift, rounding_session
from edgeir.compare.drift import PictureDrift
from edgeir.compare.intervals import LEAST_FOR_MEAN
from edgeir.compare.paired import Difference, differences
from edgeir.errors import UsageError
from edgeir.report.value import Cell, Table
from edgeir.runtime.opening import graph_input

Pixels = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Opponent:
    """The other bundle, checked before anything is measured."""

    bundle: Bundle

    @property
    def name(self) -> str:
        """``"exda-tiny int8"``."""
        return f"{self.bundle.manifest.name} {self.bundle.manifest.precision}"

    def measure(self, *, pictures: int, console: Console, own: list[tuple[str, Pixels]] | None) -> list[PictureDrift]:
        """Its drift on the same pictures, see `edgeir.cli.measuring.check_drift`."""
        typed, reference = (rounding_session(self.bundle.file(role)) for role in ("model", "reference"))
        graph = graph_input(self.bundle.manifest)
        return check_drift(typed, reference, graph, pictures=pictures, console=console, own=own)


def open_opponent(other: Bundle, bundle: Bundle, *, pictures: int) -> Opponent:
    """The bundle to compare ``bundle`` with.

    Raises:
        UsageError: the two take different sizes, or there are too few pictures for an interval.
    """
    ours, theirs = graph_input(bundle.manifest), graph_input(other.manifest)
    if (ours.optimum, ours.scale) != (theirs.optimum, theirs.scale):
        raise UsageError(
            "the two bundles restore pictures of different sizes",
            where=f"--against {other.path}",
            expected=_size_text(ours.optimum, ours.scale),
            got=_size_text(theirs.optimum, theirs.scale),
            fix="Export both with the same --size.",
        )
    if pictures < LEAST_FOR_MEAN:
        raise UsageError(
            "too few pictures to tell a difference from chance",
            where="--pictures",
            expected=f"{LEAST_FOR_MEAN} or more",
            got=str(pictures),
        )
    return Opponent(other)


def compare_with(
    opponent: Opponent, ours: Sequence[PictureDrift], theirs: Sequence[PictureDrift], *, trained: bool
) -> tuple[str, Table]:
    """The verdict over all degradations as a sentence, and one row per degradation.

    Args:
        trained: whether this bundle's network is; where either is not, a difference is neither better nor worse.
    """
    judged = trained and opponent.bundle.manifest.model.trained
    rows = differences(ours, theirs)
    cells: list[tuple[Cell, ...]] = [
        (
            row.condition,
            round(row.interval.estimate, 4),
            f"{row.interval.low:.4f} to {row.interval.high:.4f}",
            _verdict(row, judged=judged),
        )
        for row in rows
    ]
    overall = rows[0]
    sentence = f"{_verdict(overall, judged=judged)}: {overall.interval.estimate:+.4f} dB against {opponent.name}"
    table = Table(
        title=f"Against {opponent.name}",
        columns=("degradation", "difference dB", "interval", "verdict"),
        rows=tuple(cells),
        note=f"Mean PSNR against the truth, this bundle minus {opponent.name}, over {overall.pictures} pictures; "
        "positive is for this bundle. Intervals are studentised bootstraps over pictures: 95 % over all, for single "
        "degradations wide enough that all of them together hold in 95 of 100 runs, if differences are near normal. A "
        "loss that one picture in ten shows may be missed by so few."
        + ("" if judged else " UNTRAINED: a difference is neither better nor worse."),
    )
    return sentence, table


def _verdict(row: Difference, *, judged: bool) -> str:
    if not row.real:
        return "no difference found"
    if not judged:
        return "different"
    return "better" if row.interval.estimate > 0 else "worse"


def _size_text(size: tuple[int, int], scale: int) -> str:
    return f"{size[0]}x{size[1]}" + (f", {scale} times enlarged" if scale > 1 else "")
