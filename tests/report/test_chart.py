"""A chart names what is in the report, and draws what can be drawn."""

from __future__ import annotations

import dataclasses
import math
import re

import pytest

from edgeir.errors import UsageError
from edgeir.report.chart import Chart
from edgeir.report.value import Report, Table

TABLE = Table(
    "numbers",
    ("name", "ms", "dB", "done"),
    (
        ("a", 3.0, 0.1, True),
        ("b", 1, 0.5, False),
        ("c", None, 0.1, True),
        ("d", math.inf, 0.1, True),
        ("e", 2.0, math.nan, True),
        ("f", "fast", 0.1, True),
        ("g", True, 0.1, True),
        ("h", -1.0, 0.9, True),
        (None, 4.0, 0.7, True),
    ),
)
PARETO = Chart("front", "pareto", "numbers", "ms", ("dB",))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"kind": "paretto"}, "the chart 'front': unknown kind 'paretto'. Did you mean 'pareto'?"),
        ({"y": "dB"}, "the chart 'front': y is a tuple of column names. Write y=('dB',)."),
        ({"y": ()}, "the chart 'front': y does not fit its kind (expected one column, got 0)."),
        ({"y": ("dB", "ms")}, "the chart 'front': y does not fit its kind (expected one column, got 2)."),
        (
            {"kind": "bars", "y": ()},
            "the chart 'front': y does not fit its kind (expected at least one column, got 0).",
        ),
        (
            {"kind": "waterfall", "group": "name"},
            "the chart 'front': 'waterfall' takes no group. 'pareto', 'lines' and 'bars' do.",
        ),
        (
            {"kind": "bars", "group": "name", "y": ("dB", "ms")},
            "the chart 'front': y does not fit its kind (expected one column, got 2).",
        ),
        (
            {"kind": "waterfall", "log_x": True},
            "the chart 'front': 'waterfall' takes no log_x. 'pareto' and 'lines' do.",
        ),
    ],
)
def test_refusals(changes: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError, match=f"^{re.escape(says)}$"):
        dataclasses.replace(PARETO, **changes)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"table": "nubmers"}, "the chart 'front': there is no table 'nubmers'. Did you mean 'numbers'?"),
        ({"x": "msec"}, "the chart 'front': the table 'numbers' has no column 'msec'. Did you mean 'ms'?"),
        ({"y": ("db",)}, "the chart 'front': the table 'numbers' has no column 'db'. Did you mean 'dB'?"),
        ({"group": "nam"}, "the chart 'front': the table 'numbers' has no column 'nam'. Did you mean 'name'?"),
        (
            {"label": "zzz"},
            "the chart 'front': the table 'numbers' has no column 'zzz'. Known: dB, done, ms, name.",
        ),
    ],
)
def test_a_report_refuses_a_chart_that_does_not_fit(changes: dict[str, object], says: str) -> None:
    chart = dataclasses.replace(PARETO, **changes)
    with pytest.raises(UsageError, match=f"^{re.escape(says)}$"):
        Report("t", "s", tables=(TABLE,), charts=(chart,))


def test_a_report_refuses_a_chart_of_no_table_or_of_two() -> None:
    with pytest.raises(UsageError, match=r"there is no table 'numbers'\. The report has no tables\.$"):
        Report("t", "s", charts=(PARETO,))
    with pytest.raises(UsageError, match=r"the title 'numbers' stands over 2 tables\.$"):
        Report("t", "s", tables=(TABLE, TABLE), charts=(PARETO,))
    assert Report("t", "s", tables=(TABLE,), charts=(PARETO,)).charts_of(TABLE) == (PARETO,)


@pytest.mark.parametrize(
    ("chart", "rows"),
    [
        (PARETO, (0, 1, 7, 8)),
        (dataclasses.replace(PARETO, log_x=True), (0, 1, 8)),
        (Chart("c", "lines", "numbers", "ms", ("dB",)), (0, 1, 7, 8)),
        (Chart("c", "bars", "numbers", "name", ("ms",)), (0, 1, 4, 7)),
        (Chart("c", "waterfall", "numbers", "ms", ("dB",)), (0, 1, 5, 6, 7, 8)),  # x is a name there
    ],
)
def test_what_can_be_drawn(chart: Chart, rows: tuple[int, ...]) -> None:
    assert chart.drawable(TABLE, chart.y[0]) == rows


def test_the_front_is_of_what_is_drawn() -> None:
    assert PARETO.front(TABLE) == (7, 1, 0)
    assert dataclasses.replace(PARETO, log_x=True).front(TABLE) == (1, 0)
    assert dataclasses.replace(PARETO, kind="lines").front(TABLE) == ()
