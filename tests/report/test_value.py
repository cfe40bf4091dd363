"""The value behind every format: what passes, what warns, and what it refuses to hold."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from edgeir.errors import UsageError
from edgeir.report.value import Check, Fact, Report, Table


@pytest.mark.parametrize(
    ("check", "status"),
    [
        (Check("a", 0.3, 0.3), "passed"),
        (Check("a", 0.31, 0.3), "failed"),
        (Check("a", 55, 55, kind="min"), "passed"),
        (Check("a", 54.9, 55, kind="min"), "failed"),
        (Check("a", math.inf, 55, kind="min"), "passed"),
        (Check("a", math.inf, 55), "failed"),
        (Check("a", math.nan, 1), "failed"),
        (Check("a", math.nan, 1, kind="min"), "failed"),
        (Check("a", 1, math.nan), "failed"),
        (Check("a", 0.2, 0.3, warn=0.15), "warned"),
        (Check("a", 0.1, 0.3, warn=0.15), "passed"),
        (Check("a", 0.97, 0.9, kind="min", warn=0.98), "warned"),
    ],
)
def test_status(check: Check, status: str) -> None:
    assert check.status == status
    assert check.passed == (status != "failed")


def test_verdict() -> None:
    good, bad, warned = Check("a", 0, 1), Check("b", 2, 1), Check("c", 0.9, 1, warn=0.5)
    for checks, verdict in (
        ((), ""),
        ((good,), "passed 1 check"),
        ((good, warned), "passed 2 checks, 1 warning"),
        ((good, bad, warned, warned), "FAILED 1 of 4 checks, 2 warnings"),
    ):
        report = Report("t", "s", checks=checks)
        assert report.verdict == verdict
        assert report.passed == (bad not in checks)


def test_numpy_numbers_become_plain_ones() -> None:
    table = Table("t", ("a", "b", "c"), ((np.float32(0.5), np.int64(3), np.bool_(True)),))  # type: ignore[arg-type]
    assert [type(value) for value in table.rows[0]] == [float, int, bool]
    assert type(Fact("a", np.float32(1)).value) is float  # type: ignore[arg-type]
    assert type(Check("a", np.float32(1), 2).value) is float  # type: ignore[arg-type]


def test_refusals() -> None:
    with pytest.raises(
        UsageError, match=r"row 2 of the table 't' does not fit its columns \(expected 1 cells, got 2\)"
    ):
        Table("t", ("a",), ((1,), (1, 2)))
    with pytest.raises(UsageError, match="unknown kind"):
        Check("a", 1, 2, kind="maximum")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"texts and numbers \(got list\)"):
        Fact("a", [1])  # type: ignore[arg-type]


def test_it_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Report("t", "s").title = "x"  # type: ignore[misc]
