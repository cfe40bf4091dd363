"""The reciprocal norm that every attention by cosines divides by."""

from __future__ import annotations

import torch
from torch import Tensor

_NORMALIZE_EPS = 1e-12  # torch.nn.functional.normalize


def inverse_norm(mean_square: Tensor, length: int) -> Tensor:
    """``1 / max(norm, 1e-12)`` of rows of ``length`` elements, from the mean of their squares."""
    inverse: Tensor = torch.rsqrt(mean_square.clamp_min(_NORMALIZE_EPS**2 / length)) * length**-0.5
    return inverse
