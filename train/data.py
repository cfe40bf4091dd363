"""From pictures to batches: which patch, which crop, which degradation, as a function of the sample's number alone.

A run draws samples 0, 1, 2, ...; sample n is the same whichever process makes it, in whichever order, and whether or
not the run was stopped in between. That is all there is to resuming in the middle of an epoch and to sharing a batch
among processes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from edgeir.errors import PictureError
from edgeir.imaging.colour import Pixels, luma
from edgeir.imaging.draws import Mixture
from edgeir.train.layouts import Example
from edgeir.train.pictures import PictureCache
from edgeir.train.recipe import Stage


@dataclass(frozen=True, slots=True)
class Source:
    """Pictures of one recipe section.

    Attributes:
        examples: pictures or pairs, in the layout's order.
        repeat: how often each counts per epoch.
        shrink: area-average factor while reading.
        mixture: what falls on pictures without a degraded partner.
        grey: share of the samples that lose their colour before anything falls on them.
        channel_shuffle: share of the samples whose channels change places, likewise before.
    """

    examples: Sequence[Example]
    repeat: int
    shrink: int
    mixture: Mixture | None
    grey: float = 0.0
    channel_shuffle: float = 0.0


@dataclass(frozen=True, slots=True)
class Batch:
    """What one process takes at once.

    Attributes:
        degraded: ``(N, 3, H, W) float32``, RGB; noise is not clipped.
        clean: ``(N, 3, s*H, s*W) float32`` in [0, 1].
        names: per sample, the picture and what fell on it, for error messages.
    """

    degraded: Tensor
    clean: Tensor
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """A sample's number and the side of its patch (pixels of the input)."""

    number: int
    patch_px: int


class TrainingSet(Dataset[tuple[NDArray[np.float32], NDArray[np.float32], str]]):
    """Samples by number.

    Args:
        sources: where pictures come from; an epoch is all of them, repeated, in a new order each time.
        seed: of the order, the crops and the degradations.
        flips: mirror and turn patches, one of eight ways at random.
        scale: s, pixels of the truth per pixel of the input.
        cache_bytes: memory for decoded pictures of this process.

    Raises:
        PictureError: there is no picture at all.
    """

    def __init__(self, sources: Sequence[Source], *, seed: int, flips: bool, scale: int, cache_bytes: int) -> None:
        self.sources = tuple(sources)
        self.seed = seed
        self.flips = flips
        self.scale = scale
        self.cache = PictureCache(cache_bytes)
        self._entries = [
            (index, example)
            for index, source in enumerate(self.sources)
            for _ in range(source.repeat)
            for example in range(len(source.examples))
        ]
        if not self._entries:
            raise PictureError("there is no picture to train on")

    def __len__(self) -> int:
        """Samples per epoch."""
        return len(self._entries)

    def __getitem__(self, place: Place) -> tuple[NDArray[np.float32], NDArray[np.float32], str]:
        """Degraded and clean patch, ``(3, p, p)`` and ``(3, s*p, s*p) float32``, and their description."""
        epoch, position = divmod(place.number, len(self))
        source_index, example_index = self._entries[int(_order(self.seed, epoch, len(self))[position])]
        source = self.sources[source_index]
        example = source.examples[example_index]
        rng = np.random.default_rng([self.seed, 1, place.number])
        clean = self.cache.get(example.clean, shrink=source.shrink)
        if example.degraded is not None:
            degraded = self.cache.get(example.degraded, shrink=source.shrink)
            low, high = self._crop_pair(degraded, clean, place.patch_px, rng)
            low, high = _recoloured(source, rng, low, high)
            name = f"{example.degraded.name} ({example.group})"
        else:
            high = self._crop(clean, place.patch_px * self.scale, rng)
            (high,) = _recoloured(source, rng, high)
            if source.mixture is None:
                low, name = high, f"{example.clean.name} (as it is)"
            else:
                drawn = source.mixture.draw(rng)
                low = drawn.apply(high, rng)
                name = f"{example.clean.name} ({drawn.name})"
            if self.scale > 1 and low.shape == high.shape:
                low = _downsample(low, self.scale)
        return np.ascontiguousarray(low.transpose(2, 0, 1)), np.ascontiguousarray(high.transpose(2, 0, 1)), name

    def _crop(self, picture: NDArray[np.uint8] | NDArray[np.uint16], side: int, rng: np.random.Generator) -> Pixels:
        top, left = (int(rng.integers(length - side + 1)) for length in picture.shape[:2])
        return self._turned(_as_float(picture[top : top + side, left : left + side]), self._turn(rng))

    def _crop_pair(
        self,
        degraded: NDArray[np.uint8] | NDArray[np.uint16],
        clean: NDArray[np.uint8] | NDArray[np.uint16],
        side: int,
        rng: np.random.Generator,
    ) -> tuple[Pixels, Pixels]:
        top, left = (int(rng.integers(length - side + 1)) for length in degraded.shape[:2])
        turn, scale = self._turn(rng), self.scale
        low = degraded[top : top + side, left : left + side]
        high = clean[top * scale : (top + side) * scale, left * scale : (left + side) * scale]
        return self._turned(_as_float(low), turn), self._turned(_as_float(high), turn)

    def _turn(self, rng: np.random.Generator) -> int:
        return int(rng.integers(8)) if self.flips else 0

    @staticmethod
    def _turned(patch: Pixels, turn: int) -> Pixels:
        """The eight symmetries of the square: quarter turns, and the same mirrored."""
        turned = np.rot90(patch, turn % 4)
        return np.ascontiguousarray(turned[:, ::-1] if turn >= 4 else turned)


class Shares(Sampler[list[Place]]):
    """For each step and each accumulated part of it, the samples of one process.

    Args:
        stages: of the recipe.
        first_step: where to begin.
        accumulate: parts of a step.
        rank: of this process.
        world: number of processes; with ``accumulate`` it divides every batch.
    """

    def __init__(self, stages: Sequence[Stage], *, first_step: int, accumulate: int, rank: int, world: int) -> None:
        self.stages = tuple(stages)
        self.first_step = first_step
        self.accumulate = accumulate
        self.rank = rank
        self.world = world

    def __iter__(self) -> Iterator[list[Place]]:
        step, number = 0, 0
        for stage in self.stages:
            part = stage.batch // (self.world * self.accumulate)
            for _ in range(stage.steps):
                if step >= self.first_step:
                    for index in range(self.accumulate):
                        first = number + (index * self.world + self.rank) * part
                        yield [Place(first + offset, stage.patch_px) for offset in range(part)]
                step += 1
                number += stage.batch


def batches(samples: TrainingSet, shares: Shares, *, workers: int) -> Iterator[Batch]:
    """The batches of one process, made ahead by ``workers`` processes (0: made when asked for)."""
    loader: DataLoader[Batch] = DataLoader(
        samples,  # type: ignore[arg-type]  # its keys are places, not integers
        batch_sampler=shares,
        num_workers=workers,
        collate_fn=collate,
        multiprocessing_context="spawn" if workers else None,  # a fork of a threaded torch may hang
    )
    return iter(loader)


def collate(samples: Sequence[tuple[NDArray[np.float32], NDArray[np.float32], str]]) -> Batch:
    """Samples of one size to a `Batch`."""
    degraded, clean, names = zip(*samples, strict=True)
    return Batch(torch.from_numpy(np.stack(degraded)), torch.from_numpy(np.stack(clean)), tuple(names))


@lru_cache(maxsize=2)
def _order(seed: int, epoch: int, length: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, 0, epoch]).permutation(length)


def _as_float(values: NDArray[np.uint8] | NDArray[np.uint16]) -> Pixels:
    return values.astype(np.float32) / np.float32(np.iinfo(values.dtype).max)


def _happens(share: float, rng: np.random.Generator) -> bool:
    """One draw, and none where the answer is certain: a source without this keeps its samples."""
    return share > 0 and rng.random() < share


def _recoloured(source: Source, rng: np.random.Generator, *patches: Pixels) -> tuple[Pixels, ...]:
    """The patches of one sample, grey or with their channels in another order as often as the source asks."""
    if _happens(source.grey, rng):
        patches = tuple(_grey(patch) for patch in patches)
    if _happens(source.channel_shuffle, rng):
        order = rng.permutation(3)
        patches = tuple(patch[..., order] for patch in patches)
    return patches


def _grey(patch: Pixels) -> Pixels:
    return np.repeat(luma(patch)[..., None], 3, axis=2)


def _downsample(picture: Pixels, scale: int) -> Pixels:
    from edgeir.imaging.resampling import downsample

    return downsample(picture, scale)
