"""How numbers, checks and provenance read in every text format, so that no two formats disagree."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from edgeir.report.chart import Chart
from edgeir.report.value import Cell, Check, Report, Table

SIGNIFICANT_DIGITS = 4
_LARGEST_PLAIN = 1e6
_SMALLEST_PLAIN = 1e-4


def number(value: float) -> str:
    """A number to four significant digits, whole numbers in full; ``inf``, ``-inf`` and ``nan`` by name.

    >>> [number(value) for value in (0.0, 3, 12345678, 0.41234, 1234.56, 1.5e-7, float("inf"))]
    ['0', '3', '12345678', '0.4123', '1235', '1.5e-07', 'inf']
    """
    if isinstance(value, int):
        return str(value)
    if not math.isfinite(value):
        return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    if value == 0:
        return "0"
    if not _SMALLEST_PLAIN <= abs(value) < _LARGEST_PLAIN:
        return f"{value:.{SIGNIFICANT_DIGITS}g}"
    decimals = max(0, SIGNIFICANT_DIGITS - 1 - math.floor(math.log10(abs(value))))
    text = f"{value:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def cell(value: Cell) -> str:
    """A table cell or a fact: yes and no for booleans, a dash for nothing."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else number(value)


def numeric_columns(table: Table) -> tuple[bool, ...]:
    """Which columns are set to the right: those with a number in them; yes and no are words."""
    return tuple(any(_is_number(row[index]) for row in table.rows) for index in range(len(table.columns)))


def shades(table: Table) -> tuple[tuple[int, ...], ...]:
    """Per cell how dark it is, 0 to 100: its share of the largest finite number, 0 for words and below zero."""
    finite = [[_finite(value) for value in row] for row in table.rows]
    largest = max((value for row in finite for value in row), default=0.0)
    if not table.heat or largest <= 0:
        return tuple((0,) * len(row) for row in finite)
    return tuple(tuple(round(100 * max(value, 0.0) / largest) for value in row) for row in finite)


def marked(report: Report, table: Table) -> Table:
    """``table`` as it is shown: with a first column of stars where the report draws a Pareto front of it.

    A second such chart has two stars, and so on; a sentence below the table says which is which.
    """
    fronts = [(chart, frozenset(chart.front(table))) for chart in report.charts_of(table) if chart.kind == "pareto"]
    if not fronts:
        return table
    stars = [" ".join("*" * n for n, (_, rows) in enumerate(fronts, 1) if i in rows) for i in range(len(table.rows))]
    sentences = [
        f"{'*' * n} Pareto front: no row with both numbers is better in {chart.x} or {chart.y[0]} without being worse"
        " in the other."
        for n, (chart, _) in enumerate(fronts, 1)
    ]
    return replace(
        table,
        columns=("front", *table.columns),
        rows=tuple((star, *row) for star, row in zip(stars, table.rows, strict=True)),
        note=" ".join(filter(None, (table.note, *sentences))),
    )


def chart_note(chart: Chart, table: Table) -> str:
    """What stands below a chart: its own note, and how much of the table is not in the drawing."""
    sentences = [chart.note]
    if chart.kind == "pareto" and len(chart.front(table)) < len(chart.drawable(table, chart.y[0])):
        sentences.append("Hollow grey points are dominated: another is better in one and not worse in the other.")
    total = len(table.rows) * len(chart.y)
    missing = total - sum(len(chart.drawable(table, y)) for y in chart.y)
    if missing:
        points = "rows" if len(chart.y) == 1 else "values"
        why = "no finite number, or one that a logarithmic axis has no place for" if chart.log_x else "no finite number"
        sentences.append(f"{missing} of {total} {points} {'is' if missing == 1 else 'are'} not drawn: {why}.")
    return " ".join(filter(None, sentences))


def with_unit(value: float, unit: str) -> str:
    """``"0.41 dB"``, or the bare number without a unit."""
    return f"{number(value)} {unit}" if unit else number(value)


def limit(check: Check) -> str:
    """``"at most 0.3 dB"`` or ``"at least 55 dB"``."""
    return f"{'at most' if check.kind == 'max' else 'at least'} {with_unit(check.limit, check.unit)}"


def sentence(check: Check) -> str:
    """One check as a sentence, with the advice where it did not pass.

    >>> sentence(Check("drift", 0.41, 0.3, "dB", advice="Keep decoder2 in FP16."))
    'FAILED drift: 0.41 dB, expected at most 0.3 dB. Keep decoder2 in FP16.'
    """
    text = f"{mark(check)} {check.name}: {with_unit(check.value, check.unit)}, expected {limit(check)}"
    if check.status == "warned" and check.warn is not None:
        text += f", warns beyond {with_unit(check.warn, check.unit)}"
    return f"{text}. {check.advice}" if check.advice and check.status != "passed" else text


def mark(check: Check) -> str:
    """The word that stands first."""
    return {"passed": "passed", "warned": "warning", "failed": "FAILED"}[check.status]


def provenance_lines(report: Report) -> tuple[tuple[str, str], ...]:
    """The provenance as label and value pairs, nested parts joined."""
    return tuple((label, _joined(value)) for label, value in report.provenance.items())


def _joined(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_joined(part)}" for key, part in value.items() if part is not None)
    if isinstance(value, (list, tuple)):
        return " ".join(_joined(part) for part in value)
    return cell(value) if value is None or isinstance(value, (bool, int, float)) else str(value)


def _finite(value: Cell) -> float:
    number_or_nothing = value if isinstance(value, (int, float)) and not isinstance(value, bool) else 0.0
    return float(number_or_nothing) if math.isfinite(number_or_nothing) else 0.0


def _is_number(value: Cell) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
