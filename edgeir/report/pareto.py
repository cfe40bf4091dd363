"""The Pareto front of points in the plane: what is left when everything that something else beats is taken away."""

from __future__ import annotations

import math
from collections.abc import Sequence

from edgeir.errors import UsageError


def front(points: Sequence[tuple[float, float]]) -> tuple[int, ...]:
    """Indices of the points that no other point dominates, both coordinates being better when smaller.

    One point dominates another when it is not larger in either coordinate and smaller in at least one. Of points that
    agree in one coordinate only the smallest in the other is on the front; of equal points each is, or none.

    Returns:
        Indices from the smallest x to the largest, equal points in the order given.

    Raises:
        UsageError: a coordinate is NaN, which is neither smaller nor larger than anything.

    >>> front([(3, 1), (1, 3), (2, 2), (2, 4), (1, 3)])
    (1, 4, 2, 0)
    """
    for index, point in enumerate(points):
        if any(math.isnan(value) for value in point):
            raise UsageError("a point that is not a number is on no Pareto front", where=f"point {index}")
    found: list[int] = []
    lowest = math.inf
    for index in sorted(range(len(points)), key=lambda each: points[each]):
        if not found or points[index][1] < lowest or tuple(points[index]) == tuple(points[found[-1]]):
            found.append(index)
            lowest = points[index][1]
    return tuple(found)
