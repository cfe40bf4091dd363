"""What a calibration looked at, and what its ranges leave out: tables of the report."""

from __future__ import annotations

from edgeir.cli.calibrating import Calibration, luminance_bands
from edgeir.report.value import Table

_SHOWN = 8


def coverage_tables(calibration: Calibration) -> tuple[Table, ...]:
    """Degradations and luminance seen, and the tensors that saturate most."""
    return (_seen(calibration), _saturation(calibration))


def _seen(calibration: Calibration) -> Table:
    pictures = calibration.pictures
    used = len({sample.picture for sample in pictures.samples})
    return Table(
        title="Calibration: what was seen",
        columns=("degradation", "crops", "darkest mean luma", "brightest"),
        rows=tuple(
            (name, count, round(low, 3), round(high, 3))
            for name, count, low, high in luminance_bands(pictures, [one.name for one in pictures.conditions])
        ),
        note=f"Crops of {pictures.height}x{pictures.width} pixels of {used} pictures, before they were degraded; "
        "calibration.json names them by the hash of their content.",
    )


def _saturation(calibration: Calibration) -> Table:
    tensors = calibration.ranges.tensors
    worst = sorted(tensors, key=lambda name: (-tensors[name].saturated, name))[:_SHOWN]
    beyond = sum(entry.saturated > 0 for entry in tensors.values())
    return Table(
        title="Calibration: what saturates most",
        columns=("tensor", "range", "largest seen", "saturated %"),
        rows=tuple(
            (name, tensors[name].amax, tensors[name].largest, round(100 * tensors[name].saturated, 4)) for name in worst
        ),
        note=f"By the method {calibration.ranges.method}; {beyond} of {len(tensors)} tensors saturate at all. "
        "ranges.json has them all.",
    )
