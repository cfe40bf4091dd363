"""Recording with meters of our own: a thread reads while the block runs, and the block never pays for a dead meter."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from edgeir.errors import MissingDependency
from edgeir.runtime import power_energy
from edgeir.runtime.power import search_meters
from edgeir.runtime.power_pictures import energy_per_picture
from edgeir.runtime.power_recorder import EnergyRecorder, idle_watts


class Meter:
    """Constant power, or a counter that grows with the clock; dies after ``lives`` readings."""

    name = "a meter"

    def __init__(
        self, watts: float = 8.0, *, counts: bool = False, period_s: float = 0.0, lives: float = float("inf")
    ) -> None:
        self.watts = watts
        self.counts = counts
        self.period_s = period_s
        self.lives = lives
        self.threads: list[str] = []
        self.counted: list[float] = []

    def _live(self) -> None:
        if self.lives <= 0:
            raise MissingDependency("the meter was pulled out", where=self.name)
        self.lives -= 1
        self.threads.append(threading.current_thread().name)

    def read_watts(self) -> dict[str, float]:
        self._live()
        assert not self.counts, "a counter is taken before samples"
        return {"gpu": self.watts / 2, "total": self.watts}

    def read_joules(self) -> float | None:
        if not self.counts:
            return None
        self._live()
        self.counted.append(self.watts * time.perf_counter())
        return self.counted[-1]

    def close(self) -> None:
        pass


def wait_for(meter: Meter, readings: int) -> None:
    """Until the meter was read so many times; a loaded machine takes its time for them."""
    deadline = time.monotonic() + 60
    while len(meter.threads) < readings and time.monotonic() < deadline:
        time.sleep(0.001)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No gap between readings is too long: on a machine full of other work there may be any."""
    monkeypatch.setattr(power_energy, "LONGEST_GAP", 1.0)


@pytest.mark.usefixtures("patient")
def test_samples() -> None:
    meter = Meter()
    started = time.perf_counter()
    with EnergyRecorder(meter, interval_s=0.002) as recorder:
        wait_for(meter, 20)
    seconds = time.perf_counter() - started
    energy = recorder.energy
    assert energy.joules is not None, energy.reason
    assert energy.method == "samples"
    assert 19 * 0.002 < energy.seconds < seconds
    assert energy.watts == pytest.approx(8)
    assert energy.rail_watts["gpu"] == pytest.approx(4)
    assert energy.to_dict()["watts"] == pytest.approx(8)
    assert meter.threads[0] == meter.threads[-1] == threading.main_thread().name
    assert "energy" in meter.threads
    assert "energy" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.usefixtures("patient")
def test_a_counter() -> None:
    meter = Meter(counts=True)
    with EnergyRecorder(meter, interval_s=0.002) as recorder:
        wait_for(meter, 20)
    energy = recorder.energy
    assert energy.method == "counter"
    # The first value of all only asked whether there is a counter.
    assert energy.joules == pytest.approx(meter.counted[-1] - meter.counted[1])


def test_no_faster_than_the_meter() -> None:
    meter = Meter(period_s=0.05)
    with EnergyRecorder(meter, interval_s=0.001) as recorder:
        wait_for(meter, 5)
    assert len(meter.threads) <= recorder.energy.seconds / 0.05 + 2


def test_a_meter_that_dies_does_not_stop_the_work() -> None:
    meter = Meter(lives=15)
    started = time.perf_counter()
    with EnergyRecorder(meter, interval_s=0.002) as recorder:
        wait_for(meter, 15)
        time.sleep(time.perf_counter() - started)  # half of the period is not seen
    energy = recorder.energy
    assert energy.joules is None
    assert energy.reason is not None
    assert "no reading for " in energy.reason
    assert energy.reason.endswith("; a meter: the meter was pulled out.")


@pytest.mark.parametrize("counts", [False, True])
def test_a_meter_that_is_dead_from_the_start(counts: bool) -> None:
    with EnergyRecorder(Meter(lives=0, counts=counts), interval_s=0.01) as recorder:
        pass
    assert recorder.energy.joules is None
    assert recorder.energy.reason is not None
    assert recorder.energy.reason.endswith("; a meter: the meter was pulled out.")


def test_an_error_in_the_block_is_the_callers() -> None:
    recorder = EnergyRecorder(Meter(), interval_s=0.002)
    with pytest.raises(ZeroDivisionError), recorder:
        _ = 1 / 0
    assert recorder.energy.joules is None  # too short, and known
    assert "energy" not in {thread.name for thread in threading.enumerate()}


def test_one_recorder_one_period() -> None:
    recorder = EnergyRecorder(Meter())
    with pytest.raises(RuntimeError, match="when the block has ended"):
        _ = recorder.energy
    with recorder, pytest.raises(RuntimeError, match="when the block has ended"):
        _ = recorder.energy
    with pytest.raises(RuntimeError, match="one period"):
        recorder.__enter__()


@pytest.mark.usefixtures("patient")
def test_idle_power() -> None:
    assert idle_watts(Meter(3.5), 0.5, interval_s=0.002) == pytest.approx(3.5)
    with pytest.raises(MissingDependency, match="could not be measured"):
        idle_watts(Meter(3.5), 0.0)


@pytest.mark.usefixtures("patient")
def test_from_files_to_what_a_picture_costs(tmp_path: Path) -> None:
    at = tmp_path / "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon1"
    at.mkdir(parents=True)
    for name, value in {"in1_label": "VDD_IN", "in1_input": 5000, "curr1_input": 800}.items():
        (at / name).write_text(f"{value}\n", encoding="utf-8")
    (meter,) = search_meters(tmp_path).meters
    idle = idle_watts(meter, 0.5, interval_s=0.002)
    (at / "curr1_input").write_text("2000\n", encoding="utf-8")
    with EnergyRecorder(meter, interval_s=0.002) as recorder:
        time.sleep(0.5)
    cost = energy_per_picture(recorder.energy, idle, 3)
    assert (cost.idle_watts, cost.watts) == (pytest.approx(4), pytest.approx(10))
    assert cost.joules == pytest.approx(10 * cost.seconds / 3)
    assert cost.joules_above_idle == pytest.approx(6 * cost.seconds / 3)
