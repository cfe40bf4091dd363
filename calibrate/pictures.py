"""The pictures that ranges are found on: of the user's folder, by a seed, spread over degradations and brightness.

Ranges come from degraded pictures, because that is what the network will read; and a range that was found on bright
noise says nothing about dark haze. So every degradation gets its turn, and among many possible crops those are taken
that spread evenly over their brightness. Measuring pictures are refused by content: they would judge what they chose.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeir.errors import PictureError, UsageError
from edgeir.imaging.colour import Pixels, luma
from edgeir.imaging.conditions import Condition, degrade
from edgeir.imaging.layout import nchw_from_hwc
from edgeir.imaging.listing import list_pictures
from edgeir.imaging.measuring import MEASURING_PICTURES
from edgeir.imaging.padding import pad_to_at_least
from edgeir.imaging.reading import read_picture
from edgeir.storage import sha256_of

_CROPS_PER_SAMPLE = 4  # candidates for each sample that is wanted


@dataclass(frozen=True, slots=True)
class CalibrationSample:
    """One degraded crop, described; `CalibrationSet.batches` makes it.

    Attributes:
        picture: file, relative to the folder, with ``/``.
        condition: name of the degradation.
        top: row of the crop in the picture (mirrored outwards where the picture is smaller), pixels.
        left: column of the crop.
        luminance: mean luma of the clean crop, 0 to 1.
    """

    picture: str
    condition: str
    top: int
    left: int
    luminance: float


@dataclass(frozen=True)
class CalibrationSet:
    """The samples of one calibration, in order; the same folder, seed and settings give the same set.

    Attributes:
        folder: where the pictures lie.
        sha256: of the content of every file that is used, by its name in `CalibrationSample.picture`.
        samples: what is calibrated with.
        skipped: files of the folder that are no pictures.
        height, width: of the crops, pixels of the network's input times its scale.
        seed: of the choice and of the degradations.
    """

    folder: Path
    sha256: dict[str, str]
    samples: tuple[CalibrationSample, ...]
    skipped: tuple[str, ...]
    height: int
    width: int
    seed: int
    conditions: tuple[Condition, ...]

    def pairs(self) -> Iterator[tuple[Pixels, Pixels]]:
        """Degraded and clean crop of each sample, ``(height, width, 3) float32``."""
        conditions = {condition.name: condition for condition in self.conditions}
        for sample in self.samples:
            padded = pad_to_at_least(read_picture(self.folder / sample.picture).pixels, self.height, self.width)
            clean = padded[sample.top : sample.top + self.height, sample.left : sample.left + self.width]
            clean = np.ascontiguousarray(clean)
            name = f"{sample.picture} {sample.top},{sample.left}"
            yield degrade(conditions[sample.condition], clean, name, self.seed), clean

    def batches(self) -> Iterator[Pixels]:
        """Degraded crops as ``(1, 3, height, width) float32``."""
        for degraded, _ in self.pairs():
            yield nchw_from_hwc(degraded)


def calibration_set(
    folder: Path,
    *,
    height: int,
    width: int,
    conditions: Sequence[Condition],
    count: int = 32,
    seed: int = 0,
) -> CalibrationSet:
    """Choose the samples.

    Args:
        folder: clean pictures, looked for in its subfolders too.
        height, width: of the crops, pixels.
        conditions: the degradations that the network is made for, at least one.
        count: samples, at least one for each condition.
        seed: another one chooses other crops.

    Raises:
        PictureError: there is no such folder, no picture in it, or one cannot be read.
        UsageError: one of them is a measuring picture, or there are fewer samples than conditions.
    """
    if count < len(conditions):
        raise UsageError(
            "there are fewer calibration samples than degradations",
            where="calibration",
            expected=f"at least {len(conditions)}",
            got=str(count),
        )
    listing = list_pictures(folder, recursive=True)
    hashes = {path.relative_to(folder).as_posix(): _content_sha256(path) for path in listing.pictures}
    _refuse_measuring_pictures(hashes)
    candidates = _candidates(folder, sorted(hashes), height, width, count=count, seed=seed)
    chosen = _spread(candidates, count)
    rng = np.random.default_rng([seed, 1])
    samples = []
    # A round through the conditions for each stretch of brightness, each in an order of its own.
    for start in range(0, count, len(conditions)):
        order = rng.permutation(len(conditions))
        for offset, (picture, top, left, luminance) in enumerate(chosen[start : start + len(conditions)]):
            samples.append(CalibrationSample(picture, conditions[order[offset]].name, top, left, luminance))
    used = {sample.picture for sample in samples}
    return CalibrationSet(
        folder,
        {name: digest for name, digest in hashes.items() if name in used},
        tuple(samples),
        tuple(path.relative_to(folder).as_posix() for path in listing.skipped),
        height,
        width,
        seed,
        tuple(conditions),
    )


def _content_sha256(path: Path) -> str:
    try:
        return sha256_of(path)[1]
    except OSError as error:
        raise PictureError("the picture cannot be read", where=str(path), got=error.strerror) from error


def _refuse_measuring_pictures(hashes: dict[str, str]) -> None:
    measuring = {picture.sha256: picture.name for picture in MEASURING_PICTURES}
    for name, digest in hashes.items():
        if digest in measuring:
            raise UsageError(
                f"'{name}' is the measuring picture '{measuring[digest]}'",
                where="calibration",
                fix="Take it out of the folder: what is chosen with it cannot be judged by it.",
            )


Candidate = tuple[str, int, int, float]


def _candidates(
    folder: Path, names: Sequence[str], height: int, width: int, *, count: int, seed: int
) -> list[Candidate]:
    """Crops of all pictures at random places, several for each sample that is wanted."""
    each = -(-_CROPS_PER_SAMPLE * count // len(names))
    found: list[Candidate] = []
    for index, name in enumerate(names):
        rng = np.random.default_rng([seed, 0, index])
        brightness = luma(pad_to_at_least(read_picture(folder / name).pixels, height, width))
        for _ in range(each):
            top = int(rng.integers(brightness.shape[0] - height + 1))
            left = int(rng.integers(brightness.shape[1] - width + 1))
            found.append((name, top, left, float(brightness[top : top + height, left : left + width].mean())))
    return found


def _spread(candidates: list[Candidate], count: int) -> list[Candidate]:
    """``count`` candidates, evenly over the ranks of their luminance, dark to bright."""
    ordered = sorted(candidates, key=lambda candidate: (candidate[3], candidate))
    ranks = np.linspace(0, len(ordered) - 1, count).round().astype(int)
    return [ordered[rank] for rank in ranks]
