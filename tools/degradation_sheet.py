"""Draw every degradation on a measuring picture, labelled, in one contact sheet.

``python tools/degradation_sheet.py OUT.png [--picture chelsea] [--side 192] [--columns 6] [--seed 0]``

Pictures are never committed here: this makes the one that belongs to ``docs/degradations.md``.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from edgeir.errors import EdgeIRError
from edgeir.imaging import degradations as d
from edgeir.imaging.colour import Pixels, to_uint8
from edgeir.imaging.measuring import load_measuring

# One typical strength of each kind, in the order of KINDS.
EXAMPLES: dict[str, d.Degradation] = {
    "gaussian-noise": d.GaussianNoise(25),
    "low-light": d.LowLight(0.3, 1.2, 2000, 1.5),
    "rain": d.Rain(0.005, 21, 12, 0.6),
    "haze": d.Haze(1.5, 0.85),
    "gaussian-blur": d.GaussianBlur(1.6),
    "motion-blur": d.MotionBlur(11, 30),
    "jpeg": d.Jpeg(10),
    "poisson-noise": d.PoissonNoise(60),
    "speckle-noise": d.SpeckleNoise(60),
    "correlated-noise": d.CorrelatedNoise(15, 2, 0.3),
    "snow": d.Snow(0.01, 7, 6, 15, 0.9),
    "defocus-blur": d.DefocusBlur(3.5),
    "anisotropic-blur": d.AnisotropicBlur(4, 0.8, 45),
    "downsample": d.Downsample(4),
    "bsrgan-shuffle": d.BsrganShuffle(2),
    "real-esrgan-shuffle": d.RealEsrganShuffle(2),
}
_LABEL_PX = 20
_GAP_PX = 4
_PAPER, _INK = (255, 255, 255), (0, 0, 0)


def label(name: str) -> str:
    """What stands above a tile: the kind and its parameters, in the order of the class, without ``clip``."""
    if name not in EXAMPLES:
        return name
    values = str(EXAMPLES[name]).partition("(")[2].rstrip(")")
    shown = [part.split("=")[1] for part in values.split(", ") if not part.startswith("clip=")]
    return f"{name}  {', '.join(shown)}"


def tile_box(index: int, side: int, columns: int) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the picture of tile ``index``, in pixels of the sheet."""
    row, column = divmod(index, columns)
    left = _GAP_PX + column * (side + _GAP_PX)
    top = _GAP_PX + row * (side + _LABEL_PX + _GAP_PX) + _LABEL_PX
    return left, top, left + side, top + side


def sheet(clean: Pixels, *, columns: int = 6, seed: int = 0) -> Image.Image:
    """The clean picture and one tile per kind.

    Args:
        clean: ``(side, side, 3) float32`` in [0, 1].
        columns: tiles in a row.
        seed: of each tile's own generator.

    Returns:
        An RGB image; tile 0 is clean, tile i is the i-th kind (`tile_box`).
    """
    side = clean.shape[0]
    tiles = {"clean": clean}
    tiles.update({name: step.apply(clean, np.random.default_rng(seed)) for name, step in EXAMPLES.items()})
    _, _, _, height = tile_box(len(tiles) - 1, side, columns)
    width = _GAP_PX + columns * (side + _GAP_PX)
    page = Image.new("RGB", (width, height + _GAP_PX), _PAPER)
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(11)
    for index, (name, pixels) in enumerate(tiles.items()):
        left, top, _, _ = tile_box(index, side, columns)
        page.paste(Image.fromarray(to_uint8(pixels)), (left, top))
        pen.text((left, top - _LABEL_PX + 4), label(name), fill=_INK, font=font)
    return page


def main(arguments: list[str] | None = None) -> int:
    """Write the sheet; 2 where the picture is not there or too small."""
    parser = argparse.ArgumentParser(description="Draw every degradation on a measuring picture.")
    parser.add_argument("out", type=Path, help="the file to write, .png")
    parser.add_argument("--picture", default="chelsea", help="name of a measuring picture")
    parser.add_argument("--side", type=int, default=192, help="side of a tile, in pixels")
    parser.add_argument("--columns", type=int, default=6, help="tiles in a row")
    parser.add_argument("--seed", type=int, default=0, help="of every tile's random numbers")
    given = parser.parse_args(arguments)
    try:
        clean = load_measuring(given.picture, given.side)
    except EdgeIRError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    sheet(clean, columns=given.columns, seed=given.seed).save(given.out)
    print(given.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
