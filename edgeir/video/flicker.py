"""Flicker: what an engine adds to the changes between consecutive frames, against its reference.

With E_t and R_t the outputs of engine and reference for frame t, the flicker of a pair of frames is

    F_t = RMS over pixels and channels of [ (E_t - E_(t-1)) - (R_t - R_(t-1)) ]

which is the RMS of D_t - D_(t-1) for the error D_t = E_t - R_t. No motion is estimated: what moves, moves in both. The
form is that of tLP (Chu et al., "Learning temporal coherence via self-supervision for GAN-based video generation", ACM
TOG 39(4), 2020), the change of the output held against the change of the reference, with the RMS difference in place of
a perceptual one. An error that stays the same from frame to frame has no flicker; one that is drawn anew each time has
sqrt(2) times its own RMS; twice that RMS is the most there can be.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeir.errors import UsageError
from edgeir.imaging.colour import Pixels
from edgeir.imaging.metrics import fidelity_db


@dataclass(frozen=True, slots=True)
class FrameFlicker:
    """One frame, and the step to it from the one before.

    Attributes:
        frame: its number, from 0.
        time_s: when it is shown.
        fidelity_db: PSNR of the engine's output against the reference's, peak 1.
        nonfinite: values of the engine's output that are NaN or infinite.
        flicker: F_t on [0, 1], ``None`` for the first frame, infinite where a value is no number.
        brightness_step_8bit: mean of D_t - D_(t-1) in steps of 8 bits: what an eye notices first. ``None`` likewise.
        change: RMS of R_t - R_(t-1), what the scene itself changes; ``None`` for the first frame.
    """

    frame: int
    time_s: float
    fidelity_db: float
    nonfinite: int
    flicker: float | None
    brightness_step_8bit: float | None
    change: float | None


@dataclass(frozen=True, slots=True)
class Flicker:
    """A clip.

    Attributes:
        frames: how many.
        rms: root of the mean square of F_t over all pairs, on [0, 1].
        worst, worst_frame: the largest F_t, and the later frame of its pair.
        worst_brightness_step_8bit: the largest step of brightness, without its sign.
        worst_fidelity_db: the least of the frames.
        renewal: ``rms`` by sqrt(2) times the RMS of the error: 0 for an error that stays, 1 for one that is drawn
            anew each frame; ``None`` where there is no error, or one that is no number.
        change: the reference's own, root of the mean square.
        nonfinite: values that are NaN or infinite.
    """

    frames: int
    rms: float
    worst: float
    worst_frame: int
    worst_brightness_step_8bit: float
    worst_fidelity_db: float
    renewal: float | None
    change: float
    nonfinite: int


class FlickerMeter:
    """Takes a clip frame by frame and keeps the last one only."""

    def __init__(self) -> None:
        self._before: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None
        self._rows: list[FrameFlicker] = []

    @property
    def rows(self) -> tuple[FrameFlicker, ...]:
        """What was measured."""
        return tuple(self._rows)

    def add(self, engine: Pixels, reference: Pixels, *, time_s: float) -> None:
        """The next frame: ``(H, W, 3) float32`` of both, not clipped.

        Raises:
            UsageError: the shapes differ from each other or from the frame before.
        """
        theirs = np.asarray(reference, np.float64)
        error = np.asarray(engine, np.float64) - theirs
        nonfinite = int(error.size - np.isfinite(engine).sum())
        flicker = step = change = None
        if self._before is not None:
            error_before, theirs_before = self._before
            if error_before.shape != error.shape:
                raise UsageError(
                    "frames of one clip have one size", expected=str(error_before.shape), got=str(error.shape)
                )
            with np.errstate(invalid="ignore"):
                difference = error - error_before
            flicker, change = _rms(difference), _rms(theirs - theirs_before)
            step = float(difference.mean()) * 255.0 if math.isfinite(flicker) else math.inf
        self._rows.append(
            FrameFlicker(len(self._rows), time_s, fidelity_db(engine, reference), nonfinite, flicker, step, change)
        )
        self._before = (error, theirs)


def decibels(rms: float) -> float:
    """An RMS difference on [0, 1] as dB of peak 1: ``-20 log10``; infinite for 0, ``-inf`` for one that is no number.

    >>> round(decibels(0.01), 6)
    40.0
    """
    if rms == 0:
        return math.inf
    return -20.0 * math.log10(rms) if math.isfinite(rms) else -math.inf


def summarise(rows: Sequence[FrameFlicker]) -> Flicker:
    """The figures of a clip.

    Raises:
        UsageError: fewer than two frames.
    """
    pairs = [row for row in rows if row.flicker is not None]
    if not pairs:
        raise UsageError("flicker is between frames", expected="two frames or more", got=str(len(rows)))
    worst = max(pairs, key=lambda row: row.flicker or 0.0)
    rms = _root_mean_square([row.flicker or 0.0 for row in pairs])
    error = _root_mean_square([10 ** (-row.fidelity_db / 20) for row in rows])
    return Flicker(
        frames=len(rows),
        rms=rms,
        worst=worst.flicker or 0.0,
        worst_frame=worst.frame,
        worst_brightness_step_8bit=max(abs(row.brightness_step_8bit or 0.0) for row in pairs),
        worst_fidelity_db=min(row.fidelity_db for row in rows),
        renewal=rms / (math.sqrt(2) * error) if 0 < error < math.inf else None,
        change=_root_mean_square([row.change or 0.0 for row in pairs]),
        nonfinite=sum(row.nonfinite for row in rows),
    )


def _rms(difference: NDArray[np.float64]) -> float:
    value = float(np.sqrt(np.mean(np.square(difference))))
    return value if math.isfinite(value) else math.inf


def _root_mean_square(values: Sequence[float]) -> float:
    return math.sqrt(sum(value * value for value in values) / len(values))
