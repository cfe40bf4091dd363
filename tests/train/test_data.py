"""A sample is a function of its number, whoever makes it; the shares of a step are its batch."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from edgeir.errors import PictureError
from edgeir.imaging.colour import luma
from edgeir.imaging.draws import parse_mixture
from edgeir.imaging.resampling import downsample
from edgeir.train.data import Batch, Place, Shares, Source, TrainingSet, batches
from edgeir.train.layouts import Example
from edgeir.train.recipe import Stage

STAGES = (Stage(steps=3, patch_px=8, batch=8), Stage(steps=2, patch_px=12, batch=4))
NOISE = {"noise": {"weight": 1, "steps": [{"kind": "gaussian-noise", "sigma_8bit": [5, 50]}]}, "clean": {"weight": 1}}


def save(path: Path, values: np.ndarray) -> Path:
    Image.fromarray(values).save(path)
    return path


def colours(seed: int, height: int = 24, width: int = 32) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def examples(tmp_path: Path) -> list[Example]:
    return [Example(save(tmp_path / f"{n}.png", colours(n)), None, "x") for n in range(5)]


def training_set(examples: list[Example], *, seed: int = 3, repeat: int = 1, **changes) -> TrainingSet:  # type: ignore[no-untyped-def]
    settings = {"mixture": parse_mixture(NOISE, where="x"), "shrink": 1, "flips": True, "scale": 1, **changes}
    source = Source(examples, repeat, settings["shrink"], settings["mixture"])
    return TrainingSet(
        [source], seed=seed, flips=settings["flips"], scale=settings["scale"], cache_bytes=settings.get("cache", 2**20)
    )


def same(one: tuple, other: tuple) -> bool:  # type: ignore[type-arg]
    return np.array_equal(one[0], other[0]) and np.array_equal(one[1], other[1]) and one[2] == other[2]


def picture_of(name: str) -> str:
    return name.split(" ")[0]


def test_a_sample_has_its_shape_type_and_name(examples: list[Example]) -> None:
    samples = training_set(examples)
    for number in range(20):
        degraded, clean, name = samples[Place(number, 8)]
        assert (degraded.shape, degraded.dtype) == ((3, 8, 8), np.float32)
        assert (clean.shape, clean.dtype) == ((3, 8, 8), np.float32)
        assert 0 <= clean.min() <= clean.max() <= 1
        assert name.split(" ")[1] in ("(noise)", "(clean)")
        assert np.array_equal(degraded, clean) == name.endswith("(clean)")


def test_samples_depend_on_their_number_alone(examples: list[Example]) -> None:
    forward = training_set(examples)
    first = [forward[Place(number, 8)] for number in range(30)]
    backward = training_set(examples, cache=0)
    for number in reversed(range(30)):
        assert same(backward[Place(number, 8)], first[number])
    assert not same(first[0], first[5])


def test_another_seed_gives_other_samples(examples: list[Example]) -> None:
    one, other = training_set(examples), training_set(examples, seed=4)
    assert not any(same(one[Place(n, 8)], other[Place(n, 8)]) for n in range(10))


@pytest.mark.parametrize("repeat", [1, 3])
def test_an_epoch_takes_each_picture_as_often_as_it_counts(examples: list[Example], repeat: int) -> None:
    samples = training_set(examples, repeat=repeat)
    assert len(samples) == 5 * repeat
    orders = []
    for epoch in range(4):
        numbers = range(epoch * len(samples), (epoch + 1) * len(samples))
        orders.append(tuple(picture_of(samples[Place(number, 8)][2]) for number in numbers))
        assert Counter(orders[-1]) == {f"{n}.png": repeat for n in range(5)}
    assert len(set(orders)) == 4


def test_sources_keep_their_repeats(examples: list[Example]) -> None:
    mixture = parse_mixture(NOISE, where="x")
    sources = [Source(examples[:2], 3, 1, None), Source(examples[2:], 1, 2, mixture)]
    samples = TrainingSet(sources, seed=0, flips=False, scale=1, cache_bytes=0)
    names = [samples[Place(number, 8)][2] for number in range(len(samples))]
    assert Counter(map(picture_of, names)) == {"0.png": 3, "1.png": 3, "2.png": 1, "3.png": 1, "4.png": 1}
    assert all(name.endswith("(as it is)") == (picture_of(name) in ("0.png", "1.png")) for name in names)


@pytest.mark.parametrize("pair", [False, True])
def test_a_share_of_the_samples_is_grey(tmp_path: Path, examples: list[Example], pair: bool) -> None:
    if pair:
        examples = [Example(one.clean, one.clean, "x") for one in examples]
    source = Source(examples, 1, 1, parse_mixture(NOISE, where="x"))
    colour = TrainingSet([source], seed=3, flips=True, scale=1, cache_bytes=0)
    some = TrainingSet([replace(source, grey=0.5)], seed=3, flips=True, scale=1, cache_bytes=0)
    grey = 0
    for number in range(200):
        coloured, plain = colour[Place(number, 8)][1], some[Place(number, 8)]
        if np.array_equal(plain[1][0], plain[1][1]) and np.array_equal(plain[1][0], plain[1][2]):
            grey += 1
            np.testing.assert_array_equal(plain[1][0], luma(coloured.transpose(1, 2, 0)))
        else:
            np.testing.assert_array_equal(plain[1], coloured)
        if pair or plain[2].endswith("(clean)"):
            np.testing.assert_array_equal(plain[0], plain[1])  # and what falls on it, falls on the grey one
    assert 70 <= grey <= 130  # 200 draws of one half: four standard deviations


@pytest.mark.parametrize("pair", [False, True])
def test_a_share_of_the_samples_has_its_channels_in_another_order(examples: list[Example], pair: bool) -> None:
    if pair:
        examples = [Example(one.clean, one.clean, "x") for one in examples]
    source = Source(examples, 1, 1, parse_mixture(NOISE, where="x"))
    straight = TrainingSet([source], seed=3, flips=True, scale=1, cache_bytes=0)
    some = TrainingSet([replace(source, channel_shuffle=0.5)], seed=3, flips=True, scale=1, cache_bytes=0)
    orders: Counter[tuple[int, ...]] = Counter()
    for number in range(240):
        before, (low, high, name) = straight[Place(number, 8)][1], some[Place(number, 8)]
        orders[next(order for order in permutations(range(3)) if np.array_equal(high, before[list(order)]))] += 1
        if pair or name.endswith("(clean)"):
            np.testing.assert_array_equal(low, high)  # both sides of a pair change alike
    assert len(orders) == 6
    assert 110 <= orders[0, 1, 2] <= 170  # a half and a sixth of the other half, 140: four standard deviations


def test_no_picture_at_all() -> None:
    with pytest.raises(PictureError, match="no picture to train on"):
        TrainingSet([Source([], 1, 1, None)], seed=0, flips=True, scale=1, cache_bytes=0)


def test_crops_reach_every_place_and_no_further(tmp_path: Path) -> None:
    y, x = np.meshgrid(np.arange(9), np.arange(10), indexing="ij")
    path = save(tmp_path / "a.png", np.stack([y, x, 0 * x], axis=2).astype(np.uint8))
    samples = training_set([Example(path, None, "x")], mixture=None, flips=False)
    corners = set()
    for number in range(100):
        clean = np.rint(samples[Place(number, 8)][1] * 255).astype(int)
        corners.add((clean[0, 0, 0], clean[1, 0, 0]))
        assert (np.diff(clean[0], axis=0) == 1).all()
        assert (np.diff(clean[1], axis=1) == 1).all()
    assert corners == {(top, left) for top in range(2) for left in range(3)}


def test_eight_ways_to_turn(tmp_path: Path) -> None:
    values = colours(0, 8, 8)
    path = save(tmp_path / "a.png", values)
    turned = training_set([Example(path, None, "x")], mixture=None)
    seen = {turned[Place(number, 8)][1].tobytes() for number in range(100)}
    plane = values.transpose(2, 0, 1).astype(np.float32) / np.float32(255)
    ways = [np.rot90(base, k, (1, 2)) for base in (plane, plane[:, :, ::-1]) for k in range(4)]
    assert seen == {np.ascontiguousarray(way).tobytes() for way in ways}
    upright = training_set([Example(path, None, "x")], mixture=None, flips=False)
    assert {upright[Place(number, 8)][1].tobytes() for number in range(20)} == {plane.tobytes()}


@pytest.mark.parametrize("flips", [False, True])
@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize("shrink", [1, 2])
def test_pairs_are_cropped_at_the_same_place(tmp_path: Path, scale: int, shrink: int, flips: bool) -> None:
    low = colours(1)
    clean = save(tmp_path / "clean.png", low.repeat(scale, 0).repeat(scale, 1))
    pair = Example(clean, save(tmp_path / "low.png", low), "haze")
    if shrink > 1 and scale > 1:  # block means of the enlarged copy are not copies of block means
        low = low.reshape(12, 2, 16, 2, 3).mean((1, 3)).astype(np.uint8).repeat(2, 0).repeat(2, 1)
        pair = Example(save(clean, low.repeat(2, 0).repeat(2, 1)), save(tmp_path / "low.png", low), "haze")
    samples = training_set([pair], scale=scale, shrink=shrink, flips=flips)
    patches = set()
    for number in range(12):
        degraded, truth, name = samples[Place(number, 8)]
        assert name == "low.png (haze)"
        assert truth.shape == (3, 8 * scale, 8 * scale)
        np.testing.assert_array_equal(truth, degraded.repeat(scale, 1).repeat(scale, 2))
        patches.add(degraded.tobytes())
    assert len(patches) > 6


def test_sixteen_bits_fill_the_same_range(tmp_path: Path) -> None:
    import png

    values = colours(0, 8, 8)
    with (tmp_path / "a.png").open("wb") as file:
        wide = values.astype(np.uint16) * 257
        png.Writer(8, 8, bitdepth=16, greyscale=False).write_array(file, wide.reshape(-1).tolist())
    pair = Example(tmp_path / "a.png", save(tmp_path / "b.png", values), "x")
    degraded, clean, _ = training_set([pair])[Place(0, 8)]
    np.testing.assert_allclose(degraded, clean, atol=1e-6)


def test_super_resolution_from_clean_pictures(examples: list[Example]) -> None:
    samples = training_set(examples, mixture=None, scale=2)
    degraded, clean, _ = samples[Place(0, 8)]
    assert (degraded.shape, clean.shape) == ((3, 8, 8), (3, 16, 16))
    np.testing.assert_array_equal(degraded.transpose(1, 2, 0), downsample(clean.transpose(1, 2, 0), 2))
    degraded, clean, _ = training_set(examples, scale=2)[Place(0, 8)]
    assert (degraded.shape, degraded.dtype, clean.shape) == ((3, 8, 8), np.float32, (3, 16, 16))


def shares(*, first_step: int = 0, accumulate: int = 1, rank: int = 0, world: int = 1) -> list[list[Place]]:
    return list(Shares(STAGES, first_step=first_step, accumulate=accumulate, rank=rank, world=world))


def test_one_process_takes_all_samples_in_order() -> None:
    got = shares()
    assert [len(step) for step in got] == [8, 8, 8, 4, 4]
    assert [place.number for step in got for place in step] == list(range(32))
    assert [step[0].patch_px for step in got] == [8, 8, 8, 12, 12]


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("world", [2])
def test_the_shares_of_a_part_are_the_part(accumulate: int, world: int) -> None:
    alone = shares(accumulate=accumulate)
    together = [shares(accumulate=accumulate, rank=rank, world=world) for rank in range(world)]
    assert len(alone) == 5 * accumulate
    for part, *parts in zip(alone, *together, strict=True):
        assert len({len(one) for one in parts}) == 1
        assert [place for one in parts for place in one] == part  # in order, so also disjoint


def test_parts_of_a_step_are_its_batch() -> None:
    for whole, first, second in zip(shares(), shares(accumulate=2)[::2], shares(accumulate=2)[1::2], strict=True):
        assert first + second == whole


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("first_step", [0, 1, 3, 4, 5])
def test_resuming_is_skipping(first_step: int, rank: int, accumulate: int) -> None:
    settings = {"accumulate": accumulate, "rank": rank, "world": 2}
    assert shares(first_step=first_step, **settings) == shares(**settings)[first_step * accumulate :]


def equal(one: Batch, other: Batch) -> bool:
    return (
        torch.equal(one.degraded, other.degraded) and torch.equal(one.clean, other.clean) and one.names == other.names
    )


def test_batches_hold_their_samples(examples: list[Example]) -> None:
    samples = training_set(examples)
    sharing = Shares(STAGES, first_step=2, accumulate=1, rank=0, world=1)
    got = list(batches(samples, sharing, workers=0))
    assert [tuple(batch.clean.shape) for batch in got] == [(8, 3, 8, 8), (4, 3, 12, 12), (4, 3, 12, 12)]
    for places, batch in zip(sharing, got, strict=True):
        assert (batch.degraded.dtype, batch.clean.dtype) == (torch.float32, torch.float32)
        for index, place in enumerate(places):
            single = (batch.degraded[index].numpy(), batch.clean[index].numpy(), batch.names[index])
            assert same(single, samples[place])


@pytest.mark.slow
def test_workers_give_the_same_batches(examples: list[Example]) -> None:
    sharing = Shares(STAGES, first_step=1, accumulate=2, rank=1, world=2)
    expected = list(batches(training_set(examples), sharing, workers=0))
    got = list(batches(training_set(examples), sharing, workers=2))
    assert len(got) == len(expected) == 8
    assert all(map(equal, got, expected))
