"""``edgeir report``: every format of a bundle's report, on stdout or in a file; what is none is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest


def test_a_bundles_report_again(cli: Any, made_static: Path, tmp_path: Path) -> None:
    text = cli("report", made_static).done().out
    assert text.startswith("edgeir export: exda-custom fp16")
    for name, beginning in {
        "a.html": "<!DOCTYPE html>",
        "a.json": "{",
        "a.md": "# edgeir export",
        "a.xml": "<?xml",
        "a.txt": "edgeir export",
    }.items():
        outcome = cli("report", made_static, "-o", tmp_path / name).done()
        assert outcome.out == ""
        assert (tmp_path / name).read_text(encoding="utf-8").startswith(beginning)
    assert json.loads((tmp_path / "a.json").read_text()) == json.loads((made_static / "report.json").read_text())
    assert cli("report", tmp_path / "a.json").done().out == text


REFUSED = {
    "no such folder": (("gone",), ("gone", "no such file or folder")),
    "no report": (("empty",), ("empty", "no report.json in this folder")),
    "not a report": (("other.json",), ("other.json", "not a report of edgeir")),
    "a newer one": (("newer.json",), ("newer.json", "newer edgeir", "Update edgeir")),
    "unknown suffix": (("empty", "-o", "a.pdf"), ("a.pdf", "--format")),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("other.json").write_text("[]", encoding="utf-8")
    Path("newer.json").write_text('{"schema_version": 999}', encoding="utf-8")
    arguments, words = REFUSED[case]
    outcome = cli("report", *arguments)
    outcome.sentence(2, *words)
    assert outcome.out == ""
    assert not Path("a.pdf").exists()


def test_an_unknown_format(cli: Any, made_static: Path) -> None:
    cli("report", made_static, "--format", "htlm").sentence(2, "'htlm'", "Did you mean 'html'?")
