"""Successive halving: what goes on, whatever the numbers."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeir.sweep.rungs import Point, better_half, crowding, fronts, settings_of_rungs
from edgeir.sweep.trial import Settings

# Few distinct values, so that ties and duplicates are common; NaN and infinity are what a broken trial measures.
_VALUE = st.sampled_from([0.0, 0.5, 1.0, 2.0, -1.0, math.inf, math.nan]) | st.floats(-1e6, 1e6)
_POINTS = st.lists(st.tuples(_VALUE, _VALUE), max_size=14)


def dominates(one: Point, other: Point) -> bool:
    """The definition, NaN as infinite, written another way than in the module."""
    a, b = (tuple(math.inf if math.isnan(value) else value for value in point) for point in (one, other))
    return all(x <= y for x, y in zip(a, b, strict=True)) and any(x < y for x, y in zip(a, b, strict=True))


@given(_POINTS)
def test_half_goes_on_and_no_dominated_one_before_a_free_one(points: list[Point]) -> None:
    kept = better_half(points)
    assert kept == sorted(set(kept))
    assert len(kept) == math.ceil(len(points) / 2)
    free = {index for index in range(len(points)) if not any(dominates(other, points[index]) for other in points)}
    if free - set(kept):
        assert set(kept) <= free


@given(_POINTS)
def test_nothing_that_goes_on_is_dominated_by_what_does_not_unless_its_rank_is_full(points: list[Point]) -> None:
    kept = set(better_half(points))
    for index in kept:
        assert not any(dominates(points[other], points[index]) for other in set(range(len(points))) - kept)


@given(_POINTS)
def test_fronts_divide_the_points_by_rank(points: list[Point]) -> None:
    ranks = fronts(points)
    assert sorted(index for rank in ranks for index in rank) == list(range(len(points)))
    for number, rank in enumerate(ranks):
        for index in rank:
            assert not any(dominates(points[other], points[index]) for other in rank)
            if number:
                assert any(dominates(points[other], points[index]) for other in ranks[number - 1])


def test_both_ends_of_a_front_stay() -> None:
    points = [(float(x), float(10 - x)) for x in (0, 1, 2, 3, 4, 9, 10)]
    assert better_half(points) == [0, 4, 5, 6]  # (9, 1) has more room around it than (1, 9), (2, 8) and (3, 7)
    room = crowding(points, range(7))
    assert room[0] == room[6] == math.inf
    assert room[1] == pytest.approx(0.4)


@given(st.integers(1, 16), st.integers(3, 200))
def test_rungs_double_up_to_the_recipe(pictures: int, rounds: int) -> None:
    rungs = settings_of_rungs(Settings(pictures, rounds))
    assert rungs[-1] == Settings(pictures, rounds)
    assert rungs[0].rounds == 3
    for before, after in pairwise(rungs):
        assert before != after
        assert after.pictures == min(2 * before.pictures, pictures)
        assert after.rounds == min(2 * before.rounds, rounds)
