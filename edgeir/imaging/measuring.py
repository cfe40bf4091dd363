"""The fixed measuring pictures: found inside installed packages, never trained on, checked by hash.

Order and content are the same wherever a number was measured: `MEASURING_SET_SHA256` goes beside it.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeir.errors import EdgeIRError, MissingDependency, PictureError, UsageError, nearest
from edgeir.imaging.colour import Pixels
from edgeir.imaging.layout import middle_of
from edgeir.imaging.padding import pad_to_at_least
from edgeir.imaging.reading import read_picture

_LARGEST_CROP_PX = 300  # the smallest measuring picture is 300 pixels high
_OWN_PICTURES = "or name pictures of your own with --images DIR"


@dataclass(frozen=True, slots=True)
class MeasuringPicture:
    """One picture of the set.

    Attributes:
        name: its name in reports, and in the seed of its degradations.
        package: the import name of the package it lies in.
        path: where in the package, with ``/``.
        sha256: of the file, hex.
        grey: it has no colour.
    """

    name: str
    package: str
    path: str
    sha256: str
    grey: bool = False


def _skimage(name: str, suffix: str, sha256: str, *, grey: bool = False) -> MeasuringPicture:
    return MeasuringPicture(name, "skimage", f"data/{name}.{suffix}", sha256, grey)


def _sklearn(name: str, sha256: str) -> MeasuringPicture:
    return MeasuringPicture(name, "sklearn", f"datasets/images/{name}.jpg", sha256)


# Checked with scikit-image 0.26.0 and scikit-learn 1.9.1. The first nine are the yardstick of the noise numbers.
MEASURING_PICTURES: tuple[MeasuringPicture, ...] = (
    _skimage("astronaut", "png", "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5"),
    _skimage("coffee", "png", "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7"),
    _skimage("chelsea", "png", "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb"),
    _skimage("rocket", "jpg", "c2dd0de7c538df8d111e479619b129464d0269d0ae5fd18ca91d33a7fdfea95c"),
    _skimage("ihc", "png", "f8dd1aa387ddd1f49d8ad13b50921b237df8e9b262606d258770687b0ef93cef"),
    _skimage("hubble_deep_field", "jpg", "3a19c5dd8a927a9334bb1229a6d63711b1c0c767fb27e2286e7c84a3e2c2f5f4"),
    _skimage("retina", "jpg", "38a07f36f27f095e818aea7b96d34202c05176d30253c66733f2e00379e9e0e6"),
    _sklearn("china", "8378025ad2519d649d02e32bd98990db4ab572357d9f09841c2fbfbb4fefad29"),
    _sklearn("flower", "a77f6ec41e353afdf8bdff2ea981b2955535d8d83294f8cfa49cf4e423dd5638"),
    _skimage("motorcycle_left", "png", "db18e9c4157617403c3537a6ba355dfeafe9a7eabb6b9b94cb33f6525dd49179"),
    _skimage("motorcycle_right", "png", "5fc913ae870e42a4b662314bc904d1786bcad8e2f0b9b67dba5a229406357797"),
    _skimage("camera", "png", "b0793d2adda0fa6ae899c03989482bff9a42d3d5690fc7e3648f2795d730c23a", grey=True),
    _skimage("brick", "png", "7966caf324f6ba843118d98f7a07746d22f6a343430add0233eca5f6eaaa8fcf", grey=True),
    _skimage("grass", "png", "b6b6022426b38936c43a4ac09635cd78af074e90f42ffa8227ac8b7452d39f89", grey=True),
    _skimage("gravel", "png", "c48615b451bf1e606fbd72c0aa9f8cc0f068ab7111ef7d93bb9b0f2586440c12", grey=True),
    _skimage("moon", "png", "78739619d11f7eb9c165bb5d2efd4772cee557812ec847532dbb1d92ef71f577", grey=True),
)


def table_sha256() -> str:
    """sha256 (hex) over name, place, content hash and kind of every picture, in order."""
    lines = (f"{p.name} {p.package} {p.path} {p.sha256} {'grey' if p.grey else 'colour'}" for p in MEASURING_PICTURES)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


MEASURING_SET_SHA256 = table_sha256()


def measuring_pictures(limit: int | None = None) -> tuple[MeasuringPicture, ...]:
    """The first ``limit`` pictures of the set, in its order; all of them without a limit.

    Raises:
        UsageError: ``limit`` is below 1 or above their number.
    """
    if limit is not None and not 1 <= limit <= len(MEASURING_PICTURES):
        raise UsageError(
            "there are not that many measuring pictures",
            expected=f"1 to {len(MEASURING_PICTURES)}",
            got=str(limit),
        )
    return MEASURING_PICTURES[:limit]


def load_measuring(name: str, crop_px: int = 256) -> Pixels:
    """The square in the middle of one measuring picture.

    Args:
        name: of the picture (``"astronaut"``).
        crop_px: side of the square, in pixels.

    Returns:
        ``(crop_px, crop_px, 3) float32`` in [0, 1], RGB; a grey picture has three equal channels.

    Raises:
        UsageError: no picture has this name, or it is smaller than the square.
        MissingDependency: its package is not installed, or does not ship it.
        PictureError: the file is not the one that all numbers were measured on.
    """
    known = {picture.name: picture for picture in MEASURING_PICTURES}
    if name not in known:
        raise UsageError("unknown measuring picture", where=name, fix=nearest(name, known))
    file = _located(known[name])
    pixels = read_picture(file).pixels
    height, width = pixels.shape[:2]
    if not 1 <= crop_px <= min(height, width):
        raise UsageError(
            "the square does not fit the measuring picture",
            where=name,
            expected=f"1 to {min(height, width)} pixels",
            got=str(crop_px),
        )
    return middle_of(pixels, crop_px, crop_px)


def measuring_crop(name: str, height: int, width: int) -> Pixels:
    """``(height, width, 3)`` from the middle of a measuring picture, mirrored outwards where it is too small."""
    side = min(max(height, width), _LARGEST_CROP_PX)
    padded = pad_to_at_least(load_measuring(name, crop_px=side), height, width)
    return np.ascontiguousarray(padded[:height, :width])


def _located(picture: MeasuringPicture) -> Path:
    """The file of ``picture`` in its package, found without importing the package, with the right content."""
    spec = importlib.util.find_spec(picture.package)
    folders = list(spec.submodule_search_locations or ()) if spec else []
    if not folders:
        raise MissingDependency(
            f"the measuring pictures of {picture.package} are not here",
            where=picture.name,
            fix=f"Run: pip install 'edgeir[export]', {_OWN_PICTURES}.",
        )
    file = Path(folders[0], picture.path)
    if not file.is_file():
        raise MissingDependency(
            f"this version of {picture.package} does not ship {picture.path}",
            where=picture.name,
            fix=f"Run: pip install --upgrade 'edgeir[export]', {_OWN_PICTURES}.",
        )
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    if digest != picture.sha256:
        raise PictureError(
            "the file is not the measuring picture that numbers were measured on",
            where=str(file),
            expected=f"sha256 {picture.sha256[:12]}...",
            got=f"{digest[:12]}...",
            fix=f"Install {picture.package} again, {_OWN_PICTURES}.",
        )
    return file


def _main() -> None:
    """``python -m edgeir.imaging.measuring NAME``: print where a measuring picture lies."""
    known = {picture.name: picture for picture in MEASURING_PICTURES}
    name = sys.argv[1] if len(sys.argv) == 2 else ""
    try:
        if name not in known:
            raise UsageError(f"unknown measuring picture '{name}'", fix=nearest(name, known))
        sys.stdout.write(f"{_located(known[name])}\n")
    except EdgeIRError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_code)


if __name__ == "__main__":
    _main()
