"""One picture in memory, with everything a restored copy must keep."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from edgeir.errors import PictureError
from edgeir.imaging.colour import Pixels


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A picture as a network eats it, and what the file said beside the pixels.

    Attributes:
        pixels: ``(H, W, 3) float32`` in [0, 1], RGB, upright; a grey source has three equal channels.
        alpha: ``(H, W) float32`` in [0, 1], 1 is opaque, not premultiplied; ``None`` without transparency.
        grey: the source had no colour; writing makes it grey again.
        bits: 8 or 16 per channel, in the source and in a PNG written from it.
        icc_profile: the colour profile of the pixels, as found; ``None`` without one (sRGB is then the custom).
        format: Pillow's name of the source format (``"PNG"``, ``"JPEG"``, ``"WEBP"``, ``"BMP"``, ``"TIFF"``).

    Raises:
        PictureError: shapes or dtypes are others than these.
    """

    pixels: Pixels
    alpha: Pixels | None = None
    grey: bool = False
    bits: int = 8
    icc_profile: bytes | None = None
    format: str = "PNG"

    def __post_init__(self) -> None:
        if self.pixels.ndim != 3 or self.pixels.shape[2] != 3 or 0 in self.pixels.shape:
            raise PictureError(
                "these pixels are no RGB picture", expected="shape (H, W, 3)", got=f"shape {self.pixels.shape}"
            )
        if self.pixels.dtype != np.float32:
            raise PictureError("pixels have the wrong type", expected="float32", got=str(self.pixels.dtype))
        if self.alpha is not None and (self.alpha.shape != self.pixels.shape[:2] or self.alpha.dtype != np.float32):
            raise PictureError(
                "the alpha channel does not fit the pixels",
                expected=f"float32 of shape {self.pixels.shape[:2]}",
                got=f"{self.alpha.dtype} of shape {self.alpha.shape}",
            )
        if self.bits not in (8, 16):
            raise PictureError("unknown bit depth", expected="8 or 16 bits", got=str(self.bits))

    @property
    def height(self) -> int:
        """H, in pixels."""
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        """W, in pixels."""
        return int(self.pixels.shape[1])

    def restored(self, pixels: Pixels) -> Picture:
        """This picture with other pixels, ``(H*s, W*s, 3)``: alpha is repeated s times, all else is kept.

        Raises:
            PictureError: the new size is no whole multiple of the old one, the same on both sides.
        """
        scale, rest = divmod(int(pixels.shape[0]), self.height)
        if scale < 1 or rest or pixels.shape[1] != self.width * scale:
            raise PictureError(
                "the restored picture has another shape than its source",
                expected=f"whole multiples of {self.height}x{self.width}",
                got=f"{pixels.shape[0]}x{pixels.shape[1]}",
            )
        alpha = self.alpha if self.alpha is None or scale == 1 else self.alpha.repeat(scale, 0).repeat(scale, 1)
        return replace(self, pixels=pixels, alpha=alpha)
