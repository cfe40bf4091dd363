"""Fixtures of the report tests."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from edgeir.report.value import Report

HERE = Path(__file__).parent


def _example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("edgeir_report_example", HERE / "example.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def report() -> Report:
    """The report with everything in it."""
    made: Report = _example().REPORT
    return made


@pytest.fixture(scope="session")
def quiet() -> Report:
    """The report with nothing in it."""
    made: Report = _example().QUIET
    return made


@pytest.fixture
def same_as_snapshot() -> Callable[[str, str], None]:
    """Compare a text with ``snapshots/NAME``; with ``EDGEIR_SNAPSHOTS=write`` it is written instead."""

    def compare(text: str, name: str) -> None:
        path = HERE / "snapshots" / name
        if os.environ.get("EDGEIR_SNAPSHOTS") == "write":
            path.write_text(text, encoding="utf-8")
        assert text == path.read_text(encoding="utf-8"), f"{name} changed; EDGEIR_SNAPSHOTS=write accepts it"

    return compare
