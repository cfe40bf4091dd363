"""Luma and chroma as cameras and decoders give them: NV12 bytes to RGB and back, in float64.

NV12 is 4:2:0 in two planes that follow each other: H rows of W luma bytes, then H/2 rows in which the two chroma bytes
of every 2x2 pixels stand side by side (``U V U V``). NVDEC, V4L2 (``V4L2_PIX_FMT_NV12``), GStreamer and PyAV
(``format="nv12"``) give a packed frame so::

    Y Y Y Y      (H, W)          one buffer of 3/2 H W bytes: (3H/2, W)
    Y Y Y Y
    U V U V      (H/2, W)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeir.errors import PictureError, UsageError, nearest

Bytes = NDArray[np.uint8]

# Weights of red and blue in luma (ITU-R BT.601-7 and BT.709-6, also Rec. ITU-T H.273, table 4); green has the rest.
_LUMA_WEIGHTS = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722)}
# Black, the span from black to white, and the span of chroma around 128 (H.273, equations 20 to 22 and 27 to 29).
_LEVELS = {"limited": (16.0, 219.0, 224.0), "full": (0.0, 255.0, 255.0)}
_GREY = 128.0


@dataclass(frozen=True, slots=True)
class Yuv:
    """What luma and chroma bytes mean.

    Attributes:
        matrix: ``"bt709"`` (HD and later) or ``"bt601"`` (SD, JPEG, many USB cameras).
        range: ``"limited"`` (black 16, white 235: video) or ``"full"`` (0 to 255: JPEG, some cameras).
    """

    matrix: str = "bt709"
    range: str = "limited"

    @property
    def name(self) -> str:
        """``"bt709-limited"``."""
        return f"{self.matrix}-{self.range}"

    def to_rgb(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """``(A, b)`` with ``rgb = A @ (y, u, v) + b``: bytes in 0 to 255 to RGB in [0, 1] before clipping.

        Returns:
            A ``(3, 3)`` and b ``(3,)``, both ``float64``.
        """
        red, blue = _LUMA_WEIGHTS[self.matrix]
        green = 1.0 - red - blue
        black, luma_span, chroma_span = _LEVELS[self.range]
        of_u = np.array([0.0, -2 * blue * (1 - blue) / green, 2 * (1 - blue)]) / chroma_span
        of_v = np.array([2 * (1 - red), -2 * red * (1 - red) / green, 0.0]) / chroma_span
        matrix = np.stack([np.full(3, 1 / luma_span), of_u, of_v], axis=1)
        return matrix, -matrix @ np.array([black, _GREY, _GREY])


YUVS: tuple[Yuv, ...] = (Yuv("bt709", "limited"), Yuv("bt709", "full"), Yuv("bt601", "limited"), Yuv("bt601", "full"))


def yuv_named(name: str) -> Yuv:
    """The row of `YUVS` called ``name`` (``"bt709-limited"``).

    Raises:
        UsageError: there is none; offers the nearest.
    """
    by_name = {yuv.name: yuv for yuv in YUVS}
    if name not in by_name:
        raise UsageError(f"unknown colours '{name}'", expected=", ".join(by_name), fix=nearest(name, by_name))
    return by_name[name]


def rgb_from_nv12(frame: Bytes, yuv: Yuv) -> NDArray[np.float64]:
    """One frame in RGB: each chroma pair is taken for its four pixels, as OpenCV and NPP do.

    Args:
        frame: ``(3H/2, W) uint8``, H and W even.
        yuv: what its bytes mean.

    Returns:
        ``(H, W, 3) float64`` in [0, 1], clipped, not rounded.

    Raises:
        PictureError: the frame has another shape.
    """
    if frame.ndim != 2 or frame.shape[0] % 3 or frame.shape[1] % 2 or 0 in frame.shape:
        raise PictureError(
            "these bytes are no NV12 frame", expected="shape (3H/2, W), H and W even", got=str(frame.shape)
        )
    height, width = frame.shape[0] // 3 * 2, frame.shape[1]
    chroma = frame[height:].reshape(height // 2, width // 2, 2).repeat(2, axis=0).repeat(2, axis=1)
    matrix, offset = yuv.to_rgb()
    values = np.concatenate([frame[:height, :, None], chroma], axis=2).astype(np.float64)
    rgb: NDArray[np.float64] = np.clip(values @ matrix.T + offset, 0.0, 1.0)
    return rgb


def nv12_from_rgb(pixels: NDArray[np.uint8], yuv: Yuv) -> Bytes:
    """A frame as a camera would give it: the chroma of 2x2 pixels is their mean, all is rounded.

    Args:
        pixels: ``(H, W, 3) uint8``, RGB, H and W even.
        yuv: what the bytes are to mean.

    Returns:
        ``(3H/2, W) uint8``.

    Raises:
        PictureError: a side is odd.
    """
    height, width = pixels.shape[:2]
    if height % 2 or width % 2 or 0 in pixels.shape:
        raise PictureError("NV12 needs even sides", expected="an even height and width", got=f"{height}x{width}")
    matrix, offset = yuv.to_rgb()
    values = (pixels / 255.0 - offset) @ np.linalg.inv(matrix).T
    chroma = values[..., 1:].reshape(height // 2, 2, width // 2, 2, 2).mean(axis=(1, 3)).reshape(height // 2, width)
    frame: Bytes = np.rint(np.clip(np.concatenate([values[..., 0], chroma]), 0, 255)).astype(np.uint8)
    return frame
