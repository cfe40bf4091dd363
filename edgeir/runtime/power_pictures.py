"""What one picture costs, stated twice: with all that the machine takes anyway, and above its idle power.

Neither is the truth alone: a camera pays for both, and only the second compares two networks on one board.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgeir.errors import UsageError
from edgeir.runtime.power_energy import Energy


@dataclass(frozen=True, slots=True)
class PictureEnergy:
    """What one picture cost.

    Attributes:
        meter: the meter's name, which says what its total is.
        joules: all energy of the period per picture.
        joules_above_idle: the same without what the machine takes anyway.
        idle_watts: that power, measured before.
        watts: mean power of the period.
        pictures: how many were restored.
        seconds: how long it took.
    """

    meter: str
    joules: float
    joules_above_idle: float
    idle_watts: float
    watts: float
    pictures: int
    seconds: float


def energy_per_picture(busy: Energy, idle_watts: float, pictures: int) -> PictureEnergy:
    """Both figures of `joules_per_picture`, with what they were made of.

    Raises:
        MissingDependency: ``busy`` concludes nothing.
        UsageError: fewer than one picture.
    """
    return PictureEnergy(
        meter=busy.meter,
        joules=joules_per_picture(busy, 0.0, pictures),
        joules_above_idle=joules_per_picture(busy, idle_watts, pictures),
        idle_watts=idle_watts,
        watts=busy.known_joules() / busy.seconds,
        pictures=pictures,
        seconds=busy.seconds,
    )


def joules_per_picture(busy: Energy, idle_watts: float, pictures: int) -> float:
    """Energy of one picture above idle: (energy - idle_watts x seconds) / pictures, in joules.

    With ``idle_watts`` 0 it is the whole energy. It can come out negative: then the machine was not idle when its idle
    power was measured, and the figure must not be used.

    Args:
        busy: what a block took that restored ``pictures`` pictures and did nothing else.
        idle_watts: mean power before, of the same meter (`idle_watts`).
        pictures: how many, at least 1; a batch of four is four.

    Raises:
        MissingDependency: ``busy`` concludes nothing.
        UsageError: fewer than one picture.
    """
    if pictures < 1:
        raise UsageError("energy per picture needs pictures", expected="at least 1", got=str(pictures))
    return (busy.known_joules() - idle_watts * busy.seconds) / pictures
