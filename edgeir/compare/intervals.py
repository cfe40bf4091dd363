"""How sure a measured figure is: intervals for medians and means, and whether a difference is real.

A median's comes from order statistics, whose coverage is exact for every continuous distribution. A mean's comes from
the studentised bootstrap: of eleven normal samples it holds the mean 95 times in a hundred where it says so, and the
plain percentile bootstrap 90 times. No bootstrap knows of what is not among the samples: of skewed ones it holds less
(90 of 100 for eleven log-normal samples), and where one picture in ten loses much, eleven of them say little.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from edgeir.errors import UsageError

LEVEL = 0.95
RESAMPLES = 4000
LEAST_FOR_MEAN = 5
"""Samples below which `mean_interval` refuses: resamples of fewer are too often constant."""


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and the interval that holds the truth with probability ``level``; units are the samples'."""

    estimate: float
    low: float
    high: float
    level: float = LEVEL

    @property
    def holds_zero(self) -> bool:
        """Whether no difference at all is compatible with the samples."""
        return self.low <= 0 <= self.high

    @property
    def relative_reach(self) -> float:
        """How far it reaches to its longer side, as a share of the estimate; infinite where the estimate is 0."""
        reach = max(self.high - self.estimate, self.estimate - self.low)
        return reach / abs(self.estimate) if self.estimate else math.inf


def least_for_median(level: float = LEVEL) -> int:
    """How many samples `median_interval` needs: the smallest n with ``1 - 2^(1-n) >= level``.

    >>> least_for_median(0.95)
    6
    """
    return math.ceil(1 - math.log2(1 - level))


def median_interval(samples: Sequence[float] | NDArray[np.float64], level: float = LEVEL) -> Interval:
    """The median, and the narrowest pair of order statistics that holds the true one with at least ``level``.

    The number of samples below the true median is binomial(n, 1/2), so that ``[x_(k), x_(n+1-k)]`` holds it with
    ``1 - 2 P(Bin < k)`` (David and Nagaraja, "Order Statistics", section 7.1). Samples are taken as independent.

    Raises:
        UsageError: fewer samples than `least_for_median`, or one that is not finite.
    """
    ordered = np.sort(_finite(samples))
    count = len(ordered)
    if count < least_for_median(level):
        raise UsageError(
            "too few samples for an interval of the median",
            expected=f"{least_for_median(level)} or more",
            got=str(count),
        )
    rank, below = 0, 0.0  # samples outside on each side, and the probability that the truth is among them
    while 2 * (below + _binomial(count, rank)) <= 1 - level:
        below += _binomial(count, rank)
        rank += 1
    return Interval(float(np.median(ordered)), float(ordered[rank - 1]), float(ordered[count - rank]), level)


def mean_interval(
    samples: Sequence[float] | NDArray[np.float64],
    level: float = LEVEL,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """The mean, and its studentised bootstrap interval (Efron and Tibshirani, 1993, section 12.5).

    Samples that belong together, such as one picture under several degradations, must be averaged before.

    Raises:
        UsageError: fewer than `LEAST_FOR_MEAN` samples, or one that is not finite.
    """
    values = _finite(samples)
    count = len(values)
    if count < LEAST_FOR_MEAN:
        raise UsageError(
            "too few samples for an interval of the mean", expected=f"{LEAST_FOR_MEAN} or more", got=str(count)
        )
    mean, error = float(values.mean()), float(values.std(ddof=1)) / math.sqrt(count)
    if error == 0:
        return Interval(mean, mean, mean, level)
    drawn = values[np.random.default_rng(seed).integers(count, size=(resamples, count))]
    errors = drawn.std(axis=1, ddof=1) / math.sqrt(count)
    varied = errors > 1e-9 * error  # a resample of one value alone says nothing of the spread
    deviations = (drawn.mean(axis=1)[varied] - mean) / errors[varied]
    low, high = np.quantile(deviations, [(1 - level) / 2, (1 + level) / 2])
    return Interval(mean, mean - float(high) * error, mean - float(low) * error, level)


def _finite(samples: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    values = np.asarray(samples, np.float64)
    if not np.isfinite(values).all():
        raise UsageError("an interval needs finite samples", got=str(values[~np.isfinite(values)][0]))
    return values


def _binomial(count: int, successes: int) -> float:
    """``P(Bin(count, 1/2) = successes)``."""
    return float(Fraction(math.comb(count, successes), 2**count))  # whole numbers: large counts overflow a float
