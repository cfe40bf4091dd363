"""A report for a terminal, drawn by rich."""

from __future__ import annotations

import io

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from edgeir.report import wording
from edgeir.report.value import Check, Report, Table

WIDTH = 100
WHOLE_CELL = 20
_STYLES = {"passed": "green", "warned": "yellow", "failed": "bold red"}


def to_terminal(report: Report, *, width: int = WIDTH) -> str:
    """The report as plain text, lines at most ``width`` characters wide, no colours."""
    buffer = io.StringIO()
    console = Console(file=buffer, width=width, force_terminal=False, color_system=None, legacy_windows=False)
    console.print(terminal_view(report))
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()) + "\n"


def terminal_view(report: Report) -> RenderableType:
    """The report for a console of the caller, with colours where that console has them."""
    parts: list[RenderableType] = [_text(report.title, "bold"), _text(report.summary)]
    if report.facts:
        parts += [Text(), _pairs([(fact.label, wording.cell(fact.value)) for fact in report.facts])]
    if report.checks:
        style = _STYLES["passed" if report.passed else "failed"]
        parts += [Text(), Text(report.verdict, style=style), *(_check(check) for check in report.checks)]
    for table in (wording.marked(report, table) for table in report.tables):
        parts += [Text(), _text(table.title, "bold"), _table(table)]
        if table.note:
            parts.append(_text(table.note, "dim"))
    if report.notes:
        parts += [Text(), *(_text(f"- {note}") for note in report.notes)]
    if report.provenance:
        parts += [Text(), _pairs(list(wording.provenance_lines(report)))]
    return Group(*parts)


def _check(check: Check) -> Text:
    word, _, rest = _safe(wording.sentence(check)).partition(" ")
    return Text.assemble("  ", (word, _STYLES[check.status]), " ", rest)


def _pairs(pairs: list[tuple[str, str]]) -> RichTable:
    grid = RichTable.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for label, value in pairs:
        grid.add_row(_text(f"  {label}"), _text(value))
    return grid


def _table(table: Table) -> RichTable:
    drawn = RichTable(box=box.SIMPLE_HEAD, pad_edge=True, show_edge=False)
    for index, (column, numeric) in enumerate(zip(table.columns, wording.numeric_columns(table), strict=True)):
        # Names and numbers stay on one line; sentences share what is left and wrap between words.
        words = [*(wording.cell(row[index]) for row in table.rows), *column.split()]
        longest = max((len(word) for word in words), default=1)
        drawn.add_column(
            _text(column),
            justify="right" if numeric else "left",
            min_width=min(longest, WHOLE_CELL),
            overflow="fold",
        )
    for row in table.rows:
        drawn.add_row(*(_text(wording.cell(value)) for value in row))
    return drawn


def _text(text: str, style: str = "") -> Text:
    return Text(_safe(text), style=style)


def _safe(text: str) -> str:
    """``text`` without the control characters that a terminal would obey: a file name may hold any."""
    return "".join(mark if mark.isprintable() or mark == "\n" else "\ufffd" for mark in text)
