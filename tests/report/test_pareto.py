"""The front holds exactly what nothing dominates."""

from __future__ import annotations

import itertools
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeir.errors import UsageError
from edgeir.report.pareto import front

# Few different values, so that ties and equal points are common; and any value, infinite ones too.
COORDINATES = st.one_of(st.integers(-3, 3), st.floats(allow_nan=False))
POINTS = st.lists(st.tuples(COORDINATES, COORDINATES), max_size=40)


def dominates(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one[0] <= other[0] and one[1] <= other[1] and tuple(one) != tuple(other)


@given(POINTS)
def test_nothing_dominates_the_front(points: list[tuple[float, float]]) -> None:
    for index in front(points):
        assert not any(dominates(other, points[index]) for other in points)


@given(POINTS)
def test_the_front_dominates_everything_else(points: list[tuple[float, float]]) -> None:
    found = front(points)
    for index, point in enumerate(points):
        if index not in found:
            assert any(dominates(points[best], point) for best in found)


@given(POINTS)
def test_its_order(points: list[tuple[float, float]]) -> None:
    found = [points[index] for index in front(points)]
    assert len(set(front(points))) == len(found)
    for one, after in itertools.pairwise(found):
        assert (one[0] < after[0] and one[1] > after[1]) or tuple(one) == tuple(after)


@given(POINTS, st.randoms(use_true_random=False))
def test_the_order_of_the_points_does_not_matter(points: list[tuple[float, float]], random: random.Random) -> None:
    shuffled = list(points)
    random.shuffle(shuffled)
    assert [points[index] for index in front(points)] == [shuffled[index] for index in front(shuffled)]


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([], ()),
        ([(1, 1)], (0,)),
        ([(1, 1), (1, 1), (2, 2)], (0, 1)),  # equal points: each of them
        ([(1, 2), (1, 1)], (1,)),  # as far, and lower
        ([(2, 1), (1, 1)], (1,)),  # as low, and nearer
        ([(math.inf, 0), (0, math.inf), (math.inf, math.inf)], (1, 0)),
        ([(0.0, 1), (-0.0, 1)], (0, 1)),
    ],
)
def test_ties(points: list[tuple[float, float]], expected: tuple[int, ...]) -> None:
    assert front(points) == expected


def test_nan_is_refused() -> None:
    with pytest.raises(UsageError, match=r"^point 1: a point that is not a number is on no Pareto front\.$"):
        front([(0, 0), (1, math.nan)])
