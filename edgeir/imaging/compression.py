"""What the JPEG coder loses."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from edgeir.imaging.colour import Pixels, to_uint8


def jpeg(clean: Pixels, *, quality: int) -> Pixels:
    """Code and decode a picture as baseline JPEG with halved chroma (4:2:0), in memory.

    The same build of libjpeg gives the same bytes; another may differ by one step of 255 in some pixels.

    Args:
        clean: ``(H, W, 3) float32``; clipped to [0, 1] and rounded to 8 bits first.
        quality: libjpeg's quality, 1 (worst) to 95.

    Returns:
        ``(H, W, 3) float32`` in [0, 1], multiples of 1/255.
    """
    file = io.BytesIO()
    Image.fromarray(to_uint8(clean)).save(file, format="JPEG", quality=quality, subsampling="4:2:0")
    file.seek(0)
    with Image.open(file, formats=("JPEG",)) as image:
        return np.asarray(image, dtype=np.float32) / np.float32(255)
