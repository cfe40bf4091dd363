"""A report comes back from a folder or a file, or one sentence says why not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgeir.errors import UsageError
from edgeir.report.formats import emit
from edgeir.report.reading import read_report
from edgeir.report.value import Report


def test_a_folder_and_a_file(report: Report, tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    file.write_text(emit(report, "json"), encoding="utf-8")
    for path in (tmp_path, file):
        assert emit(read_report(path), "json") == emit(report, "json")


def test_refusals(tmp_path: Path) -> None:
    def refused(path: Path) -> str:
        with pytest.raises(UsageError) as caught:
            read_report(path)
        return str(caught.value).replace(str(tmp_path), "T")

    assert refused(tmp_path / "none") == "T/none: there is no such file or folder."
    assert refused(tmp_path).startswith("T: there is no report.json in this folder. Name a bundle, ")
    file = tmp_path / "report.json"
    for content in (b"", b"{}", b"\xff\xfe", b"PNG\x89"):
        file.write_bytes(content)
        assert refused(file).startswith("T/report.json: this is not a report of edgeir")
        assert refused(tmp_path) == refused(file)
    file.write_text('{"schema_version": 99}', encoding="utf-8")
    assert refused(file) == "T/report.json: the report comes from a newer edgeir (got 99). Update edgeir."


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "report.json")
    with pytest.raises(UsageError, match="this is no ordinary file"):
        read_report(tmp_path / "report.json")
