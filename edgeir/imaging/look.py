"""What an eye sees before PSNR does: colour casts, clipped whites, raised blacks, slopes that became steps.

An eight-bit network can lose hardly any PSNR and still be darker, tinted or banded; users notice that first. Every
function compares an output with the reference's output, ``(H, W, 3) float32``, clipped to [0, 1].
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from edgeir.imaging.colour import Pixels, luma

_WHITE, _BLACK = 99.9, 0.1  # percentiles: single pixels say nothing
# A slope: neighbours that differ by at least a quarter and at most one step of an 8-bit picture.
_SLOPE_LEAST, _SLOPE_MOST = 0.25 / 255, 1.0 / 255
_FLAT = 0.05 / 255
_LEAST_SLOPES = 64
_LEAST_CHROMA = 1e-3  # of all pixels together: below it a picture is grey and has no hue


@dataclass(frozen=True, slots=True)
class Look:
    """How one output looks against the reference's.

    Attributes:
        hue_shift_deg: rotation of the colours, degrees, see `hue_shift_deg`.
        white_shift_8bit: of the white point, see `white_shift_8bit`; negative is clipped or darker.
        black_shift_8bit: of the black point; positive is raised.
        banding: share of slopes that became flat, see `banding`, 0 to 1.
    """

    hue_shift_deg: float
    white_shift_8bit: float
    black_shift_8bit: float
    banding: float


def as_shown(output: Pixels) -> Pixels:
    """An output of any shape as a display shows it: clipped to [0, 1], NaN as black."""
    shown: Pixels = np.clip(np.nan_to_num(output, posinf=1.0, neginf=0.0), 0, 1)
    return shown


def look(output: Pixels, reference: Pixels) -> Look:
    """All four at once; values that are not finite count as black."""
    shown, expected = as_shown(output), as_shown(reference)
    return Look(
        hue_shift_deg(shown, expected),
        white_shift_8bit(shown, expected),
        black_shift_8bit(shown, expected),
        banding(shown, expected),
    )


def hue_shift_deg(output: Pixels, reference: Pixels) -> float:
    """How far the colours are turned around grey: the angle of ``sum(z_out * conj(z_ref))``, ``z = Cb + i Cr``.

    Every pixel counts by its colourfulness in both pictures (BT.601 chroma).

    Returns:
        degrees in (-180, 180]; 0 where the reference is grey.
    """
    chroma, expected = _chroma(output), _chroma(reference)
    if float(np.abs(expected).mean()) < _LEAST_CHROMA:
        return 0.0
    return math.degrees(float(np.angle(np.sum(chroma * np.conj(expected)))))


def white_shift_8bit(output: Pixels, reference: Pixels) -> float:
    """Difference of the 99.9th percentile of luma, in steps of an 8-bit picture."""
    return 255 * float(np.percentile(luma(output), _WHITE) - np.percentile(luma(reference), _WHITE))


def black_shift_8bit(output: Pixels, reference: Pixels) -> float:
    """Difference of the 0.1st percentile of luma, in steps of an 8-bit picture."""
    return 255 * float(np.percentile(luma(output), _BLACK) - np.percentile(luma(reference), _BLACK))


def banding(output: Pixels, reference: Pixels) -> float:
    """The share of slopes that became flat.

    A slope is a pair of neighbours, in a row or a column, whose luma differs by a quarter to one step of an 8-bit
    picture in the reference; it became flat where the output's differs by less than a twentieth of a step.

    Returns:
        0 to 1; 0 where the reference has hardly any slope.
    """
    slopes = flat = 0
    for axis in (0, 1):
        before = np.abs(np.diff(luma(reference), axis=axis))
        after = np.abs(np.diff(luma(output), axis=axis))
        is_slope = (before >= _SLOPE_LEAST) & (before <= _SLOPE_MOST)
        slopes += int(np.count_nonzero(is_slope))
        flat += int(np.count_nonzero(is_slope & (after < _FLAT)))
    return 0.0 if slopes < _LEAST_SLOPES else flat / slopes


def _chroma(pixels: Pixels) -> np.ndarray[tuple[int, ...], np.dtype[np.complex128]]:
    wide = pixels.astype(np.float64)
    brightness = luma(pixels).astype(np.float64)
    return (wide[..., 2] - brightness) / 1.772 + 1j * (wide[..., 0] - brightness) / 1.402


def amplified_difference(output: Pixels, reference: Pixels) -> tuple[Pixels, int]:
    """What differs, on grey.

    Returns:
        ``(H, W, 3) float32`` in [0, 1], and the power of two that the difference was multiplied by: the largest one, up
        to 4096, that leaves 99.9 % of it inside the range.
    """
    difference = as_shown(output) - as_shown(reference)
    most = float(np.percentile(np.abs(difference), _WHITE))
    gain = 4096 if most == 0 else int(2 ** np.clip(math.floor(math.log2(0.5 / most)), 0, 12))
    return np.clip(0.5 + gain * difference, 0, 1).astype(np.float32), gain


def to_lay_over(degraded: Pixels, reference: Pixels, output: Pixels) -> dict[str, Pixels]:
    """Pictures as a display shows them, by name: input (if it has the others' size), reference, engine, difference.

    Args:
        degraded: the input, ``(H, W, 3) float32``.
        reference, output: what the reference and the engine make of it, ``(s*H, s*W, 3)``.
    """
    difference, gain = amplified_difference(output, reference)
    shown = {"reference": as_shown(reference), "engine": as_shown(output), f"difference times {gain}": difference}
    return {"input": as_shown(degraded), **shown} if degraded.shape == reference.shape else shown
