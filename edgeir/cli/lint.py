"""``edgeir lint``: what one version of one runtime would stumble over in a graph."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from edgeir.cli.console import print_result
from edgeir.cli.graph_file import load_graph
from edgeir.errors import CheckFailed, UsageError

if TYPE_CHECKING:
    from edgeir.export.lint import Finding
    from edgeir.export.runtimes import Runtime
    from edgeir.report.value import Report

ALL = "all"
_LISTED = 3  # nodes that a line of the table names


def command(
    path: Path = typer.Argument(..., help="An ONNX file, or a bundle (its model.onnx)."),
    runtime: str = typer.Option(
        ..., "--for", metavar="NAME", help="tensorrt-10.3, tensorrt-rtx-1.7, onnxruntime, jetpack-6.2, ...; or all."
    ),
    plugins: bool = typer.Option(False, "--plugins", help="edgeir's plugins will be registered there."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON value."),
) -> None:
    """List what would break when a runtime reads a graph, with node and fix; exit 1 if anything would."""
    from edgeir.export.runtimes import RUNTIMES, runtime_named
    from edgeir.report.formats import emit

    rows = RUNTIMES if runtime == ALL else (runtime_named(runtime),)
    file = _graph_file(path)
    graph = load_graph(file)
    import onnx_ir as ir

    from edgeir.export.lint import lint

    model = ir.to_proto(graph)
    found = {row: lint(model, row, plugins=plugins) for row in rows}
    if as_json:
        data = {row.name: [asdict(finding) for finding in findings] for row, findings in found.items()}
        print_result(json.dumps(data, indent=2))
    else:
        print_result("\n".join(emit(_report(file, row, findings), "text") for row, findings in found.items()))
    broken = [row.title for row, findings in found.items() if any(entry.level == "error" for entry in findings)]
    if broken:
        raise CheckFailed(
            "the graph would not run as it is",
            where=file.name,
            got=f"errors for {', '.join(broken)}",
            fix="edgeir export --for NAME writes the file for one of them.",
        )


def _graph_file(path: Path) -> Path:
    if not path.exists():
        raise UsageError("there is no such file or folder", where=str(path))
    if path.is_dir():
        from edgeir.bundle import Bundle

        return Bundle.open(path).file("model")
    if path.suffix != ".onnx":
        raise UsageError("this can't be linted", where=str(path), expected="an .onnx file or a bundle")
    return path


def _report(file: Path, runtime: Runtime, findings: list[Finding]) -> Report:
    from edgeir.report.value import Report, Table

    errors = sum(finding.level == "error" for finding in findings)
    warnings = len(findings) - errors
    merged: dict[tuple[str, str, str, str], list[str]] = {}
    for finding in findings:
        merged.setdefault((finding.level, finding.rule, finding.message, finding.fix), []).append(finding.node)
    rows = tuple((level, rule, message, _nodes(nodes), fix) for (level, rule, message, fix), nodes in merged.items())
    summary = "Nothing found." if not findings else f"{errors} errors, {warnings} warnings."
    columns = ("level", "rule", "what", "nodes", "what to do")
    tables = (Table("Findings", columns, rows),) if rows else ()
    return Report(title=f"{file.name} for {runtime.title}", summary=summary, tables=tables)


def _nodes(names: list[str]) -> str:
    named = [name for name in names if name]
    more = f" and {len(named) - _LISTED} more" if len(named) > _LISTED else ""
    return ", ".join(named[:_LISTED]) + more
