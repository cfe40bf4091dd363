"""What a report says, once: every format shows the numbers of this one value and computes none of its own."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from edgeir.errors import UsageError
from edgeir.report.chart import Chart
from edgeir.report.comparison import Comparison

# 2: charts and comparisons. A file of version 1 is read as one without them.
REPORT_VERSION = 2

Cell = str | int | float | bool | None
Status = Literal["passed", "warned", "failed"]


@dataclass(frozen=True, slots=True)
class Fact:
    """One line of what was examined: a label and its value."""

    label: str
    value: Cell

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", _plain_cell(self.value))


@dataclass(frozen=True, slots=True)
class Check:
    """A measured value against its limit.

    Attributes:
        name: what was measured (``"drift int8, mean"``).
        value: the measurement, in ``unit``; NaN never passes.
        limit: the gate, in ``unit``.
        unit: ``"dB"``, ``"ms"``, or ``""`` for a bare number.
        kind: ``"max"`` when ``value`` may not exceed ``limit``, ``"min"`` when it may not fall below.
        advice: what to do when it fails, a full sentence, or ``""``.
        warn: a stricter limit that warns without failing, ``None`` for no such limit.
    """

    name: str
    value: float
    limit: float
    unit: str = ""
    kind: Literal["max", "min"] = "max"
    advice: str = ""
    warn: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in ("max", "min"):
            raise UsageError(f"the check '{self.name}' has an unknown kind", expected="max or min", got=self.kind)
        object.__setattr__(self, "value", float(self.value))
        object.__setattr__(self, "limit", float(self.limit))

    @property
    def passed(self) -> bool:
        """Whether the value is within ``limit``."""
        return self._within(self.limit)

    @property
    def status(self) -> Status:
        """``"failed"`` beyond the limit, ``"warned"`` beyond ``warn``, ``"passed"`` otherwise."""
        if not self.passed:
            return "failed"
        return "passed" if self.warn is None or self._within(self.warn) else "warned"

    def _within(self, limit: float) -> bool:
        if math.isnan(self.value) or math.isnan(limit):
            return False
        return self.value <= limit if self.kind == "max" else self.value >= limit


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under named columns.

    Attributes:
        title: its heading.
        columns: one name per column, units included (``"p50 ms"``).
        rows: one cell per column.
        note: a sentence below the table, or ``""``.
        heat: where colours can be shown, numbers are shaded by their share of the largest one of the table.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""
    heat: bool = False

    def __post_init__(self) -> None:
        for number, row in enumerate(self.rows, 1):
            if len(row) != len(self.columns):
                raise UsageError(
                    f"row {number} of the table '{self.title}' does not fit its columns",
                    expected=f"{len(self.columns)} cells",
                    got=str(len(row)),
                )
        object.__setattr__(self, "rows", tuple(tuple(_plain_cell(value) for value in row) for row in self.rows))


def _plain_cell(value: Any) -> Cell:
    """``value`` as a Python number where it is one of NumPy's."""
    if not isinstance(value, (str, int, float)) and hasattr(value, "item"):
        value = value.item()
    if value is None or isinstance(value, (str, int, float)):
        return value
    raise UsageError("a report shows texts and numbers", got=type(value).__name__)


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of a command.

    Attributes:
        title: what it is about.
        summary: one sentence that a reader in a hurry needs.
        facts: what was examined.
        checks: what was held against a limit.
        tables: the numbers.
        charts: ways to look at the tables; only the HTML format draws them, text marks what is on a Pareto front.
        comparisons: pictures of the same thing, to be laid over each other; only the HTML format shows them.
        pictures: caption to PNG file content; only the HTML format shows them.
        provenance: `edgeir.provenance.Provenance.to_dict`, or empty.
        notes: sentences about how the numbers came about.

    Raises:
        UsageError: a chart draws a table or a column that the report does not have.
    """

    title: str
    summary: str
    facts: tuple[Fact, ...] = ()
    checks: tuple[Check, ...] = ()
    tables: tuple[Table, ...] = ()
    pictures: Mapping[str, bytes] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    schema_version: int = REPORT_VERSION
    charts: tuple[Chart, ...] = ()
    comparisons: tuple[Comparison, ...] = ()

    def __post_init__(self) -> None:
        for chart in self.charts:
            chart.find(self.tables)

    def charts_of(self, table: Table) -> tuple[Chart, ...]:
        """The charts that draw ``table``, in order."""
        return tuple(chart for chart in self.charts if chart.table == table.title)

    @property
    def passed(self) -> bool:
        """Whether every check is within its limit; a report without checks passes."""
        return all(check.passed for check in self.checks)

    @property
    def verdict(self) -> str:
        """``"FAILED 2 of 5 checks"``, ``"passed 5 checks, 1 warning"``, or ``""`` without checks."""
        total = len(self.checks)
        if not total:
            return ""
        statuses = [check.status for check in self.checks]
        checks = "check" if total == 1 else "checks"
        warned = statuses.count("warned")
        warnings = f", {warned} warning{'s' * (warned != 1)}" if warned else ""
        if failed := statuses.count("failed"):
            return f"FAILED {failed} of {total} {checks}{warnings}"
        return f"passed {total} {checks}{warnings}"
