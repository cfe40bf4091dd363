"""The tables of a sweep's report: rows as they were measured, and nothing computed but a rounding."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from edgeir.report.value import Cell, Table
from edgeir.sweep.outcome import Outcome


def groups(rows: Iterable[Outcome]) -> dict[str, list[Outcome]]:
    """Rows whose latencies can be compared, by the title of their table, the fastest first."""
    several = len({row.machine.label for row in rows}) > 1
    found: dict[str, list[Outcome]] = {}
    for row in rows:
        size, batch = row.trial.comparable
        title = f"Trials at {size}" + (f", batch {batch}" if batch > 1 else "")
        found.setdefault(f"{title}, {row.machine.label}" if several else title, []).append(row)
    return {title: sorted(group, key=p50) for title, group in found.items()}


def trial_table(title: str, rows: Sequence[Outcome]) -> Table:
    """One row per trial whose latencies can be compared; the Pareto chart draws it."""
    return Table(
        title=title,
        columns=("trial", "model", "p50 ms", "of FP32", "drift dB", "worst dB", "gain dB", "gates"),
        rows=tuple(
            (
                short(row),
                row.trial.build.name,
                _rounded(row.figures.get("p50_ms"), 2),
                _rounded(row.figures.get("time_ratio"), 3),
                _rounded(row.figures.get("mean_drift_db"), 5),
                _rounded((row.figures.get("worst_degradation") or {}).get("drift_db"), 4),
                _rounded(row.figures.get("mean_gain_db"), 3),
                _gates_text(row.figures),
            )
            for row in rows
        ),
        note="Of FP32: time divided by that of reference.onnx in ONNX Runtime, taken round by round in the same run, "
        "which a busy machine changes least. Times are of what ONNX Runtime runs here; drift is of model.onnx as a "
        "device computes it, every FP16 result rounded: mean PSNR lost against that reference; worst: under the worst "
        "degradation. Gain: PSNR won over the degraded input, clean pictures aside. Gates: those of the precision.",
    )


def _gates_text(figures: Mapping[str, Any]) -> str:
    if not figures.get("trained"):
        return "UNTRAINED"
    if "within_gates" not in figures:
        return "not judged"
    return "within" if figures["within_gates"] else "failed: " + ", ".join(figures["failed_checks"])


def latency_table(rows: Sequence[Outcome]) -> tuple[Table, ...]:
    """All percentiles."""
    if not rows:
        return ()
    names = ("p50_ms", "p90_ms", "p95_ms", "p99_ms", "first_ms", "pictures_per_s")
    return (
        Table(
            title="Latency",
            columns=(
                "trial",
                "p50 ms",
                "p90 ms",
                "p95 ms",
                "p99 ms",
                "first ms",
                "pictures/s",
                "of FP32, lowest to highest",
            ),
            rows=tuple(
                (
                    row.trial.label,
                    *(_rounded(row.figures.get(name), 2) for name in names),
                    f"{row.figures['time_ratio_low']:.2f} to {row.figures['time_ratio_high']:.2f}",
                )
                for row in rows
            ),
            note="Of the rounds that were counted; with a dozen of them p95 and p99 are close to the slowest one.",
        ),
    )


def worst_table(rows: Sequence[Outcome]) -> tuple[Table, ...]:
    """Per trial the degradation and the picture that lose most."""
    cells = []
    for row in rows:
        if "worst_picture" in row.figures:
            degradation, picture = row.figures["worst_degradation"], row.figures["worst_picture"]
            cells.append(
                (
                    row.trial.label,
                    degradation["name"],
                    _rounded(degradation["drift_db"], 4),
                    f"{picture['name']}, {picture['condition']}",
                    _rounded(picture["drift_db"], 4),
                    _rounded(row.figures["min_fidelity_db"], 1),
                )
            )
    if not cells:
        return ()
    return (
        Table(
            title="Worst cases",
            columns=("trial", "degradation", "mean drift dB", "picture", "drift dB", "least fidelity dB"),
            rows=tuple(cells),
            note="Fidelity: PSNR against the reference's output.",
        ),
    )


def failure_table(rows: Sequence[Outcome]) -> tuple[Table, ...]:
    """What could not be measured, and why; no table where everything could."""
    if not rows:
        return ()
    return (
        Table(
            title="Trials without a measurement",
            columns=("trial", "how it ended", "reason", "after s", "peak MiB"),
            rows=tuple(
                (row.trial.label, row.status, row.reason, round(row.seconds, 1), round(row.peak_bytes / 2**20))
                for row in rows
            ),
            note="logs/ has what each said; --retry runs them again.",
        ),
    )


def degradation_table(rows: Sequence[Outcome]) -> tuple[Table, ...]:
    """Trials by degradations."""
    names = list(dict.fromkeys(name for row in rows for name in row.figures.get("by_degradation", {})))
    if not names:
        return ()
    return (
        Table(
            title="Drift by degradation",
            columns=("trial", *names),
            rows=tuple(
                (row.trial.label, *(_rounded(row.figures["by_degradation"].get(name), 4) for name in names))
                for row in rows
                if "by_degradation" in row.figures
            ),
            note="Mean PSNR in dB lost against the FP32 reference; negative: closer to the truth than the reference.",
            heat=True,
        ),
    )


def energy_table(rows: Iterable[Outcome]) -> tuple[Table, ...]:
    """Joules of one picture; no table where no meter answered."""
    having = [row for row in rows if "joules" in row.figures]
    if not having:
        return ()
    return (
        Table(
            title="Energy of one picture",
            columns=("trial", "J", "J above idle", "meter"),
            rows=tuple(
                (
                    row.trial.label,
                    _rounded(row.figures["joules"], 4),
                    _rounded(row.figures["joules_above_idle"], 4),
                    row.figures["power_meter"],
                )
                for row in having
            ),
            note="A camera pays for both; only the part above idle compares two networks. Idle power was measured "
            "before each trial, with everything loaded.",
        ),
    )


def resource_table(rows: Sequence[Outcome]) -> tuple[Table, ...]:
    """What each takes on a device."""
    if not rows:
        return ()
    cells = []
    for row in rows:
        figures = row.figures
        built = [one for one in figures["engines"] if one["mb"] is not None]
        cells.append(
            (
                row.trial.label,
                figures.get("peak_mib"),
                (figures.get("eight_bits") or "").partition(" of ")[0],
                ", ".join(f"{one['runtime']} {one['architecture']}" for one in built) or "none built",
                sum(one["mb"] for one in built) if built else None,
                figures.get("bundle_mb"),
            )
        )
    return (
        Table(
            title="Size and memory",
            columns=("trial", "peak MiB", "in eight bits", "engine", "engine MB", "bundle MB"),
            rows=tuple(cells),
            note="Peak: resident memory of a process that opens the backend and restores one batch. In eight bits: "
            "share of all multiply-accumulates. Engines were built, not run.",
        ),
    )


def effort_table(rows: Sequence[Outcome]) -> tuple[Table, ...]:
    """What measuring it took."""
    if not rows:
        return ()
    return (
        Table(
            title="Effort",
            columns=("trial", "export s", "measuring s", "pictures", "rounds", "rung"),
            rows=tuple(
                (
                    row.trial.label,
                    row.figures.get("prepare_s"),
                    row.figures.get("measure_s"),
                    row.settings.pictures,
                    row.settings.rounds,
                    row.rung,
                )
                for row in rows
            ),
            note="Export: 0 where the bundle was there already. Rung: of successive halving.",
        ),
    )


def rewrite_tables(rows: Iterable[Outcome]) -> list[Table]:
    """Per model, of the first trial whose export timed them, where any fired; rewrites come before the precision."""
    found: dict[str, Table] = {}
    for row in rows:
        rewrites: Mapping[str, Any] | None = row.figures.get("rewrites")
        name = row.trial.build.name
        if rewrites is None or name in found:
            continue
        fired, milliseconds = (rewrites["columns"].index(column) for column in ("fired", "ms"))
        if rewrites["rows"][0][milliseconds] is None or not any(cells[fired] for cells in rewrites["rows"]):
            continue
        found[name] = Table(
            title=f"What each rewrite bought: {name} at {row.trial.size}",
            columns=tuple(rewrites["columns"]),
            rows=tuple(tuple(cells) for cells in rewrites["rows"]),
            note="In FP32 on a CPU, medians of three runs in turn, as the export measured them.",
        )
    return list(found.values())


def environment_table(rows: Sequence[Outcome]) -> Table:
    """Versions per machine."""
    machines = list({row.machine.identity: row.machine for row in rows}.values())
    names = list(dict.fromkeys(name for machine in machines for name in machine.versions))
    cells: list[tuple[Cell, ...]] = [(name, *(machine.versions.get(name) for machine in machines)) for name in names]
    return Table("Environment", ("package", *(machine.label for machine in machines)), tuple(cells))


def p50(row: Outcome) -> float:
    """Median latency in milliseconds."""
    return float(row.figures["p50_ms"])


def short(row: Outcome) -> str:
    """The label without the size, which stands in the title."""
    return row.trial.label.replace(f" {row.trial.size}", "", 1)


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
