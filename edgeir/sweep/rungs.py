"""Successive halving: everything is measured a little, the better half twice as thoroughly, and so on.

Better is decided in two dimensions, latency and drift, by non-dominated sorting with crowding distance: K. Deb,
A. Pratap, S. Agarwal and T. Meyarivan, "A fast and elitist multiobjective genetic algorithm: NSGA-II", 2002. Halving:
K. Jamieson and A. Talwalkar, "Non-stochastic best arm identification and hyperparameter optimization", 2016.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from edgeir.report.pareto import front
from edgeir.sweep.trial import Settings

Point = tuple[float, float]
"""Latency and drift; smaller is better in both. NaN counts as infinite."""

_FEWEST_ROUNDS = 3  # a median of fewer says nothing


def settings_of_rungs(full: Settings) -> tuple[Settings, ...]:
    """From one picture and three rounds, doubled until both are the recipe's own, which is the last rung.

    >>> settings_of_rungs(Settings(pictures=2, rounds=9))
    (Settings(pictures=1, rounds=3), Settings(pictures=2, rounds=6), Settings(pictures=2, rounds=9))
    """
    pictures, rounds = 1, _FEWEST_ROUNDS
    found = []
    while pictures < full.pictures or rounds < full.rounds:
        found.append(Settings(min(pictures, full.pictures), min(rounds, full.rounds)))
        pictures, rounds = 2 * pictures, 2 * rounds
    return (*found, full)


def fronts(points: Sequence[Point]) -> list[list[int]]:
    """Indices by rank: those that nothing dominates, those that only the first rank dominates, and so on."""
    left = list(range(len(points)))
    found = []
    while left:
        first = {left[place] for place in front([_plain(points[index]) for index in left])}
        found.append(sorted(first))
        left = [index for index in left if index not in first]
    return found


def crowding(points: Sequence[Point], rank: Sequence[int]) -> dict[int, float]:
    """How much room each point of one rank has to its neighbours, by index; infinite at the ends."""
    room = dict.fromkeys(rank, 0.0)
    for axis in (0, 1):
        order = sorted(rank, key=lambda index: _plain(points[index])[axis])
        low, high = (_plain(points[index])[axis] for index in (order[0], order[-1]))
        room[order[0]] = room[order[-1]] = math.inf
        span = high - low
        if not 0 < span < math.inf:
            continue
        for before, index, after in zip(order, order[1:], order[2:], strict=False):
            room[index] += (_plain(points[after])[axis] - _plain(points[before])[axis]) / span
    return room


def better_half(points: Sequence[Point]) -> list[int]:
    """Indices of the ``ceil(n / 2)`` that go on, ascending.

    Whole fronts go on while there is room; of the last one those with most room around them, so that both ends of it
    stay. No dominated point goes on while one that nothing dominates is dropped.
    """
    kept: list[int] = []
    wanted = math.ceil(len(points) / 2)
    for rank in fronts(points):
        room = crowding(points, rank)
        best = sorted(rank, key=lambda index: (-room[index], index))
        kept += best[: wanted - len(kept)]
    return sorted(kept)


def _plain(point: Point) -> Point:
    latency, drift = (math.inf if math.isnan(value) else value for value in point)
    return latency, drift
