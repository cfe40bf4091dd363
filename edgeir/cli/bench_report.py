"""From what bench measured to its report: one row per backend, where one picture's time goes, and how sure it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgeir.cli.baselines import PLAIN
from edgeir.cli.energy import EnergyFound, energy_table
from edgeir.cli.latency import Stages, Timed
from edgeir.compare.parity import compare_outputs
from edgeir.manifest import Manifest
from edgeir.report.chart import Chart
from edgeir.report.value import Cell, Fact, Report, Table
from edgeir.runtime.board import BoardState
from edgeir.runtime.board_changes import differences
from edgeir.runtime.engine_runtimes import ENGINE_RUNTIMES
from edgeir.runtime.restore import GraphInput
from edgeir.runtime.timing import CONCLUSIVE, Speedup, speedup

ENGINES = frozenset(ENGINE_RUNTIMES)
_NOT_TIMED = ("Engines in the bundle were not timed: no GPU runtime was used.",)


@dataclass(frozen=True, slots=True)
class BenchFacts:
    """Everything that the report of a bench is made of.

    Attributes:
        runtimes: name of the runtime by backend, the bundle's own first, baselines behind it.
        layers: time by layer, if it was asked for.
        energy: joules per picture of the bundle's own backend, or why not; ``None`` if it was not asked for.
        peaks: peak resident memory in bytes by backend, of those that were measured.
        no_peak: why of others it was not.
        threads, processors: what the command line asked for.
        before, after: the machine at the beginning and at the end of the counted rounds.
        device_bytes: memory of the GPU that the bundle's own session took, where it counts it.
    """

    manifest: Manifest
    graph: GraphInput
    runtimes: Mapping[str, str]
    timed: Timed
    stages: Stages
    layers: tuple[Table, Chart] | None
    energy: EnergyFound | None
    peaks: Mapping[str, int]
    no_peak: tuple[str, ...]
    threads: int | None
    processors: tuple[int, ...] | None
    before: BoardState
    after: BoardState
    provenance: Mapping[str, Any]
    device_bytes: int | None = None

    @property
    def baseline(self) -> str | None:
        """The backend that ratios are taken to: the last that was named."""
        names = list(self.runtimes)
        return names[-1] if len(names) > 1 else None


def bench_report(facts: BenchFacts) -> Report:
    """The report of one bench."""
    graph, timed = facts.graph, facts.timed
    height, width = graph.optimum
    own = next(iter(facts.runtimes))
    ratio = None if facts.baseline is None else speedup(timed.timings[own], timed.timings[facts.baseline])
    state = "trained" if facts.manifest.model.trained else "UNTRAINED"
    rounds = len(timed.timings[own].samples_ms)
    return Report(
        title=f"edgeir bench: {facts.manifest.name} {facts.manifest.precision}",
        summary=f"{facts.manifest.name} ({state}) {facts.manifest.precision} at {height}x{width}, batch {graph.batch}: "
        f"p50 {timed.timings[own].percentile_ms(50):.1f} ms{_ratio_words(ratio, facts)}.",
        facts=(
            Fact("input", f"batch {graph.batch}, {height}x{width}"),
            Fact("rounds", f"{rounds} counted, {timed.warm.rounds + 1} before, backends in turn"),
            *(() if timed.warm.settled is None else (Fact("latencies had settled", timed.warm.settled),)),
            Fact("threads", facts.threads if facts.threads is not None else "left to the runtimes"),
            Fact("processors", _processors(facts)),
            *(() if facts.device_bytes is None else (Fact("GPU memory MiB", round(facts.device_bytes / 2**20)),)),
            *_machine(facts.before),
        ),
        tables=(
            _latency_table(facts),
            _stage_table(facts.stages),
            *(facts.layers[:1] if facts.layers else ()),
            *([energy_table(facts.energy.picture, own)] if facts.energy and facts.energy.picture else ()),
        ),
        charts=facts.layers[1:] if facts.layers else (),
        provenance=facts.provenance,
        notes=(*_warnings(facts, ratio), *(_NOT_TIMED if ENGINES.isdisjoint(facts.runtimes) else ())),
    )


def _ratio_words(ratio: Speedup | None, facts: BenchFacts) -> str:
    if ratio is None or facts.baseline is None:
        return ""
    words = f", {ratio.median:.2f} times as fast as {_shown(facts, facts.baseline)}"
    if ratio.interval is None:
        return words
    interval = f"95 %: {ratio.interval.low:.2f} to {ratio.interval.high:.2f}"
    return f"{words} ({interval}{'' if ratio.conclusive else ', TOO NOISY to conclude'})"


def _shown(facts: BenchFacts, backend: str) -> str:
    runtime = facts.runtimes[backend]
    return f"a plain export in {runtime}" if backend == PLAIN else runtime


def _latency_table(facts: BenchFacts) -> Table:
    timings, outputs, baseline = facts.timed.timings, facts.timed.outputs, facts.baseline
    height, width = facts.graph.optimum
    rows: list[tuple[Cell, ...]] = []
    for name, runtime in facts.runtimes.items():
        timing = timings[name]
        ratio = speedup(timing, timings[baseline]) if baseline else None
        same = compare_outputs(name, outputs[name], outputs[baseline], height=height, width=width) if baseline else None
        interval = ratio.interval if ratio and name != baseline else None
        rows.append(
            (
                name,
                runtime,
                *(timing.percentile_ms(percent) for percent in (50, 90, 95, 99)),
                facts.graph.batch * 1e3 / timing.percentile_ms(50),
                facts.timed.warm.first_ms[name],
                round(facts.peaks[name] / 2**20) if name in facts.peaks else None,
                ratio.median if ratio else None,
                f"{interval.low:.2f} to {interval.high:.2f}" if interval else None,
                same.fidelity_db if same else None,
            )
        )
    return Table(
        title="Latency",
        columns=(
            "backend", "runtime", "p50 ms", "p90 ms", "p95 ms", "p99 ms", "pictures/s", "first ms", "peak MiB",
            f"speed vs {baseline}" if baseline else "speed", "95 % interval", "fidelity dB",
        ),
        rows=tuple(rows),
        note="Speed is the median of the ratios taken round by round; the interval holds the true median in 95 of 100 "
        "runs (order statistics; it takes 6 rounds). Fidelity is against the same baseline.",
    )  # fmt: skip


def _stage_table(stages: Stages) -> Table:
    parts: tuple[tuple[str, float], ...] = (
        ("decode the file", stages.decode_ms),
        ("pad, lay out, blend", stages.prepare_ms),
        ("execute", stages.execute_ms),
        ("encode the file", stages.encode_ms),
    )
    if stages.device is not None:
        device = stages.device
        around = stages.execute_ms - device.copy_in_ms - device.execute_ms - device.copy_out_ms
        parts = (
            *parts[:2],
            ("copy to the GPU", device.copy_in_ms),
            ("execute on the GPU", device.execute_ms),
            ("copy from the GPU", device.copy_out_ms),
            ("call it and wait", max(around, 0.0)),
            parts[3],
        )
    total = sum(ms for _, ms in parts)
    return Table(
        title="Where one picture's time goes",
        columns=("stage", "ms", "share %"),
        rows=tuple((name, ms, round(100 * ms / total, 1)) for name, ms in parts),
        note="Medians, one picture of the input's size from PNG file to PNG file, as 'edgeir run' takes it."
        + (" What the GPU does is timed by its own events." if stages.device is not None else ""),
    )


def _processors(facts: BenchFacts) -> str:
    if facts.processors is not None:
        return ", ".join(map(str, facts.processors))
    allowed = facts.before.cpus_allowed
    return "left to the system" if allowed is None else f"left to the system, {allowed} allowed"


def _machine(state: BoardState) -> tuple[Fact, ...]:
    """What is known of clocks, power mode, load and temperature; nothing where nothing is."""
    governors = sorted({clock.governor for clock in state.cpu_clocks if clock.governor})
    clocks = [clock.mhz for clock in state.cpu_clocks if clock.mhz is not None]
    known: tuple[tuple[str, Cell], ...] = (
        ("JetPack", state.jetpack),
        ("power mode", state.power_mode),
        ("clocks pinned", state.clocks_pinned),
        ("governor", ", ".join(governors) or None),
        ("processor MHz", round(min(clocks)) if clocks else None),
        ("load average", None if state.load_average is None else round(state.load_average[0], 2)),
        ("hottest sensor °C", max(state.temperatures_c.values(), default=None)),
        ("NVIDIA driver", state.driver),
    )
    return tuple(Fact(label, value) for label, value in known if value is not None)


def _warnings(facts: BenchFacts, ratio: Speedup | None) -> tuple[str, ...]:
    notes = []
    if ratio is not None and ratio.interval is None:
        notes.append("Too few rounds for an interval of the ratio: take 6 or more.")
    elif ratio is not None and not ratio.conclusive:
        width = 100 * (ratio.interval.relative_reach if ratio.interval else 0)
        notes.append(
            f"TOO NOISY: the ratio is known to ±{width:.0f} % only, and ±{100 * CONCLUSIVE:.1f} % is what a conclusion "
            "takes. Stop other work on this machine, or take more --rounds."
        )
    if facts.timed.warm.settled is False:
        notes.append(f"Latencies had not settled after {facts.timed.warm.rounds} rounds of warm-up.")
    if facts.energy is not None and facts.energy.reason is not None:
        notes.append(facts.energy.reason)
    return (*notes, *facts.no_peak, *differences(facts.before, facts.after))
