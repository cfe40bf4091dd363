"""Random sequences of degradations for blind restoration: BSRGAN's shuffle and Real-ESRGAN's second order.

Both draw everything, the parameters, the order and the noise, from one generator. Parameters are those of the
released code, where a paper names fewer: ``cszn/BSRGAN`` at 5ce1a9c and ``xinntao/Real-ESRGAN`` at a4abfb2.

Where both deviate from their sources:

- ``scale`` 1 is the sources' model for a factor of 1: sizes change on the way and end as they began.
- Bicubic resizing has a = -0.5 (OpenCV and PyTorch: -0.75). Area resizing is the exact mean over the new pixel, also
  when enlarging (OpenCV then interpolates linearly). Linear and cubic kernels alias when shrinking, as theirs do.
- JPEG is libjpeg with halved chroma at a whole quality (Real-ESRGAN: a differentiable imitation).
- Every picture, however small, is accepted; no size falls below one pixel. Nothing is cropped.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import get_args

import numpy as np

from edgeir.imaging import blur
from edgeir.imaging.colour import Pixels, luma, to_uint8
from edgeir.imaging.compression import jpeg
from edgeir.imaging.noise import low_light, poisson_noise
from edgeir.imaging.ranges import require
from edgeir.imaging.resampling import ResizeKernel, clipped, resize, shrunk

_KERNELS: tuple[ResizeKernel, ...] = get_args(ResizeKernel)
_JPEG_QUALITY = (30, 95)  # both papers

_BSRGAN_JPEG_PROBABILITY = 0.9
_BSRGAN_SENSOR_PROBABILITY = 0.25
_BSRGAN_HALF_FIRST_PROBABILITY = 0.25  # at scale 4
_BSRGAN_RANDOM_SHRINK_PROBABILITY = 0.75
_BSRGAN_SIGMA_8BIT = (2, 25)


@dataclass(frozen=True, slots=True)
class BsrganShuffle:
    """`bsrgan_shuffle`, enlarged again (bicubic) to the size of the picture where ``scale`` is above 1."""

    scale: int = 1

    def __post_init__(self) -> None:
        require("bsrgan shuffle", "scale", self.scale, 1, 8)

    def apply(self, image: Pixels, rng: np.random.Generator) -> Pixels:
        """``(H, W, 3) float32`` in [0, 1] to the same."""
        return clipped(resize(bsrgan_shuffle(image, rng, scale=self.scale), *image.shape[:2]))


@dataclass(frozen=True, slots=True)
class RealEsrganShuffle:
    """`real_esrgan_shuffle`, enlarged again (bicubic) to the size of the picture where ``scale`` is above 1."""

    scale: int = 1

    def __post_init__(self) -> None:
        require("real-esrgan shuffle", "scale", self.scale, 1, 8)

    def apply(self, image: Pixels, rng: np.random.Generator) -> Pixels:
        """``(H, W, 3) float32`` in [0, 1] to the same."""
        return clipped(resize(real_esrgan_shuffle(image, rng, scale=self.scale), *image.shape[:2]))


def bsrgan_shuffle(clean: Pixels, rng: np.random.Generator, *, scale: int = 1) -> Pixels:
    """Two blurs, a shrink in two steps, Gaussian, JPEG and sensor noise in random order, and JPEG at the end.

    Source: Zhang, Liang, Van Gool, Timofte, "Designing a Practical Degradation Model for Deep Blind Image
    Super-Resolution", ICCV 2021, section 3.

    Deviations, beside those of this module:

    - One blur is isotropic and one anisotropic, as in the paper (its code draws the kind of each); Gaussians reach
      to four sigmas instead of to the edge of a square of random size.
    - The halving that comes first in a quarter of the draws at scale 4 always samples (the code: half of the time
      antialiased bicubic).
    - A quarter of the shrinks take single pixels after a blur with a shifted kernel; here the blur is centred and the
      pixels are interpolated linearly at the shifted places.
    - The covariance of coloured noise is used as it is (the code takes the absolute value of its entries).
    - Sensor noise needs the authors' table of cameras. Instead the picture is made linear (gamma 2.2), gets shot and
      read noise by Brooks, Mildenhall, Xue, Chen, Sharlet, Barron, "Unprocessing Images for Learned Raw Denoising",
      CVPR 2019, section 3.1, and is made non-linear again: no demosaicking, no white balance, no tone curve.

    Args:
        clean: ``(H, W, 3) float32`` in [0, 1]; not changed.
        rng: draws everything.
        scale: the factor of super-resolution; more means more blur, too.

    Returns:
        ``(H / scale, W / scale, 3) float32``, sizes rounded, in [0, 1], multiples of 1/255.
    """
    height, width = shrunk(clean.shape[0], scale), shrunk(clean.shape[1], scale)
    image, factor = clipped(clean), scale
    if scale == 4 and rng.random() < _BSRGAN_HALF_FIRST_PROBABILITY:
        image, factor = _sampled(image, rng, shrunk(clean.shape[0], 2), shrunk(clean.shape[1], 2)), 2
    operations = (
        lambda image: blur.gaussian_blur(image, sigma_px=rng.uniform(0.1, 2.0 + 0.2 * factor)),
        lambda image: _tilted_blur(image, rng, 4.0 + factor),
        lambda image: _bsrgan_shrink(image, rng, factor),
        lambda image: _sampled(image, rng, height, width),
        lambda image: _coloured_noise(image, rng),
        lambda image: _compressed(image, rng) if rng.random() < _BSRGAN_JPEG_PROBABILITY else image,
        lambda image: _sensor_noise(image, rng) if rng.random() < _BSRGAN_SENSOR_PROBABILITY else image,
    )
    order = rng.permutation(len(operations)).tolist()
    shrink, settle = sorted((order.index(2), order.index(3)))  # the final size comes after the random one
    order[shrink], order[settle] = 2, 3
    for index in order:
        image = clipped(operations[index](image))
    return _compressed(image, rng)


@dataclass(frozen=True, slots=True)
class _Round:
    """One of Real-ESRGAN's two rounds: probabilities and ranges as in its ``train_realesrgan_x4plus.yml``.

    Attributes:
        blur: probability of the blur.
        sigma_px: range of a blur's sigmas.
        enlarge, shrink: probabilities; the rest keeps its size.
        factor: smallest and largest resize factor; 1 lies between.
        sigma_8bit: range of Gaussian noise.
        shot: range of the strength of Poisson noise; 1 is that of 256 electrons at white.
    """

    blur: float
    sigma_px: tuple[float, float]
    enlarge: float
    shrink: float
    factor: tuple[float, float]
    sigma_8bit: tuple[float, float]
    shot: tuple[float, float]


_FIRST = _Round(1.0, (0.2, 3.0), 0.2, 0.7, (0.15, 1.5), (1, 30), (0.05, 3.0))
_SECOND = _Round(0.8, (0.2, 1.5), 0.3, 0.4, (0.3, 1.2), (1, 25), (0.05, 2.5))
_GAUSSIAN_PROBABILITY = 0.5  # else Poisson
_GREY_PROBABILITY = 0.4
_SINC_PROBABILITY, _LAST_SINC_PROBABILITY = 0.1, 0.8
_SHAPE_PROBABILITIES = {"gaussian": 0.70, "generalised": 0.15, "plateau": 0.15}
_ISOTROPIC_PROBABILITIES = {"gaussian": 0.45 / 0.70, "generalised": 0.12 / 0.15, "plateau": 0.12 / 0.15}
_BETAS = {"gaussian": (1.0, 1.0), "generalised": (0.5, 4.0), "plateau": (1.0, 2.0)}
_ELECTRONS = 256.0


def real_esrgan_shuffle(clean: Pixels, rng: np.random.Generator, *, scale: int = 1) -> Pixels:
    """Blur, resize, noise and JPEG, all of it twice, with a sinc filter beside the last JPEG.

    Source: Wang, Xie, Dong, Shan, "Real-ESRGAN: Training Real-World Blind Super-Resolution with Pure Synthetic Data",
    ICCV Workshops 2021, section 3. At the end, the picture is resized and filtered before or after its JPEG coding,
    each with probability 1/2.

    Deviations, beside those of this module:

    - Poisson noise counts 256 electrons at white (the code: the next power of two above the number of values that
      the picture has, 256 for most).
    - The sharpening of the clean picture belongs to the training target and is left out.

    Args:
        clean: ``(H, W, 3) float32`` in [0, 1]; not changed.
        rng: draws everything.
        scale: the factor of super-resolution.

    Returns:
        ``(H / scale, W / scale, 3) float32``, sizes rounded, in [0, 1], multiples of 1/255.
    """
    height, width = shrunk(clean.shape[0], scale), shrunk(clean.shape[1], scale)
    image = _blurred_resized_noisy(clean, rng, _FIRST, clean.shape[0], clean.shape[1])
    image = _compressed(image, rng)
    image = _blurred_resized_noisy(image, rng, _SECOND, height, width)
    coded_last = rng.random() < 0.5
    if not coded_last:
        image = _compressed(image, rng)
    image = _sampled(image, rng, height, width)
    if rng.random() < _LAST_SINC_PROBABILITY:
        image = blur.filter_mirrored_dense(image, blur.sinc_kernel(rng.uniform(np.pi / 3, np.pi), _side(rng)))
    if coded_last:
        return _compressed(image, rng)
    return to_uint8(image).astype(np.float32) / np.float32(255)


def _blurred_resized_noisy(image: Pixels, rng: np.random.Generator, part: _Round, height: int, width: int) -> Pixels:
    """One round without its JPEG; sizes relative to ``height`` x ``width``."""
    if rng.random() < part.blur:
        image = blur.filter_mirrored_dense(image, _mixed_kernel(rng, part.sigma_px))
    kind = rng.random()
    factor = 1.0
    if kind < part.enlarge:
        factor = rng.uniform(1, part.factor[1])
    elif kind < part.enlarge + part.shrink:
        factor = rng.uniform(part.factor[0], 1)
    image = _sampled(image, rng, shrunk(height, 1 / factor), shrunk(width, 1 / factor))
    grey = rng.random() < _GREY_PROBABILITY
    if rng.random() < _GAUSSIAN_PROBABILITY:
        sigma = rng.uniform(*part.sigma_8bit) / 255.0
        return clipped(image + np.float32(sigma) * _white(image, rng, grey))
    image = clipped(image)
    light = luma(image)[..., None] if grey else image
    shot = poisson_noise(light, rng, full_well_electrons=_ELECTRONS) - light
    return clipped(image + np.float32(rng.uniform(*part.shot)) * shot)


def _mixed_kernel(rng: np.random.Generator, sigma_px: tuple[float, float]) -> Pixels:
    """A sinc, or a Gaussian, generalised Gaussian or plateau, round or tilted (Real-ESRGAN, section 3.1)."""
    side = _side(rng)
    if rng.random() < _SINC_PROBABILITY:
        return blur.sinc_kernel(rng.uniform(np.pi / (3 if side < 13 else 5), np.pi), side)
    shape = str(rng.choice(list(_SHAPE_PROBABILITIES), p=list(_SHAPE_PROBABILITIES.values())))
    along = across = rng.uniform(*sigma_px)
    angle_deg = 0.0
    if rng.random() >= _ISOTROPIC_PROBABILITIES[shape]:
        across, angle_deg = rng.uniform(*sigma_px), rng.uniform(-180, 180)
    low, high = _BETAS[shape]
    beta = rng.uniform(low, 1) if rng.random() < 0.5 else rng.uniform(1, high)
    q = blur.squared_distance(side // 2, along, across, angle_deg).astype(np.float64)
    weights = 1 / (1 + q**beta) if shape == "plateau" else np.exp(-0.5 * q**beta)
    return np.asarray(weights / weights.sum(), dtype=np.float32)


def _side(rng: np.random.Generator) -> int:
    """Side of a kernel: odd, 7 to 21."""
    return 7 + 2 * int(rng.integers(8))


def _tilted_blur(image: Pixels, rng: np.random.Generator, largest_variance: float) -> Pixels:
    """BSRGAN's anisotropic blur: both variances and the angle uniform."""
    along, across = np.sqrt(rng.uniform(0.04, largest_variance, 2))
    return blur.anisotropic_gaussian_blur(
        image, sigma_along_px=float(along), sigma_across_px=float(across), angle_deg=rng.uniform(0, 180)
    )


def _bsrgan_shrink(image: Pixels, rng: np.random.Generator, factor: int) -> Pixels:
    """To a random size, or by ``factor`` with a blur instead of an antialiased kernel."""
    height, width = image.shape[:2]
    if rng.random() < _BSRGAN_RANDOM_SHRINK_PROBABILITY:
        drawn = rng.uniform(1, 2 * factor)
        return _sampled(image, rng, shrunk(height, drawn), shrunk(width, drawn))
    soft = blur.gaussian_blur(image, sigma_px=rng.uniform(0.1, 0.6 * factor))
    return resize(soft, shrunk(height, factor), shrunk(width, factor), "bilinear", antialias=False)


def _sampled(image: Pixels, rng: np.random.Generator, height: int, width: int) -> Pixels:
    """Resize with one of three kernels, all equally likely."""
    return resize(image, height, width, _KERNELS[int(rng.integers(len(_KERNELS)))], antialias=False)


def _coloured_noise(image: Pixels, rng: np.random.Generator) -> Pixels:
    """BSRGAN's Gaussian noise: independent channels (0.4), grey (0.4) or a random covariance of the channels (0.2)."""
    kind = rng.random()
    if kind >= 0.8:
        axes, _ = np.linalg.qr(rng.random((3, 3)))
        mixing = np.asarray(np.sqrt(rng.random(3))[:, None] * axes.T, dtype=np.float32)
        return image + np.float32(_BSRGAN_SIGMA_8BIT[1] / 255.0) * (_white(image, rng, grey=False) @ mixing)
    sigma = int(rng.integers(*_BSRGAN_SIGMA_8BIT, endpoint=True)) / 255.0
    return image + np.float32(sigma) * _white(image, rng, grey=kind >= 0.4)


def _white(image: Pixels, rng: np.random.Generator, grey: bool) -> Pixels:
    """Standard normal numbers for ``image``, ``(H, W, 3)``, or ``(H, W, 1)`` where ``grey``."""
    return rng.standard_normal((*image.shape[:2], 1 if grey else 3), dtype=np.float32)


def _sensor_noise(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Shot and read noise in linear light, strengths by Brooks et al., CVPR 2019, section 3.1."""
    log_shot = rng.uniform(math.log(1e-4), math.log(1.2e-2))
    log_read = rng.normal(2.18 * log_shot + 1.2, 0.26)
    linear = low_light(
        image,
        rng,
        gain=1.0,
        gamma=2.2,
        full_well_electrons=math.exp(-log_shot),
        read_sigma_8bit=255.0 * math.exp(log_read / 2),
        clip=True,
    )
    return np.asarray(linear ** np.float32(1 / 2.2), dtype=np.float32)


def _compressed(image: Pixels, rng: np.random.Generator) -> Pixels:
    """JPEG of a random quality."""
    return jpeg(image, quality=int(rng.integers(*_JPEG_QUALITY, endpoint=True)))
