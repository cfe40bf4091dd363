"""Energy out of a meter's readings: by its counter where it has one, else by trapezoids between samples of power."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from edgeir.errors import MissingDependency

# Both ends of a period are uncertain by one reading (or one step of a counter): ten leave a tenth.
LEAST_READINGS = 10
# A sampling thread that got no processor for a fifth of the period has not seen the period.
LONGEST_GAP = 0.2


@dataclass(frozen=True, slots=True)
class Reading:
    """A meter at one moment: ``watts`` by rail, or the ``joules`` of its counter."""

    at_s: float
    watts: Mapping[str, float] | None = None
    joules: float | None = None


@dataclass(frozen=True, slots=True)
class Energy:
    """What a period took by one meter.

    Attributes:
        meter: the meter's name, which says what its total is.
        seconds: length of the period.
        joules: energy of the total; ``None``: nothing can be concluded, and ``reason`` says why.
        method: ``"counter"`` or ``"samples"`` (trapezoids between samples of power).
        readings: how many readings it rests on; of a counter, how many times it moved.
        rail_watts: mean power of each rail, where there are samples.
        reason: why there is no figure, ``None`` where there is one.
    """

    meter: str
    seconds: float
    joules: float | None
    method: Literal["counter", "samples"]
    readings: int
    rail_watts: Mapping[str, float]
    reason: str | None = None

    @property
    def watts(self) -> float | None:
        """Mean power of the period in watts."""
        return None if self.joules is None else self.joules / self.seconds

    def known_joules(self) -> float:
        """``joules`` for whoever cannot go on without.

        Raises:
            MissingDependency: nothing can be concluded.
        """
        if self.joules is None:
            raise MissingDependency("the energy could not be measured", where=self.meter, got=self.reason)
        return self.joules

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {**asdict(self), "rail_watts": dict(self.rail_watts), "watts": self.watts}


def integrate(times_s: Sequence[float], watts: Sequence[float]) -> float:
    """Energy in joules under power samples, by trapezoids: exact for power that is linear between samples.

    >>> integrate([0.0, 1.0, 3.0], [2.0, 4.0, 4.0])
    11.0
    """
    return sum(
        (later - earlier) * (one + other) / 2
        for earlier, later, one, other in zip(times_s[:-1], times_s[1:], watts[:-1], watts[1:], strict=True)
    )


def conclude(meter: str, readings: Sequence[Reading], *, started_s: float, ended_s: float) -> Energy:
    """The energy of a period out of readings taken in it and at its ends, or why it cannot be said.

    Nothing is concluded from fewer than `LEAST_READINGS` samples (or steps of a counter), from samples that leave more
    than `LONGEST_GAP` of the period in one piece unseen, from a counter not read at both ends, or from one that ran
    backwards.
    """
    counted = [reading for reading in readings if reading.joules is not None]
    if counted:
        return _from_counter(meter, counted, started_s, ended_s)
    return _from_samples(meter, [reading for reading in readings if reading.watts], started_s, ended_s)


def _from_counter(meter: str, readings: Sequence[Reading], started_s: float, ended_s: float) -> Energy:
    joules = [reading.joules for reading in readings if reading.joules is not None]
    seconds = readings[-1].at_s - readings[0].at_s
    moves = [later - earlier for earlier, later in itertools.pairwise(joules)]
    steps = sum(move > 0 for move in moves)
    reason = None
    if any(move < 0 for move in moves):
        reason = "the counter ran backwards: its driver was loaded anew"
    elif steps < LEAST_READINGS:
        reason = (
            f"the counter moved {steps} times in {seconds:.2f} s, and must {LEAST_READINGS} times: measure for longer"
        )
    else:
        reason = _unseen(max(readings[0].at_s - started_s, ended_s - readings[-1].at_s), ended_s - started_s)
    return Energy(meter, seconds, joules[-1] - joules[0] if reason is None else None, "counter", steps, {}, reason)


def _from_samples(meter: str, readings: Sequence[Reading], started_s: float, ended_s: float) -> Energy:
    times = [reading.at_s for reading in readings]
    seconds = times[-1] - times[0] if times else 0.0
    if len(times) < LEAST_READINGS or not seconds > 0:
        reason: str | None = (
            f"{len(times)} readings in {seconds:.2f} s, at least {LEAST_READINGS} are needed: measure for longer"
        )
    else:
        gap = max(later - earlier for earlier, later in itertools.pairwise((started_s, *times, ended_s)))
        reason = _unseen(gap, ended_s - started_s)
    rails: dict[str, float] = {}
    if reason is None:
        rows = [reading.watts or {} for reading in readings]
        always = [rail for rail in rows[0] if all(rail in row for row in rows)]
        rails = {rail: integrate(times, [row[rail] for row in rows]) / seconds for rail in always}
    joules = rails["total"] * seconds if reason is None else None
    return Energy(meter, seconds, joules, "samples", len(times), rails, reason)


def _unseen(gap_s: float, period_s: float) -> str | None:
    if gap_s <= LONGEST_GAP * period_s:
        return None
    return f"no reading for {gap_s:.2f} of {period_s:.2f} s, at most {LONGEST_GAP:.0%} may be missing"
