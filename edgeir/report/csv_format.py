"""The tables of a report as comma-separated values, for spreadsheets and scripts."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable

from edgeir.report.value import Cell, Report

# What makes a spreadsheet run a cell instead of showing it, East Asian forms included (OWASP, "CSV Injection").
_STARTS_A_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def to_csv(report: Report) -> str:
    r"""Every table, as RFC 4180 has it (``\r\n`` ends a record, quotes only where needed).

    The RFC knows neither comments nor a second table in one file, so this is ours: a table begins with the record
    ``# TITLE`` and its column names follow; an empty line stands between tables. A report without tables is the line
    that says so. Numbers are whole (`repr`), ``inf`` and ``nan`` by name, yes and no are ``true`` and ``false``, and
    nothing is nothing. A text that a spreadsheet would run gets a ``'`` in front; a number never does.
    """
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer)
    if not report.tables:
        writer.writerow([f"# {_line(report.title)}: no tables"])
    for number, table in enumerate(report.tables):
        if number:
            buffer.write("\r\n")
        writer.writerow([f"# {_line(table.title)}"])
        writer.writerow(_record(table.columns))
        writer.writerows(_record(row) for row in table.rows)
    return buffer.getvalue()


def _record(cells: Iterable[Cell]) -> list[str]:
    return [_field(cell) for cell in cells]


def _field(cell: Cell) -> str:
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, (int, float)):
        return repr(cell)
    return f"'{cell}" if cell.startswith(_STARTS_A_FORMULA) else cell


def _line(text: str) -> str:
    return " ".join(text.split())
