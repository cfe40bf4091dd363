"""Observers: from a stream of activations to the one number that its INT8 scale is made of.

An observer sees a tensor piece by piece and gives ``amax``, the magnitude that becomes 127. All decide on `Magnitudes`,
a histogram of absolute values whose bins have a width that is a power of two. Bins that double in width merge without a
remainder, so that the histogram, and with it every range, is a function of the values seen and of nothing else: not of
their order, not of how they were cut into batches.

Everything is symmetric with zero point 0, as TensorRT demands (facts: tensorrt.md 4.1).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeir.errors import CheckFailed, UsageError, nearest
from edgeir.quantization_placement import QMAX

BINS = 4096
"""Bins of a histogram; more than half of them are in use, since the range is the next power of two."""

Rounded = Callable[[NDArray[np.float64], float], NDArray[np.float64]]
"""Magnitudes and ``amax`` to what they are in eight bits, such as `edgeir.calibrate.qdq.LowPrecision.rounded`."""

_LEVELS = QMAX + 1  # magnitudes that a symmetric INT8 tells apart, 0 included
_CANDIDATES = 200
_ALMOST_NO_COUNT = 1e-4
_LEAST_WIDTH = 2.0**-126  # the smallest normal float32: one divided by it is finite
_PIECE = 2**16  # values counted at a time: they and their bins stay in a core's cache


def _largest_magnitude(values: NDArray[np.float32]) -> float:
    """Of at least one value; raises ``CheckFailed`` for NaN and infinity."""
    largest = max(float(values.max()), -float(values.min()))  # NaN is both
    if not math.isfinite(largest):
        bad = int(np.count_nonzero(~np.isfinite(values)))
        raise CheckFailed(
            "an activation is NaN or infinite",
            where="calibration",
            expected="finite values",
            got=f"{bad} of {values.size}",
            fix="Look at the pictures and the weights: no range can be found for such a tensor.",
        )
    return largest


class Magnitudes:
    """A histogram of absolute values in `BINS` bins over [0, 2^e), with the smallest e that holds all of them.

    Attributes:
        counts: ``(BINS,) int64``.
        width: of a bin, a power of two; 0.0 before anything but zeros was seen.
        largest: the largest magnitude seen, exactly.
        seen: number of values, zeros included; zeros are in the first bin.
    """

    def __init__(self) -> None:
        self.counts: NDArray[np.int64] = np.zeros(BINS, np.int64)
        self.width = 0.0
        self.largest = 0.0
        self.seen = 0

    def add(self, values: NDArray[Any]) -> None:
        """Count more values. Raises ``CheckFailed`` for NaN and infinity."""
        flat = np.asarray(values, np.float32).ravel()
        if flat.size == 0:
            return
        top = _largest_magnitude(flat)
        self.seen += flat.size
        if top == 0:
            self.counts[0] += flat.size
            return
        self._widen(top)
        steps, index = np.empty(_PIECE, np.float32), np.empty(_PIECE, np.intp)
        for start in range(0, flat.size, _PIECE):
            piece = flat[start : start + _PIECE]
            some = steps[: piece.size]
            np.abs(piece, out=some)
            np.multiply(some, np.float32(1 / self.width), out=some)  # exact: a power of two
            index[: piece.size] = some  # rounds down, and below BINS: the largest is below 2^e
            self.counts += np.bincount(index[: piece.size], minlength=BINS)

    def _widen(self, top: float) -> None:
        """Make the bins wide enough for ``top``."""
        needed = max(2.0 ** (math.frexp(top)[1]) / BINS, _LEAST_WIDTH)  # frexp: top < 2^e
        if self.width == 0:
            self.width = needed
        while self.width < needed:
            self.counts = np.concatenate([self.counts.reshape(-1, 2).sum(1), np.zeros(BINS // 2, np.int64)])
            self.width *= 2
        self.largest = max(self.largest, top)

    def quantile(self, share: float) -> float:
        """The magnitude below which ``share`` (0 to 1) of the values lie: linear inside a bin, at most `largest`."""
        if self.seen == 0 or self.largest == 0:
            return 0.0
        if share >= 1:
            return self.largest
        wanted = share * self.seen
        below = np.concatenate([[0], np.cumsum(self.counts)])
        index = int(np.searchsorted(below, wanted, side="left")) - 1
        index = min(max(index, 0), BINS - 1)
        inside = (wanted - below[index]) / max(int(self.counts[index]), 1)
        return min((index + float(np.clip(inside, 0, 1))) * self.width, self.largest)

    def energy(self, rounded: Rounded, amax: float) -> float:
        """Mean square error of all values if each becomes what ``rounded`` makes of the middle of its bin.

        What is lost inside a bin is counted as for values that are spread evenly over it.
        """
        centres: NDArray[np.float64] = (np.arange(BINS, dtype=np.float64) + 0.5) * self.width
        errors = (rounded(centres, amax) - centres) ** 2 + self.width**2 / 12
        return float(np.dot(self.counts, errors)) / max(self.seen, 1)

    def best_range(self, rounded: Rounded) -> tuple[float, float]:
        """The ``amax`` that loses least among equal steps up to `largest`, the first of several, and its `energy`."""
        candidates = [float(amax) for amax in self.largest * np.linspace(1 / _CANDIDATES, 1, _CANDIDATES)]
        energies = [self.energy(rounded, amax) for amax in candidates]
        best = int(np.argmin(energies))
        return candidates[best], energies[best]

    def share_above(self, magnitude: float) -> float:
        """The share of values larger than ``magnitude``, 0 to 1, to one bin."""
        if self.seen == 0 or self.width == 0 or magnitude >= self.largest:
            return 0.0
        first = math.ceil(magnitude / self.width)
        return float(self.counts[first:].sum()) / self.seen


class Observer(ABC):
    """Whatever turns activations into a range.

    Attributes:
        magnitudes: what was seen so far.
    """

    def __init__(self) -> None:
        self.magnitudes = Magnitudes()

    def observe(self, values: NDArray[Any]) -> None:
        """Take in more values, of any shape and float type.

        Raises:
            CheckFailed: one of them is NaN or infinite.
        """
        self.magnitudes.add(values)

    @abstractmethod
    def amax(self) -> float:
        """The magnitude that becomes 127; 0.0 if nothing but zeros, or nothing at all, was seen."""


class MinMax(Observer):
    """The largest magnitude seen: nothing saturates, and one outlier costs all other values their resolution."""

    def amax(self) -> float:
        """See `Observer`."""
        return self.magnitudes.largest


class Percentile(Observer):
    """The magnitude that a share of all values stays below (Wu et al. 2020, arXiv 2004.09602, section 3.2).

    Args:
        percent: of the values, in (0, 100]; 100 is `MinMax`.
    """

    def __init__(self, percent: float = 99.99) -> None:
        super().__init__()
        if not 0 < percent <= 100:
            raise UsageError("the percentile is out of range", expected="in (0, 100]", got=f"{percent:g}")
        self.percent = percent

    def amax(self) -> float:
        """See `Observer`."""
        return self.magnitudes.quantile(self.percent / 100)


class MeanSquareError(Observer):
    """The range that loses least energy: rounding inside it and clipping beyond it, by the centres of the bins."""

    def amax(self) -> float:
        """See `Observer`."""
        seen = self.magnitudes
        if seen.largest == 0:
            return 0.0
        return seen.best_range(_in_int8)[0]


def _in_int8(magnitudes: NDArray[np.float64], amax: float) -> NDArray[np.float64]:
    """Without the smallest scale that a graph can store: a range scales with its values, however small they are."""
    scale = amax / QMAX
    rounded: NDArray[np.float64] = np.minimum(np.rint(magnitudes / scale), QMAX) * scale
    return rounded


class Entropy(Observer):
    """The range whose INT8 histogram tells least from the true one: smallest Kullback-Leibler divergence.

    Source: Migacz, "8-bit inference with TensorRT", GTC 2017: the values beyond a candidate are counted at its edge,
    the bins up to it are merged into 128 levels and spread again over the bins that were not empty.
    """

    def amax(self) -> float:
        """See `Observer`."""
        seen = self.magnitudes
        if seen.largest == 0:
            return 0.0
        counts = seen.counts.astype(np.float64)
        used = int(np.flatnonzero(counts)[-1]) + 1
        if used <= _LEVELS:
            return seen.largest
        stops = np.unique(np.linspace(_LEVELS, used, _CANDIDATES).round().astype(int))
        divergences = [_divergence(counts, int(stop)) for stop in stops]
        best = int(stops[int(np.argmin(divergences))])
        return seen.largest if best == used else best * seen.width


def _divergence(counts: NDArray[np.float64], stop: int) -> float:
    """KL(P || Q) of the histogram clipped at bin ``stop`` against its 128 levels."""
    if not counts[:stop].any():
        return math.inf
    clipped = counts[:stop].copy()
    clipped[-1] += counts[stop:].sum()
    filled = clipped > 0
    level = np.arange(stop) * _LEVELS // stop
    totals = np.bincount(level, weights=counts[:stop], minlength=_LEVELS)
    members = np.bincount(level, weights=filled, minlength=_LEVELS)
    spread = totals[level] / np.maximum(members[level], 1)
    p = clipped[filled]
    q = np.maximum(spread[filled], _ALMOST_NO_COUNT)  # the edge, where no level stands for what was clipped
    return float(np.sum(p * np.log(p / q)) / p.sum() - math.log(p.sum() / q.sum()))


OBSERVERS: Mapping[str, Callable[[], Observer]] = {
    "minmax": MinMax,
    "percentile": Percentile,
    "mse": MeanSquareError,
    "entropy": Entropy,
}
"""By the name that the command line and ``ranges.json`` use."""


def make_observer(method: str) -> Observer:
    """A fresh observer.

    Raises:
        UsageError: no method has this name; offers the nearest.
    """
    if method not in OBSERVERS:
        raise UsageError(
            f"unknown calibration method '{method}'", expected=", ".join(OBSERVERS), fix=nearest(method, OBSERVERS)
        )
    return OBSERVERS[method]()
