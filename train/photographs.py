"""The photographs that the shipped weights are trained on: from Debian's wallpaper packages to clean tiles.

``python -m edgeir.train.photographs DEST`` reads the packages' files in place, halves them by area (which takes the
JPEG and the demosaicking out of them) and writes square tiles as lossless WebP. The packages are
``lomiri-wallpapers-16.04 lomiri-wallpapers-20.04 mate-backgrounds plasma-workspace-wallpapers``; each picture's
licence is in its package's copyright file. The pictures are used to train on and are not part of edgeir.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgeir.errors import EdgeIRError, PictureError, UsageError
from edgeir.storage import writing
from edgeir.train.pictures import decode, mean_gradient

SHRINK = 2
HELD_OUT = ("Kleiber_by_Lukas_Baubkus", "Storm", "Path")
"""Watched while training, never trained on; they are not the measuring pictures either."""

_LOMIRI = (
    "Bridge_by_Sander_Klootwijk",
    "Dragonfly_by_Bolly",
    "Kleiber_by_Lukas_Baubkus",
    "Picture_0B_by_freespace",
    "Wine_by_Jakkub_Mede",
    "aitzgorri_by_Aitzol_Berasategi",
    "free_by_Peter_Nerlich",
    "friends_by_Aitzol_Berasategi",
    "greentock_by_Peter_Nerlich",
    "life_by_Aitzol_Berasategi",
    "picosdeeuropa_by_Aitzol_Berasategi",
    "seeding_by_Clements_Engelhardt",
    "sunset_by_Aitzol_Berasategi",
    "umang_by_Abhishek_Mudgal",
)
_MATE = ("Aqua", "Blinds", "Dune", "Garden", "LadyBird", "RainDrops", "Storm", "TwoWings", "Wood", "YellowFlower")
_PLASMA = (
    "BytheWater",
    "ColdRipple",
    "ColorfulCups",
    "DarkestHour",
    "EveningGlow",
    "FallenLeaf",
    "Grey",
    "Kite",
    "OneStandsOut",
    "Path",
    "summer_1am",
)


@dataclass(frozen=True, slots=True)
class Photograph:
    """One photograph of the packages; the largest file that a pattern finds is taken."""

    name: str
    pattern: str


PHOTOGRAPHS: tuple[Photograph, ...] = (
    *(Photograph(name, f"backgrounds/{name}.*") for name in _LOMIRI),
    *(Photograph(name, f"backgrounds/mate/nature/{name}.*") for name in _MATE),
    *(Photograph(name, f"wallpapers/{name}/contents/images/*") for name in _PLASMA),
)


def located(share: Path) -> dict[str, Path]:
    """Name to file of every photograph below ``share`` (``/usr/share``).

    Raises:
        PictureError: some are not there; says how to install them.
    """
    found: dict[str, Path] = {}
    for photograph in PHOTOGRAPHS:
        files = [path for path in share.glob(photograph.pattern) if path.is_file()]
        if files:
            found[photograph.name] = max(files, key=lambda path: (path.stat().st_size, path.name))
    missing = [photograph.name for photograph in PHOTOGRAPHS if photograph.name not in found]
    if missing:
        raise PictureError(
            f"{len(missing)} of the {len(PHOTOGRAPHS)} photographs are not installed, the first is {missing[0]}",
            where=str(share),
            fix="Run: apt-get install lomiri-wallpapers-16.04 lomiri-wallpapers-20.04 mate-backgrounds"
            " plasma-workspace-wallpapers.",
        )
    return found


def tiles(picture: NDArray[np.uint8], side: int, most: int) -> Iterator[NDArray[np.uint8]]:
    """At most ``most`` squares of ``side`` pixels from ``(H, W, 3) uint8``, spread evenly, none overlapping another.

    Of a fuller grid, those with the most detail (mean absolute gradient) are taken: sky teaches little.
    """
    height, width = picture.shape[:2]
    rows, columns = height // side, width // side
    top, left = (height - rows * side) // 2, (width - columns * side) // 2
    grid = [
        picture[top + row * side : top + (row + 1) * side, left + column * side : left + (column + 1) * side]
        for row in range(rows)
        for column in range(columns)
    ]
    detail = [mean_gradient(tile) for tile in grid]
    for index in sorted(sorted(range(len(grid)), key=lambda index: -detail[index])[:most]):
        yield grid[index]


def prepare(share: Path, destination: Path, *, side: int, most: int) -> tuple[int, int]:
    """Write the tiles of all photographs to ``destination/train`` and, of those held out, to ``destination/held-out``.

    Returns:
        number of tiles in each.
    """
    counts = {"train": 0, "held-out": 0}
    for name, file in located(share).items():
        part = "held-out" if name in HELD_OUT else "train"
        folder = destination / part
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        halved = decode(file, shrink=SHRINK)
        if halved.dtype == np.uint16:
            halved = ((halved.astype(np.uint32) + 128) // 257).astype(np.uint8)
        for index, tile in enumerate(tiles(np.asarray(halved, np.uint8), side, most)):
            path = folder / f"{name}-{index:02d}.webp"
            with writing(path):
                Image.fromarray(tile).save(path, lossless=True, quality=60, method=2)
            counts[part] += 1
    return counts["train"], counts["held-out"]


def main(arguments: Sequence[str] | None = None) -> int:
    """``python -m edgeir.train.photographs DEST``."""
    parser = argparse.ArgumentParser(prog="python -m edgeir.train.photographs", description=__doc__.split("\n\n")[0])
    parser.add_argument("destination", type=Path)
    parser.add_argument("--share", type=Path, default=Path("/usr/share"), help="where the packages were installed")
    parser.add_argument("--side", type=int, default=320, help="side of the tiles, pixels (320)")
    parser.add_argument("--most", type=int, default=16, help="tiles per photograph (16)")
    options = parser.parse_args(arguments)
    try:
        if options.side < 64 or options.most < 1:
            raise UsageError("tiles need a side of at least 64 pixels, and one per photograph")
        trained, held_out = prepare(options.share, options.destination, side=options.side, most=options.most)
    except EdgeIRError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    sys.stdout.write(f"{trained} tiles to train on, {held_out} held out\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
