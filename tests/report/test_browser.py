"""The page in a real browser without a network: what it draws, what it asks for, and how it answers a keyboard.

`browser.py` says which browsers can be used and how to get one.
"""

from __future__ import annotations

import dataclasses
import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgeir.report.chart import Chart
from edgeir.report.comparison import Comparison
from edgeir.report.html import to_html
from edgeir.report.value import Report, Table

COLOURS = {"input": (200, 0, 0), "engine": (0, 160, 0), "difference x8": (0, 0, 220)}
POINTS = ".chart .scatterlayer .points path"
# Contrast of every text with what lies behind it, by WCAG 2.2; a canvas turns any colour into red, green, blue.
CONTRASTS = """(() => {
  const context = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const rgba = (colour) => {
    context.clearRect(0, 0, 1, 1); context.fillStyle = colour; context.fillRect(0, 0, 1, 1);
    return [...context.getImageData(0, 0, 1, 1).data];
  };
  const light = (colour) => {
    const linear = (v) => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
    const [r, g, b] = colour.slice(0, 3).map((v) => linear(v / 255));
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const found = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    const style = getComputedStyle(element);
    const box = element.getBoundingClientRect();
    if (!texts.currentNode.data.trim() || element.closest('script, style, noscript, option')) continue;
    if (style.visibility === 'hidden' || box.width < 2 || box.height < 2) continue;
    let behind = element;
    while (behind && rgba(getComputedStyle(behind).backgroundColor)[3] < 255) behind = behind.parentElement;
    const back = light(rgba(behind ? getComputedStyle(behind).backgroundColor : 'white'));
    const front = light(rgba(element.closest('svg') ? style.fill : style.color));
    found.push([(Math.max(back, front) + .05) / (Math.min(back, front) + .05), texts.currentNode.data.trim()]);
  }
  return found;
})()"""


def picture(colour: tuple[int, int, int]) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 48), colour).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def shown(report: Report) -> Report:
    """The example with pictures whose colours can be told apart, a wide table, and points close to each other."""
    wide = Table("Wide", tuple(f"a long column {number}" for number in range(12)), ((1,) * 12,))
    layers = {name: picture(colour) for name, colour in COLOURS.items()}
    crowd = Table("Crowd", ("name", "x", "y"), tuple((f"the point {n}", 1 + n / 9, 9 - n / 9) for n in range(12)))
    chart = Chart("Who is where", "pareto", "Crowd", "x", ("y",), label="name")
    return dataclasses.replace(
        report,
        tables=(*report.tables, wide, crowd),
        charts=(*report.charts, chart),
        comparisons=(Comparison("the same corner", layers),),
    )


@pytest.fixture(scope="module")
def page(shown: Report, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("page") / "report.html"
    file.write_text(to_html(shown), encoding="utf-8")
    return file


@pytest.fixture(autouse=True)
def silent(request: pytest.FixtureRequest, tab: Any, page: Path) -> Iterator[None]:
    """Whatever a test does, the page complains about nothing and asks for nothing but itself."""
    yield
    if "directive" not in request.fixturenames:  # those tests break the page's rules on purpose
        assert tab.complaints() == []
        assert tab.requests() == [page.as_uri()]


def pixel(tab: Any, x: float, y: float) -> tuple[int, ...]:
    """Colour of the page at a place, in pixels from its top left."""
    with Image.open(io.BytesIO(tab.screenshot(round(x), round(y), 1, 1))) as image:
        return tuple(np.asarray(image.convert("RGB"))[0, 0].tolist())


def box(tab: Any, selector: str) -> list[float]:
    """x, y, width and height of the first such element, from the top left of the page."""
    found: list[float] = tab.evaluate(
        f"(() => {{ const box = document.querySelector('{selector}').getBoundingClientRect();"
        " return [box.x + scrollX, box.y + scrollY, box.width, box.height]; })()"
    )
    return found


def test_it_draws_every_chart(tab: Any, page: Path, shown: Report) -> None:
    tab.open(page)
    assert tab.evaluate("document.querySelectorAll('.chart .main-svg').length") >= len(shown.charts)
    assert tab.evaluate("[...document.querySelectorAll('.chart')].every(place => place.data.length > 0)")
    assert tab.evaluate("document.querySelector('.chart').textContent").count("kgt") >= 1
    assert tab.evaluate("document.scripts.length") == len(shown.charts) + 3


def test_hover_shows_every_column(tab: Any, page: Path, shown: Report) -> None:
    tab.open(page)
    place = tab.evaluate(
        f"""(() => {{
          const points = document.querySelectorAll({POINTS!r});
          points[1].scrollIntoView({{block: 'center'}});
          const box = points[1].getBoundingClientRect();
          return [box.x + box.width / 2, box.y + box.height / 2];
        }})()"""
    )
    for step in (-4, -2, 0):
        tab.mouse("mouseMoved", place[0] + step, place[1])
        time.sleep(0.1)  # Plotly answers at most every 50 ms
    tab.wait_for("document.querySelector('.hoverlayer .hovertext') !== null")
    text = tab.evaluate("[...document.querySelectorAll('.hoverlayer tspan')].map(line => line.textContent).join('|')")
    table = shown.tables[1]
    row = next(row for row in table.rows if f"variant: {row[0]}" in text)
    assert row[0] == "kgt int8 <b>k</b> 64"  # a text, not Plotly's bold
    for column, value in zip(table.columns, ("kgt int8 <b>k</b> 64", "kgt", "24.25", "0.19", "64"), strict=True):
        assert f"{column}: {value}" in text


def test_the_slider_moves_the_divide_by_keyboard(tab: Any, page: Path) -> None:
    tab.open(page)
    x, y, width, height = box(tab, ".stage")
    row = y + height - 5  # below the names of the layers
    assert pixel(tab, x + 0.45 * width, row) == COLOURS["input"]
    assert pixel(tab, x + 0.55 * width, row) == COLOURS["engine"]
    tab.evaluate("document.querySelector('.controls select').focus()")
    tab.key("Tab", 9)
    assert tab.evaluate("document.activeElement.className") == "divide"
    assert tab.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"  # it can be seen
    for _ in range(20):
        tab.key("ArrowRight", 39)
    tab.settle()
    assert tab.evaluate("document.querySelector('.divide').value") == "70"
    assert "70 percent input" in tab.evaluate("document.querySelector('.divide').getAttribute('aria-valuetext')")
    assert pixel(tab, x + 0.65 * width, row) == COLOURS["input"]
    assert pixel(tab, x + 0.75 * width, row) == COLOURS["engine"]
    for _ in range(45):
        tab.key("ArrowLeft", 37)
    tab.settle()
    assert pixel(tab, x + 0.2 * width, row) == COLOURS["input"]
    assert pixel(tab, x + 0.3 * width, row) == COLOURS["engine"]


def test_a_pointer_moves_the_divide(tab: Any, page: Path) -> None:
    tab.open(page)
    tab.evaluate("document.querySelector('.stage').scrollIntoView({block: 'center'})")
    left, top, width, height = tab.evaluate(
        "(() => { const box = document.querySelector('.stage').getBoundingClientRect();"
        " return [box.x, box.y, box.width, box.height]; })()"
    )
    tab.mouse("mousePressed", left + 0.25 * width, top + height / 2)
    tab.mouse("mouseReleased", left + 0.25 * width, top + height / 2)
    tab.settle()
    assert tab.evaluate("document.querySelector('.divide').value") == "25"


def test_the_layers_are_chosen_by_keyboard(tab: Any, page: Path) -> None:
    tab.open(page)
    x, y, width, height = box(tab, ".stage")
    for side, place, key in (("left", 0.25, 2), ("right", 0.75, 1)):
        tab.evaluate(f"document.querySelector('input[data-side={side}]:checked').focus()")
        for _ in range(key):
            tab.key("ArrowDown", 40)
        tab.settle()
        assert pixel(tab, x + place * width, y + height - 5) == COLOURS["difference x8"]
    assert tab.evaluate("document.querySelectorAll('.layer:not([hidden])').length") == 1  # the same one on both sides


def test_zoom(tab: Any, page: Path) -> None:
    tab.open(page)
    for chosen, width in (("2", 128), ("8", 512), ("0", 320)):
        tab.evaluate(
            f"""(() => {{ const size = document.querySelector('.controls select'); size.value = '{chosen}';
            size.dispatchEvent(new Event('input', {{bubbles: true}})); }})()"""
        )
        assert box(tab, ".stage")[2] == width


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_both_themes_can_be_read(tab: Any, page: Path, theme: str) -> None:
    tab.open(page, theme=theme)
    contrasts = tab.evaluate(CONTRASTS)
    assert len(contrasts) > 100
    bad = [(round(ratio, 2), text) for ratio, text in contrasts if ratio < 4.5]
    assert not bad
    paper = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (paper == "rgb(255, 255, 255)") == (theme == "light")


def test_charts_follow_the_theme(tab: Any, page: Path) -> None:
    tab.open(page, theme="light")
    ink = "getComputedStyle(document.querySelector('.chart .xtick text')).fill"
    series = "getComputedStyle(document.querySelectorAll('.chart .legendpoints path')[1]).fill"
    light = (tab.evaluate(ink), tab.evaluate(series))
    tab.look("dark")
    tab.wait_for(f"{ink} !== {light[0]!r}")
    dark = (tab.evaluate(ink), tab.evaluate(series))
    assert all(one != other for one, other in zip(light, dark, strict=True))
    tab.look("light")
    tab.wait_for(f"{ink} === {light[0]!r}")


@pytest.mark.parametrize("width", [400, 320])
def test_no_sideways_scrolling_on_a_telephone(tab: Any, page: Path, width: int) -> None:
    tab.open(page, width=width)
    assert tab.evaluate("innerWidth") == width
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    wide = "[...document.querySelectorAll('.scroll')].find(part => part.ariaLabel === 'Wide')"
    assert tab.evaluate(f"{wide}.scrollWidth > {wide}.clientWidth")  # the table scrolls in its box
    charts = tab.evaluate(
        "[...document.querySelectorAll('.chart .main-svg')].map(s => s.getBoundingClientRect().right)"
    )
    assert max(charts) <= width
    tab.resize(900, 800)
    tab.wait_for("document.querySelector('.chart .main-svg').getBoundingClientRect().width > 600")  # and grows again


def test_labels_do_not_lie_on_each_other(tab: Any, page: Path) -> None:
    for width in (1000, 400):
        tab.open(page, width=width)
        overlaps = tab.evaluate(
            """(() => {
              const pairs = [];
              for (const chart of document.querySelectorAll('.chart')) {
                const texts = [...chart.querySelectorAll('.main-svg text')]
                  .filter(t => t.textContent && getComputedStyle(t).visibility !== 'hidden');
                const boxes = texts.map(t => t.getBoundingClientRect());
                boxes.forEach((a, i) => boxes.slice(i + 1).forEach((b, j) => {
                  const across = a.right <= b.left + 1 || b.right <= a.left + 1;
                  const apart = across || a.bottom <= b.top + 1 || b.bottom <= a.top + 1;
                  if (!apart && a.width && b.width) pairs.push([texts[i].textContent, texts[i + 1 + j].textContent]);
                }));
              }
              return pairs;
            })()"""
        )
        assert overlaps == []
        labels = tab.evaluate("[...document.querySelectorAll('.textpoint text')].map(text => text.style.visibility)")
        assert 3 <= labels.count("") < len(labels)


def test_it_prints(tab: Any, page: Path, shown: Report) -> None:
    tab.open(page, theme="dark")
    tab.evaluate("document.querySelector('details').open = false")
    tab.look("dark", "print")
    tab.wait_for("document.documentElement.classList.contains('on-paper')")
    assert tab.evaluate("document.querySelectorAll('details:not([open])').length") == 0
    assert [text for ratio, text in tab.evaluate(CONTRASTS) if ratio < 4.5] == []
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert tab.evaluate("getComputedStyle(document.querySelector('.controls')).display") == "none"
    layers = tab.evaluate("[...document.querySelectorAll('.layer')].map(layer => layer.getBoundingClientRect().top)")
    assert len(set(layers)) == len(shown.comparisons[0].layers)  # one below the other
    tab.look("dark")
    tab.wait_for("!document.documentElement.classList.contains('on-paper')")
    assert tab.evaluate("document.querySelectorAll('details:not([open])').length") == 1


def test_charts_are_redrawn_before_the_print_dialogue_looks(tab: Any, page: Path) -> None:
    tab.open(page, theme="dark")
    ink = "getComputedStyle(document.querySelector('.chart .xtick text')).fill"
    dark, width = tab.evaluate(ink), box(tab, ".chart .main-svg")[2]
    tab.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert tab.evaluate(ink) == "rgb(0, 0, 0)"
    assert box(tab, ".chart .main-svg")[2] == 660
    tab.evaluate("dispatchEvent(new Event('afterprint'))")
    assert (tab.evaluate(ink), box(tab, ".chart .main-svg")[2]) == (dark, width)


def test_a_chart_can_be_saved(tab: Any, page: Path) -> None:
    tab.open(page)
    assert tab.evaluate(
        "Plotly.toImage(document.querySelector('.chart'), {format: 'png', width: 300, height: 200})"
    ).startswith("data:image/png;base64,")


@pytest.mark.parametrize(
    ("attempt", "directive"),
    [
        ("new Image().src = 'https://edgeir.invalid/x.png'", "img-src"),
        ("fetch('https://edgeir.invalid/x').catch(() => 0)", "connect-src"),
        ("document.body.setAttribute('onclick', 'window.hit = 1'); document.body.click()", "script-src-attr"),
        ("(() => { const s = document.createElement('script'); s.textContent = 'window.hit = 1';"
         " document.body.append(s); })()", "script-src-elem"),
        ("(() => { const f = document.createElement('iframe'); f.src = 'https://edgeir.invalid';"
         " document.body.append(f); })()", "frame-src"),
    ],
)  # fmt: skip
def test_the_policy_forbids_everything_else(tab: Any, page: Path, attempt: str, directive: str) -> None:
    tab.open(page)
    broken = tab.evaluate(
        f"""new Promise(done => {{
          document.addEventListener('securitypolicyviolation', event => done(event.effectiveDirective));
          setTimeout(() => done('nothing'), 3000);
          {attempt};
        }})"""
    )
    assert broken == directive
    assert tab.evaluate("window.hit") is None


def test_without_script_everything_is_there(tab: Any, page: Path) -> None:
    tab.open(page, script=False)
    layers = tab.evaluate("[...document.querySelectorAll('.layer')].map(layer => layer.getBoundingClientRect().top)")
    assert len(set(layers)) == 3
    assert tab.evaluate("document.querySelector('.controls').getBoundingClientRect().height") == 0
    assert tab.evaluate("document.querySelector('details').open")
    assert tab.evaluate("document.querySelector('.chart + script + noscript').getBoundingClientRect().height") > 10


def test_the_skip_link_and_the_box_of_a_table_can_be_reached(tab: Any, page: Path) -> None:
    tab.open(page, width=400)
    tab.key("Tab", 9)
    assert tab.evaluate("document.activeElement.className") == "skip"
    tab.wait_for("document.activeElement.getBoundingClientRect().top >= 0")
    tab.evaluate("document.activeElement.click()")
    assert tab.evaluate("document.activeElement.id") == "main"
    tab.key("Tab", 9)
    assert tab.evaluate("document.activeElement.getAttribute('aria-label')") == "Checks"
