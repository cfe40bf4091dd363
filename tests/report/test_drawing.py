"""What a chart becomes before a browser draws it: the numbers of its table, and nothing that JSON or HTML acts on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from edgeir.report.chart import Chart
from edgeir.report.drawing import description, figure
from edgeir.report.value import Report, Table


def drawn(report: Report, number: int) -> dict[str, Any]:
    chart = report.charts[number]
    return figure(chart, chart.find(report.tables))


def texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for part in value.values():
            yield from texts(part)
    elif isinstance(value, list):
        for part in value:
            yield from texts(part)
    elif isinstance(value, str):
        yield value


def test_pareto(report: Report) -> None:
    made = drawn(report, 0)
    line, *groups, labels = made["data"]
    assert (line["x"], line["y"]) == ([16.5, 22.0, 28.0, 60.0], [0.12, 0.031, 0.002, 0.0])
    assert line["line"]["shape"] == "hv"
    assert [(trace["name"], trace["x"], trace["marker"]["symbol"]) for trace in groups] == [
        ("kgt", [31.5, 24.25], "circle-open"),
        ("kgt", [22.0], "circle"),
        ("exda", [60.0, 28.0, 16.5], "square"),
    ]
    assert [trace["marker"]["color"] for trace in groups] == ["--beaten", "--series-0", "--series-1"]
    assert [trace["showlegend"] for trace in groups] == [False, True, True]  # each group once
    assert labels["text"] == ["exda int8", "kgt fp16, k 64", "exda fp16", "exda fp32"]
    assert made["layout"]["xaxis"]["type"] == "log"
    assert made["layout"]["xaxis"]["ticktext"][:8] == ["10", "15", "20", "30", "40", "50", "70", "100"]


def test_pareto_without_groups(report: Report) -> None:
    chart = Chart("c", "pareto", "Sweep", "p50 ms", ("drift dB",))
    names = [trace["name"] for trace in figure(chart, report.tables[1])["data"]]
    assert names == ["Pareto front", "dominated", "on the front"]


def test_hover_shows_every_column(report: Report) -> None:
    for number, chart in enumerate(report.charts):
        table = chart.find(report.tables)
        for trace in drawn(report, number)["data"]:
            if trace["hoverinfo"] == "text":
                assert len(trace["hovertext"]) == len(trace["x"])
                for text in trace["hovertext"]:
                    for column in table.columns:
                        assert f"{column}: " in text
    hover = drawn(report, 0)["data"][1]["hovertext"][1]
    assert hover == (
        "<b>kgt int8 &lt;b&gt;k&lt;/b&gt; 64</b><br>variant: kgt int8 &lt;b&gt;k&lt;/b&gt; 64<br>model: kgt"
        "<br>p50 ms: 24.25<br>drift dB: 0.19<br>k: 64"
    )


def test_bars(report: Report) -> None:
    time, nodes = drawn(report, 1)["data"]
    assert (time["name"], time["x"], time["text"]) == ("p50 ms", [60.0, 41.0, 28.0, 28.75], ["60", "41", "28", "28.75"])
    assert (nodes["x"], nodes["y"]) == ([1787, 1611, 1790, 1794], [0, 1, 2, 3])
    assert time["marker"]["pattern"] != nodes["marker"]["pattern"]  # not by hue alone
    layout = drawn(report, 1)["layout"]
    assert layout["yaxis"]["ticktext"] == ["as traced", "fuse attention", "fp16", "head in fp32"]
    assert layout["yaxis"]["autorange"] == "reversed"  # the order of the table, from the top
    assert layout["showlegend"]


def test_bars_have_a_colour_per_group() -> None:
    table = Table("t", ("layer", "ms", "type"), (("a", 4.0, "fp16"), ("b", 3.0, "int8"), ("c", 2.0, "fp16")))
    made = figure(Chart("c", "bars", "t", "layer", ("ms",), group="type"), table)
    assert [(trace["name"], trace["x"], trace["y"]) for trace in made["data"]] == [
        ("fp16", [4.0, 2.0], [0, 2]),
        ("int8", [3.0], [1]),
    ]
    assert made["data"][0]["marker"] != made["data"][1]["marker"]
    assert made["layout"]["barmode"] == "overlay"  # each has the height of its row
    assert made["layout"]["showlegend"]
    assert made["layout"]["yaxis"]["ticktext"] == ["a", "b", "c"]


def test_waterfall(report: Report) -> None:
    (trace,) = drawn(report, 2)["data"]
    assert trace["measure"] == ["absolute", "relative", "relative", "relative"]
    assert trace["x"] == [60.0, -19.0, -13.0, 0.75]
    assert drawn(report, 2)["layout"]["yaxis"]["ticktext"] == [
        "as traced<br><b>60</b>",
        "fuse attention<br><b>41 (-19)</b>",
        "fp16<br><b>28 (-13)</b>",
        "head in fp32<br><b>28.75 (+0.75)</b>",
    ]


def test_a_step_that_is_not_drawn_is_in_the_next_one() -> None:
    table = Table("t", ("step", "ms"), (("a", 10.0), ("b", None), ("c", 7.0)))
    (trace,) = figure(Chart("c", "waterfall", "t", "step", ("ms",)), table)["data"]
    assert (trace["x"], trace["y"]) == ([10.0, -3.0], [0, 2])


def test_lines() -> None:
    rows = tuple((size, model, size * 1.0, size * 2.0) for size in (512, 128, 256) for model in ("a", "b"))
    table = Table("t", ("size", "model", "p50", "p99"), rows)
    one = figure(Chart("c", "lines", "t", "size", ("p50",), group="model"), table)
    assert [(trace["name"], trace["x"]) for trace in one["data"]] == [("a", [128, 256, 512]), ("b", [128, 256, 512])]
    assert one["layout"]["yaxis"]["title"]["text"] == "p50"
    both = figure(Chart("c", "lines", "t", "size", ("p50", "p99"), group="model"), table)["data"]
    assert [trace["name"] for trace in both] == ["a, p50", "b, p50", "a, p99", "b, p99"]
    looks = [(trace["line"]["color"], trace["line"]["dash"], trace["marker"]["symbol"]) for trace in both]
    assert looks == [
        ("--series-0", "solid", "circle"),
        ("--series-1", "solid", "square"),
        ("--series-0", "dash", "circle"),
        ("--series-1", "dash", "square"),
    ]


@pytest.mark.parametrize("kind", ["pareto", "bars", "waterfall", "lines"])
@pytest.mark.parametrize("rows", [(), (("a", None, None),), (("a", 1.0, 2.0),)])
def test_little_or_nothing_to_draw(kind: Any, rows: Any) -> None:
    x = "name" if kind in ("bars", "waterfall") else "ms"
    chart = Chart("c", kind, "t", x, ("dB",), label="name", log_x=kind == "pareto")
    json.dumps(figure(chart, Table("t", ("name", "ms", "dB"), rows)), allow_nan=False)


@pytest.mark.parametrize("kind", ["pareto", "bars", "waterfall", "lines"])
def test_every_text_is_escaped(kind: Any) -> None:
    nasty = '<a href="javascript:x">'
    table = Table("t", (nasty, "<x>", "<y>"), ((nasty, 1.0, 2.0), (f"{nasty}2", 2.0, 1.0)))
    grouped = {} if kind == "waterfall" else {"group": nasty}
    chart = Chart("c", kind, "t", "<x>" if kind in ("pareto", "lines") else nasty, ("<y>",), label=nasty, **grouped)
    for text in texts(figure(chart, table)):
        for ours in ("<b>", "</b>", "<br>"):
            text = text.replace(ours, "")
        assert "<" not in text


def test_as_many_colours_as_the_page_has(report: Report) -> None:
    table = Table("t", ("g", "x", "y"), tuple((f"g{number}", number, -number) for number in range(40)))
    made = figure(Chart("c", "pareto", "t", "x", ("y",), group="g"), table)["data"]
    looks = {(trace["marker"]["color"], trace["marker"]["symbol"]) for trace in made[1:]}
    assert len(looks) == 40


def test_description(report: Report) -> None:
    assert description(report.charts[0]) == (
        "Chart: points, drift dB over p50 ms, with the Pareto front of what is smallest in both, by model. "
        "The table 'Sweep' below has the numbers."
    )
