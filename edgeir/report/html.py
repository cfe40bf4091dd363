"""A report as one HTML file that needs nothing else: no network, no script, light and dark, and it prints."""

from __future__ import annotations

import base64
from importlib import resources

from jinja2 import Environment, StrictUndefined

from edgeir.report import wording
from edgeir.report.value import Report

TEMPLATE_NAME = "report.html.j2"


def to_html(report: Report) -> str:
    """The report as a complete document; every text is escaped, pictures are inside it."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters["cell"] = wording.cell
    environment.filters["limit"] = wording.limit
    environment.filters["mark"] = wording.mark
    template = resources.files("edgeir.report").joinpath(TEMPLATE_NAME).read_text(encoding="utf-8")
    return environment.from_string(template).render(
        report=report,
        with_unit=wording.with_unit,
        numeric_columns=wording.numeric_columns,
        shades=wording.shades,
        pictures={name: base64.b64encode(png).decode("ascii") for name, png in report.pictures.items()},
        provenance=wording.provenance_lines(report),
    )
