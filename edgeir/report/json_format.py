"""A report as one JSON value, and back: the full numbers, for programs."""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Mapping
from typing import Any, cast

from edgeir.errors import UsageError
from edgeir.report.chart import Chart, ChartKind
from edgeir.report.comparison import Comparison
from edgeir.report.value import REPORT_VERSION, Cell, Check, Fact, Report, Table

_NAMED = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}


def to_json(report: Report) -> str:
    """Indented JSON with a final newline.

    Numbers that JSON does not know become ``{"number": "inf"}`` in facts and tables, where a text may stand as well,
    and the string ``"inf"``, ``"-inf"`` or ``"nan"`` in checks and provenance. A chart of kind ``"pareto"`` names the
    rows of its table that are on the front, counted from 0.
    """
    data = {
        "schema_version": report.schema_version,
        "title": report.title,
        "passed": report.passed,
        "verdict": report.verdict,
        "summary": report.summary,
        "facts": [{"label": fact.label, "value": _cell(fact.value)} for fact in report.facts],
        "checks": [_check(check) for check in report.checks],
        "tables": [
            {
                "title": table.title,
                "columns": list(table.columns),
                "rows": [[_cell(value) for value in row] for row in table.rows],
                "note": table.note,
                **({"heat": True} if table.heat else {}),
            }
            for table in report.tables
        ],
        "charts": [_chart(chart, report) for chart in report.charts],
        "comparisons": [
            {"caption": comparison.caption, "layers": _encoded(comparison.layers)} for comparison in report.comparisons
        ],
        "pictures": _encoded(report.pictures),
        "provenance": _plain(report.provenance),
        "notes": list(report.notes),
    }
    return json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def report_from_json(text: str, *, where: str = "report") -> Report:
    """Inverse of `to_json`; ``passed``, ``verdict`` and ``front`` are computed, not believed.

    A report of an older version becomes one of this version.

    Raises:
        UsageError: not a report, or one of a newer edgeir; ``where`` names the file.
    """
    try:
        data = json.loads(text)
        if (version := int(data["schema_version"])) > REPORT_VERSION:
            raise UsageError(
                "the report comes from a newer edgeir", where=where, got=str(version), fix="Update edgeir."
            )
        return Report(
            title=_text(data["title"]),
            summary=_text(data["summary"]),
            facts=tuple(Fact(_text(fact["label"]), _uncell(fact["value"])) for fact in data["facts"]),
            checks=tuple(_uncheck(check) for check in data["checks"]),
            tables=tuple(
                Table(
                    _text(table["title"]),
                    tuple(_text(column) for column in table["columns"]),
                    tuple(tuple(_uncell(value) for value in row) for row in table["rows"]),
                    _text(table["note"]),
                    bool(table.get("heat", False)),
                )
                for table in data["tables"]
            ),
            pictures=_decoded(data["pictures"]),
            provenance=dict(data["provenance"]),
            notes=tuple(_text(note) for note in data["notes"]),
            charts=tuple(_unchart(chart) for chart in data.get("charts", ())),
            comparisons=tuple(
                Comparison(_text(comparison["caption"]), _decoded(comparison["layers"]))
                for comparison in data.get("comparisons", ())
            ),
        )
    except UsageError as error:
        if error.where == where:
            raise
        inside = f"{error.where}: {error.what}" if error.where else error.what
        raise UsageError(inside, where=where, expected=error.expected, got=error.got, fix=error.fix) from error
    except (AttributeError, LookupError, TypeError, ValueError, OverflowError, RecursionError, binascii.Error) as error:
        raise UsageError(
            "this is not a report of edgeir", where=where, got=f"{type(error).__name__}: {error}"
        ) from error


def _check(check: Check) -> dict[str, Any]:
    return {
        "name": check.name,
        "value": _plain(check.value),
        "limit": _plain(check.limit),
        "unit": check.unit,
        "kind": check.kind,
        "warn": _plain(check.warn),
        "passed": check.passed,
        "status": check.status,
        "advice": check.advice,
    }


def _uncheck(data: Mapping[str, Any]) -> Check:
    warn = data["warn"]
    return Check(
        name=_text(data["name"]),
        value=_number(data["value"]),
        limit=_number(data["limit"]),
        unit=_text(data["unit"]),
        kind=data["kind"],
        advice=_text(data["advice"]),
        warn=None if warn is None else _number(warn),
    )


def _chart(chart: Chart, report: Report) -> dict[str, Any]:
    return {
        "title": chart.title,
        "kind": chart.kind,
        "table": chart.table,
        "x": chart.x,
        "y": list(chart.y),
        "group": chart.group,
        "label": chart.label,
        "log_x": chart.log_x,
        "note": chart.note,
        **({"front": list(chart.front(chart.find(report.tables)))} if chart.kind == "pareto" else {}),
    }


def _unchart(data: Mapping[str, Any]) -> Chart:
    return Chart(
        title=_text(data["title"]),
        kind=cast(ChartKind, _text(data["kind"])),
        table=_text(data["table"]),
        x=_text(data["x"]),
        y=tuple(_text(name) for name in data["y"]),
        group=None if data["group"] is None else _text(data["group"]),
        label=None if data["label"] is None else _text(data["label"]),
        log_x=bool(data["log_x"]),
        note=_text(data["note"]),
    )


def _encoded(pictures: Mapping[str, bytes]) -> dict[str, str]:
    return {name: base64.b64encode(png).decode("ascii") for name, png in pictures.items()}


def _decoded(pictures: Mapping[str, str]) -> dict[str, bytes]:
    return {name: base64.b64decode(png, validate=True) for name, png in pictures.items()}


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a text was expected, not {type(value).__name__}")
    return value


def _number(value: float | str) -> float:
    return _NAMED[value] if isinstance(value, str) else value


def _cell(value: Cell) -> Any:
    return {"number": _plain(value)} if isinstance(value, float) and not math.isfinite(value) else value


def _uncell(value: Any) -> Cell:
    if isinstance(value, dict):
        return _NAMED[value["number"]]
    if value is None or isinstance(value, (str, int, float)):
        return value
    raise TypeError(f"a cell is a text or a number, not {type(value).__name__}")


def _plain(value: Any) -> Any:
    """``value`` with every number that JSON does not know as its name."""
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    return value
