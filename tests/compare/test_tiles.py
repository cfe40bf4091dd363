"""Tiles against the whole picture, with networks whose need of surroundings is known."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import pytest

from edgeir.compare.drift import Sample
from edgeir.compare.tiles import (
    TileAgreement,
    by_overlap,
    choose_overlap,
    compare_tiles,
    whole_size,
)
from edgeir.errors import UsageError
from edgeir.runtime.restore import GraphInput, restore_pixels
from edgeir.spec import SizeRule

TILE = (48, 64)
# The blend rounds by a few units in the last place of 1 (tests/imaging/test_tiling.py): 1e-6 is 120 dB.
BLEND_DB = 120.0

Network = Callable[[np.ndarray], np.ndarray]


def identity(picture: np.ndarray) -> np.ndarray:
    return picture


def box(radius: int) -> Network:
    """The mean of ``2 radius + 1`` pixels along each row, zeros beyond the edge: a receptive field of ``radius``."""

    def run(picture: np.ndarray) -> np.ndarray:
        padded = np.pad(picture.astype(np.float64), ((0, 0), (radius, radius), (0, 0)))
        total = sum(padded[:, start : start + picture.shape[1]] for start in range(2 * radius + 1))
        return np.asarray(total / (2 * radius + 1), np.float32)

    return run


def less_its_mean(picture: np.ndarray) -> np.ndarray:
    """Looks at the whole picture."""
    return np.asarray(picture - picture.mean() + 0.5, np.float32)


def double(picture: np.ndarray) -> np.ndarray:
    return picture.repeat(2, axis=0).repeat(2, axis=1)


def sample(name: str = "noise", scale: int = 1) -> Sample:
    height, width = whole_size(TILE)
    clean = np.random.default_rng(len(name)).random((height * scale, width * scale, 3), dtype=np.float32)
    clean[:, : width * scale // 3] *= 0.5  # brighter on the right: a tile's mean is not the picture's
    clean = 0.1 * clean + 0.4 * clean.mean(axis=(0, 2), keepdims=True)  # and smoother, or a step would drown in noise
    return Sample(name, "none", np.ascontiguousarray(clean[::scale, ::scale]), clean)


class Session:
    name = "a function"

    def __init__(self, network: Network) -> None:
        self.network = network

    def run(self, pictures: np.ndarray) -> np.ndarray:
        return np.stack([self.network(picture.transpose(1, 2, 0)).transpose(2, 0, 1) for picture in pictures])


def compare(network: Network, overlaps: list[int], scale: int = 1) -> list[TileAgreement]:
    graph = GraphInput(1, TILE, TILE, TILE, SizeRule(8, 8), scale)
    session = Session(network)
    return compare_tiles(
        sample(scale=scale),
        network,
        lambda picture, overlap_px: restore_pixels(session, graph, picture, overlap_px=overlap_px),
        tile_px=TILE,
        overlaps_px=overlaps,
        scale=scale,
    )


def test_a_network_that_sees_one_pixel_loses_nothing() -> None:
    for row in compare(identity, [0, 8, 24]):
        assert row.fidelity_db >= BLEND_DB
        assert row.tiles == 2
        assert abs(row.step) < 1e-4
    (first, *_) = compare(identity, [0])
    assert first.fidelity_db == math.inf
    assert first.drift_db == 0
    assert choose_overlap([first]).chosen.overlap_px == 0


def test_scale_two() -> None:
    for row in compare(double, [0, 16], scale=2):
        assert row.fidelity_db >= BLEND_DB


def test_the_error_of_a_receptive_field_falls_with_the_overlap() -> None:
    """Pixels at a tile's edge are wrong; the wider the ramp, the less they weigh."""
    rows = {row.overlap_px: row for row in compare(box(2), [0, 4, 8, 16, 24])}
    fidelity = [row.fidelity_db for row in rows.values()]
    assert fidelity == sorted(fidelity)
    assert rows[0].fidelity_db < 40
    assert rows[0].border_ratio > 10
    assert rows[0].step > 0.5
    assert rows[24].border_ratio < rows[0].border_ratio / 10
    assert rows[0].drift_db != 0


def test_a_network_that_sees_the_whole_picture_never_agrees() -> None:
    rows = compare(less_its_mean, [0, 8, 16, 24])
    assert max(row.fidelity_db for row in rows) < 50
    assert rows[0].step > max(row.step for row in rows[1:])
    assert "No overlap reaches" in choose_overlap(rows).reason


def test_only_what_the_tiles_saw_is_compared() -> None:
    """The picture goes on beyond the last tile, which a network with a receptive field notices there: not counted."""
    (row,) = compare(box(6), [24])
    assert TILE[1] // 4 > 6
    assert row.fidelity_db > compare(box(6), [0])[0].fidelity_db


def row(overlap_px: int, fidelity_db: float, ratio: float = 1.0, **changes: object) -> TileAgreement:
    made = TileAgreement("a", "clean", (128, 128), overlap_px, 4, fidelity_db, ratio, 0.0, 0.0)
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rows", "chosen", "says"),
    [
        ([row(0, 45, 3), row(16, 50, 1.1), row(32, 60)], 16, "16 pixels are the least that reach 50 dB"),
        ([row(0, 45, 3), row(16, 60, 1.2), row(32, 60, 1.05)], 32, "32 pixels are the least"),
        ([row(0, 70)], 0, "0 pixels are the least"),
        # one bad picture is enough
        ([row(0, 70), row(0, 40, picture="b"), row(16, 51), row(16, 52, picture="b")], 16, "16 pixels"),
        # nothing passes: more overlap must buy half a dB, or a tenth of the ratio
        ([row(0, 40, 1), row(16, 44, 1), row(32, 44.4, 1), row(48, 44.45, 1)], 16, "beyond 16 pixels none gains"),
        ([row(0, 40, 1), row(16, 40.4, 1), row(32, 40.8, 1)], 16, "No overlap reaches"),
        ([row(0, 44, 1.5), row(16, 44, 1.2), row(32, 44, 1.15)], 16, "No overlap reaches"),
        ([row(0, 44, 1.05), row(16, 44, 0.9)], 0, "No overlap reaches"),
        ([row(0, 44, 1.5), row(16, 43.4, 1.0)], 0, "No overlap reaches"),
        ([row(0, 18, step=0.6), row(16, 16.6, step=0.3)], 0, "No overlap reaches"),
        ([row(0, 44, step=2.0), row(16, 44, step=0.4), row(32, 44, step=0.35)], 16, "or the step by 0.1"),
        ([row(0, -math.inf, math.nan), row(16, 30, 2.0)], 16, "No overlap reaches"),
        ([row(0, -math.inf, math.nan)], 0, "No overlap reaches"),
    ],
)
def test_the_choice(rows: list[TileAgreement], chosen: int, says: str) -> None:
    choice = choose_overlap(rows[::-1])
    assert choice.chosen.overlap_px == chosen
    assert says in choice.reason


def test_the_worst_of_every_figure() -> None:
    rows = [
        row(16, 50, 1.2, step=0.1, drift_db=-0.2),
        row(16, 60, 1.0, step=0.3, drift_db=0.1, picture="b"),
        row(0, 40),
    ]
    first, second = by_overlap(rows)
    assert (first.overlap_px, first.pictures) == (0, 1)
    assert (second.overlap_px, second.pictures) == (16, 2)
    assert (second.fidelity_db, second.border_ratio, second.step, second.drift_db) == (50, 1.2, 0.3, 0.1)
    assert second.work == pytest.approx((128 / 112) ** 2)
    assert math.isnan(by_overlap([row(0, 50), row(0, 50, math.nan)])[0].border_ratio)


def test_refusals() -> None:
    with pytest.raises(UsageError, match=r"one tile size \(got 2 sizes"):
        choose_overlap([row(0, 50), row(0, 50, tile_px=(64, 64))])
    with pytest.raises(UsageError, match=r"one tile size \(got 0 sizes"):
        by_overlap([])
    with pytest.raises(UsageError, match=r"expected 0 to 24 pixels, half a tile of 48x64, got 25"):
        compare(identity, [0, 25])
    with pytest.raises(UsageError, match="got -1"):
        compare(identity, [-1])
    small = dataclasses.replace(sample(), degraded=np.zeros((48, 64, 3), np.float32))
    with pytest.raises(UsageError, match=r"noise: the whole picture does not fit .*expected 96x128 pixels, got 48x64"):
        compare_tiles(small, identity, lambda picture, _: picture, tile_px=TILE, overlaps_px=[0])
