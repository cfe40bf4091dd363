"""Results say where they come from; a table grows row by row."""

from __future__ import annotations

import json
import time
from pathlib import Path

from benchmarks.result_files import GrowingTable, write_result

KEY = ("model", "size")


def test_a_result_says_where_it_comes_from(tmp_path: Path) -> None:
    out = tmp_path / "r.json"
    write_result(out, {"size": 8}, started=time.perf_counter() - 3)
    document = json.loads(out.read_text())
    assert document["size"] == 8
    assert document["provenance"]["seconds"] >= 3
    assert "versions" in document["provenance"]


def test_a_result_need_not_be_kept(tmp_path: Path) -> None:
    write_result(None, {"size": 8}, started=0.0)
    assert not list(tmp_path.iterdir())


def test_rows_stay_until_they_are_measured_again(tmp_path: Path) -> None:
    out = tmp_path / "t.json"
    first = GrowingTable(out, KEY, {"threads": 2})
    first.put({"model": "a", "size": 1, "ms": 10})
    first.put({"model": "a", "size": 2, "ms": 20})
    second = GrowingTable(out, KEY, {"threads": 2})
    second.put({"model": "a", "size": 1, "ms": 11})
    second.put({"model": "b", "size": 1, "ms": 30})
    document = json.loads(out.read_text())
    assert [(row["model"], row["size"], row["ms"], row["run"]) for row in document["rows"]] == [
        ("a", 1, 11, 1),
        ("a", 2, 20, 0),
        ("b", 1, 30, 1),
    ]
    assert len(document["runs"]) == 2
    assert all("versions" in run for run in document["runs"])


def test_a_run_without_rows_left_is_forgotten(tmp_path: Path) -> None:
    out = tmp_path / "t.json"
    GrowingTable(out, KEY, {}).put({"model": "a", "size": 1})
    GrowingTable(out, KEY, {}).put({"model": "a", "size": 1})
    document = json.loads(out.read_text())
    assert (len(document["runs"]), document["rows"][0]["run"]) == (1, 0)


def test_another_setting_is_not_comparable(tmp_path: Path) -> None:
    out = tmp_path / "t.json"
    GrowingTable(out, KEY, {"threads": 2}).put({"model": "a", "size": 1})
    GrowingTable(out, KEY, {"threads": 4}).put({"model": "a", "size": 2})
    assert [row["size"] for row in json.loads(out.read_text())["rows"]] == [2]
