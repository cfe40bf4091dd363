"""``edgeir report``: a report that a command left behind, shown in another format."""

from __future__ import annotations

from pathlib import Path

import typer

from edgeir.cli.console import print_result
from edgeir.errors import UsageError

_SUFFIXES = {".html": "html", ".json": "json", ".md": "markdown", ".xml": "junit", ".csv": "csv", ".txt": "text"}


def command(
    path: Path = typer.Argument(..., help="A bundle, the folder of a sweep, or a report.json."),
    format: str | None = typer.Option(
        None, "--format", help="text, json, markdown, html, junit or csv (by the suffix of -o, else text)."
    ),
    output: Path | None = typer.Option(None, "-o", "--output", metavar="FILE", help="Write it there, not to stdout."),
) -> None:
    """Show a report again: the same numbers in every format. Nothing is measured."""
    from edgeir.report.formats import emit
    from edgeir.report.reading import read_report
    from edgeir.storage import atomic_write_bytes

    if format is None:
        format = "text" if output is None else _SUFFIXES.get(output.suffix.lower())
    if format is None:
        raise UsageError(
            "no format has this suffix",
            where=str(output),
            expected=", ".join(_SUFFIXES),
            fix="Or name it with --format.",
        )
    text = emit(read_report(path), format)
    if output is None:
        print_result(text)
    else:
        atomic_write_bytes(output, text.encode())
