"""Lists of processors, and staying on them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

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


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot keep a process on processors")
def test_every_thread_of_a_bench_stays(cli: Any, made_static: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Left to itself, ONNX Runtime puts its own threads elsewhere: the number of threads follows the processors."""
    from edgeir.runtime import ort_session

    seen: list[set[int]] = []
    run = ort_session.OrtSession.run

    def watched(self: Any, pictures: Any) -> Any:
        seen.extend(os.sched_getaffinity(int(task.name)) for task in Path("/proc/self/task").iterdir())
        return run(self, pictures)

    monkeypatch.setattr(ort_session.OrtSession, "run", watched)
    allowed = os.sched_getaffinity(0)
    one = min(allowed)
    before = {task.name for task in Path("/proc/self/task").iterdir()}
    options = ("--against", "none", "--rounds", 1, "--warmup", 1, "--no-memory", "--no-power", "--cpus", one, "--json")
    try:
        value = json.loads(cli("bench", made_static, *options).done().out)
        assert os.sched_getaffinity(0) == {one}
    finally:
        os.sched_setaffinity(0, allowed)
    assert {fact["label"]: fact["value"] for fact in value["facts"]}["threads"] == 1
    assert seen
    if len(before) == 1:  # threads of earlier tests in this process are where they were
        assert all(where == {one} for where in seen)


def test_a_system_that_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_setaffinity", raising=False)
    with pytest.raises(MissingDependency, match="cannot keep a process on processors"):
        stay_on("0")
