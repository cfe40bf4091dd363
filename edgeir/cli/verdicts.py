"""From measurements to what a report says of them: checks against the gates, and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from edgeir.compare.drift import PictureDrift, by_condition, mean_drift_db, worst_condition, worst_sample
from edgeir.compare.gates import GATES
from edgeir.compare.parity import Parity
from edgeir.errors import CheckFailed
from edgeir.precision import Precision
from edgeir.report.value import Cell, Check, Report, Table

if TYPE_CHECKING:
    from edgeir.calibrate.planner import Loss


def parity_checks(rows: Sequence[Parity], precision: Precision) -> list[Check]:
    """Every comparison against its gate: the traced graph as FP32, the typed one as its precision."""
    checks = []
    for row in rows:
        gates = GATES[Precision.FP32 if row.engine == "reference.onnx" else precision]
        label = f"{row.engine} vs PyTorch at {row.height}x{row.width}"
        checks.append(
            Check(
                f"fidelity, {label}",
                row.fidelity_db,
                gates.fidelity_db,
                "dB",
                "min",
                "Export with --fp32, or keep more layers in fp32 with --plan, and compare again.",
            )
        )
        if gates.max_abs is not None:
            checks.append(Check(f"largest difference, {label}", row.max_abs, gates.max_abs))
        checks.append(Check(f"NaN or Inf, {label}", row.nonfinite, 0))
        if row.key_graph_overlap is not None:
            checks.append(
                Check(f"key graph overlap, {label}", row.key_graph_overlap, gates.key_graph_overlap, "", "min")
            )
    return checks


def parity_table(rows: Sequence[Parity]) -> Table:
    """One row per comparison."""
    columns: tuple[str, ...] = ("graph", "size", "fidelity dB", "largest difference", "NaN or Inf")
    note = "Against the network as published, run by PyTorch eager in FP32. Nothing is clipped."
    cells: list[tuple[Cell, ...]] = [
        (row.engine, f"{row.height}x{row.width}", round(row.fidelity_db, 1), row.max_abs, row.nonfinite) for row in rows
    ]
    if any(row.key_graph_overlap is not None for row in rows):
        columns += ("key graph overlap", "free dB")
        cells = [
            (*cell, row.key_graph_overlap, None if row.free_fidelity_db is None else round(row.free_fidelity_db, 1))
            for cell, row in zip(cells, rows, strict=True)
        ]
        note = (
            "Against PyTorch eager in FP32, given the neighbours that the graph chose; overlap: smallest Jaccard of "
            "the two choices, ties within rounding aside; free: fidelity when PyTorch chooses for itself. The choice "
            "is discontinuous: PyTorch in FP32 and in FP64 do not agree on it either. Nothing is clipped."
        )
    return Table("Parity with PyTorch on a real picture", columns, tuple(cells), note)


def drift_checks(
    rows: Sequence[PictureDrift],
    precision: Precision,
    *,
    trained: bool,
    chooses_neighbours: bool,
    budget: Loss | None = None,
) -> list[Check]:
    """Fidelity, mean and worst drift against the gates, and no NaN or Inf anywhere.

    Args:
        trained: false for an untrained network: its PSNR against the truth says nothing, so drift is not judged.
        chooses_neighbours: true for a network with a key graph: two exact runtimes choose differently, so that the
            fidelity of free runs is not judged; parity judges it given the same choice.
        budget: what was asked for, in place of the gates.
    """
    gates = GATES[precision]
    advice = "Keep the layers that cost most in fp32: edit plan.yaml and export again with --plan."
    checks = broken_checks(rows)
    if not chooses_neighbours:
        worst = min(row.fidelity_db for row in rows)
        checks.append(Check("worst fidelity over all degradations", worst, gates.fidelity_db, "dB", "min", advice))
    if trained:
        mean, most = mean_drift_db(rows), worst_sample(rows).drift_db
        limit = gates.mean_drift_db if budget is None else budget.mean_db
        warn = gates.mean_drift_warn_db if budget is None else None
        checks.append(Check("mean drift", mean, limit, "dB", "max", advice, warn))
        if gates.worst_drift_db is not None:
            checks.append(Check("worst drift of one picture", most, gates.worst_drift_db, "dB", "max", advice))
        worst_limit = gates.worst_degradation_db if budget is None else budget.worst_db
        if worst_limit is not None:
            worst_mean = worst_condition(rows).mean_drift_db
            name = "mean drift under the worst degradation"
            checks.append(Check(name, worst_mean, worst_limit, "dB", "max", advice))
        if gates.brightness_shift_8bit is not None:
            shift = max(abs(row.brightness_shift_8bit) for row in rows)
            checks.append(Check("brightness shift, of 255", shift, gates.brightness_shift_8bit, "", "max", advice))
    return checks


def broken_checks(rows: Sequence[PictureDrift]) -> list[Check]:
    """No output may hold NaN or Inf, and none may be one colour where the reference's is not."""
    return [
        Check("NaN or Inf over all degradations", sum(row.nonfinite for row in rows), 0),
        Check("flat outputs over all degradations", sum(row.flat for row in rows), 0),
    ]


def engine_table(drift: Mapping[str, Sequence[PictureDrift]]) -> Table:
    """One row per engine: every engine of a bundle that runs here, on the same pictures."""
    cells: list[tuple[Cell, ...]] = []
    for name, rows in drift.items():
        worst, picture = worst_condition(rows), worst_sample(rows)
        cells.append(
            (
                name,
                round(mean_drift_db(rows), 4),
                f"{worst.mean_drift_db:.4f} {worst.condition}",
                f"{picture.drift_db:.4f} {picture.picture}",
                round(min(row.fidelity_db for row in rows), 1),
                round(min(row.ssim for row in rows), 5),
                sum(row.nonfinite for row in rows),
                sum(row.flat for row in rows),
            )
        )
    return Table(
        title="Engines that run here",
        columns=("engine", "drift dB", "worst degradation", "worst picture", "fidelity", "SSIM", "NaN or Inf", "flat"),
        rows=tuple(cells),
        note="model.onnx is computed as a device would, every FP16 result rounded and eight bits as the graph says; "
        "the other is what ONNX Runtime makes of it on this processor, with its own kernels.",
    )


def drift_table(rows: Sequence[PictureDrift], engine: str) -> Table:
    """One row per degradation; ``engine`` says what was measured (``"model.onnx in onnxruntime 1.31"``)."""
    conditions = by_condition(rows)
    cells: list[tuple[Cell, ...]] = [
        (
            row.condition,
            round(row.input_db, 2),
            round(row.reference_db, 3),
            round(row.engine_db, 3),
            round(row.mean_drift_db, 4),
            f"{row.worst_drift_db:.4f} {row.worst_picture}",
            round(row.fidelity_db, 1),
            round(row.brightness_shift_8bit, 4),
        )
        for row in conditions
    ]
    return Table(
        title="Drift per degradation",
        columns=("degradation", "input dB", "ref. dB", "engine dB", "drift dB", "worst", "fidelity", "shift"),
        rows=tuple(cells),
        note=f"Mean PSNR in dB against the truth over {conditions[0].pictures} pictures. Drift = reference - engine: a "
        "loss is positive; worst: the picture that loses most. Fidelity: lowest PSNR of engine against reference. "
        "Shift: largest mean brightness shift, of 255. "
        f"Engine: {engine}; reference: reference.onnx there, which parity holds against PyTorch.",
    )


def look_table(rows: Sequence[PictureDrift]) -> Table:
    """What an eye would notice, one row per degradation."""
    return Table(
        title="Look",
        columns=("degradation", "SSIM", "brightness", "white point", "black point", "hue °", "banding %"),
        rows=tuple(
            (
                row.condition,
                round(row.ssim, 5),
                round(row.brightness_shift_8bit, 3),
                round(row.look.white_shift_8bit, 3),
                round(row.look.black_shift_8bit, 3),
                round(row.look.hue_shift_deg, 3),
                round(100 * row.look.banding, 2),
            )
            for row in by_condition(rows)
        ),
        note="Engine against reference, the largest change of any picture and the lowest SSIM. Brightness, white point "
        "(99.9th percentile of luma) and black point (0.1st) in steps of an 8-bit picture; hue: rotation of the "
        "colours; banding: slopes of at most one step that became flat.",
    )


def require_passed(report: Report, *, where: str) -> None:
    """Raise ``CheckFailed`` with the first failed check, its value, its limit and its advice."""
    failed = [check for check in report.checks if not check.passed]
    if not failed:
        return
    first = failed[0]
    bound = "at most" if first.kind == "max" else "at least"
    raise CheckFailed(
        f"{len(failed)} of {len(report.checks)} checks failed, the first is '{first.name}'",
        where=where,
        expected=f"{bound} {first.limit:g} {first.unit}".strip(),
        got=f"{first.value:.4g} {first.unit}".strip(),
        fix=first.advice or None,
    )
