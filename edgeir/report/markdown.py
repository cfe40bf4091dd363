"""A report as GitHub-flavoured Markdown, for pull requests and job summaries."""

from __future__ import annotations

import re
from collections.abc import Sequence

from edgeir.report import wording
from edgeir.report.value import Check, Report, Table

_ACTIVE = re.compile(r"([\\`*_\[\]<>|~#])")


def to_markdown(report: Report) -> str:
    """Markdown text with a final newline; pictures are named, not shown."""
    blocks = [f"# {escape(report.title)}", escape(report.summary)]
    if report.facts:
        blocks.append(
            _rows(("", ""), [(escape(fact.label), escape(wording.cell(fact.value))) for fact in report.facts])
        )
    if report.checks:
        blocks += [f"## Checks: {escape(report.verdict)}", _checks(report.checks)]
        advice = [f"- **{escape(check.name)}**: {escape(check.advice)}" for check in report.checks if _advises(check)]
        if advice:
            blocks.append("\n".join(advice))
    for table in (wording.marked(report, table) for table in report.tables):
        blocks += [f"## {escape(table.title)}", _table(table)]
        if table.note:
            blocks.append(escape(table.note))
    if report.notes:
        blocks += ["## Notes", "\n".join(f"- {escape(note)}" for note in report.notes)]
    if report.provenance:
        pairs = [(escape(label), escape(value)) for label, value in wording.provenance_lines(report)]
        blocks += ["## Provenance", _rows(("", ""), pairs)]
    return "\n\n".join(blocks) + "\n"


def escape(text: str) -> str:
    """``text`` on one line, with every character that Markdown or HTML would act on made plain."""
    return _ACTIVE.sub(r"\\\1", " ".join(text.split()))


def _advises(check: Check) -> bool:
    return bool(check.advice) and check.status != "passed"


def _checks(checks: tuple[Check, ...]) -> str:
    rows = [
        (
            f"**{wording.mark(check)}**" if check.status != "passed" else wording.mark(check),
            escape(check.name),
            escape(wording.with_unit(check.value, check.unit)),
            escape(wording.limit(check)),
        )
        for check in checks
    ]
    return _rows(("result", "check", "value", "limit"), rows)


def _table(table: Table) -> str:
    rows = [tuple(escape(wording.cell(value)) for value in row) for row in table.rows]
    return _rows(tuple(escape(column) for column in table.columns), rows, wording.numeric_columns(table))


def _rows(columns: Sequence[str], rows: Sequence[Sequence[str]], right: tuple[bool, ...] = ()) -> str:
    sides = [*right, *(False for _ in columns[len(right) :])]
    lines = [columns, ["---:" if side else "---" for side in sides], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
