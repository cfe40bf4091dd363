"""The two published shuffles: what they promise of their results, and their parts against their formulas."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from edgeir.errors import UsageError
from edgeir.imaging import shuffles
from edgeir.imaging.shuffles import BsrganShuffle, RealEsrganShuffle, bsrgan_shuffle, real_esrgan_shuffle

Shuffle = Callable[..., np.ndarray]
SHUFFLES = (bsrgan_shuffle, real_esrgan_shuffle)


def scene(height: int = 40, width: int = 56) -> np.ndarray:
    """A smooth picture with an edge, in [0, 1]."""
    y, x = np.meshgrid(np.linspace(0, 1, height), np.linspace(0, 1, width), indexing="ij")
    planes = (0.5 + 0.4 * np.sin(7 * x), 0.2 + 0.6 * y, np.where(x + y > 1, 0.9, 0.1))
    return np.stack(planes, axis=2).astype(np.float32)


@pytest.mark.parametrize("shuffle", SHUFFLES)
@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_sizes_range_and_steps(shuffle: Shuffle, scale: int) -> None:
    clean = scene(24, 36)
    before = clean.copy()
    clean.flags.writeable = False
    for seed in range(12):
        small = shuffle(clean, np.random.default_rng(seed), scale=scale)
        assert (small.shape, small.dtype) == ((24 // scale, 36 // scale, 3), np.float32)
        assert 0 <= small.min() <= small.max() <= 1
        np.testing.assert_allclose(small * 255, np.rint(small * 255), atol=1e-4)
    np.testing.assert_array_equal(clean, before)


@pytest.mark.parametrize("shuffle", SHUFFLES)
def test_everything_is_drawn_from_rng(shuffle: Shuffle) -> None:
    clean = scene()
    np.random.seed(0)  # the global generator must not matter
    first = [shuffle(clean, np.random.default_rng(seed)) for seed in range(8)]
    np.random.seed(1)
    second = [shuffle(clean, np.random.default_rng(seed)) for seed in range(8)]
    for seed in range(8):
        np.testing.assert_array_equal(first[seed], second[seed])
        assert not np.array_equal(first[seed], first[seed - 1])


@pytest.mark.parametrize("shuffle", SHUFFLES)
@pytest.mark.parametrize("scale", [1, 4])
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (7, 1), (3, 8)])
def test_the_smallest_pictures(shuffle: Shuffle, scale: int, size: tuple[int, int]) -> None:
    clean = scene(*size)
    for seed in range(15):
        small = shuffle(clean, np.random.default_rng(seed), scale=scale)
        assert small.shape[:2] == tuple(max(1, round(side / scale)) for side in size)


@pytest.mark.parametrize("kind", [BsrganShuffle, RealEsrganShuffle])
@pytest.mark.parametrize("scale", [1, 2, 4])
def test_the_degradations_keep_the_size(kind: type[BsrganShuffle], scale: int) -> None:
    clean = scene(31, 45)
    image = kind(scale).apply(clean, np.random.default_rng(0))
    assert (image.shape, image.dtype) == (clean.shape, np.float32)
    assert 0 <= image.min() <= image.max() <= 1
    if scale == 1:
        function = {BsrganShuffle: bsrgan_shuffle, RealEsrganShuffle: real_esrgan_shuffle}[kind]
        np.testing.assert_array_equal(image, function(clean, np.random.default_rng(0)))


@pytest.mark.parametrize("shuffle", SHUFFLES)
def test_light_and_place_are_kept_on_average(shuffle: Shuffle) -> None:
    clean = scene(48, 64)
    draws = [shuffle(clean, np.random.default_rng(seed)) for seed in range(60)]
    mean = np.mean(draws, axis=0)
    assert np.abs(mean.mean(axis=(0, 1)) - clean.mean(axis=(0, 1))).max() < 0.02
    # A shift by one pixel would cost more than the blur does.
    errors = {shift: np.abs(np.roll(mean, shift, (0, 1)) - clean)[2:-2, 2:-2].mean() for shift in (-1, 0, 1)}
    assert min(errors, key=lambda shift: errors[shift]) == 0
    damage = [np.abs(draw - clean).mean() for draw in draws]
    assert min(damage) > 0.005
    assert max(damage) > 3 * min(damage)  # the draws differ in strength


@pytest.mark.parametrize("first_drawn", range(6))
def test_kernels_are_normalised_and_centred(first_drawn: int) -> None:
    rng = np.random.default_rng(first_drawn)
    sides = set()
    for _ in range(40):
        kernel = shuffles._mixed_kernel(rng, (0.2, 3.0)).astype(np.float64)
        sides.add(kernel.shape[0])
        assert kernel.shape[0] == kernel.shape[1]
        assert kernel.sum() == pytest.approx(1, abs=1e-5)
        np.testing.assert_allclose(kernel, kernel[::-1, ::-1], atol=1e-7)
        assert kernel.max() == kernel[tuple(side // 2 for side in kernel.shape)]
    assert sides == set(range(7, 22, 2))


def test_probabilities_are_those_of_the_mixture() -> None:
    # The released mixture: round and tilted, for Gaussians, generalised Gaussians and plateaus.
    table = {"gaussian": (0.45, 0.25), "generalised": (0.12, 0.03), "plateau": (0.12, 0.03)}
    for shape, (round_, tilted) in table.items():
        probability, isotropic = shuffles._SHAPE_PROBABILITIES[shape], shuffles._ISOTROPIC_PROBABILITIES[shape]
        assert probability * isotropic == pytest.approx(round_)
        assert probability * (1 - isotropic) == pytest.approx(tilted)
    assert sum(shuffles._SHAPE_PROBABILITIES.values()) == pytest.approx(1)


def test_coloured_noise_is_independent_grey_or_neither() -> None:
    flat = np.full((96, 96, 3), 0.5, np.float32)
    kinds = {"independent": 0, "grey": 0, "mixed": 0}
    for seed in range(150):
        noise = (shuffles._coloured_noise(flat, np.random.default_rng(seed)) - flat).astype(np.float64)
        assert noise.std() < 25.5 / 255
        correlations = np.corrcoef(noise.reshape(-1, 3).T)[np.triu_indices(3, 1)]
        if correlations.min() > 0.999:
            kinds["grey"] += 1
        elif np.abs(correlations).max() < 5 / 96:  # five standard errors
            kinds["independent"] += 1
            assert noise.std() > 1.9 / 255
        else:
            kinds["mixed"] += 1
    # 0.4, 0.4 and 0.2 of 150: standard errors 6, 6 and 5.
    assert kinds["independent"] == pytest.approx(60, abs=18)
    assert kinds["grey"] == pytest.approx(60, abs=18)
    assert kinds["mixed"] == pytest.approx(30, abs=15)


def test_sensor_noise_is_shot_and_read_noise_in_linear_light() -> None:
    flat = np.full((128, 128, 3), 0.5, np.float32)
    linear = 0.5**2.2
    for seed in range(6):
        rng = np.random.default_rng(seed)
        log_shot = rng.uniform(math.log(1e-4), math.log(1.2e-2))
        read_variance = math.exp(rng.normal(2.18 * log_shot + 1.2, 0.26))
        image = shuffles._sensor_noise(flat, np.random.default_rng(seed)).astype(np.float64) ** 2.2
        variance = linear * math.exp(log_shot) + read_variance
        assert image.mean() == pytest.approx(linear, abs=5 * math.sqrt(variance / image.size))
        assert image.var() == pytest.approx(variance, rel=0.05)  # the brightest noise is clipped


@pytest.mark.parametrize("kind", [BsrganShuffle, RealEsrganShuffle])
@pytest.mark.parametrize("scale", [0, 9, math.nan, math.inf])
def test_scale_is_checked(kind: type[BsrganShuffle], scale: float) -> None:
    with pytest.raises(UsageError, match="scale is out of range"):
        kind(scale)
