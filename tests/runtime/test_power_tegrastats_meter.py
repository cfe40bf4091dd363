"""tegrastats as a child process, played by a shell script that prints the lines of a sample."""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edgeir.errors import MissingDependency
from edgeir.runtime.power_tegrastats_meter import TegrastatsMeter, find_tegrastats

SAMPLE = Path(__file__).parent / "samples" / "tegrastats-orin-nano-jetpack6.txt"
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the child is played by a shell script")

# exec: the process that is told to end is the one that would go on.
ENDLESS = "while :; do cat LINE; sleep 0.02; done"


@pytest.fixture
def program(tmp_path: Path) -> Callable[[str], Path]:
    line = tmp_path / "line"
    line.write_text(SAMPLE.read_text(encoding="utf-8").splitlines()[1] + "\n", encoding="utf-8")

    def write(body: str) -> Path:
        path = tmp_path / "usr" / "bin" / "tegrastats"
        path.parent.mkdir(parents=True, exist_ok=True)
        script = f"#!/bin/sh\necho $$ $* >> {tmp_path}/started\n{body.replace('LINE', str(line))}\n"
        path.write_text(script, encoding="utf-8")
        path.chmod(0o755)
        return path

    return write


def started(folder: Path) -> list[list[str]]:
    return [line.split() for line in (folder / "started").read_text(encoding="utf-8").splitlines()]


def runs(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    return True


def test_it_runs_while_it_is_read_and_ends_when_closed(program: Callable[[str], Path], tmp_path: Path) -> None:
    meter = TegrastatsMeter(program(ENDLESS), interval_ms=20)
    assert not (tmp_path / "started").exists()
    for _ in range(3):
        assert meter.read_watts() == {"VDD_IN": 5.251, "VDD_CPU_GPU_CV": 0.512, "VDD_SOC": 2.720, "total": 5.251}
    assert meter.read_joules() is None
    assert meter.period_s == 0.02
    ((pid, *arguments),) = started(tmp_path)
    assert arguments == ["--interval", "20"]
    assert runs(pid)
    meter.close()
    assert not runs(pid)
    meter.close()  # once more is no error
    assert meter.read().ram_total_mb == 7620  # nor is reading again
    meter.close()
    assert len(started(tmp_path)) == 2
    assert not any(runs(child[0]) for child in started(tmp_path))


def test_a_forgotten_meter_takes_its_child_along(program: Callable[[str], Path], tmp_path: Path) -> None:
    meter = TegrastatsMeter(program(ENDLESS), interval_ms=20)
    meter.read()
    ((pid, *_),) = started(tmp_path)
    del meter
    for _ in range(200):  # the listening thread may hold it for a line
        gc.collect()
        if not runs(pid):
            return
        time.sleep(0.02)
    pytest.fail("the child still runs")


def test_a_child_that_will_not_end_is_killed(
    program: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgeir.runtime.power_tegrastats_meter._STOPS_WITHIN_S", 0.2)
    meter = TegrastatsMeter(program(f"trap '' TERM\n{ENDLESS}"), interval_ms=20)
    meter.read()
    meter.close()
    assert not runs(started(tmp_path)[0][0])


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("echo 'tegrastats: permission denied' >&2; exit 1", "got tegrastats: permission denied"),
        ("cat LINE; exit 0", None),
        ("exit 0", "got nothing"),
    ],
)
def test_a_child_that_ends_is_an_error_in_its_own_words(
    program: Callable[[str], Path], body: str, says: str | None
) -> None:
    meter = TegrastatsMeter(program(body), interval_ms=20)
    with pytest.raises(MissingDependency, match=says):  # at the latest when the first line is stale
        meter.read()
        time.sleep(0.1)
        meter.read()
        time.sleep(0.1)
        meter.read()
        pytest.fail("a child that has ended goes on giving values")


def test_silence_is_an_error(program: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeir.runtime.power_tegrastats_meter._STARTS_WITHIN_S", 0.2)
    with pytest.raises(MissingDependency, match="tegrastats gives no values"):
        TegrastatsMeter(program("exec sleep 60"), interval_ms=20).read()


def test_no_program_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MissingDependency, match="cannot be run"):
        TegrastatsMeter(tmp_path / "tegrastats").read()


def test_finding_it(program: Callable[[str], Path], tmp_path: Path) -> None:
    assert find_tegrastats(tmp_path) == ((), ())
    program(ENDLESS)
    (meter,), reasons = find_tegrastats(tmp_path)
    assert meter.name == "tegrastats (total: VDD_IN)"
    assert reasons == ()
    assert not any(runs(child[0]) for child in started(tmp_path))  # found, and not left running
    program("echo 'RAM 1/2MB CPU [0%@102]'; exec sleep 60")
    assert find_tegrastats(tmp_path) == ((), ("tegrastats: prints no power rails",))
    program("echo no")
    assert find_tegrastats(tmp_path) == ((), ("tegrastats: tegrastats gives no values (no)",))
