"""The page as a text: what is in it, what is not, and what it forbids. `test_browser` opens it."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import os
import re
import sys
from html.parser import HTMLParser

import pytest

from edgeir.errors import MissingDependency
from edgeir.report.chart import Chart
from edgeir.report.comparison import Comparison
from edgeir.report.drawing import SERIES
from edgeir.report.formats import emit
from edgeir.report.html import LARGEST_PAGE_BYTES, OPEN_ROWS, plotly_library, to_html
from edgeir.report.value import Report, Table

VOID = {"meta", "img", "br", "link", "input", "hr"}
NASTY = "</script><script>alert(1)</script><!--<script>"


class Page(HTMLParser):
    """What a page consists of, and whether every tag is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[str | None, str]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append((dict(attrs).get("type"), ""))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            kind, text = self.scripts[-1]
            self.scripts[-1] = (kind, text + data)
        elif "style" not in self.open:
            self.text += data

    def policy(self) -> str:
        metas = [attributes for tag, attributes in self.tags if tag == "meta"]
        (found,) = (meta["content"] for meta in metas if meta.get("http-equiv") == "Content-Security-Policy")
        return str(found)


def test_html_needs_nothing_else(report: Report, quiet: Report, placeholder: str) -> None:
    for shown in (report, quiet):
        text = to_html(shown)
        page = Page(text)
        assert not {"link", "iframe", "b", "object", "form"} & {tag for tag, _ in page.tags}
        for _, attributes in page.tags:
            if "src" in attributes:
                assert str(attributes["src"]).startswith("data:image/png;base64,iVBOR")
            assert str(attributes.get("href", "#")).startswith("#")
            assert not any(name.startswith("on") for name in attributes)
        for outside in ("http://", "https://", "@import", "url("):
            assert outside not in text
        assert "prefers-color-scheme: dark" in text
        assert "@media print" in text
        assert page.policy().startswith("default-src 'none'; ")
    assert "</td><script>" in Page(to_html(report)).text


def test_a_script_only_where_there_is_something_to_move(report: Report, plain: Report, placeholder: str) -> None:
    assert Page(to_html(plain)).scripts == []
    assert "script-src 'none'" in Page(to_html(plain)).policy()
    charts = Page(to_html(dataclasses.replace(report, comparisons=()))).scripts
    assert [kind for kind, _ in charts] == [*["application/json"] * 4, None, None]
    assert [placeholder in text for _, text in charts] == [False] * 4 + [True, False]
    ((kind, text),) = Page(to_html(dataclasses.replace(report, charts=()))).scripts
    assert kind is None
    assert ".comparison" in text


def test_the_policy_names_every_script_by_hash(report: Report) -> None:
    page = Page(to_html(report))  # with all of Plotly
    run = [text for kind, text in page.scripts if kind is None]
    assert len(run) == 3
    assert sum(text.startswith(plotly_library()[:1000]) for text in run) == 1
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in run]
    allowed = " ".join(f"'sha256-{value}'" for value in hashes)
    assert page.policy().endswith(f"script-src {allowed}")


def test_the_order_of_the_page(report: Report, placeholder: str) -> None:
    text = Page(to_html(report)).text
    in_order = (
        report.summary,
        report.verdict,
        "Keep decoder2 in FP16.",
        "What was examined",
        "Which are worth having",
        "Drift by k",
        "Sweep (8 rows)",
        "Nodes and time",
        "Where the time went",
        "What each rewrite bought (4 rows)",
        "A corner of <rain>",
        "Drift = PSNR",
        "worst & best",
        "Weights are untrained.",
        "edgeir validate a.edgeir",
    )
    places = [text.index(part) for part in in_order]
    assert places == sorted(places)


def test_a_long_table_is_folded_away_below_its_chart(placeholder: str) -> None:
    for rows, is_open in ((OPEN_ROWS, True), (OPEN_ROWS + 1, False)):
        table = Table("t", ("x", "y"), tuple((number, number) for number in range(rows)))
        shown = Report("t", "s", tables=(table,), charts=(Chart("c", "lines", "t", "x", ("y",)),))
        ((_, attributes),) = [part for part in Page(to_html(shown)).tags if part[0] == "details"]
        assert ("open" in attributes) == is_open
        without = Page(to_html(dataclasses.replace(shown, charts=())))
        assert "details" not in {tag for tag, _ in without.tags}


def test_nothing_ends_a_script(placeholder: str) -> None:
    table = Table(NASTY, (NASTY, "x", "y"), ((NASTY, 1.0, 2.0),))
    chart = Chart(NASTY, "pareto", NASTY, "x", ("y",), group=NASTY, label=NASTY, note=NASTY)
    shown = Report(NASTY, NASTY, tables=(table,), charts=(chart,), notes=(NASTY,))
    page = Page(to_html(shown))
    assert [kind for kind, _ in page.scripts] == ["application/json", None, None]
    assert "<" not in page.scripts[0][1]
    point = json.loads(page.scripts[0][1])["data"][1]
    assert point["name"] == "&lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt;&lt;!--&lt;script&gt;"
    assert page.text.count(NASTY) >= 7


def test_plotly_is_there_once_and_nothing_in_it_ends_its_script() -> None:
    library = plotly_library()
    assert 1_000_000 < len(library.encode()) < 6_000_000
    table = Table("t", ("x", "y"), ((1, 2),))
    shown = Report("t", "s", tables=(table,), charts=(Chart("c", "lines", "t", "x", ("y",)),))
    text = to_html(shown)
    assert text.count("plotly.js v") == 1
    assert len(text.encode()) < LARGEST_PAGE_BYTES


def test_without_plotly(report: Report, plain: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "plotly", None)
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    says = r"^charts need Plotly, which is not installed\. Run: pip install 'edgeir\[report\]'$"
    with pytest.raises(MissingDependency, match=says):
        to_html(report)
    assert to_html(plain)
    for format in ("text", "json", "markdown", "junit", "csv"):
        assert emit(report, format)


def noise(kilobytes: int) -> bytes:
    """A PNG of about so many kilobytes: its comment is as large as that."""
    import io

    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    comment = PngInfo()
    comment.add_text("comment", base64.b64encode(os.urandom(kilobytes * 750)).decode())
    buffer = io.BytesIO()
    Image.new("L", (2, 2)).save(buffer, "PNG", pnginfo=comment)
    return buffer.getvalue()


def test_pictures_that_do_not_fit_are_named(placeholder: str) -> None:
    half, small = noise(2000), noise(100)
    assert len(half) > 1_900_000
    shown = Report(
        "t",
        "s",
        comparisons=(
            Comparison("first", {"a": half, "b": half}),
            Comparison("second", {"a": half, "b": half}),
            Comparison("third", {"a": small, "b": small}),
        ),
        pictures={"fourth": half, "fifth": small},
    )
    text = to_html(shown)
    assert 5_000_000 < len(text.encode()) <= LARGEST_PAGE_BYTES
    # 2.7 MB each in base64, and the page holds two of them; what is small still fits.
    assert "larger than 8 MB: second, fourth. " in text
    assert "Left out" not in to_html(dataclasses.replace(shown, comparisons=shown.comparisons[:1], pictures={}))


def test_a_comparison_without_script(report: Report, placeholder: str) -> None:
    page = Page(to_html(report))
    layers = [attributes for tag, attributes in page.tags if attributes.get("class") == "layer"]
    assert [layer["data-name"] for layer in layers] == ["input", "engine", "difference x8"]
    assert not any("hidden" in layer for layer in layers)
    controls = [attributes for _, attributes in page.tags if attributes.get("class") in ("controls", "divide")]
    assert len(controls) == 2
    assert all("hidden" in part for part in controls)  # they would do nothing
    checked = [part for tag, part in page.tags if tag == "input" and "checked" in part]
    assert [(part["data-side"], part["value"]) for part in checked] == [("left", "0"), ("right", "1")]
    assert len({part["name"] for part in checked}) == 2


def test_what_is_heard(report: Report, placeholder: str) -> None:
    page = Page(to_html(report))
    tags = [tag for tag, _ in page.tags]
    assert tags.count("caption") == tags.count("table")
    for tag, attributes in page.tags:
        if tag == "img":
            assert attributes["alt"]
        if attributes.get("class") in ("chart", "scroll", "divide"):
            assert attributes["aria-label"]
    links = [str(attributes["href"]) for tag, attributes in page.tags if tag == "a"]
    assert links == ["#main"]
    assert any(attributes.get("id") == "main" for _, attributes in page.tags)


def test_every_colour_that_is_used_is_defined_in_every_theme(report: Report, placeholder: str) -> None:
    text = to_html(report)
    css = text[text.index("<style>") : text.index("</style>")]
    themes = re.findall(r":root[^{]*\{([^}]*)\}", css)
    assert len(themes) == 4  # light, dark, and twice on paper
    names = [set(re.findall(r"(--[\w-]+):", theme)) for theme in themes]
    wanted = {*(f"--series-{number}" for number in range(SERIES)), *re.findall(r'"(--[a-z-]+)"', " ".join(texts(text)))}
    for defined in names:
        assert wanted <= defined


def texts(page: str) -> list[str]:
    return [text for kind, text in Page(page).scripts if kind == "application/json"]


def test_html_shows_each_number_once_as_the_other_formats_do(report: Report, placeholder: str) -> None:
    text = Page(to_html(report)).text
    for value in ("0.1235", "1.235e+06", "0.41 dB", "at least 55 dB", "FAILED 2 of 4 checks, 1 warning"):
        assert value in text
        assert value in emit(report, "text")
