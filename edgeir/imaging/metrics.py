"""How far two pictures are apart: PSNR, fidelity, brightness, and the overlap of two masks.

Every function takes two arrays of one shape and computes in float64. Two conventions are in use in the literature and
both are here under names that say which; their PSNR differs by up to 0.1 dB on RGB, so never mix them in a table.

| convention                            | pixels                   | PSNR           | SSIM              |
|---------------------------------------|--------------------------|----------------|-------------------|
| all-in-one restoration (PromptIR)     | float, clipped           | `psnr_float`   | `ssim_float`      |
| denoising, super-resolution (KAIR)    | 8-bit, minus border      | `psnr_uint8`   | `ssim_gaussian`   |
| super-resolution on brightness (KAIR) | Y of 8-bit, minus border | `psnr_uint8_y` | `ssim_gaussian_y` |

Structural similarity is in `edgeir.imaging.ssim` and re-exported here.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from edgeir.errors import UsageError
from edgeir.imaging.colour import Pixels, luma, to_uint8
from edgeir.imaging.ssim import luma_studio, ssim_float, ssim_gaussian, ssim_gaussian_y, without_border

__all__ = [
    "brightness_shift_8bit",
    "fidelity_db",
    "jaccard",
    "luma",
    "luma_studio",
    "max_abs",
    "psnr_float",
    "psnr_uint8",
    "psnr_uint8_y",
    "ssim_float",
    "ssim_gaussian",
    "ssim_gaussian_y",
]


def psnr_float(output: Pixels, truth: Pixels) -> float:
    """PSNR in dB of float pictures, both clipped to [0, 1], over all pixels and channels at once.

    The all-in-one restoration papers report this (source: PromptIR ``utils/val_utils.py``, data range 1).

    Returns:
        dB; ``inf`` if equal, ``-inf`` if a value is not a finite number.

    Raises:
        UsageError: the shapes differ, or the arrays are empty.
    """
    _require_same_shape(output, truth)
    if not _finite(output, truth):
        return -math.inf
    return _psnr_db(_mean_square(np.clip(output, 0.0, 1.0), np.clip(truth, 0.0, 1.0)), peak=1.0)


def psnr_uint8(output: Pixels, truth: Pixels, border_px: int = 0) -> float:
    """PSNR in dB after rounding both to 8 bits, leaving out ``border_px`` pixels on every side.

    The denoising and super-resolution papers report this (source: KAIR ``utils_image.calculate_psnr``).

    Returns:
        dB; ``inf`` if equal after rounding, ``-inf`` if a value is not a finite number.

    Raises:
        UsageError: the shapes differ, or the border leaves nothing.
    """
    _require_same_shape(output, truth)
    inner, inner_truth = without_border(output, border_px), without_border(truth, border_px)
    if not _finite(output, truth):
        return -math.inf
    return _psnr_db(_mean_square(to_uint8(inner), to_uint8(inner_truth)), peak=255.0)


def psnr_uint8_y(output: Pixels, truth: Pixels, border_px: int = 0) -> float:
    """`psnr_uint8` of the Y channel of RGB pictures, `luma_studio` of both after rounding to 8 bits; peak 255.

    The super-resolution papers report this (source: KAIR ``main_test_swinir.py``; the border is the scale by custom).

    Returns:
        dB; ``inf`` if equal after rounding, ``-inf`` if a value is not a finite number.

    Raises:
        UsageError: the shapes differ or are not RGB's, or the border leaves nothing.
    """
    _require_same_shape(output, truth)
    inner, inner_truth = without_border(output, border_px), without_border(truth, border_px)
    if not _finite(output, truth):
        return -math.inf
    return _psnr_db(_mean_square(luma_studio(to_uint8(inner)), luma_studio(to_uint8(inner_truth))), peak=255.0)


def fidelity_db(output: Pixels, reference: Pixels) -> float:
    """PSNR in dB, peak 1, of raw network outputs of any shape: nothing is clipped, so nothing is hidden.

    Returns:
        dB; ``inf`` if equal, ``-inf`` if a value of either is not a finite number.

    Raises:
        UsageError: the shapes differ, or the arrays are empty.
    """
    _require_same_shape(output, reference)
    if not _finite(output, reference):
        return -math.inf
    return _psnr_db(_mean_square(output, reference), peak=1.0)


def max_abs(output: Pixels, reference: Pixels) -> float:
    """Largest absolute difference, in the unit of the arrays; ``inf`` if a value is not a finite number.

    Raises:
        UsageError: the shapes differ, or the arrays are empty.
    """
    _require_same_shape(output, reference)
    if not _finite(output, reference):
        return math.inf
    return float(np.max(np.abs(np.asarray(output, np.float64) - np.asarray(reference, np.float64))))


def brightness_shift_8bit(output: Pixels, reference: Pixels) -> float:
    """Mean of ``output - reference`` in steps of an 8-bit picture (``* 255``); positive if output is brighter.

    Raises:
        UsageError: the shapes differ, or the arrays are empty.
    """
    _require_same_shape(output, reference)
    return float(np.mean(np.asarray(output, np.float64) - np.asarray(reference, np.float64))) * 255.0


def jaccard(mask: NDArray[np.bool_], reference: NDArray[np.bool_]) -> float:
    """Intersection over union of two boolean arrays, in [0, 1]; 1 if both are empty of true.

    Raises:
        UsageError: the shapes differ, or an array is not boolean.
    """
    if mask.shape != reference.shape or mask.dtype != np.bool_ or reference.dtype != np.bool_:
        raise UsageError(
            "the masks cannot be compared",
            expected="two boolean arrays of one shape",
            got=f"{mask.dtype} {mask.shape} and {reference.dtype} {reference.shape}",
        )
    union = int(np.count_nonzero(mask | reference))
    return 1.0 if union == 0 else int(np.count_nonzero(mask & reference)) / union


def _require_same_shape(output: Pixels, reference: Pixels) -> None:
    if output.shape != reference.shape or output.size == 0:
        raise UsageError(
            "the pictures cannot be compared",
            expected="two arrays of one shape, not empty",
            got=f"{output.shape} and {reference.shape}",
        )


def _finite(*arrays: Pixels) -> bool:
    return all(bool(np.isfinite(array).all()) for array in arrays)


def _mean_square(output: NDArray[np.generic], reference: NDArray[np.generic]) -> float:
    difference = np.asarray(output, np.float64) - np.asarray(reference, np.float64)
    return float(np.mean(np.square(difference)))


def _psnr_db(mean_square: float, peak: float) -> float:
    return math.inf if mean_square == 0.0 else 10.0 * math.log10(peak * peak / mean_square)
