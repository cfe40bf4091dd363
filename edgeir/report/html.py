"""A report as one HTML file that needs nothing else: no network, light and dark, for a keyboard, and it prints.

A report without charts and comparisons has no script in it. The page's own Content-Security-Policy forbids every
request, and every script but those written here, which it names by hash.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from edgeir.errors import MissingDependency
from edgeir.report import wording
from edgeir.report.comparison import Comparison
from edgeir.report.drawing import description, figure
from edgeir.report.value import Report, Table

TEMPLATE_NAME = "report.html.j2"
LARGEST_PAGE_BYTES = 8_000_000
# A charted table is there to be looked up: with more rows than this it is folded away below its chart.
OPEN_ROWS = 12


@dataclass(frozen=True, slots=True)
class _Pictures:
    """What fits into the page, base64, and the names of what does not."""

    comparisons: tuple[dict[str, Any], ...]
    single: Mapping[str, str]
    left_out: tuple[str, ...]


def to_html(report: Report) -> str:
    """The report as a complete document; every text is escaped, pictures are inside it.

    Pictures that would make the page larger than `LARGEST_PAGE_BYTES` are left out and named.

    Raises:
        MissingDependency: there are charts and Plotly, whose script goes into the page, is not installed.
    """
    scripts = tuple(_inline(script) for script in _scripts(report))
    without = _page(report, scripts, _Pictures((), {}, ()))
    if not report.comparisons and not report.pictures:
        return without
    room = LARGEST_PAGE_BYTES - len(without.encode("utf-8", "replace"))
    return _page(report, scripts, _fitting(report, room))


def plotly_library() -> str:
    """Plotly's JavaScript, about 5 MB.

    Raises:
        MissingDependency: Plotly is not installed.
    """
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise MissingDependency(
            "charts need Plotly, which is not installed", fix="Run: pip install 'edgeir[report]'"
        ) from error
    return str(get_plotlyjs())


def _page(report: Report, scripts: Sequence[str], pictures: _Pictures) -> str:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters["cell"] = wording.cell
    environment.filters["limit"] = wording.limit
    environment.filters["mark"] = wording.mark
    return environment.from_string(_file(TEMPLATE_NAME)).render(
        report=report,
        css=Markup(_file("page.css")),  # noqa: S704 - ours
        policy=_policy(scripts),
        scripts=[Markup(script) for script in scripts],  # noqa: S704 - ours and Plotly's
        with_unit=wording.with_unit,
        numeric_columns=wording.numeric_columns,
        shades=wording.shades,
        facts=[(fact.label, wording.cell(fact.value)) for fact in report.facts],
        charted=_charted(report),
        open_rows=OPEN_ROWS,
        tables=[wording.marked(report, table) for table in report.tables if not report.charts_of(table)],
        comparisons=pictures.comparisons,
        pictures=pictures.single,
        left_out=_left_out(pictures.left_out),
        provenance=wording.provenance_lines(report),
    )


def _charted(report: Report) -> list[dict[str, Any]]:
    """Each table that is drawn with its charts above it, in the order of the charts."""
    tables: dict[str, Table] = {chart.table: chart.find(report.tables) for chart in report.charts}
    return [
        {
            "number": number,
            "table": wording.marked(report, table),
            "charts": [
                {
                    "title": chart.title,
                    "description": description(chart),
                    "figure": _data(figure(chart, table)),
                    "note": wording.chart_note(chart, table),
                }
                for chart in report.charts_of(table)
            ],
        }
        for number, table in enumerate(tables.values(), 1)
    ]


def _scripts(report: Report) -> list[str]:
    scripts = [plotly_library(), _file("charts.js")] if report.charts else []
    return [*scripts, _file("comparisons.js")] if report.comparisons else scripts


def _fitting(report: Report, room: int) -> _Pictures:
    """Comparisons, then single pictures, each one that still fits into ``room`` bytes."""
    comparisons: list[dict[str, Any]] = []
    single: dict[str, str] = {}
    left_out: list[str] = []
    for comparison in report.comparisons:
        shown = _comparison(comparison)
        # Beside its pictures stand its controls, and each name five times, escaped.
        cost = 4096 + sum(len(data) + 32 * len(name) for name, data in shown["layers"])
        if cost <= room:
            room -= cost
            comparisons.append(shown)
        else:
            left_out.append(comparison.caption)
    for name, png in report.pictures.items():
        data = base64.b64encode(png).decode("ascii")
        cost = 1024 + len(data) + 16 * len(name)
        if cost <= room:
            room -= cost
            single[name] = data
        else:
            left_out.append(name)
    return _Pictures(tuple(comparisons), single, tuple(left_out))


def _comparison(comparison: Comparison) -> dict[str, Any]:
    width, height = comparison.size
    layers = [(name, base64.b64encode(png).decode("ascii")) for name, png in comparison.layers.items()]
    return {"caption": comparison.caption, "width": width, "height": height, "layers": layers}


def _left_out(names: Sequence[str]) -> str:
    if not names:
        return ""
    limit = f"{LARGEST_PAGE_BYTES // 1_000_000} MB"
    return f"Left out, because the page would be larger than {limit}: {', '.join(names)}. The JSON format has them."


def _policy(scripts: Sequence[str]) -> str:
    hashes = [base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii") for script in scripts]
    allowed = " ".join(f"'sha256-{value}'" for value in hashes) or "'none'"
    # Plotly writes style elements, and makes its picture of a chart from a data: or blob: address.
    return (
        "default-src 'none'; base-uri 'none'; form-action 'none'; "
        f"img-src data: blob:; style-src 'unsafe-inline'; script-src {allowed}"
    )


def _inline(script: str) -> str:
    """``script`` so that no browser sees an end of it or changes a character, which would change its hash."""
    script = script.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")
    return script.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _data(value: Any) -> Markup:
    """JSON for a script element: nothing in it can end the element or begin a comment."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))  # noqa: S704


def _file(name: str) -> str:
    return resources.files("edgeir.report").joinpath(name).read_text(encoding="utf-8")
