"""How well a range fits what was seen: a scale that is wrong is found by its tensor's name before any layer is run.

A layer with a wrong range may still cost nothing that a picture shows, and a sensitive one costs much with the best of
ranges. So the two are told apart: `edgeir.calibrate.sensitivity` says what a layer costs, this module what of it is the
range's fault.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from edgeir.calibrate.observers import Magnitudes
from edgeir.calibrate.qdq import LowPrecision
from edgeir.calibrate.ranges import Ranges
from edgeir.errors import GraphError

MISFIT_DB = 7.0
"""A range that loses so much more than the best one is called wrong. On the shipped networks percentiles lose up to
6.2 dB more, the largest values up to 7.01, entropy up to 20, and a percentile's range times eight at least 6.7, with a
median of 17.6 (benchmarks/range_fit.py): the order of the ranges tells a fault from a poor fit, this line alone not
always."""


@dataclass(frozen=True, slots=True)
class RangeFit:
    """Of one tensor.

    Attributes:
        tensor: its name in the graph.
        amax: the range in use.
        best: the range that loses least energy, among those that `edgeir.calibrate.observers` tries.
        lost_db: how much more energy ``amax`` loses by rounding and clipping than ``best``, dB, at least 0.
    """

    tensor: str
    amax: float
    best: float
    lost_db: float

    def __str__(self) -> str:
        return f"{self.amax:.4g} loses {self.lost_db:.1f} dB more than {self.best:.4g} would"

    @property
    def wrong(self) -> bool:
        """It loses more than `MISFIT_DB`."""
        return self.lost_db > MISFIT_DB


def fit_of(tensor: str, seen: Magnitudes, amax: float, kind: LowPrecision) -> RangeFit:
    """Judge one range by the values that were seen; nothing is lost where nothing but zeros was."""
    if seen.largest == 0:
        return RangeFit(tensor, amax, 0.0, 0.0)
    best, least = seen.best_range(kind.rounded)
    given = seen.energy(kind.rounded, amax)
    if given <= least:
        return RangeFit(tensor, amax, amax, 0.0)
    return RangeFit(tensor, amax, best, 10 * math.log10(given / least))


def range_fits(ranges: Ranges, seen: Mapping[str, Magnitudes], kind: LowPrecision) -> list[RangeFit]:
    """Every tensor that was seen, the worst fit first; of equal ones the first in ``ranges``.

    Raises:
        GraphError: a tensor that was seen has no range.
    """
    for name in seen:
        if name not in ranges.tensors:
            raise GraphError(
                f"there is no range for the tensor '{name}'",
                where="ranges",
                fix="They are of another graph: calibrate again.",
            )
    fits = [fit_of(name, seen[name], entry.amax, kind) for name, entry in ranges.tensors.items() if name in seen]
    return sorted(fits, key=lambda fit: -fit.lost_db)
