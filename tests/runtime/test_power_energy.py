"""Energy out of readings: what trapezoids and counters give exactly, and when nothing is concluded."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeir.errors import MissingDependency, UsageError
from edgeir.runtime.power_energy import LEAST_READINGS, Energy, Reading, conclude, integrate
from edgeir.runtime.power_pictures import PictureEnergy, energy_per_picture, joules_per_picture

# Steps between readings that scatter by a factor of two, as a loaded machine's do: no gap is then too long.
STEPS = st.lists(st.floats(0.01, 0.02), min_size=LEAST_READINGS, max_size=80)


def times_of(steps: Sequence[float], start: float = 1000.0) -> list[float]:
    times = [start]
    for step in steps:
        times.append(times[-1] + step)
    return times


def sampled(times: Sequence[float], watts: Sequence[float]) -> Energy:
    readings = [Reading(time, {"cpu": power / 4, "total": power}) for time, power in zip(times, watts, strict=True)]
    return conclude("a meter", readings, started_s=times[0], ended_s=times[-1])


def counted(times: Sequence[float], joules: Sequence[float]) -> Energy:
    readings = [Reading(time, joules=value) for time, value in zip(times, joules, strict=True)]
    return conclude("a meter", readings, started_s=times[0], ended_s=times[-1])


@given(steps=STEPS, watts=st.floats(0.1, 700))
def test_constant_power_is_power_times_time(steps: list[float], watts: float) -> None:
    times = times_of(steps)
    energy = sampled(times, [watts] * len(times))
    assert energy.joules == pytest.approx(watts * (times[-1] - times[0]))
    assert energy.watts == pytest.approx(watts)
    assert energy.rail_watts == pytest.approx({"cpu": watts / 4, "total": watts})
    assert (energy.method, energy.readings, energy.reason) == ("samples", len(times), None)


@given(steps=STEPS, first=st.floats(0, 300), slope=st.floats(0, 100))
def test_a_ramp_is_exact_however_the_readings_fall(steps: list[float], first: float, slope: float) -> None:
    times = times_of(steps)
    seconds = times[-1] - times[0]
    energy = sampled(times, [first + slope * (time - times[0]) for time in times])
    assert energy.joules == pytest.approx(first * seconds + slope * seconds**2 / 2)


@given(steps=STEPS, watts=st.lists(st.floats(0, 100), min_size=81, max_size=81), cut=st.integers(1, 9))
def test_parts_add_up(steps: list[float], watts: list[float], cut: int) -> None:
    times = times_of(steps)
    power = watts[: len(times)]
    whole = integrate(times, power)
    assert integrate(times[: cut + 1], power[: cut + 1]) + integrate(times[cut:], power[cut:]) == pytest.approx(whole)


@given(steps=STEPS, moves=st.lists(st.floats(0.001, 50), min_size=80, max_size=80), start=st.floats(0, 1e6))
def test_a_counter_gives_its_difference(steps: list[float], moves: list[float], start: float) -> None:
    times = times_of(steps)
    joules = times_of(moves[: len(steps)], start)
    energy = counted(times, joules)
    assert energy.joules == pytest.approx(joules[-1] - joules[0])
    assert (energy.method, energy.readings) == ("counter", len(steps))
    assert energy.seconds == pytest.approx(times[-1] - times[0])


def test_a_counter_is_taken_before_samples() -> None:
    times = times_of([0.1] * 10)
    readings = [Reading(time, {"total": 99.0}, joules=float(i)) for i, time in enumerate(times)]
    assert conclude("m", readings, started_s=times[0], ended_s=times[-1]).joules == 10


@pytest.mark.parametrize("count", range(LEAST_READINGS))
def test_too_few_samples_conclude_nothing(count: int) -> None:
    times = times_of([0.02] * count)[:count]
    readings = [Reading(time, {"total": 5.0}) for time in times]
    energy = conclude("m", readings, started_s=1000.0, ended_s=1000.2)
    assert (energy.joules, energy.watts) == (None, None)
    assert energy.reason is not None
    assert energy.reason.startswith(f"{count} readings in ")


def test_too_few_steps_of_a_counter_conclude_nothing() -> None:
    """Read forty times, the counter moved nine times: its driver updates it every 80 ms or so."""
    times = times_of([0.02] * 39)
    energy = counted(times, [float(i // 4) for i in range(40)])
    assert energy.joules is None
    assert energy.reason == "the counter moved 9 times in 0.78 s, and must 10 times: measure for longer"
    assert counted(times, [float(i * 10 // 39) for i in range(40)]).joules == 10


def test_a_counter_that_runs_backwards_concludes_nothing() -> None:
    joules = [float(i) for i in range(20)] + [0.0, 1.0]
    energy = counted(times_of([0.02] * 21), joules)
    assert energy.joules is None
    assert energy.reason == "the counter ran backwards: its driver was loaded anew"


@pytest.mark.parametrize(
    ("times", "gap"),
    [
        ([*[0.01 * i for i in range(20)], 1.0], "0.81"),  # nothing in between
        ([0.01 * i for i in range(20)], "0.81"),  # the meter died
        ([0.5 + 0.025 * i for i in range(21)], "0.50"),  # it came late
    ],
)
def test_what_nobody_saw_concludes_nothing(times: list[float], gap: str) -> None:
    energy = conclude("m", [Reading(time, {"total": 5.0}) for time in times], started_s=0.0, ended_s=1.0)
    assert energy.joules is None
    assert energy.reason == f"no reading for {gap} of 1.00 s, at most 20% may be missing"


def test_a_counter_needs_its_ends_and_not_its_middle() -> None:
    times = [*[0.01 * i for i in range(12)], 0.99]
    joules = [float(i) for i in range(13)]
    readings = [Reading(time, joules=value) for time, value in zip(times, joules, strict=True)]
    assert conclude("m", readings, started_s=0.0, ended_s=1.0).joules == 12
    energy = conclude("m", readings, started_s=0.0, ended_s=2.0)
    assert energy.joules is None
    assert energy.reason is not None
    assert energy.reason.startswith("no reading for 1.01 of 2.00 s")


def test_nothing_read_at_all() -> None:
    energy = conclude("m", [], started_s=0.0, ended_s=1.0)
    assert (energy.joules, energy.seconds, energy.readings) == (None, 0.0, 0)
    with pytest.raises(MissingDependency, match="m: the energy could not be measured") as caught:
        energy.known_joules()
    assert "got 0 readings in 0.00 s, at least 10 are needed: measure for longer" in str(caught.value)


def busy(joules: float | None = 120.0, seconds: float = 10.0) -> Energy:
    return Energy("m", seconds, joules, "samples", 500, {}, None if joules is not None else "too short")


@given(watts=st.floats(0.1, 500), idle=st.floats(0, 100), seconds=st.floats(0.1, 1e4), pictures=st.integers(1, 10**6))
def test_idle_power_is_taken_off(watts: float, idle: float, seconds: float, pictures: int) -> None:
    energy = busy((watts + idle) * seconds, seconds)
    assert joules_per_picture(energy, idle, pictures) * pictures == pytest.approx(watts * seconds, rel=1e-6, abs=1e-6)
    assert joules_per_picture(energy, 0.0, pictures) * pictures == pytest.approx((watts + idle) * seconds)


def test_both_figures_are_reported() -> None:
    cost = energy_per_picture(busy(), 5.0, 20)
    assert cost == PictureEnergy("m", 6.0, 3.5, idle_watts=5.0, watts=12.0, pictures=20, seconds=10.0)


def test_a_negative_figure_is_not_hidden() -> None:
    assert joules_per_picture(busy(), 13.0, 1) == -10


def test_refusals() -> None:
    with pytest.raises(UsageError, match="expected at least 1, got 0"):
        joules_per_picture(busy(), 5.0, 0)
    with pytest.raises(MissingDependency, match="too short"):
        joules_per_picture(busy(None), 5.0, 1)
    with pytest.raises(MissingDependency, match="too short"):
        energy_per_picture(busy(None), 5.0, 1)
