"""What every runtime offers: batches of pictures in, batches of pictures out."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Pictures = NDArray[np.float32]


class Session(Protocol):
    """An opened network, ready to run."""

    @property
    def name(self) -> str:
        """Runtime, version and device, for reports: ``"onnxruntime 1.31.1 CPU"``."""
        ...

    def run(self, pictures: Pictures) -> Pictures:
        """Restore a batch: ``(N, 3, H, W) float32 in [0, 1], RGB -> (N, 3, s*H, s*W) float32``, not clipped."""
        ...
