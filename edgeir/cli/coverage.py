"""What a calibration looked at, what its ranges leave out, and what was planned with it: tables of the report."""

from __future__ import annotations

from edgeir.cli.calibrating import Calibration, luminance_bands
from edgeir.cli.planning import Planning
from edgeir.report.value import Table

_SHOWN = 8
_BLAMED = 20


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
            (name, count, round(low, 3), round(high, 3)) for name, count, low, high in luminance_bands(pictures)
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


def planning_tables(planning: Planning) -> tuple[Table, ...]:
    """Which layers cost most, and which sets of them were measured."""
    return (_attribution(planning), _sets(planning))


def _attribution(planning: Planning) -> Table:
    chosen = set(planning.planned.chosen)
    total = sum(planning.macs.values()) or 1
    rows = []
    cumulative = 0.0
    for name, cost, share in planning.sensitivity.ranked():
        cumulative += share
        verdict = "yes" if name in chosen else "no"
        work = 100 * planning.macs[name] / total
        rows.append((name, round(cost, 5), round(100 * share, 1), round(100 * cumulative, 1), round(work, 2), verdict))
    return Table(
        title="Drift by layer",
        columns=("layer alone in eight bits", "dB", "% of all", "cumulative %", "% of the work", "chosen"),
        rows=tuple(rows[:_BLAMED]),
        note=f"The {min(_BLAMED, len(rows))} of {len(rows)} layers that cost most, each measured alone on pictures of "
        f"the calibration; plan.yaml has them all. {len(chosen)} were chosen.",
    )


def _sets(planning: Planning) -> Table:
    budget, full = planning.budget, planning.full
    rows = [
        (
            one.layers,
            round(one.loss.mean_db, 5),
            round(one.loss.worst_db, 5),
            round(one.loss.shift_8bit, 4),
            "yes" if one.fits else "no",
        )
        for one in planning.planned.evaluations
    ]
    return Table(
        title="Sets of layers that were measured",
        columns=("layers in eight bits", "mean drift dB", "worst degradation dB", "brightness", "fits"),
        rows=tuple(rows),
        note=f"Budget: {budget}. Measured on small pictures of the calibration; the plan at full size on the same "
        f"ones: {full.loss}. The drift per degradation above is of pictures that chose nothing.",
    )
