"""A report as one JSON value, and back: the full numbers, for programs."""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Mapping
from typing import Any

from edgeir.errors import UsageError
from edgeir.report.value import REPORT_VERSION, Cell, Check, Fact, Report, Table

_NAMED = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}


def to_json(report: Report) -> str:
    """Indented JSON with a final newline.

    Numbers that JSON does not know become ``{"number": "inf"}`` in facts and tables, where a text may stand as well,
    and the string ``"inf"``, ``"-inf"`` or ``"nan"`` in checks and provenance.
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
        "pictures": {name: base64.b64encode(png).decode("ascii") for name, png in report.pictures.items()},
        "provenance": _plain(report.provenance),
        "notes": list(report.notes),
    }
    return json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def report_from_json(text: str, *, where: str = "report") -> Report:
    """Inverse of `to_json`; ``passed`` and ``verdict`` are computed, not believed.

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
            title=data["title"],
            summary=data["summary"],
            facts=tuple(Fact(fact["label"], _uncell(fact["value"])) for fact in data["facts"]),
            checks=tuple(_uncheck(check) for check in data["checks"]),
            tables=tuple(
                Table(
                    table["title"],
                    tuple(table["columns"]),
                    tuple(tuple(_uncell(value) for value in row) for row in table["rows"]),
                    table["note"],
                    bool(table.get("heat", False)),
                )
                for table in data["tables"]
            ),
            pictures={name: base64.b64decode(png, validate=True) for name, png in data["pictures"].items()},
            provenance=data["provenance"],
            notes=tuple(data["notes"]),
            schema_version=version,
        )
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError, binascii.Error) as error:
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
        name=data["name"],
        value=_number(data["value"]),
        limit=_number(data["limit"]),
        unit=data["unit"],
        kind=data["kind"],
        advice=data["advice"],
        warn=None if warn is None else _number(warn),
    )


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
