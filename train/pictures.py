"""Decoded pictures in bounded memory, and the check that every picture of a data set can be decoded at all."""

from __future__ import annotations

import functools
import math
import os
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgeir.errors import PictureError, UsageError
from edgeir.imaging.colour import to_uint8, to_uint16
from edgeir.imaging.reading import read_picture
from edgeir.train.layouts import Example

Decoded: TypeAlias = NDArray[np.uint8] | NDArray[np.uint16]
"""``(H, W, 3)``, RGB, upright: ``uint8``, or ``uint16`` where the file has 16 bits per channel."""

_LARGEST_SHRINK = 256  # the sum of 256 x 256 values of 16 bits still fits 32


def decode(path: str | os.PathLike[str], *, shrink: int = 1) -> Decoded:
    """One picture file as integers: EXIF orientation applied, grey as three channels, alpha dropped.

    Args:
        path: the file.
        shrink: the mean of each ``shrink`` x ``shrink`` block becomes one pixel, rounded half up; the rows and columns
            beyond the last whole block, at the bottom and on the right, are cropped. Noise and JPEG blocks of a large
            picture average out, so that it is cleaner as ground truth. The mean is of the stored (gamma-coded)
            values.

    Returns:
        ``(H // shrink, W // shrink, 3)`` ``uint8`` or ``uint16``, not writeable: copy it to change it.

    Raises:
        PictureError: the file cannot be read, or is smaller than one block.
        UsageError: ``shrink`` is below 1 or above 256.
    """
    _check_shrink(shrink)
    picture = read_picture(path)
    values: Decoded = to_uint16(picture.pixels) if picture.bits == 16 else to_uint8(picture.pixels)
    if shrink > 1:
        values = _block_means(values, shrink, str(path))
    values.flags.writeable = False
    return values


class PictureCache:
    """Decoded pictures, least recently used out first, never more than ``memory_bytes`` of them.

    A picture that alone is greater than the bound is decoded each time and not kept. Threads may share a cache. A copy
    sent to another process (pickled) starts empty with a bound of its own: give each of ``n`` workers an ``n``-th of
    the memory.

    Args:
        memory_bytes: the bound on the pixels held; 0 keeps nothing.

    Raises:
        UsageError: the bound is negative.
    """

    def __init__(self, memory_bytes: int) -> None:
        if memory_bytes < 0:
            raise UsageError(
                "a picture cache cannot hold less than nothing",
                where="memory_bytes",
                expected="0 or more",
                got=str(memory_bytes),
            )
        self._start(memory_bytes)

    def _start(self, memory_bytes: int) -> None:
        self.memory_bytes = memory_bytes
        self.held_bytes = 0
        self._kept: OrderedDict[tuple[str, int], Decoded] = OrderedDict()  # least recently used first
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def __getstate__(self) -> int:
        return self.memory_bytes

    def __setstate__(self, memory_bytes: int) -> None:
        self._start(memory_bytes)

    def get(self, path: str | os.PathLike[str], *, shrink: int = 1) -> Decoded:
        """The picture at ``path`` as `decode` gives it, shrunk once and kept that way; not writeable.

        Raises:
            PictureError, UsageError: as `decode`.
        """
        key = (os.fspath(path), shrink)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        values = decode(path, shrink=shrink)
        with self._lock:
            self._keep(key, values)
        return values

    def _keep(self, key: tuple[str, int], values: Decoded) -> None:
        if key in self._kept or values.nbytes > self.memory_bytes:  # another thread may have been faster
            return
        while self.held_bytes + values.nbytes > self.memory_bytes:
            _, dropped = self._kept.popitem(last=False)
            self.held_bytes -= dropped.nbytes
        self._kept[key] = values
        self.held_bytes += values.nbytes


def readable(
    examples: Iterable[Example], *, min_side_px: int, scale: int = 1, shrink: int = 1
) -> tuple[list[Example], list[tuple[Path, str]]]:
    """Decode every picture in full once and part the examples that can be trained on from the files that cannot.

    A picture stays checked for as long as the process lives and the file keeps its size and time of change.

    Args:
        examples: what a layout listed.
        min_side_px: the patch: both sides of a clean picture, after ``shrink``, must have so many pixels.
        scale: a clean picture is ``scale`` times as high and as wide as its degraded one.
        shrink: as in `decode`; both pictures of a pair are shrunk.

    Returns:
        The good examples, in the order given, and for every file that spoils one or more others, once and in that
        order, its path and the reason.

    Raises:
        PictureError: the sizes of a pair do not match, or not one example is good.
        UsageError: ``shrink`` cannot be used.
    """
    _check_shrink(shrink)
    good: list[Example] = []
    skipped: dict[Path, str] = {}
    for example in examples:
        bad = _spoiled(example, min_side_px, scale, shrink)
        if bad is None:
            good.append(example)
        else:
            skipped.setdefault(*bad)
    if skipped and not good:
        file, reason = next(iter(skipped.items()))
        raise PictureError(
            "not one of these pictures can be used",
            where=str(file.parent),
            got=f"{len(skipped)} bad; the first, {file.name}: {reason}",
        )
    return good, list(skipped.items())


def sharpest(examples: Sequence[Example], *, share: float, shrink: int = 1) -> list[Example]:
    """The examples whose clean pictures have the most detail: the mean absolute difference between neighbours in a row.

    Args:
        examples: good ones, of `readable`.
        share: how many of them to keep, in (0, 1]; at least one.
        shrink: as in `decode`; detail is judged after it.

    Returns:
        ``ceil(share * len(examples))`` of them in the order given.

    Raises:
        PictureError, UsageError: as `decode`.
    """
    detail = [mean_gradient(decode(example.clean, shrink=shrink)) for example in examples]
    kept = sorted(range(len(examples)), key=lambda index: -detail[index])[: math.ceil(share * len(examples))]
    return [examples[index] for index in sorted(kept)]


def mean_gradient(picture: Decoded) -> float:
    """Mean absolute difference between neighbours in a row of ``(H, W, 3)``, full scale 1."""
    return float(np.abs(np.diff(picture.astype(np.int32), axis=1)).mean()) / np.iinfo(picture.dtype).max


def _spoiled(example: Example, min_side_px: int, scale: int, shrink: int) -> tuple[Path, str] | None:
    """The file that makes this example useless, and why; ``None`` if it is good."""
    sizes: list[tuple[int, int]] = []
    for file in (example.clean, example.degraded):
        if file is not None:
            size, reason = _size_or_reason(file)
            if size is None:
                return file, reason
            sizes.append(size)
    height, width = sizes[0]
    if example.degraded is not None:
        low_height, low_width = sizes[1]
        if (low_height * scale, low_width * scale) != (height, width):
            times = f"{scale} times " if scale > 1 else ""
            raise PictureError(
                "the pictures of this pair do not fit each other",
                where=str(example.degraded),
                expected=f"{example.clean} to be {times}its size",
                got=f"{low_height}x{low_width} and {height}x{width} (height x width)",
                fix="The names pair pictures of different scenes or scales: check the folders.",
            )
    side = min(height, width) // (shrink * scale) * scale
    if side < min_side_px:
        shrunk = f" after shrinking by {shrink}" if shrink > 1 else ""
        return example.clean, f"{height}x{width} pixels are too few{shrunk} for patches of {min_side_px}x{min_side_px}"
    return None


def _size_or_reason(file: Path) -> tuple[tuple[int, int] | None, str]:
    """Height and width of a picture that decodes, or ``None`` and why it does not."""
    try:
        state = file.stat()
    except OSError as error:
        return None, f"the file cannot be read: {error.strerror}"
    return _decoded_size(file, state.st_size, state.st_mtime_ns)


@functools.cache
def _decoded_size(file: Path, size_bytes: int, changed_ns: int) -> tuple[tuple[int, int] | None, str]:
    try:
        picture = read_picture(file)
    except PictureError as error:
        return None, str(error).removeprefix(f"{file}: ").removesuffix(".")
    return (picture.height, picture.width), ""


def _check_shrink(shrink: int) -> None:
    if not 1 <= shrink <= _LARGEST_SHRINK:
        raise UsageError(
            "pictures cannot be shrunk by this factor",
            where="shrink",
            expected=f"a whole number from 1 to {_LARGEST_SHRINK}",
            got=str(shrink),
        )


def _block_means(values: Decoded, shrink: int, where: str) -> Decoded:
    """``(H, W, 3)`` to ``(H // shrink, W // shrink, 3)`` of the same type, in exact integer arithmetic."""
    height, width = values.shape[0] // shrink, values.shape[1] // shrink
    if 0 in (height, width):
        raise PictureError(
            "the picture is too small to be shrunk",
            where=where,
            expected=f"at least {shrink}x{shrink} pixels",
            got=f"{values.shape[0]}x{values.shape[1]}",
        )
    whole = values[: height * shrink, : width * shrink]
    total = np.full((height, width, 3), shrink * shrink // 2, dtype=np.uint32)
    for row in range(shrink):
        for column in range(shrink):
            total += whole[row::shrink, column::shrink]
    total //= np.uint32(shrink * shrink)
    return total.astype(np.uint16) if values.dtype == np.uint16 else total.astype(np.uint8)
