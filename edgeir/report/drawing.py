"""A chart as Plotly's JSON: traces and layout, computed here from the table so that the page's script only draws.

Colours are names of CSS variables (``"--series-0"``) which the script looks up, so that one figure suits the light
theme, the dark one and paper. Texts are escaped here: Plotly reads a small HTML of its own in every text it shows.
"""

from __future__ import annotations

import html
import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from edgeir.report import wording
from edgeir.report.chart import Chart
from edgeir.report.value import Cell, Table

# As many as page.css defines. Symbols and dashes have other periods, so that no two of 40 groups look alike.
SERIES = 8
_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star", "x")
_PATTERNS = ("", "/", ".", "x")
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
_HOVER_CHARACTERS = 44
_LABEL_CHARACTERS = 26
_PLOT_PIXELS = 400
_FRAME_PIXELS = 70
_LEGEND_PIXELS = 36
_BAR_PIXELS = 24
_LINE_PIXELS = 17
# Where a logarithmic axis is marked in each decade, for at most so many decades.
_LOG_STEPS = ((0.7, (1, 1.5, 2, 3, 4, 5, 7)), (3.0, (1, 2, 5)), (math.inf, (1,)))

Trace = dict[str, Any]


def figure(chart: Chart, table: Table) -> dict[str, Any]:
    """``{"data": traces, "layout": layout}`` for ``Plotly.react``, JSON-ready: finite numbers and texts only."""
    return _DRAWERS[chart.kind](chart, table)


def description(chart: Chart) -> str:
    """What the chart shows, for those who hear it; the numbers are in the table."""
    over = {
        "pareto": f"points, {chart.y[0]} over {chart.x}, with the Pareto front of what is smallest in both",
        "bars": f"bars of {', '.join(chart.y)} by {chart.x}",
        "waterfall": f"{chart.y[0]} after each {chart.x}, and what each changed",
        "lines": f"lines of {', '.join(chart.y)} over {chart.x}",
    }[chart.kind]
    groups = f", by {chart.group}" if chart.group is not None else ""
    return f"Chart: {over}{groups}. The table '{chart.table}' below has the numbers."


def _pareto(chart: Chart, table: Table) -> dict[str, Any]:
    best = chart.front(table)
    drawn = chart.drawable(table, chart.y[0])
    across, up = _column(table, chart.x), _column(table, chart.y[0])
    data: list[Trace] = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": "Pareto front",
            "x": [across[row] for row in best],
            "y": [up[row] for row in best],
            "line": {"shape": "hv", "color": "--quiet", "width": 1.5, "dash": "dot"},
            "hoverinfo": "skip",
        }
    ]
    for number, (name, rows) in enumerate(_groups(chart, table, drawn)):
        symbol = _SYMBOLS[number % len(_SYMBOLS)]
        beaten = [row for row in rows if row not in best]
        for chosen, marker in (
            (beaten, {"symbol": f"{symbol}-open", "color": "--beaten", "size": 9, "line": {"width": 1.5}}),
            (
                [row for row in rows if row in best],
                {"symbol": symbol, "color": _colour(number), "size": 12, "line": {"width": 1, "color": "--paper"}},
            ),
        ):
            if chosen:
                data.append(
                    {
                        "type": "scatter",
                        "mode": "markers",
                        "name": _plain(name) if name else ("dominated" if chosen is beaten else "on the front"),
                        "legendgroup": str(number),
                        # Without groups the two kinds of point are what the legend explains.
                        "showlegend": not name or chosen is not beaten or len(beaten) == len(rows),
                        "x": [across[row] for row in chosen],
                        "y": [up[row] for row in chosen],
                        "marker": marker,
                        **_hovers(chart, table, chosen),
                    }
                )
    if chart.label is not None:
        names = _column(table, chart.label)
        data.append(
            {
                "type": "scatter",
                "mode": "markers+text",  # the marker keeps the text away from the one that is seen
                "marker": {"size": 14, "opacity": 0},
                "x": [across[row] for row in best],
                "y": [up[row] for row in best],
                "text": ["<br>".join(_wrapped(wording.cell(names[row]), lines=1)) for row in best],
                "textposition": "top right",  # above the step line, which comes from the left and goes down
                "textfont": {"color": "--quiet", "size": 11},
                "cliponaxis": False,
                "hoverinfo": "skip",
                "showlegend": False,
            }
        )
    return {"data": data, "layout": _layout(chart, table, drawn, chart.y[0])}


def _lines(chart: Chart, table: Table) -> dict[str, Any]:
    """A group has a colour and a symbol, a column its dashes; without groups a column has all three."""
    across = _column(table, chart.x)
    drawn: set[int] = set()
    data: list[Trace] = []
    for column, y in enumerate(chart.y):
        up = _column(table, y)
        rows_of_y = chart.drawable(table, y)
        drawn |= set(rows_of_y)
        for number, (name, rows) in enumerate(_groups(chart, table, rows_of_y)):
            look = number if name else column
            ordered = sorted(rows, key=lambda row: float(across[row] or 0))
            data.append(
                {
                    "type": "scatter",
                    "mode": "lines+markers",
                    "name": _plain(", ".join(filter(None, (name, y if len(chart.y) > 1 or not name else "")))),
                    "x": [across[row] for row in ordered],
                    "y": [up[row] for row in ordered],
                    "line": {"color": _colour(look), "width": 2, "dash": _DASHES[column % len(_DASHES)]},
                    "marker": {"symbol": _SYMBOLS[look % len(_SYMBOLS)], "color": _colour(look), "size": 8},
                    **_hovers(chart, table, ordered),
                }
            )
    layout = _layout(chart, table, sorted(drawn), chart.y[0] if len(chart.y) == 1 else "", legend=len(data) > 1)
    return {"data": data, "layout": layout}


def _bars(chart: Chart, table: Table) -> dict[str, Any]:
    """A colour and a pattern per column, or per group where there is one column; every row has its place."""
    drawn = [
        (name or y, y, rows) for y in chart.y for name, rows in _groups(chart, table, chart.drawable(table, y)) if rows
    ]
    data: list[Trace] = []
    for number, (name, y, rows) in enumerate(drawn):
        values = _column(table, y)
        data.append(
            {
                "type": "bar",
                "orientation": "h",
                "name": _plain(name),
                "x": [values[row] for row in rows],
                "y": rows,
                "text": [wording.cell(values[row]) for row in rows],
                "textposition": "outside",
                "cliponaxis": False,
                "marker": {"color": _colour(number), "pattern": {"shape": _PATTERNS[number % len(_PATTERNS)]}},
                **_hovers(chart, table, rows),
            }
        )
    names = _column(table, chart.x)
    places = sorted({row for trace in data for row in trace["y"]})
    layout = _bar_layout(
        chart, table, {row: _wrapped(wording.cell(names[row])) for row in places}, legend=len(drawn) > 1
    )
    if chart.group is not None:
        layout["barmode"] = "overlay"  # one bar to a row: side by side each would leave room for the others
    return {"data": data, "layout": layout}


def _waterfall(chart: Chart, table: Table) -> dict[str, Any]:
    """The value after a step and what the step changed stand below its name, where a narrow page has room for them."""
    rows = chart.drawable(table, chart.y[0])
    values = [float(_column(table, chart.y[0])[row] or 0) for row in rows]
    steps = [after - before for before, after in zip([0.0, *values], values, strict=False)]
    trace: Trace = {
        "type": "waterfall",
        "orientation": "h",
        "measure": ["absolute" if not place else "relative" for place in range(len(rows))],
        "x": steps,
        "y": list(rows),
        "totals": {"marker": {"color": "--series-0"}},
        "increasing": {"marker": {"color": "--series-1"}},
        "decreasing": {"marker": {"color": "--series-2"}},
        "connector": {"line": {"color": "--quiet", "width": 1, "dash": "dot"}},
        **_hovers(chart, table, rows),
    }
    names = _column(table, chart.x)
    labels = {}
    for place, row in enumerate(rows):
        change = f" ({'+' if steps[place] > 0 else ''}{wording.number(steps[place])})" if place else ""
        labels[row] = [*_wrapped(wording.cell(names[row])), f"<b>{wording.number(values[place])}{change}</b>"]
    return {"data": [trace], "layout": _bar_layout(chart, table, labels, legend=False)}


def _bar_layout(chart: Chart, table: Table, labels: Mapping[int, list[str]], *, legend: bool) -> dict[str, Any]:
    """Bars lie from top to bottom in the order of the table: their names stay readable on a narrow page."""
    layout = _layout(chart, table, (), "", legend=legend)
    layout["xaxis"]["title"]["text"] = "" if len(chart.y) > 1 else _plain(chart.y[0])
    lines = max((len(label) for label in labels.values()), default=1)
    rows = max(labels) - min(labels) + 1 if labels else 1  # a row that is not drawn leaves a gap
    layout["height"] = (
        layout["margin"]["t"] + _FRAME_PIXELS + rows * (12 + max(_BAR_PIXELS * len(chart.y), _LINE_PIXELS * lines))
    )
    layout["margin"]["r"] = 64  # the numbers at the ends of the bars
    layout["xaxis"]["nticks"] = 4
    layout["bargap"] = 0.3
    layout["yaxis"] |= {
        "tickvals": list(labels),
        "ticktext": ["<br>".join(label) for label in labels.values()],
        "autorange": "reversed",
        "showgrid": False,
        "zeroline": False,
        "ticks": "",
    }
    return layout


def _layout(chart: Chart, table: Table, drawn: Sequence[int], up: str, *, legend: bool = True) -> dict[str, Any]:
    axis = {
        "color": "--ink",
        "gridcolor": "--line",
        "linecolor": "--quiet",
        "zerolinecolor": "--line",
        "automargin": True,
        "showline": True,
        "ticks": "outside",
        "tickcolor": "--line",
    }
    numbers = [float(_column(table, chart.x)[row] or 0) for row in drawn] if chart.log_x else []
    return {
        "height": _PLOT_PIXELS,
        "margin": {"l": 8, "r": 24, "t": _LEGEND_PIXELS if legend else 8, "b": 8},
        "paper_bgcolor": "--paper",
        "plot_bgcolor": "--paper",
        "font": {"color": "--ink", "family": "system-ui, sans-serif", "size": 13},
        "hovermode": "closest",
        "hoverlabel": {"bgcolor": "--stripe", "bordercolor": "--quiet", "font": {"color": "--ink"}, "align": "left"},
        "showlegend": legend,
        "legend": {
            "orientation": "h",
            "x": 0,
            "y": 1.02,
            "xanchor": "left",
            "yanchor": "bottom",
            "itemwidth": 36,
        },
        "xaxis": {**axis, "title": {"text": _plain(chart.x), "standoff": 12}, **_log_axis(numbers)},
        "yaxis": {**axis, "title": {"text": _plain(up), "standoff": 12}},
        "dragmode": False,
    }


def _log_axis(numbers: Sequence[float]) -> dict[str, Any]:
    """Ticks with whole numbers: Plotly's own are "2, 5, 100, 2, 5" where a decade begins at 100."""
    if not numbers:
        return {"type": "linear"}
    low, high = math.log10(min(numbers)), math.log10(max(numbers))
    steps = next(steps for decades, steps in _LOG_STEPS if high - low <= decades)
    ticks = [step * 10.0**decade for decade in range(math.floor(low), math.ceil(high) + 1) for step in steps]
    return {"type": "log", "tickvals": ticks, "ticktext": [wording.number(tick) for tick in ticks]}


def _groups(chart: Chart, table: Table, rows: Sequence[int]) -> list[tuple[str, list[int]]]:
    """Rows by the text of their group, in the order of the table; one nameless group where the chart has none."""
    if chart.group is None:
        return [("", list(rows))]
    names = [wording.cell(value) for value in _column(table, chart.group)]
    groups: dict[str, list[int]] = {}
    for row in rows:
        groups.setdefault(names[row], []).append(row)
    return list(groups.items())


def _hovers(chart: Chart, table: Table, rows: Sequence[int]) -> Trace:
    return {"hoverinfo": "text", "hovertext": [_hover(chart, table, table.rows[row]) for row in rows]}


def _hover(chart: Chart, table: Table, row: Sequence[Cell]) -> str:
    lines = [f"{column}: {wording.cell(value)}" for column, value in zip(table.columns, row, strict=True)]
    heading = [] if chart.label is None else [wording.cell(row[table.columns.index(chart.label)])]
    wrapped = [textwrap.wrap(line, _HOVER_CHARACTERS) or [""] for line in (*heading, *lines)]
    texts = ["<br>".join(map(_plain, parts)) for parts in wrapped]
    return "<br>".join((f"<b>{texts[0]}</b>", *texts[1:]) if heading else texts)


def _wrapped(text: str, *, lines: int = 2) -> list[str]:
    """``text`` in at most so many short lines, the rest left to hover and to the table."""
    parts = textwrap.wrap(text, _LABEL_CHARACTERS, max_lines=lines, placeholder="…") or [""]
    return [_plain(part) for part in parts]


def _column(table: Table, name: str) -> list[Cell]:
    index = table.columns.index(name)
    return [row[index] for row in table.rows]


def _colour(number: int) -> str:
    return f"--series-{number % SERIES}"


def _plain(text: str) -> str:
    return html.escape(" ".join(text.split()), quote=False)


_DRAWERS: Mapping[str, Callable[[Chart, Table], dict[str, Any]]] = {
    "pareto": _pareto,
    "bars": _bars,
    "waterfall": _waterfall,
    "lines": _lines,
}
