"""The reciprocal norm that every attention by cosines divides by."""

from __future__ import annotations

import torch
from torch import Tensor

from edgeir.ops.table import LEAST_NORM


def inverse_norm(mean_square: Tensor, length: int) -> Tensor:
    """``1 / max(norm, 1e-12)`` of rows of ``length`` elements, from the mean of their squares."""
    inverse: Tensor = torch.rsqrt(mean_square.clamp_min(LEAST_NORM**2 / length)) * length**-0.5
    return inverse
