"""Resizing against values computed by hand, against Pillow where the conventions agree, and as a linear map."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from edgeir.errors import UsageError
from edgeir.imaging.resampling import ResizeKernel, downsample, low_resolution, resize, shrunk

KERNELS: tuple[ResizeKernel, ...] = ("bicubic", "bilinear", "area")
PILLOW = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "area": Image.Resampling.BOX,
}
# Keys' cubic (a = -1/2) at 1/4, 3/4, 5/4 and 7/4, exact in binary.
CUBIC = (0.8671875, 0.2265625, -0.0703125, -0.0234375)


def row(*values: float) -> np.ndarray:
    """A picture one pixel high."""
    return np.array([values], np.float32)


def by_pillow(plane: np.ndarray, height: int, width: int, kernel: str) -> np.ndarray:
    """The same by Pillow, in its float mode."""
    return np.asarray(Image.fromarray(plane).resize((width, height), PILLOW[kernel]))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("size", [(30, 42), (20, 21), (120, 168), (15, 84), (12, 14)])
def test_whole_factors_agree_with_pillow(kernel: ResizeKernel, size: tuple[int, int]) -> None:
    plane = np.random.default_rng(0).random((60, 84), dtype=np.float32)
    ours, theirs = resize(plane, *size, kernel), by_pillow(plane, *size, kernel)
    edge = 0 if kernel == "area" else 4  # as many pixels of the result as a kernel may reach beyond the picture
    inside = (slice(edge, size[0] - edge), slice(edge, size[1] - edge))
    np.testing.assert_allclose(ours[inside], theirs[inside], atol=5e-7)  # float32 sums of values up to 1


@pytest.mark.parametrize("kernel", ["bicubic", "bilinear"])
@pytest.mark.parametrize("size", [(37, 51), (133, 99), (59, 85), (61, 200)])
def test_any_factor_agrees_with_pillow(kernel: ResizeKernel, size: tuple[int, int]) -> None:
    plane = np.random.default_rng(1).random((60, 84), dtype=np.float32)
    ours, theirs = resize(plane, *size, kernel), by_pillow(plane, *size, kernel)
    edges = [6 if want > have else 2 for want, have in zip(size, plane.shape, strict=True)]
    inside = tuple(slice(edge, want - edge) for want, edge in zip(size, edges, strict=True))
    np.testing.assert_allclose(ours[inside], theirs[inside], atol=5e-7)
    if kernel == "bilinear" and size[0] > 60 and size[1] > 84:  # a triangle that is not stretched reaches one pixel
        np.testing.assert_allclose(ours, theirs, atol=5e-7)


def test_bilinear_by_hand() -> None:
    np.testing.assert_allclose(resize(row(0, 1), 1, 4, "bilinear"), [[0, 0.25, 0.75, 1]], atol=1e-7)
    # Halving stretches the triangle: 1/8 3/8 3/8 1/8 about the middle of two pixels.
    np.testing.assert_allclose(resize(row(0, 0, 8, 0, 0, 0), 1, 3, "bilinear"), [[1, 3, 0]], atol=1e-6)
    mirrored = resize(row(8, 0, 0, 0), 1, 2, "bilinear")  # 3/8, and 1/8 of the mirror image
    np.testing.assert_allclose(mirrored, [[4, 0]], atol=1e-6)


def test_bicubic_by_hand() -> None:
    doubled = resize(row(0, 0, 0, 1, 0, 0, 0, 0), 1, 16)
    near, beside, far, farthest = CUBIC
    np.testing.assert_allclose(doubled[0, 3:11], [farthest, far, beside, near, near, beside, far, farthest], atol=1e-7)
    halved = resize(row(0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0), 1, 6)
    np.testing.assert_allclose(halved[0], [0, far, near, beside, farthest, 0], atol=1e-6)
    # A ramp, at its mirrored edge: 2 1 0 0 1 2 3 4 about the first new pixel.
    ramp = resize(row(0, 1, 2, 3, 4, 5, 6, 7), 1, 4)
    first = np.dot([farthest, far, beside, near, near, beside, far, farthest], [2, 1, 0, 0, 1, 2, 3, 4]) / 2
    assert ramp[0, 0] == pytest.approx(first, abs=1e-6)
    assert first == 0.44921875


def test_area_by_hand() -> None:
    np.testing.assert_allclose(resize(row(3, 6, 9), 1, 2, "area"), [[4, 8]], atol=1e-6)  # (3 + 6/2) / 1.5
    np.testing.assert_allclose(resize(row(2, 4), 1, 3, "area"), [[2, 3, 4]], atol=1e-6)
    np.testing.assert_allclose(resize(row(1, 2, 3, 4, 5), 1, 1, "area"), [[3]], atol=1e-6)
    np.testing.assert_allclose(resize(row(1, 2), 3, 4, "area"), [[1, 1, 2, 2]] * 3, atol=1e-7)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(1, 12), st.integers(1, 30))
def test_area_is_the_integral_over_each_new_pixel(have: int, want: int) -> None:
    values = np.random.default_rng(have * 100 + want).random(have)
    exact = []
    for place in range(want):
        low, high = Fraction(place * have, want), Fraction((place + 1) * have, want)
        shares = [max(min(high, i + 1) - max(low, i), Fraction(0)) for i in range(have)]
        assert sum(shares) == high - low
        exact.append(sum(float(share / (high - low)) * value for share, value in zip(shares, values, strict=True)))
    ours = resize(values.astype(np.float32)[:, None], want, 1, "area")
    np.testing.assert_allclose(ours[:, 0], exact, atol=1e-6)


def test_without_antialias_odd_factors_take_the_middle_pixel() -> None:
    picture = np.random.default_rng(2).random((21, 15, 3), dtype=np.float32)
    for kernel in ("bicubic", "bilinear"):
        np.testing.assert_array_equal(resize(picture, 7, 5, kernel, antialias=False), picture[1::3, 1::3])
    stripes = np.tile(row(0, 1), (4, 32))
    aliased, smooth = (resize(stripes, 4, 21, "bicubic", antialias=antialias) for antialias in (False, True))
    assert aliased.std() > 0.3
    assert smooth[:, 2:-2].std() < 0.05
    np.testing.assert_array_equal(
        resize(picture, 9, 4, "area", antialias=False), resize(picture, 9, 4, "area", antialias=True)
    )


SIDES = st.integers(1, 23)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(SIDES, SIDES, SIDES, SIDES, st.sampled_from(KERNELS), st.booleans(), st.floats(-2, 2))
def test_a_linear_map_that_keeps_constants(
    height: int, width: int, to_height: int, to_width: int, kernel: ResizeKernel, antialias: bool, factor: float
) -> None:
    rng = np.random.default_rng(height * width)
    a, b = (rng.random((height, width, 3), dtype=np.float32) for _ in range(2))
    before = a.copy()

    def resized(picture: np.ndarray) -> np.ndarray:
        return resize(picture, to_height, to_width, kernel, antialias=antialias)

    assert (resized(a).shape, resized(a).dtype) == ((to_height, to_width, 3), np.float32)
    np.testing.assert_allclose(resized(np.full_like(a, factor)), factor, atol=2e-6)
    np.testing.assert_allclose(resized(a + np.float32(factor) * b), resized(a) + factor * resized(b), atol=5e-6)
    np.testing.assert_allclose(resized(a[::-1, ::-1]), resized(a)[::-1, ::-1], atol=2e-6)  # no shift
    np.testing.assert_allclose(resized(a.swapaxes(0, 1)[..., 0].T), resized(a)[..., 0], atol=2e-6)
    np.testing.assert_array_equal(a, before)
    if kernel != "bicubic":
        assert a.min() - 1e-6 <= resized(a).min() <= resized(a).max() <= a.max() + 1e-6


def test_its_own_size_gives_an_equal_copy() -> None:
    picture = np.random.default_rng(0).random((5, 7, 3), dtype=np.float32)
    same = resize(picture, 5, 7)
    np.testing.assert_array_equal(same, picture)
    assert not np.shares_memory(same, picture)


def test_downsample_is_clipped_bicubic() -> None:
    picture = (np.random.default_rng(0).random((24, 36, 3)) > 0.5).astype(np.float32)  # so that the kernel overshoots
    for scale in (2, 3, 4):
        small = downsample(picture, scale)
        free = resize(picture, 24 // scale, 36 // scale)
        np.testing.assert_array_equal(small, np.clip(free, 0, 1))
    assert resize(picture, 48, 72).max() > 1
    np.testing.assert_array_equal(downsample(picture, 1), picture)


@pytest.mark.parametrize(
    ("size", "scale", "says"),
    [
        ((8, 9), 2, "whole pixels"),
        ((9, 8), 4, "whole pixels"),
        ((8, 8), 0, "whole factor"),
        ((8, 8), 1.5, "whole factor"),
    ],
)
def test_downsample_keeps_the_pair_aligned(size: tuple[int, int], scale: int, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        downsample(np.zeros((*size, 3), np.float32), scale)


def test_low_resolution_keeps_the_size_and_loses_detail() -> None:
    noise = np.random.default_rng(0).random((40, 56, 3), dtype=np.float32)
    deviations = [low_resolution(noise, scale=scale).std() for scale in (1, 1.5, 2, 4, 8, 64)]
    assert deviations == sorted(deviations, reverse=True)
    np.testing.assert_array_equal(low_resolution(noise, scale=1), noise)
    dark = low_resolution(noise, scale=64)
    np.testing.assert_allclose(dark, np.broadcast_to(dark[:1, :1], dark.shape), atol=1e-6)  # one pixel was left
    y, x = np.meshgrid(np.linspace(0, 1, 40), np.linspace(0, 1, 56), indexing="ij")
    smooth = np.stack([x, y, x * y], axis=2).astype(np.float32)
    np.testing.assert_allclose(low_resolution(smooth, scale=2), smooth, atol=0.02)


def test_sizes_after_shrinking() -> None:
    assert [shrunk(length, scale) for length, scale in ((10, 2), (11, 4), (1, 8), (3, 64), (10, 0.5))] == [
        5,
        3,
        1,
        1,
        20,
    ]


@pytest.mark.parametrize(
    ("shape", "size", "kernel"),
    [((3, 3, 3), (0, 2), "area"), ((3, 3, 3), (2, -1), "area"), ((0, 3, 3), (2, 2), "area"), ((3, 3), (2, 2), "cubic")],
)
def test_refusals(shape: tuple[int, ...], size: tuple[int, int], kernel: ResizeKernel) -> None:
    with pytest.raises(UsageError, match=r"a picture cannot be empty|unknown resize kernel"):
        resize(np.zeros(shape, np.float32), *size, kernel)
