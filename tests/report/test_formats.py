"""Every format shows the same value; the texts are compared with committed ones."""

from __future__ import annotations

import dataclasses
import io
import json
import math
from collections.abc import Callable
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import pytest
from rich.console import Console

from edgeir.errors import UsageError
from edgeir.report import wording
from edgeir.report.formats import FORMATS, emit
from edgeir.report.json_format import report_from_json
from edgeir.report.terminal import terminal_view, to_terminal
from edgeir.report.value import Check, Fact, Report, Table

VOID = {"meta", "img", "br", "link", "input", "hr"}


@pytest.mark.parametrize(
    ("format", "name"),
    [("text", "report.txt"), ("json", "report.json"), ("markdown", "report.md"), ("junit", "report.xml")],
)
def test_snapshots(report: Report, same_as_snapshot: Callable[[str, str], None], format: str, name: str) -> None:
    same_as_snapshot(emit(report, format), name)


@pytest.mark.parametrize("format", sorted(FORMATS))
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


def test_json_round_trip(report: Report, quiet: Report) -> None:
    assert report_from_json(emit(quiet, "json")) == quiet
    again = report_from_json(emit(report, "json"))
    assert emit(again, "json") == emit(report, "json")
    assert again.checks[2].value == math.inf
    assert math.isnan(again.checks[3].value)
    assert again.tables[0].rows[1][1] == math.inf
    assert again.pictures == report.pictures
    worded = Report("t", "s", facts=(Fact("name", "inf"), Fact("value", -math.inf)))
    assert report_from_json(emit(worded, "json")) == worded


def test_json_is_strict_and_not_believed(report: Report) -> None:
    def refuse(name: str) -> float:
        raise AssertionError(name)

    data = json.loads(emit(report, "json"), parse_constant=refuse)
    data["passed"] = True
    assert not report_from_json(json.dumps(data)).passed


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema_version": 1}', "[" * 100_000])
def test_not_a_report(text: str) -> None:
    with pytest.raises(UsageError, match=r"r\.json: this is not a report"):
        report_from_json(text, where="r.json")


def test_a_newer_report(quiet: Report) -> None:
    with pytest.raises(UsageError, match="comes from a newer edgeir"):
        report_from_json(emit(dataclasses.replace(quiet, schema_version=2), "json"))


class Page(HTMLParser):
    """What a page consists of, and whether every tag is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_html_needs_nothing_else(report: Report, quiet: Report) -> None:
    for shown in (report, quiet):
        text = emit(shown, "html")
        page = Page(text)
        assert page.open == []
        names = [tag for tag, _ in page.tags]
        assert not {"script", "link", "iframe", "b"} & set(names)
        for _, attributes in page.tags:
            if "src" in attributes:
                assert str(attributes["src"]).startswith("data:image/png;base64,iVBOR")
            assert "href" not in attributes
        for outside in ("http://", "https://", "@import", "url("):
            assert outside not in text
        assert "prefers-color-scheme: dark" in text
        assert "@media print" in text
    assert "</td><script>" in Page(emit(report, "html")).text


def test_html_shows_each_number_once_as_the_other_formats_do(report: Report) -> None:
    text = Page(emit(report, "html")).text
    for value in ("0.1235", "1.235e+06", "0.41 dB", "at least 55 dB", "FAILED 2 of 4 checks, 1 warning"):
        assert value in text
        assert value in emit(report, "text")


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
    assert report_from_json(emit(report, "json")) == report
