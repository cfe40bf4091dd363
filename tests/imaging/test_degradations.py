"""Each degradation against its formula, and the seeding against subsets and order."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeir.errors import UsageError
from edgeir.imaging import degradations as d
from edgeir.imaging.blur import filter_mirrored, gaussian_kernel, motion_kernel
from edgeir.imaging.compression import jpeg
from edgeir.imaging.conditions import VALIDATION_CONDITIONS, Condition, condition_named, condition_seed, degrade
from edgeir.imaging.noise import gaussian_noise, low_light
from edgeir.imaging.weather import depth_ramp, haze, haze_over, rain, rain_mask

STEPS = (
    d.GaussianNoise(20, clip=True),
    d.LowLight(0.3, 1.5, 500, 2, clip=True),
    d.Rain(0.02, 9, 20, 0.7),
    d.Haze(1.2, 0.8),
    d.GaussianBlur(1.1),
    d.MotionBlur(7, 30),
    d.Jpeg(30),
    d.PoissonNoise(60, clip=True),
    d.SpeckleNoise(60, clip=True),
    d.CorrelatedNoise(30, 1.5, 0.4, clip=True),
    d.Snow(0.02, 5, 4, -15, 0.9),
    d.DefocusBlur(1.2),
    d.DefocusBlur(9.5),
    d.AnisotropicBlur(2.5, 0.6, 30),
    d.Downsample(2.5),
    d.BsrganShuffle(),
    d.RealEsrganShuffle(2),
)


def scene(height: int = 40, width: int = 56) -> np.ndarray:
    """A smooth picture with an edge, in [0, 1]."""
    y, x = np.meshgrid(np.linspace(0, 1, height), np.linspace(0, 1, width), indexing="ij")
    planes = (0.5 + 0.4 * np.sin(7 * x), 0.2 + 0.6 * y, np.where(x + y > 1, 0.9, 0.1))
    return np.stack(planes, axis=2).astype(np.float32)


def test_gaussian_noise_has_its_deviation() -> None:
    clean = np.full((128, 128, 3), 0.5, np.float32)
    noise = (gaussian_noise(clean, np.random.default_rng(0), sigma_8bit=25) - clean) * 255
    # n = 49152: the standard error is 25/sqrt(n) = 0.11 of the mean and 25/sqrt(2n) = 0.08 of the deviation.
    assert abs(noise.mean()) < 0.5
    assert abs(noise.std() - 25) < 0.4
    unclipped = gaussian_noise(clean, np.random.default_rng(0), sigma_8bit=250)
    clipped = gaussian_noise(clean, np.random.default_rng(0), sigma_8bit=250, clip=True)
    assert unclipped.min() < 0 < 1 < unclipped.max()
    np.testing.assert_array_equal(clipped, np.clip(unclipped, 0, 1))


def test_low_light_has_the_sensors_mean_and_variance() -> None:
    clean = np.full((128, 128, 3), 0.6, np.float32)
    dark = 0.4 * 0.6**1.5
    image = low_light(clean, np.random.default_rng(0), gain=0.4, gamma=1.5, full_well_electrons=300, read_sigma_8bit=4)
    variance = dark / 300 + (4 / 255) ** 2
    # n = 49152: five standard errors of the mean and of the variance.
    assert image.mean() == pytest.approx(dark, abs=5 * math.sqrt(variance / image.size))
    assert image.var() == pytest.approx(variance, rel=5 * math.sqrt(2 / image.size))


def test_haze_is_its_formula_at_every_pixel() -> None:
    clean, rng = scene(), np.random.default_rng(7)
    depth = depth_ramp(40, 56, np.random.default_rng(7))
    hazy = haze(clean, rng, beta=1.3, airlight=0.8)
    t = math.exp(-1.3 * float(depth[9, 30]))
    # float32 arithmetic on values of at most 1.
    assert hazy[9, 30] == pytest.approx(clean[9, 30] * t + 0.8 * (1 - t), abs=1e-6)
    assert np.array_equal(haze_over(clean, np.zeros((40, 56), np.float32), beta=3, airlight=0.2), clean)


def test_haze_over_a_part_of_the_depths() -> None:
    clean = scene()
    part = haze(clean, np.random.default_rng(7), beta=1.3, airlight=0.8, near=0.5, span=0.2)
    depth = np.float32(0.5) + np.float32(0.2) * depth_ramp(40, 56, np.random.default_rng(7))
    assert np.array_equal(part, haze_over(clean, depth, beta=1.3, airlight=0.8))
    assert d.Haze(1.3, 0.8).apply(clean, np.random.default_rng(7)) == pytest.approx(
        haze(clean, np.random.default_rng(7), beta=1.3, airlight=0.8, near=0, span=1)
    )


@pytest.mark.parametrize("seed", range(5))
def test_depth_is_smooth_far_above_and_fills_the_range(seed: int) -> None:
    depth = depth_ramp(64, 48, np.random.default_rng(seed))
    assert (depth.min(), depth.max(), depth.dtype) == (0, 1, np.float32)
    assert depth[:8].mean() > depth[-8:].mean()
    assert max(np.abs(np.diff(depth, axis=axis)).max() for axis in (0, 1)) < 0.12  # no step
    assert depth_ramp(1, 1, np.random.default_rng(seed)).tolist() == [[0.5]]


def test_rain_brightens_only_under_its_mask() -> None:
    clean = scene()
    mask = rain_mask(40, 56, np.random.default_rng(1), density=0.02, length_px=9, angle_deg=15)
    wet = rain(clean, np.random.default_rng(1), density=0.02, length_px=9, angle_deg=15, opacity=0.7)
    assert 0 < (mask > 0).mean() < 0.6
    assert (wet >= clean).all()
    np.testing.assert_array_equal(wet[mask == 0], clean[mask == 0])
    np.testing.assert_allclose(wet, clean + 0.7 * mask[..., None] * (1 - clean), atol=1e-6)  # float32
    dry = rain(clean, np.random.default_rng(1), density=0, length_px=9, angle_deg=0, opacity=0.7)
    np.testing.assert_array_equal(dry, clean)


def test_rain_falls_at_its_angle_and_is_even_to_the_edge() -> None:
    mask = rain_mask(200, 4000, np.random.default_rng(2), density=0.004, length_px=21, angle_deg=0)
    assert np.abs(np.diff(mask, axis=0)).sum() < 0.3 * np.abs(np.diff(mask, axis=1)).sum()  # upright
    # About 640 streaks touch the strip: its sum varies by 5 %. Without drops from outside it would lack 25 %.
    assert mask[:20].mean() == pytest.approx(mask.mean(), rel=0.15)
    leaning = motion_kernel(21, 90 - 30)
    rows, columns = np.nonzero(leaning > 0.01)
    assert columns[rows.argmin()] > columns[rows.argmax()]  # the top leans to the right


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.floats(0, 40), st.floats(-360, 360))
def test_motion_kernel_is_centred_and_sums_to_one(length_px: float, angle_deg: float) -> None:
    kernel = motion_kernel(length_px, angle_deg)
    side = kernel.shape[0]
    assert kernel.shape == (side, side)
    assert side % 2 == 1
    assert side <= max(length_px, 1) + 2
    assert kernel.min() >= 0
    assert kernel.sum() == pytest.approx(1, abs=1e-6)  # float32 weights
    offsets = np.arange(side) - side // 2
    assert kernel.sum(axis=0) @ offsets == pytest.approx(0, abs=1e-4)
    assert kernel.sum(axis=1) @ offsets == pytest.approx(0, abs=1e-4)


def test_motion_kernel_of_whole_pixels() -> None:
    kernel = motion_kernel(5, 0)
    assert np.count_nonzero(kernel.sum(axis=1) > 1e-6) == 1  # one row
    assert kernel.shape == (5, 5)
    np.testing.assert_allclose(motion_kernel(5, 90), kernel.T, atol=1e-6)
    assert motion_kernel(1, 33).tolist() == [[1.0]]


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.floats(0, 6), st.floats(0, 1))
def test_blur_keeps_constants(sigma_px: float, value: float) -> None:
    constant = np.full((5, 7, 3), value, np.float32)
    for step in (d.GaussianBlur(sigma_px), d.MotionBlur(sigma_px * 3, 40)):
        np.testing.assert_allclose(step.apply(constant, np.random.default_rng(0)), constant, atol=1e-6)


def test_blur_keeps_the_mean_and_has_its_width() -> None:
    dot = np.zeros((41, 41, 3), np.float32)
    dot[20, 20] = 1
    for step in (d.GaussianBlur(2.0), d.MotionBlur(9, 25)):
        assert step.apply(dot, np.random.default_rng(0)).sum() == pytest.approx(3, abs=1e-5)  # float32 sums
    spread = d.GaussianBlur(2.0).apply(dot, np.random.default_rng(0))[..., 0]
    variance = spread.sum(axis=0) @ (np.arange(41) - 20.0) ** 2
    assert variance == pytest.approx(4.0, abs=0.01)  # cut off at 4 sigma: 0.1 % of the variance is missing
    assert gaussian_kernel(0).tolist() == [1.0]
    np.testing.assert_array_equal(filter_mirrored(dot, np.ones((1, 1), np.float32)), dot)


def test_jpeg_is_deterministic_and_worse_with_less_quality() -> None:
    clean = scene()
    errors = [float(np.abs(jpeg(clean, quality=quality) - clean).mean()) for quality in (95, 50, 10)]
    assert errors == sorted(errors)
    np.testing.assert_array_equal(jpeg(clean, quality=20), jpeg(clean, quality=20))
    steps = jpeg(clean, quality=20) * 255
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-4)


@pytest.mark.parametrize("step", STEPS, ids=lambda step: type(step).__name__)
@pytest.mark.parametrize("size", [(40, 56), (1, 1), (1, 7), (3, 8)])
def test_every_step_is_pure(step: d.Degradation, size: tuple[int, int]) -> None:
    clean = scene(*size)
    before = clean.copy()
    clean.flags.writeable = False
    first = step.apply(clean, np.random.default_rng(3))
    second = step.apply(clean, np.random.default_rng(3))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(clean, before)
    assert (first.shape, first.dtype) == (clean.shape, np.float32)
    assert first.min() >= -1e-12  # of a Fourier transform in float64
    assert first.max() <= 1 + 1e-6  # a kernel's float32 weights sum to one within rounding


def test_steps_are_applied_in_order() -> None:
    clean, steps = scene(), (d.GaussianBlur(1), d.GaussianNoise(10))
    rng = np.random.default_rng(0)
    by_hand = steps[1].apply(steps[0].apply(clean, rng), rng)
    np.testing.assert_array_equal(d.apply_all(steps, clean, np.random.default_rng(0)), by_hand)
    assert d.apply_all((), clean, rng) is clean


def test_the_table() -> None:
    assert [condition.name for condition in VALIDATION_CONDITIONS] == [
        "clean",
        "noise-15",
        "noise-25",
        "noise-50",
        "rain",
        "haze",
        "blur",
        "low-light",
        "jpeg-20",
        "rain+haze",
        "low-light+noise",
    ]
    assert condition_named("haze").steps == (d.Haze(1.5, 0.85),)
    with pytest.raises(UsageError, match="Did you mean 'noise-25'"):
        condition_named("noise-26")


def test_any_subset_in_any_order_gives_the_same_pictures() -> None:
    clean = scene()
    forward = {c.name: degrade(c, clean, "scene") for c in VALIDATION_CONDITIONS}
    for condition in reversed(VALIDATION_CONDITIONS[4:]):
        np.testing.assert_array_equal(degrade(condition, clean, "scene"), forward[condition.name])
    for name, image in forward.items():
        assert (image.dtype, image.shape) == (np.float32, clean.shape)
        assert name == "clean" or not np.array_equal(image, clean)


def test_seed_depends_on_all_three_names_and_on_nothing_else() -> None:
    noise = condition_named("noise-25")
    clean = scene()
    base = degrade(noise, clean, "a")
    for other in (
        degrade(noise, clean, "b"),
        degrade(noise, clean, "a", seed=1),
        degrade(Condition("other", noise.steps), clean, "a"),
    ):
        assert not np.array_equal(base, other)
    code = "from edgeir.imaging.conditions import condition_seed as s; print(s('noise-25', 'a', 3))"
    other_process = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60)
    assert int(other_process.stdout) == condition_seed("noise-25", "a", 3)


@pytest.mark.parametrize(
    "make",
    [
        lambda: d.GaussianNoise(-1),
        lambda: d.GaussianNoise(math.nan),
        lambda: d.LowLight(1.5, 1, 100, 0),
        lambda: d.LowLight(1, 0, 100, 0),
        lambda: d.LowLight(1, 1, 0, 0),
        lambda: d.LowLight(1, 1, 100, -1),
        lambda: d.Rain(1.5, 9, 0, 1),
        lambda: d.Rain(0.1, -9, 0, 1),
        lambda: d.Rain(0.1, 9, 0, 1.1),
        lambda: d.Haze(-1, 0.5),
        lambda: d.Haze(1, 1.5),
        lambda: d.Haze(1, 0.5, -0.1, 1),
        lambda: d.Haze(1, 0.5, 0, 1.5),
        lambda: d.GaussianBlur(-1),
        lambda: d.MotionBlur(math.inf, 0),
        lambda: d.Jpeg(0),
        lambda: d.Jpeg(96),
        lambda: d.PoissonNoise(0.5),
        lambda: d.PoissonNoise(math.inf),
        lambda: d.SpeckleNoise(-1),
        lambda: d.CorrelatedNoise(-1, 1),
        lambda: d.CorrelatedNoise(10, 65),
        lambda: d.CorrelatedNoise(10, 1, 1.1),
        lambda: d.CorrelatedNoise(10, 1, -0.1),
        lambda: d.Snow(1.5, 5, 5, 0, 1),
        lambda: d.Snow(0.1, 65, 5, 0, 1),
        lambda: d.Snow(0.1, 5, -1, 0, 1),
        lambda: d.Snow(0.1, 5, 5, math.nan, 1),
        lambda: d.Snow(0.1, 5, 5, 0, 2),
        lambda: d.DefocusBlur(-1),
        lambda: d.DefocusBlur(math.nan),
        lambda: d.AnisotropicBlur(0.1, 1, 0),
        lambda: d.AnisotropicBlur(1, 65, 0),
        lambda: d.AnisotropicBlur(1, 1, 361),
        lambda: d.Downsample(0.5),
        lambda: d.Downsample(65),
        lambda: d.BsrganShuffle(0),
        lambda: d.RealEsrganShuffle(9),
    ],
)
def test_parameters_are_checked(make: object) -> None:
    with pytest.raises(UsageError, match="is out of range"):
        make()


def test_every_kind_is_tried_here() -> None:
    assert set(d.KINDS.values()) == {type(step) for step in STEPS}
    assert all(name == name.lower() and "_" not in name for name in d.KINDS)


def test_kernels_check_their_widths() -> None:
    for make in (lambda: gaussian_kernel(-1), lambda: motion_kernel(-1, 0), lambda: gaussian_kernel(math.nan)):
        with pytest.raises(UsageError, match=r"a blur needs a width|a motion needs a length"):
            make()
