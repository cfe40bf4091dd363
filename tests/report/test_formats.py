"""Every format shows the same value; the texts are compared with committed ones."""

from __future__ import annotations

import dataclasses
import io
import math
from collections.abc import Callable
from xml.etree import ElementTree as ET

import pytest
from rich.console import Console

from edgeir.errors import UsageError
from edgeir.report import wording
from edgeir.report.formats import FORMATS, emit
from edgeir.report.terminal import terminal_view, to_terminal
from edgeir.report.value import Check, Report, Table

SNAPSHOTS = {
    "text": "report.txt",
    "json": "report.json",
    "markdown": "report.md",
    "junit": "report.xml",
    "csv": "report.csv",
    "html": "report.html",
}
pytestmark = pytest.mark.usefixtures("placeholder")


def test_every_format_has_a_snapshot() -> None:
    assert set(SNAPSHOTS) == set(FORMATS)


@pytest.mark.parametrize(("format", "name"), SNAPSHOTS.items())
def test_snapshots(report: Report, same_as_snapshot: Callable[[str, str], None], format: str, name: str) -> None:
    same_as_snapshot(emit(report, format), name)


@pytest.mark.parametrize("format", sorted(set(FORMATS) - {"csv"}))  # which holds tables alone
def test_every_format_says_the_same(report: Report, quiet: Report, format: str) -> None:
    text = emit(report, format)
    assert text.endswith("\n")
    for word in ("exda-tiny", "0.41", "Keep decoder2 in FP16", "inf", "nan", "drift, worst"):
        assert word in text
    if format != "junit":
        for word in ("Weights are untrained", "3.11.7", "Per picture"):
            assert word in text
    assert ("Never shown." in text) == (format == "json")  # a program gets the advice of every check
    assert "It has no checks." in emit(quiet, format)


def test_unknown_format(report: Report) -> None:
    with pytest.raises(UsageError, match=r"unknown report format 'markdwon'\. Did you mean 'markdown'\?"):
        emit(report, "markdwon")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1 + 0.2, "0.3"),
        (-0.0, "0"),
        (999.96, "1000"),
        (0.00012345, "0.0001234"),
        (0.000012345, "1.234e-05"),
        (1234567.0, "1.235e+06"),
        (123456.7, "123457"),
        (100.0, "100"),
        (-2.5, "-2.5"),
        (math.nan, "nan"),
        (-math.inf, "-inf"),
        (10**9, "1000000000"),
    ],
)
def test_numbers(value: float, text: str) -> None:
    assert wording.number(value) == text


def test_junit_counts(report: Report) -> None:
    suite = ET.fromstring(emit(report, "junit")).find("testsuite")
    assert suite is not None
    assert (suite.get("tests"), suite.get("failures")) == ("4", "2")
    assert len(suite.findall("testcase/failure")) == 2


def test_control_characters(quiet: Report) -> None:
    odd = dataclasses.replace(quiet, title="a\0b\x1b[31mc\ud800", checks=(Check("x\x0b", 0, 1),))
    assert "a\ufffdb" in (ET.fromstring(emit(odd, "junit"))[0].get("name") or "")
    assert "\x1b" not in emit(odd, "text")
    for format in FORMATS:
        emit(odd, format).encode("utf-8")


def test_terminal_width_and_colours(report: Report) -> None:
    narrow = to_terminal(report, width=60)
    assert max(len(line) for line in narrow.splitlines()) <= 60
    assert "\x1b" not in narrow
    console = Console(force_terminal=True, color_system="truecolor", width=100, record=True, file=io.StringIO())
    console.print(terminal_view(report))
    assert "\x1b[1;31mFAILED" in console.export_text(styles=True)


def test_stars_on_the_pareto_front(report: Report) -> None:
    sweep = report.tables[1]
    marked = wording.marked(report, sweep)
    assert [row[0] for row in marked.rows] == ["", "*", "", "*", "*", "*", "", ""]
    assert marked.columns == ("front", *sweep.columns)
    assert marked.note.startswith("* Pareto front: no row with both numbers is better in p50 ms or drift dB")
    assert wording.marked(report, report.tables[0]) is report.tables[0]
    for format, star in (
        ("text", " *       exda fp16"),
        ("markdown", "| \\* | exda fp16 |"),
        ("html", "<td>*</td><td>exda fp"),
    ):
        assert star in emit(report, format)

    other = dataclasses.replace(report.charts[0], y=("k",))
    twice = dataclasses.replace(report, charts=(*report.charts, other))
    assert [row[0] for row in wording.marked(twice, sweep).rows] == ["", "* **", "", "*", "*", "*", "", ""]
    assert "** Pareto front: no row with both numbers is better in p50 ms or k " in emit(twice, "text")


def test_what_is_not_drawn_is_counted(report: Report) -> None:
    sweep = report.tables[1]
    pareto, bars, _, lines = report.charts
    assert wording.chart_note(pareto, sweep).endswith(
        " 2 of 8 rows are not drawn: no finite number, or one that a logarithmic axis has no place for."
    )
    assert wording.chart_note(lines, sweep) == "5 of 8 rows are not drawn: no finite number."
    assert wording.chart_note(bars, report.tables[2]) == ""
    one = dataclasses.replace(sweep, rows=((*sweep.rows[0][:3], None, 256), *sweep.rows[1:6]))
    both = dataclasses.replace(bars, table="Sweep", x="variant", y=("p50 ms", "drift dB"))
    assert wording.chart_note(both, one) == "1 of 12 values is not drawn: no finite number."


def test_heat_is_the_share_of_the_largest_number() -> None:
    table = Table(
        "t", ("layer", "a", "b"), (("x", 0.5, 2.0), ("y", math.inf, None), ("z", -1.0, 0.0), ("w", True, 1)), heat=True
    )
    assert wording.shades(table) == ((0, 25, 100), (0, 0, 0), (0, 0, 0), (0, 0, 50))
    assert set(wording.shades(dataclasses.replace(table, heat=False))) == {(0, 0, 0)}
    zeros = dataclasses.replace(table, rows=(("x", 0.0, 0.0),))
    assert wording.shades(zeros) == ((0, 0, 0),)
    report = Report(title="t", summary="s", tables=(table,))
    assert 'style="--heat: 100%"' in emit(report, "html")
