"""Tables as RFC 4180 has them, and nothing that a spreadsheet would run."""

from __future__ import annotations

import csv
import io
import math

import pytest

from edgeir.report.csv_format import to_csv
from edgeir.report.value import Report, Table


def test_every_cell_comes_back(report: Report) -> None:
    text = to_csv(report)
    assert text.count("\r\n") == text.count("\n")
    records = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    tables = iter(report.tables)
    for number, record in enumerate(records):
        if record and record[0].startswith("# "):
            table = next(tables)
            assert record == [f"# {table.title}"]
            assert records[number + 1] == list(table.columns)
            for row, read in zip(table.rows, records[number + 2 :], strict=False):
                assert len(read) == len(row)
                for cell, field in zip(row, read, strict=True):
                    if isinstance(cell, float):
                        assert field == repr(cell)
                        assert float(field) == cell or math.isnan(cell)
                    else:
                        words = {"None": "", "True": "true", "False": "false"}
                        assert field == words.get(str(cell), str(cell))
            assert records[number + 2 + len(table.rows) : number + 3 + len(table.rows)] in ([], [[]])
    assert next(tables, None) is None


def test_without_tables(quiet: Report) -> None:
    assert to_csv(quiet) == "# nothing to check: no tables\r\n"


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠"])
def test_no_text_is_a_formula(start: str) -> None:
    text = f'{start}HYPERLINK("x", 1)'
    table = Table("=1+1\r\n=2", (text, "n"), ((text, -1.5), ("a-b", -2)))
    records = list(csv.reader(io.StringIO(to_csv(Report("t", "s", tables=(table,))), newline="")))
    assert records == [["# =1+1 =2"], [f"'{text}", "n"], [f"'{text}", "-1.5"], ["a-b", "-2"]]
