"""The ledger: one row per line, and a kill costs the last one at most."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgeir.errors import UsageError
from edgeir.sweep.ledger import LEDGER_NAME, PICTURES, Ledger, copy_pictures, latest, read_rows, write_merged
from edgeir.sweep.outcome import Outcome
from edgeir.sweep.trial import Machine

Make = Callable[..., Any]


def test_rows_come_back(tmp_path: Path, trial: Make, row: Make) -> None:
    rows = [row(trial()), row(trial("two", k=3, targets=("rtx",)), status="crashed")]
    with Ledger(tmp_path / "new" / "sweep") as ledger:
        for one in rows:
            ledger.append(one)
        assert ledger.rows == rows
    with Ledger(tmp_path / "new" / "sweep") as ledger:
        assert (ledger.rows, ledger.cut_bytes) == (rows, 0)
    assert read_rows(tmp_path / "new" / "sweep") == rows


def test_no_path_is_written(tmp_path: Path, trial: Make, row: Make) -> None:
    places = {"plan": "/a/plan.yaml", "calibration": "/a/pictures", "bundle": "/a/b.edgeir", "checkpoint": "/a/c.pth"}
    line = row(trial(plan_sha256="1" * 64, **places)).to_line()
    assert "/a/" not in line
    assert "1" * 64 in line


def test_numbers_that_json_does_not_know_are_nothing(trial: Make, row: Make) -> None:
    line = row(trial(), figures={"a": float("nan"), "b": [float("inf"), 1.0]}).to_line()
    assert Outcome.from_line(line, where="x").figures == {"a": None, "b": [None, 1.0]}


@pytest.mark.parametrize("cut", [1, 40, -1])
def test_a_half_written_last_line_is_cut_off(tmp_path: Path, trial: Make, row: Make, cut: int) -> None:
    first, second = row(trial()), row(trial("two"))
    with Ledger(tmp_path) as ledger:
        ledger.append(first)
    path = tmp_path / LEDGER_NAME
    whole = path.read_bytes()
    half = second.to_line().encode()[:cut]
    path.write_bytes(whole + half)
    assert read_rows(tmp_path) == [first]
    with Ledger(tmp_path) as ledger:
        assert (ledger.rows, ledger.cut_bytes) == ([first], len(half))
        ledger.append(second)
    assert path.read_bytes() == whole + second.to_line().encode()


def test_another_sweep_holds_it(tmp_path: Path) -> None:
    with Ledger(tmp_path), pytest.raises(UsageError, match=r"another sweep is writing there.*--out"):
        Ledger(tmp_path)
    Ledger(tmp_path).__exit__(None, None, None)


def test_a_line_that_is_no_row(tmp_path: Path, trial: Make, row: Make) -> None:
    (tmp_path / LEDGER_NAME).write_text(row(trial()).to_line() + '{"row_version": 1}\n')
    with pytest.raises(UsageError, match=r"trials.jsonl:2: this is not a row of a sweep"):
        Ledger(tmp_path)
    (tmp_path / LEDGER_NAME).write_text(row(trial()).to_line().replace('"row_version":1', '"row_version":9'))
    with pytest.raises(UsageError, match=r"trials.jsonl:1: the row comes from a newer edgeir \(got 9\). Update edgeir"):
        read_rows(tmp_path)
    (tmp_path / LEDGER_NAME).write_text(row(trial()).to_line().replace('"status":"ok"', '"status":"fine"'))
    with pytest.raises(UsageError, match="unknown status 'fine'"):
        read_rows(tmp_path)


def test_no_ledger(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="this is not the folder of a sweep"):
        read_rows(tmp_path)


def test_the_last_good_row_of_a_key_counts(trial: Make, row: Make) -> None:
    one = row(trial())
    bad, good = replace(one, status="crashed"), replace(one, seconds=9.0)
    assert latest([one, bad])[one.key] == one
    assert latest([bad, one, good])[one.key] == good
    assert latest([replace(bad, seconds=1.0), bad])[one.key] == bad


def test_ledgers_of_two_machines_are_joined(tmp_path: Path, trial: Make, row: Make, machine: Machine) -> None:
    board = Machine({**machine.device, "processor": "a board"}, machine.versions)
    here = [row(trial()), row(trial("two"), status="failed")]
    there = [row(trial(), machine=board), row(trial("two"), seconds=1.0)]
    for folder, rows in (("a", here), ("b", there)):
        with Ledger(tmp_path / folder) as ledger:
            for one in rows:
                ledger.append(one)
        (tmp_path / folder / PICTURES / folder).mkdir(parents=True)
        (tmp_path / folder / PICTURES / folder / "input.png").write_bytes(folder.encode())
    folders = [tmp_path / "a", tmp_path / "b"]
    rows = write_merged(folders, tmp_path / "c")
    assert read_rows(tmp_path / "c") == rows
    assert rows == [here[0], there[1], there[0]], "a key measured well replaces the same key that failed"
    assert {one.machine.label for one in rows} == {machine.label, board.label}
    copy_pictures(folders, tmp_path / "c")
    assert sorted(path.read_bytes() for path in (tmp_path / "c" / PICTURES).rglob("*.png")) == [b"a", b"b"]
    with pytest.raises(UsageError, match="there is a sweep already"):
        write_merged(folders, tmp_path / "c")
