"""Fixtures of the report tests."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from edgeir.report.value import Report

HERE = Path(__file__).parent


def _module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"edgeir_report_{name}", HERE / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def report() -> Report:
    """The report with everything in it."""
    made: Report = _module("example").REPORT
    return made


@pytest.fixture(scope="session")
def quiet() -> Report:
    """The report with nothing in it."""
    made: Report = _module("example").QUIET
    return made


@pytest.fixture(scope="session")
def plain(report: Report) -> Report:
    """The report without what needs a script."""
    return dataclasses.replace(report, charts=(), comparisons=())


@pytest.fixture
def placeholder(monkeypatch: pytest.MonkeyPatch) -> str:
    """Five megabytes of Plotly become one line, so that a page can be read and compared."""
    line = "/* Plotly stands here */"
    monkeypatch.setattr("edgeir.report.html.plotly_library", lambda: line)
    return line


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A page of a headless browser without a network, or a skip that says how to get one."""
    driver = _module("browser")
    if reason := driver.why_not():
        pytest.skip(reason)
    with driver.browser(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


@pytest.fixture
def same_as_snapshot() -> Callable[[str, str], None]:
    """Compare a text with ``snapshots/NAME``; with ``EDGEIR_SNAPSHOTS=write`` it is written instead."""

    def compare(text: str, name: str) -> None:
        path = HERE / "snapshots" / name
        if os.environ.get("EDGEIR_SNAPSHOTS") == "write":
            path.write_bytes(text.encode("utf-8"))
        assert text == path.read_bytes().decode("utf-8"), f"{name} changed; EDGEIR_SNAPSHOTS=write accepts it"

    return compare
