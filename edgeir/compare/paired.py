"""Is one bundle better than another? The same pictures through both, and an interval for what lies between them.

Pictures are the samples: the rows of one picture under several degradations go up and down together, so that they are
averaged before anything is said of their spread.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgeir.compare.drift import PictureDrift
from edgeir.compare.intervals import LEAST_FOR_MEAN, LEVEL, Interval, mean_interval
from edgeir.errors import UsageError

CEILING_DB = 100.0
"""PSNR above this counts as this: two perfect results do not differ, however perfect each is."""


@dataclass(frozen=True, slots=True)
class Difference:
    """How much closer to the truth one bundle comes than another.

    Attributes:
        condition: the degradation, or ``"all"``.
        pictures: how many were compared.
        interval: mean PSNR of the first minus that of the second, dB: positive is for the first. Of degradations the
            level is raised so that all of them together hold with `LEVEL` (Bonferroni).
    """

    condition: str
    pictures: int
    interval: Interval

    @property
    def real(self) -> bool:
        """Whether the interval leaves out 0."""
        return not self.interval.holds_zero


def differences(
    first: Sequence[PictureDrift], second: Sequence[PictureDrift], level: float = LEVEL
) -> list[Difference]:
    """The difference over all degradations, then under each.

    Args:
        first, second: what `edgeir.compare.drift.measure_drift` found of the two, on the same pictures.

    Raises:
        UsageError: not the same pictures and degradations, or fewer than `LEAST_FOR_MEAN` pictures.
    """
    ours, theirs = ({(row.picture, row.condition): row for row in rows} for rows in (first, second))
    if ours.keys() != theirs.keys():
        odd = sorted(ours.keys() ^ theirs.keys())[0]
        raise UsageError("the two were not measured on the same pictures", got=f"{odd[0]} under {odd[1]} in one only")
    pictures = list(dict.fromkeys(picture for picture, _ in ours))
    conditions = list(dict.fromkeys(condition for _, condition in ours))
    if len(pictures) < LEAST_FOR_MEAN:
        raise UsageError(
            "too few pictures to tell a difference from chance",
            where="--pictures",
            expected=f"{LEAST_FOR_MEAN} or more",
            got=str(len(pictures)),
        )
    gaps = {key: _shown_db(ours[key].engine_db) - _shown_db(theirs[key].engine_db) for key in ours}
    means = [float(np.mean([gaps[key] for key in gaps if key[0] == picture])) for picture in pictures]
    each = 1 - (1 - level) / len(conditions)
    return [
        Difference("all", len(pictures), mean_interval(means, level)),
        *(
            Difference(
                condition,
                len(pictures),
                mean_interval([gaps[picture, condition] for picture in pictures], each),
            )
            for condition in conditions
        ),
    ]


def _shown_db(value: float) -> float:
    """A PSNR as it counts: at most `CEILING_DB`; NaN and -inf, of a broken output, as 0."""
    return min(value, CEILING_DB) if value > 0 else 0.0
