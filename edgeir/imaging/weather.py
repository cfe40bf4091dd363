"""Rain, snow and haze."""

from __future__ import annotations

import numpy as np

from edgeir.imaging.blur import disc_coverage, filter_inside, gaussian_kernel, motion_kernel
from edgeir.imaging.colour import Pixels

_DIMMEST_STREAK = 0.5  # streaks differ in brightness between this and 1
_DIMMEST_FLAKE = 0.6
_FLAKE_SIZES = (1.0, 0.65, 0.42, 0.27)  # of the largest: from near to far
_FLAKE_SOFTNESS = 0.15  # sigma of a flake's edge, in diameters
_FLUTTER_DEG = 20.0  # flakes of one size fall at an angle that is off by at most this
_HAZE_WAVES = 3
_HAZE_WAVE_SHARE = 0.15  # each wave bends the ramp by at most this before it is stretched to [0, 1]
_HAZE_CYCLES = 1.5  # most cycles of a wave across the picture: depth is smooth


def rain_mask(
    height: int, width: int, rng: np.random.Generator, *, density: float, length_px: float, angle_deg: float
) -> Pixels:
    """How much of each pixel rain covers: single drops, drawn into lines by their fall.

    Args:
        height: H in pixels.
        width: W in pixels.
        rng: draws two uniform numbers per pixel of the picture grown by the length of a streak.
        density: share of pixels in which a streak has its middle, in [0, 1].
        length_px: length of a streak, in pixels.
        angle_deg: lean against the vertical; positive streaks lean to the right at the top.

    Returns:
        ``(H, W) float32`` in [0, 1]; drops begin outside the picture too, so edges are as wet as the middle.
    """
    kernel = motion_kernel(length_px, 90.0 - angle_deg)
    kernel = kernel / kernel.max()  # a drop is as bright along its streak as it is itself
    reach = kernel.shape[0] // 2
    shape = (height + 2 * reach, width + 2 * reach)
    starts = rng.random(shape, dtype=np.float32) < density
    drops = starts * rng.uniform(_DIMMEST_STREAK, 1.0, shape).astype(np.float32)
    mask = np.zeros((height, width), dtype=np.float32)
    for row, column in np.argwhere(kernel):
        mask += kernel[row, column] * drops[row : row + height, column : column + width]
    return np.minimum(mask, np.float32(1))


def rain(
    clean: Pixels, rng: np.random.Generator, *, density: float, length_px: float, angle_deg: float, opacity: float
) -> Pixels:
    """Bright streaks: ``I = J + opacity * mask * (1 - J)``, a drop refracts the bright sky over what is behind it.

    Args:
        clean: ``(H, W, 3) float32`` in [0, 1].
        rng: see `rain_mask`.
        density: share of pixels in which a streak has its middle, in [0, 1].
        length_px: length of a streak, in pixels.
        angle_deg: lean against the vertical.
        opacity: how much of what is behind a full streak is lost, in [0, 1].

    Returns:
        ``(H, W, 3) float32`` in [0, 1], nowhere darker than ``clean``.
    """
    height, width = clean.shape[:2]
    mask = rain_mask(height, width, rng, density=density, length_px=length_px, angle_deg=angle_deg)
    return clean + np.float32(opacity) * mask[..., None] * (np.float32(1) - clean)


def flake_kernel(size_px: float, motion_px: float, angle_deg: float) -> Pixels:
    """How much of each pixel one flake covers while the shutter is open: a disc, softened and moved along a line.

    Args:
        size_px: diameter of the flake, in pixels.
        motion_px: how far it moves, in pixels; at most 1 is no motion.
        angle_deg: direction of the motion, 0 is horizontal, 90 vertical.

    Returns:
        Odd square, ``float32`` in [0, 1]; its sum is the area of the flake, in pixels.
    """
    edge = gaussian_kernel(_FLAKE_SOFTNESS * size_px)
    kernel = disc_coverage(size_px / 2)
    for smear in (edge[:, None], edge[None, :], motion_kernel(motion_px, angle_deg)):
        reach_y, reach_x = smear.shape[0] - 1, smear.shape[1] - 1
        kernel = filter_inside(np.pad(kernel, ((reach_y, reach_y), (reach_x, reach_x))), smear)
    return kernel


def snow_mask(
    height: int,
    width: int,
    rng: np.random.Generator,
    *,
    density: float,
    size_px: float,
    motion_px: float,
    angle_deg: float,
) -> Pixels:
    """How much of each pixel snow covers: flakes of four sizes, from near and large to far and small.

    All sizes cover the same share of the picture, so the small are many; near flakes move farther than far ones, in
    proportion to their size. Each size flutters: its direction is off by a random angle.

    Args:
        height: H in pixels.
        width: W in pixels.
        rng: draws, for each of four sizes, an angle, a uniform float32 per pixel of the picture grown by the flake,
            and a uniform number per flake.
        density: flakes per pixel, in [0, 1].
        size_px: diameter of the largest flakes, in pixels.
        motion_px: how far the largest move while the shutter is open, in pixels.
        angle_deg: lean of their fall against the vertical; positive leans to the right at the top.

    Returns:
        ``(H, W) float32`` in [0, 1]; flakes lie across the edges too.
    """
    shares = np.array([size**-2 for size in _FLAKE_SIZES])
    shares *= density / shares.sum()
    mask = np.zeros((height, width), dtype=np.float32)
    for size, share in zip(_FLAKE_SIZES, shares, strict=True):
        lean = angle_deg + rng.uniform(-_FLUTTER_DEG, _FLUTTER_DEG)
        kernel = flake_kernel(size * size_px, size * motion_px, 90.0 - lean)
        side = kernel.shape[0]
        middles = rng.random((height + side - 1, width + side - 1), dtype=np.float32) < share
        rows, columns = np.nonzero(middles)
        brightness = rng.uniform(_DIMMEST_FLAKE, 1.0, rows.size).astype(np.float32)
        layer = np.zeros((height + 2 * (side - 1), width + 2 * (side - 1)), dtype=np.float32)
        for row, column in np.argwhere(kernel):  # few flakes: to stamp them is quicker than to filter all pixels
            layer[rows + row, columns + column] += kernel[row, column] * brightness
        mask += layer[side - 1 : side - 1 + height, side - 1 : side - 1 + width]
    return np.minimum(mask, np.float32(1))


def snow(
    clean: Pixels,
    rng: np.random.Generator,
    *,
    density: float,
    size_px: float,
    motion_px: float,
    angle_deg: float,
    opacity: float,
) -> Pixels:
    """White flakes before the scene: ``I = J + opacity * mask * (1 - J)``.

    Source: the composition of Liu, Jaw, Huang, Hwang, "DesnowNet: Context-Aware Deep Network for Snow Removal",
    IEEE Transactions on Image Processing 2018, section III; the flakes are `snow_mask`'s.

    Args:
        clean: ``(H, W, 3) float32`` in [0, 1].
        rng: see `snow_mask`.
        density: flakes per pixel, in [0, 1].
        size_px: diameter of the largest flakes, in pixels.
        motion_px: how far the largest move while the shutter is open, in pixels.
        angle_deg: lean of their fall against the vertical.
        opacity: how much of what is behind a full flake is lost, in [0, 1].

    Returns:
        ``(H, W, 3) float32`` in [0, 1], nowhere darker than ``clean``.
    """
    height, width = clean.shape[:2]
    mask = snow_mask(height, width, rng, density=density, size_px=size_px, motion_px=motion_px, angle_deg=angle_deg)
    return clean + np.float32(opacity) * mask[..., None] * (np.float32(1) - clean)


def depth_ramp(height: int, width: int, rng: np.random.Generator) -> Pixels:
    """A smooth made-up depth: far at the top, tilted and bent at random.

    Args:
        height: H in pixels.
        width: W in pixels.
        rng: draws 10 uniform numbers, whatever the size.

    Returns:
        ``(H, W) float32``, from exactly 0 (near) to exactly 1 (far); 0.5 everywhere in a picture of one pixel.
    """
    y, x = np.meshgrid(np.linspace(0, 1, height), np.linspace(0, 1, width), indexing="ij")
    tilt = rng.uniform(-0.5, 0.5)
    depth = (1.0 - y) + tilt * x
    for _ in range(_HAZE_WAVES):
        across, down = rng.uniform(-_HAZE_CYCLES, _HAZE_CYCLES, 2)
        depth += _HAZE_WAVE_SHARE * np.cos(2 * np.pi * (across * x + down * y + rng.uniform()))
    low, high = depth.min(), depth.max()
    if high == low:
        return np.full((height, width), 0.5, dtype=np.float32)
    return np.asarray((depth - low) / (high - low), dtype=np.float32)


def haze_over(clean: Pixels, depth: Pixels, *, beta: float, airlight: float) -> Pixels:
    """Haze over a known depth: ``I = J t + A (1 - t)`` with ``t = exp(-beta d)``.

    Source: Koschmieder's law as in He, Sun, Tang, "Single Image Haze Removal Using Dark Channel Prior", CVPR 2009.

    Args:
        clean: ``(H, W, 3) float32`` in [0, 1], J.
        depth: ``(H, W) float32``, d, in units of the farthest distance.
        beta: scattering per unit of depth; 2 leaves 14 % of the contrast at depth 1.
        airlight: A, brightness of the haze itself, in [0, 1].

    Returns:
        ``(H, W, 3) float32`` in [0, 1].
    """
    transmission: Pixels = np.exp(-np.float32(beta) * depth)[..., None]
    return clean * transmission + np.float32(airlight) * (np.float32(1) - transmission)


def haze(
    clean: Pixels, rng: np.random.Generator, *, beta: float, airlight: float, near: float = 0.0, span: float = 1.0
) -> Pixels:
    """`haze_over` a `depth_ramp` from ``near`` to ``near + span``: ``(H, W, 3) float32`` in [0, 1] to the same.

    A training patch is a part of a scene: a ramp over all depths within 64 pixels is four times as steep as what a
    picture of 256 pixels shows, and less of what was learned from it carries over.
    """
    height, width = clean.shape[:2]
    depth = np.float32(near) + np.float32(span) * depth_ramp(height, width, rng)
    return haze_over(clean, depth, beta=beta, airlight=airlight)
