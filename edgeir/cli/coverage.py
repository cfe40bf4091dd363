"""What a calibration looked at, what its ranges leave out, and what was planned with it: tables of the report."""

from __future__ import annotations

from collections.abc import Collection

from edgeir.calibrate.range_fit import MISFIT_DB
from edgeir.cli.calibrating import Calibration, luminance_bands
from edgeir.cli.planning import Attribution, Planning
from edgeir.report.value import Cell, Table

_SHOWN = 8
_BLAMED = 20


def coverage_tables(calibration: Calibration) -> tuple[Table, ...]:
    """Degradations and luminance seen, and the ranges that fit least."""
    return (_seen(calibration), _fit(calibration))


def _seen(calibration: Calibration) -> Table:
    pictures = calibration.pictures
    used = len({sample.picture for sample in pictures.samples})
    return Table(
        title="Calibration: what was seen",
        columns=("degradation", "crops", "darkest mean luma", "brightest", "set the range of, tensors"),
        rows=tuple(
            (name, count, round(low, 3), round(high, 3), calibration.extremes.get(name, 0))
            for name, count, low, high in luminance_bands(pictures)
        ),
        note=f"Crops of {pictures.height}x{pictures.width} pixels of {used} pictures, before they were degraded; "
        "calibration.json names them by the hash of their content. More pictures of the kind that set most ranges "
        "would add most.",
    )


def _fit(calibration: Calibration) -> Table:
    tensors = calibration.ranges.tensors
    wrong = [fit for fit in calibration.fits if fit.wrong]
    beyond = sum(entry.saturated > 0 for entry in tensors.values())
    return Table(
        title="Calibration: ranges that fit least",
        columns=("read by", "tensor", "range", "best", "dB lost by it", "largest seen", "saturated %"),
        rows=tuple(
            (
                ", ".join(calibration.readers[fit.tensor]),
                fit.tensor,
                fit.amax,
                fit.best,
                round(fit.lost_db, 2),
                tensors[fit.tensor].largest,
                round(100 * tensors[fit.tensor].saturated, 4),
            )
            for fit in calibration.fits[: max(_SHOWN, len(wrong))]
        ),
        note=f"By the method {calibration.ranges.method}. dB lost: rounding and clipping against the best range for "
        f"what was seen. {len(wrong)} of {len(tensors)} ranges lose more than {MISFIT_DB:g} dB and are called wrong; "
        f"{beyond} tensors saturate at all. In front of {len(calibration.ranges.migrated)} layers powers of two moved "
        "from the channels into weights, which changes nothing but how much rounding loses. ranges.json has it all.",
    )


def attribution_tables(attribution: Attribution, chosen: Collection[str] | None = None) -> tuple[Table, ...]:
    """What each layer costs alone, and under which degradation; with what the planner made of it, if there is one."""
    return (_attribution(attribution, chosen), _by_degradation(attribution))


def planning_tables(planning: Planning) -> tuple[Table, ...]:
    """Which layers cost most, and which sets of them were measured."""
    return (*attribution_tables(planning.attribution, planning.planned.chosen), _sets(planning))


def _attribution(attribution: Attribution, chosen: Collection[str] | None) -> Table:
    total = sum(attribution.macs.values()) or 1
    rows: list[tuple[Cell, ...]] = []
    cumulative = 0.0
    for name, cost, share in attribution.sensitivity.ranked():
        cumulative += share
        work = 100 * attribution.macs[name] / total
        row = (name, round(cost, 5), round(100 * share, 1), round(100 * cumulative, 1), round(work, 2))
        rows.append(row if chosen is None else (*row, "yes" if name in chosen else "no"))
    shown = rows[:_BLAMED]
    return Table(
        title="Drift by layer",
        columns=(
            *("layer alone in eight bits", "dB", "% of all", "cumulative %", "% of the work"),
            *(() if chosen is None else ("chosen",)),
        ),
        rows=tuple(shown),
        note=f"The {len(shown)} of {len(rows)} layers that cost most, each measured alone on pictures of the "
        f"calibration; plan.yaml has them all.{'' if chosen is None else f' {len(chosen)} were chosen.'}",
    )


def _by_degradation(attribution: Attribution) -> Table:
    sensitivity = attribution.sensitivity
    conditions = tuple(dict.fromkeys(sensitivity.conditions))
    ranked = [name for name, _, _ in sensitivity.ranked()[:_BLAMED]]
    costs = {name: sensitivity.costs_by_condition(name) for name in ranked}
    return Table(
        title="Drift by layer and degradation",
        columns=("layer alone in eight bits, dB", *conditions),
        rows=tuple((name, *(round(costs[name][one], 5) for one in conditions)) for name in ranked),
        note="The same layers; the redder a cell, the more it costs.",
        heat=True,
    )


def _sets(planning: Planning) -> Table:
    full, where = planning.full, "small pictures" if planning.on_twin else "pictures"
    chooses = planning.budget.lost_neighbours > 0
    rows = [
        (
            one.layers,
            round(one.loss.mean_db, 5),
            round(one.loss.worst_db, 5),
            round(one.loss.shift_8bit, 4),
            *((round(100 * one.loss.lost_neighbours, 1),) if chooses else ()),
            "yes" if one.fits else "no",
        )
        for one in planning.planned.evaluations
    ]
    neighbours = ("neighbours lost %",) if chooses else ()
    return Table(
        title="Sets of layers that were measured",
        columns=("layers in eight bits", "mean drift dB", "worst degradation dB", "brightness", *neighbours, "fits"),
        rows=tuple(rows),
        note=f"Budget: {planning.budget}. Measured on {where} of the calibration; the "
        f"plan at full size on the same ones: {full.loss}. The drift per degradation above is of pictures that chose "
        "nothing.",
    )
