"""A way to look at a table of a report. It holds names and no numbers: those stay in the table, once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from edgeir.errors import UsageError, nearest
from edgeir.report.pareto import front

if TYPE_CHECKING:
    from edgeir.report.value import Cell, Table

ChartKind = Literal["pareto", "bars", "waterfall", "lines"]

# These draw x as a number; the others take any text as the name of a bar.
_NUMBERS_ON_X = ("pareto", "lines")
_ONE_COLUMN = ("pareto", "waterfall")
_GROUPED = ("pareto", "lines", "bars")
_LOGARITHMIC = ("pareto", "lines")


@dataclass(frozen=True, slots=True)
class Chart:
    """How to draw a table of the same report.

    Attributes:
        title: its heading.
        kind: ``"pareto"``: points whose x and y are both better when smaller, with the front among them.
            ``"bars"``: a bar per row and per column of ``y``, named by ``x``.
            ``"waterfall"``: rows are steps in order, named by ``x``; ``y`` is the value after each step.
            ``"lines"``: ``y`` over ``x``, a line per group.
        table: title of the table it draws.
        x: the column of the horizontal values, or of the names of the bars.
        y: the columns of the values; ``"pareto"``, ``"waterfall"`` and bars with a group draw one.
        group: the column whose values share a colour and a symbol, or a pattern; not for ``"waterfall"``.
        label: the column that heads what is shown on hover; every column is shown below it in any case.
        log_x: whether x is drawn on a logarithmic axis; for ``"pareto"`` and ``"lines"``.
        note: a sentence below the chart, or ``""``.

    Raises:
        UsageError: an unknown kind, no column or too many to draw, or an option that its kind does not have.
    """

    title: str
    kind: ChartKind
    table: str
    x: str
    y: tuple[str, ...]
    group: str | None = None
    label: str | None = None
    log_x: bool = False
    note: str = ""

    def __post_init__(self) -> None:
        where = f"the chart '{self.title}'"
        if self.kind not in get_args(ChartKind):
            raise UsageError(f"unknown kind '{self.kind}'", where=where, fix=nearest(self.kind, get_args(ChartKind)))
        if isinstance(self.y, str):
            raise UsageError("y is a tuple of column names", where=where, fix=f"Write y=({self.y!r},).")
        object.__setattr__(self, "y", tuple(self.y))
        one = self.kind in _ONE_COLUMN or (self.kind == "bars" and self.group is not None)
        if not self.y or (one and len(self.y) > 1):
            wanted = "one column" if one else "at least one column"
            raise UsageError("y does not fit its kind", where=where, expected=wanted, got=str(len(self.y)))
        for name, given, kinds in (
            ("group", self.group is not None, _GROUPED),
            ("log_x", self.log_x, _LOGARITHMIC),
        ):
            if given and self.kind not in kinds:
                raise UsageError(f"'{self.kind}' takes no {name}", where=where, fix=f"{_all_of(kinds)} do.")

    def find(self, tables: Sequence[Table]) -> Table:
        """The table it draws.

        Raises:
            UsageError: no table has that title, or two have, or a column it names is not there.
        """
        where = f"the chart '{self.title}'"
        matching = [table for table in tables if table.title == self.table]
        if not matching:
            titles = [table.title for table in tables]
            fix = nearest(self.table, titles) if titles else "The report has no tables."
            raise UsageError(f"there is no table '{self.table}'", where=where, fix=fix)
        if len(matching) > 1:
            raise UsageError(f"the title '{self.table}' stands over {len(matching)} tables", where=where)
        for name in (self.x, *self.y, self.group, self.label):
            if name is not None and name not in matching[0].columns:
                raise UsageError(
                    f"the table '{self.table}' has no column '{name}'",
                    where=where,
                    fix=nearest(name, matching[0].columns),
                )
        return matching[0]

    def drawable(self, table: Table, y: str) -> tuple[int, ...]:
        """Indices of the rows of ``table`` that can be drawn for the column ``y``.

        Both cells have to be finite numbers, x above zero on a logarithmic axis; where x names bars it is any text.
        """
        across, up = table.columns.index(self.x), table.columns.index(y)
        return tuple(
            index for index, row in enumerate(table.rows) if self._has_place(row[across]) and is_finite(row[up])
        )

    def front(self, table: Table) -> tuple[int, ...]:
        """Rows on the Pareto front of what is drawn, from the smallest x to the largest; empty for other kinds."""
        if self.kind != "pareto":
            return ()
        across, up = table.columns.index(self.x), table.columns.index(self.y[0])
        drawn = self.drawable(table, self.y[0])
        points: list[tuple[Any, Any]] = [(table.rows[index][across], table.rows[index][up]) for index in drawn]
        return tuple(drawn[index] for index in front(points))

    def _has_place(self, x: Cell) -> bool:
        if self.kind not in _NUMBERS_ON_X:
            return x is not None and (not isinstance(x, float) or math.isfinite(x))
        return is_finite(x) and (not self.log_x or float(x or 0) > 0)


def _all_of(kinds: Sequence[str]) -> str:
    """``"'pareto', 'lines' and 'bars'"``."""
    quoted = [f"'{kind}'" for kind in kinds]
    return f"{', '.join(quoted[:-1])} and {quoted[-1]}"


def is_finite(value: Cell) -> bool:
    """Whether a cell is a number that can be drawn; yes and no are words."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
