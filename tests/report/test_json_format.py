"""JSON holds the whole report and gives it back; what it claims to have computed is not believed."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from typing import Any

import pytest

from edgeir.errors import UsageError
from edgeir.report.formats import emit
from edgeir.report.json_format import report_from_json
from edgeir.report.value import REPORT_VERSION, Fact, Report, Table


def test_json_round_trip(report: Report, quiet: Report) -> None:
    assert report_from_json(emit(quiet, "json")) == quiet
    again = report_from_json(emit(report, "json"))
    assert emit(again, "json") == emit(report, "json")
    assert again.checks[2].value == math.inf
    assert math.isnan(again.checks[3].value)
    assert again.tables[0].rows[1][1] == math.inf
    assert again.pictures == report.pictures
    assert again.charts == report.charts
    assert again.comparisons == report.comparisons
    worded = Report("t", "s", facts=(Fact("name", "inf"), Fact("value", -math.inf)))
    assert report_from_json(emit(worded, "json")) == worded
    hot = Report("t", "s", tables=(Table("t", ("a",), ((1,),), heat=True),))
    assert report_from_json(emit(hot, "json")) == hot


def test_json_is_strict_and_not_believed(report: Report) -> None:
    def refuse(name: str) -> float:
        raise AssertionError(name)

    data = json.loads(emit(report, "json"), parse_constant=refuse)
    assert data["charts"][0]["front"] == [5, 1, 4, 3]
    assert "front" not in data["charts"][1]
    data["passed"] = True
    data["charts"][0]["front"] = [0]
    again = report_from_json(json.dumps(data))
    assert not again.passed
    assert json.loads(emit(again, "json"))["charts"][0]["front"] == [5, 1, 4, 3]


def test_version_1_has_no_charts(plain: Report) -> None:
    data = json.loads(emit(plain, "json"))
    del data["charts"], data["comparisons"]
    data["schema_version"] = 1
    again = report_from_json(json.dumps(data))
    assert again.charts == again.comparisons == ()
    assert again.schema_version == REPORT_VERSION == 2
    assert emit(again, "json") == emit(plain, "json")


@pytest.mark.parametrize("text", ["", "[]", "{}", "5", '{"schema_version": 1}', "[" * 100_000])
def test_not_a_report(text: str) -> None:
    with pytest.raises(UsageError, match=r"r\.json: this is not a report"):
        report_from_json(text, where="r.json")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("title",), 5),
        (("notes", 0), None),
        (("tables", 0, "columns", 0), 1),
        (("tables", 1, "rows", 0, 0), [1]),
        (("charts", 0, "x"), None),
        (("charts", 0, "kind"), ["pareto"]),
        (("comparisons", 0, "layers"), ["a", "b"]),
        (("comparisons", 0, "layers", "input"), "no base64"),
        (("pictures",), None),
        (("provenance",), 3),
        (("checks", 0, "value"), "many"),
    ],
)
def test_a_wrong_part(report: Report, path: tuple[Any, ...], value: Any) -> None:
    data = json.loads(emit(report, "json"))
    part = data
    for step in path[:-1]:
        part = part[step]
    part[path[-1]] = value
    with pytest.raises(UsageError, match=r"^r\.json: this is not a report of edgeir"):
        report_from_json(json.dumps(data), where="r.json")


def test_a_part_that_does_not_fit_the_others(report: Report) -> None:
    data = json.loads(emit(report, "json"))
    data["charts"][0]["table"] = "Sweeep"
    expected = "r.json: the chart 'Which are worth having': there is no table 'Sweeep'. Did you mean 'Sweep'?"
    with pytest.raises(UsageError, match=f"^{re.escape(expected)}$"):
        report_from_json(json.dumps(data), where="r.json")


def test_a_newer_report(quiet: Report) -> None:
    newer = emit(dataclasses.replace(quiet, schema_version=REPORT_VERSION + 1), "json")
    with pytest.raises(
        UsageError, match=r"^r\.json: the report comes from a newer edgeir \(got 3\)\. Update edgeir\.$"
    ):
        report_from_json(newer, where="r.json")
