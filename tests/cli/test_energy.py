"""Joules per picture with a meter of our own: idle is taken off, and what cannot be measured says why."""

from __future__ import annotations

import time
from dataclasses import dataclass

import pytest

from edgeir.cli.energy import energy_table, measure_energy, meters_for
from edgeir.errors import MissingDependency
from edgeir.runtime.power import MeterSearch
from edgeir.runtime.power_nvml import NvmlMeter


@dataclass
class Meter:
    """Takes 5 W, and 15 W while something works."""

    name: str = "a meter"
    period_s: float = 0.0
    working: bool = False
    closed: bool = False
    dead: bool = False

    def read_watts(self) -> dict[str, float]:
        if self.dead:
            raise MissingDependency("the meter does not answer", where=self.name)
        return {"total": 15.0 if self.working else 5.0}

    def read_joules(self) -> None:
        return None

    def close(self) -> None:
        self.closed = True


def test_energy_above_idle() -> None:
    meter = Meter()
    runs = 0

    def run() -> None:
        nonlocal runs
        meter.working = True
        time.sleep(0.05)
        runs += 1

    found = measure_energy(run, [meter], (), batch=2, idle_s=0.4, busy_s=0.5)
    picture = found.picture
    assert picture is not None
    assert picture.pictures == 2 * runs
    assert picture.idle_watts == pytest.approx(5)
    # The first reading is taken before the first run begins: at most one of ten shows the idle power.
    assert picture.watts == pytest.approx(15, rel=0.1)
    assert picture.joules_above_idle == pytest.approx(picture.joules - 5 * picture.seconds / picture.pictures)
    assert meter.closed
    (row,) = energy_table(picture, "ort").rows
    assert row[:3] == ("ort", picture.joules, picture.joules_above_idle)


def test_a_machine_that_was_not_idle_before() -> None:
    meter = Meter(working=True)

    def run() -> None:
        meter.working = False
        time.sleep(0.05)

    found = measure_energy(run, [meter], (), batch=1, idle_s=0.4, busy_s=0.5)
    assert found.picture is None
    assert "15.0 W before the work" in str(found.reason)


def test_no_meter() -> None:
    found = measure_energy(lambda: None, (), ("RAPL is there, only root may read it.",), batch=1)
    assert found.picture is None
    assert found.reason == "Power was not measured, no meter answers: RAPL is there, only root may read it."
    assert "has none" in str(measure_energy(lambda: None, (), (), batch=1).reason)


def test_a_meter_that_dies() -> None:
    found = measure_energy(lambda: None, [Meter(dead=True)], (), batch=1, idle_s=0.05, busy_s=0.05)
    assert found.picture is None
    assert "does not answer" in str(found.reason)


def test_a_graphics_card_is_asked_about_its_own_work_only() -> None:
    card, board = NvmlMeter.__new__(NvmlMeter), Meter()
    search = MeterSearch((card, board), ())
    assert meters_for("ort", search) == (board,)
    assert meters_for("rtx", search) == (card, board)
