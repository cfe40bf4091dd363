"""From the rows of a sweep to its report: which trial to ship, what it costs, and all the numbers behind that."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeir.cli.sweep_layers import calibration_tables, layer_tables
from edgeir.cli.sweep_tables import (
    degradation_table,
    effort_table,
    energy_table,
    environment_table,
    failure_table,
    groups,
    latency_table,
    p50,
    resource_table,
    rewrite_tables,
    short,
    trial_table,
    worst_table,
)
from edgeir.precision import Precision
from edgeir.provenance import Provenance
from edgeir.report.chart import Chart
from edgeir.report.comparison import Comparison
from edgeir.report.formats import emit
from edgeir.report.value import Fact, Report
from edgeir.storage import atomic_write_bytes
from edgeir.sweep.ledger import PICTURES
from edgeir.sweep.outcome import Outcome

FILES = {"report.json": "json", "report.md": "markdown", "trials.csv": "csv", "report.html": "html"}

_NOISE = 0.02  # of the time; a smaller gain is noise
_SMALLEST_GAIN_DB = 0.001


@dataclass(frozen=True, slots=True)
class SweepFacts:
    """What a report is made from.

    Attributes:
        name, about: of the recipe, or of what was merged.
        rows: one per trial and machine, the most thorough.
        left_out: labels of the trials that were not started for lack of time.
        folder: of the sweep, for its pictures.
    """

    name: str
    about: str
    rows: Sequence[Outcome]
    left_out: Sequence[str]
    folder: Path


def sweep_report(facts: SweepFacts, provenance: Provenance) -> Report:
    """The report; its numbers are those of the rows."""
    measured = [row for row in facts.rows if row.ok]
    failed = [row for row in facts.rows if not row.ok]
    comparable = groups(measured)
    tables, charts = [], []
    for title, rows in comparable.items():
        tables.append(trial_table(title, rows))
        charts.append(
            Chart(
                f"Latency and drift{title.removeprefix('Trials')}",
                "pareto",
                title,
                "p50 ms",
                ("drift dB",),
                group="model",
                label="trial",
                log_x=True,
                note="Left is faster, down loses less against the network in FP32. Every model against its own "
                "reference: gain over the input, in the table, says what each restores.",
            )
        )
    for table in rewrite_tables(measured):
        tables.append(table)
        charts.append(Chart(table.title, "waterfall", table.title, "after", ("ms",)))
    layers = layer_tables(measured)
    charts += [chart for _, chart in layers]
    return Report(
        title=f"edgeir sweep: {facts.name}",
        summary=recommendation(comparable),
        facts=(
            *((Fact("about", facts.about),) if facts.about else ()),
            Fact("trials", f"{len(measured)} measured, {len(failed)} not, {_unstarted(facts)} not started"),
            *(Fact("machine", label) for label in dict.fromkeys(row.machine.label for row in facts.rows)),
        ),
        tables=(
            *tables,
            *failure_table(failed),
            *degradation_table(measured),
            *worst_table(measured),
            *latency_table(measured),
            *(table for table, _ in layers),
            *calibration_tables(measured),
            *energy_table(measured),
            *resource_table(measured),
            *effort_table(measured),
            environment_table(facts.rows),
        ),
        charts=tuple(charts),
        comparisons=tuple(_comparisons(measured, facts.folder)),
        provenance=provenance.to_dict(),
        notes=tuple(_notes(facts, measured)),
    )


def _unstarted(facts: SweepFacts) -> int:
    """Trials that time left nothing for at all; one that only was not measured more thoroughly has a row."""
    return len(set(facts.left_out) - {row.trial.label for row in facts.rows})


def write_report(report: Report, folder: Path) -> None:
    """Every file of `FILES`, each whole or as it was.

    Raises:
        OutputError, OutOfSpace: one cannot be written.
    """
    for name, form in FILES.items():
        atomic_write_bytes(folder / name, emit(report, form).encode("utf-8"))


def recommendation(comparable: Mapping[str, Sequence[Outcome]]) -> str:
    """One sentence: the fastest trial within its gates at the largest size, and what the next better one costs.

    On every machine for itself. Better is what restores more: gain over the input holds both the network and the drift.
    A network without trained weights is never recommended, and eight bits only where the same network was measured
    without them, and was slower. What is compared is `steady_ms`; what is named is p50.
    """
    by_machine: dict[str, list[Outcome]] = {}
    for rows in comparable.values():
        label = rows[0].machine.label
        if label not in by_machine or _pixels(rows[0]) > _pixels(by_machine[label][0]):
            by_machine[label] = list(rows)
    if not by_machine:
        return "No trial is recommended: none could be measured."
    parts = [_recommended(rows) for rows in by_machine.values()]
    if len(parts) == 1:
        return parts[0][:1].upper() + parts[0][1:] + "."
    named = [f"on {label}, {part}" for label, part in zip(by_machine, parts, strict=True)]
    return "; ".join(named)[:1].upper() + "; ".join(named)[1:] + "."


def _recommended(rows: Sequence[Outcome]) -> str:
    trained = [row for row in rows if row.figures.get("trained") and row.figures.get("mean_gain_db") is not None]
    within = [row for row in trained if row.figures.get("within_gates")]
    worth_it = [row for row in within if _pays(row, rows)]
    size = rows[0].trial.size
    if not trained:
        return f"no trial at {size} is recommended: without trained weights and known drift there is nothing to weigh"
    if not within:
        return f"no trial at {size} is recommended: every one loses more than its precision's gates allow"
    if not worth_it:
        return f"no trial at {size} is recommended: eight bits are not faster than what was measured without them"
    fastest = min(steady_ms(row, rows) for row in worth_it)
    chosen = max((row for row in worth_it if steady_ms(row, rows) <= fastest * (1 + _NOISE)), key=_gain)
    text = (
        f"at {size} {short(chosen)} is recommended: p50 {p50(chosen):.1f} ms, "
        f"{_db(chosen.figures['mean_drift_db'])} lost against its FP32 reference, "
        f"{_gain(chosen):+.2f} dB over the input"
    )
    better = [row for row in worth_it if _gain(row) >= _gain(chosen) + _SMALLEST_GAIN_DB]
    if not better:
        return f"{text}; nothing that was measured restores more"
    following = min(better, key=lambda row: steady_ms(row, rows))
    return (
        f"{text}; the next better one, {short(following)}, restores {_gain(following) - _gain(chosen):.3f} dB more "
        f"and takes {steady_ms(following, rows) / steady_ms(chosen, rows):.2f} times as long"
    )


def steady_ms(row: Outcome, rows: Sequence[Outcome]) -> float:
    """Latency without what else the machine did: the ratio to the reference beside it, times its usual latency.

    Trials run minutes apart, and a busy machine slows each as it likes; the reference was slowed alike.
    """
    usual = [one.figures.get("reference_p50_ms") for one in rows if _reference_of(one) == _reference_of(row)]
    known = [float(value) for value in usual if value is not None]
    return float(row.figures["time_ratio"]) * statistics.median(known) if known else p50(row)


def _reference_of(row: Outcome) -> tuple[object, ...]:
    """What decides how fast the reference beside a trial is, apart from the machine's other work."""
    build = row.trial.build
    return build.name, build.content_sha256, build.k, row.trial.tile_px, row.trial.threads


def _pays(row: Outcome, rows: Sequence[Outcome]) -> bool:
    """Whether a trial in eight bits is faster than every one of the same network without."""
    if not Precision(row.trial.build.precision).eight_bits:
        return True
    others = [
        steady_ms(one, rows)
        for one in rows
        if (one.trial.build.name, one.trial.build.content_sha256)
        == (row.trial.build.name, row.trial.build.content_sha256)
        and not Precision(one.trial.build.precision).eight_bits
    ]
    return bool(others) and steady_ms(row, rows) <= min(others) * (1 - _NOISE)


def _comparisons(rows: Iterable[Outcome], folder: Path) -> Iterable[Comparison]:
    """Per model, the picture that loses most in any trial whose pictures are there."""
    worst: dict[str, Outcome] = {}
    for row in rows:
        name = row.trial.build.name
        if "comparison" in row.figures and (name not in worst or _loss(row) > _loss(worst[name])):
            worst[name] = row
    for row in worst.values():
        shown = row.figures["comparison"]
        with contextlib.suppress(OSError):  # a merged row's pictures may have stayed behind
            layers = {name: (folder / PICTURES / path).read_bytes() for name, path in shown["layers"].items()}
            yield Comparison(f"{row.trial.label}: what loses most, {shown['caption']}", layers)


def _notes(facts: SweepFacts, measured: Sequence[Outcome]) -> Iterable[str]:
    yield "Latencies can be compared within one machine and one size only."
    if untrained := sorted({row.trial.build.name for row in measured if not row.figures.get("trained")}):
        yield f"UNTRAINED: {', '.join(untrained)}. PSNR against the truth says nothing of them; none is recommended."
    if facts.left_out:
        names = list(dict.fromkeys(facts.left_out))
        yield f"Not measured, or not more thoroughly, since the time was over: {', '.join(names)}."
    if unrounded := [row.trial.label for row in measured if not row.figures.get("rounded", True)]:
        yield f"FP16 as ONNX Runtime computes it, not rounded as a device does: {', '.join(dict.fromkeys(unrounded))}."
    for text in dict.fromkeys(row.figures["no_drift"] for row in measured if "no_drift" in row.figures):
        yield f"No drift was measured: {text}"


def _gain(row: Outcome) -> float:
    return float(row.figures["mean_gain_db"])


def _loss(row: Outcome) -> float:
    return float(row.figures["worst_picture"]["drift_db"])


def _pixels(row: Outcome) -> int:
    return row.trial.height * row.trial.width


def _db(value: float) -> str:
    """``"0.0085 dB"``, and never ``-0.0000``."""
    return f"{round(value, 4) + 0.0:.4f} dB"
