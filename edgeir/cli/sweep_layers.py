"""Inside the trials of a sweep: per network where the time goes, and what the calibration of its eight bits saw."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from edgeir.cli.layer_times import TITLE, layer_chart
from edgeir.cli.sweep_tables import p50, short
from edgeir.report.chart import Chart
from edgeir.report.value import Table
from edgeir.sweep.outcome import Outcome


def layer_tables(rows: Sequence[Outcome]) -> list[tuple[Table, Chart]]:
    """Layers by time of one trial per network: within its gates where one is, at the largest size, the fastest."""
    found = []
    for row in _one_per_network(rows, "layers", lambda row: (not row.figures.get("within_gates"), -_pixels(row))):
        table = _table(f"{TITLE}: {short(row)} at {row.trial.size}", row.figures["layers"])
        found.append((table, layer_chart(table.title)))
    return found


def calibration_tables(rows: Sequence[Outcome]) -> list[Table]:
    """What the calibration saw and left out, of one trial per network: at the largest size."""
    return [
        _table(f"Calibration of {short(row)} at {row.trial.size}: {name}", kept)
        for row in _one_per_network(rows, "calibration", lambda row: (-_pixels(row),))
        for name, kept in row.figures["calibration"].items()
    ]


def _one_per_network(
    rows: Iterable[Outcome], figure: str, order: Callable[[Outcome], tuple[int, ...]]
) -> list[Outcome]:
    """Of the rows that have the figure the first of every network in an order, the faster of equals."""
    having = sorted((row for row in rows if figure in row.figures), key=lambda row: (*order(row), p50(row)))
    firsts: dict[str, Outcome] = {}
    for row in having:
        firsts.setdefault(row.trial.build.name, row)
    return [firsts[name] for name in sorted(firsts)]


def _table(title: str, kept: Mapping[str, Any]) -> Table:
    return Table(title, tuple(kept["columns"]), tuple(tuple(cells) for cells in kept["rows"]), note=kept["note"])


def _pixels(row: Outcome) -> int:
    return row.trial.height * row.trial.width
