"""Parity: how far the output of an engine is from the output of its reference, for the same input."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeir.imaging.metrics import fidelity_db

Pictures = NDArray[np.float32]
Run = Callable[[Pictures], Pictures]


@dataclass(frozen=True, slots=True)
class Parity:
    """One comparison.

    Attributes:
        engine: name of what was compared with the reference.
        height, width: of the input in pixels.
        max_abs: largest absolute difference; ``inf`` where the engine gave NaN or Inf.
        fidelity_db: PSNR of the difference, peak 1; ``inf`` for equal outputs, ``-inf`` for NaN or Inf.
        nonfinite: how many output values are NaN or Inf.
        key_graph_overlap: for networks that choose neighbours, the smallest Jaccard overlap of the engine's choice with
            the reference's own; the other figures then hold for a reference that was given the engine's choice.
        free_fidelity_db: for those networks, the fidelity when each chooses for itself.
    """

    engine: str
    height: int
    width: int
    max_abs: float
    fidelity_db: float
    nonfinite: int
    key_graph_overlap: float | None = None
    free_fidelity_db: float | None = None


def compare_outputs(engine: str, output: Pictures, reference: Pictures, *, height: int, width: int) -> Parity:
    """Compare two outputs of the same shape ``(N, 3, s*H, s*W)``; nothing is clipped first."""
    nonfinite = int(output.size - np.isfinite(output).sum())
    if nonfinite:
        return Parity(engine, height, width, float("inf"), float("-inf"), nonfinite)
    difference = np.abs(output.astype(np.float64) - reference.astype(np.float64))
    return Parity(engine, height, width, float(difference.max()), fidelity_db(output, reference), 0)
