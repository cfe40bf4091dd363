"""Which formats a report comes in: one literal table."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from edgeir.errors import UsageError, nearest
from edgeir.report.csv_format import to_csv
from edgeir.report.html import to_html
from edgeir.report.json_format import to_json
from edgeir.report.junit import to_junit
from edgeir.report.markdown import to_markdown
from edgeir.report.terminal import to_terminal
from edgeir.report.value import Report

FORMATS: Mapping[str, Callable[[Report], str]] = {
    "text": to_terminal,
    "json": to_json,
    "markdown": to_markdown,
    "html": to_html,
    "junit": to_junit,
    "csv": to_csv,
}


def emit(report: Report, format: str) -> str:
    """The report as text in ``format``, a key of `FORMATS`.

    Raises:
        UsageError: there is no such format; the message offers the nearest.
    """
    emitter = FORMATS.get(format)
    if emitter is None:
        raise UsageError(f"unknown report format '{format}'", fix=nearest(format, FORMATS))
    # A file name may hold half a surrogate pair, which no file or pipe takes.
    return emitter(report).encode("utf-8", "replace").decode("utf-8")
