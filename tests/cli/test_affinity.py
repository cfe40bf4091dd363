"""Lists of processors, and staying on them."""

from __future__ import annotations

import os

import pytest

from edgeir.cli.affinity import parse_cpus, stay_on
from edgeir.errors import MissingDependency, UsageError


def test_lists() -> None:
    assert parse_cpus("0,2-3") == {0, 2, 3}
    assert parse_cpus(" 7 ") == {7}


@pytest.mark.parametrize("text", ["", "a", "3-1", "0,,1", "-1", "1-"])
def test_no_lists(text: str) -> None:
    with pytest.raises(UsageError, match="--cpus: not a list of processors"):
        parse_cpus(text)


def test_a_system_that_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_setaffinity", raising=False)
    with pytest.raises(MissingDependency, match="cannot keep a process on processors"):
        stay_on("0")
