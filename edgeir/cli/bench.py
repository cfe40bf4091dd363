"""``edgeir bench``: latency of a bundle, side by side with PyTorch, correctness in the same table."""

from __future__ import annotations

from pathlib import Path

import typer

from edgeir.cli.console import Console, print_result
from edgeir.errors import MissingDependency, UsageError

DEFAULT_ROUNDS = 7


def command(
    bundle: Path = typer.Argument(..., help="A bundle made by 'edgeir export'."),
    against: str | None = typer.Option(
        None, "--against", help="Backends to compare with, comma-separated (torch where installed); 'none' for none."
    ),
    rounds: int = typer.Option(DEFAULT_ROUNDS, "--rounds", help="Counted rounds; each runs every backend once."),
    warmup: int = typer.Option(1, "--warmup", help="Rounds before that, not counted."),
    checkpoint: Path | None = typer.Option(None, "--checkpoint", help="The weights, if they were your own."),
    threads: int | None = typer.Option(None, "--threads", min=1, help="Threads of the runtimes."),
    memory: bool = typer.Option(True, "--memory/--no-memory", help="Measure peak memory, in a process each."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON value."),
) -> None:
    """Time a bundle: p50, p90, p99, pictures per second, peak memory, and the ratio to PyTorch eager."""
    if rounds < 1 or warmup < 0:
        raise UsageError("rounds must be at least 1 and warm-up at least 0", got=f"{rounds} and {warmup}")

    import time
    from functools import partial

    import numpy as np

    from edgeir.bundle import Bundle
    from edgeir.cli.measuring import measuring_crop
    from edgeir.compare.parity import compare_outputs
    from edgeir.provenance import collect
    from edgeir.report.formats import emit
    from edgeir.report.value import Cell, Fact, Report, Table
    from edgeir.runtime.memory import peak_memory_bytes
    from edgeir.runtime.opening import graph_input, open_session
    from edgeir.runtime.timing import speedup, time_together

    started = time.perf_counter()
    console = Console(stages=3 if memory else 2)
    console.stage(f"opening {bundle}")
    opened = Bundle.open(bundle)
    manifest = opened.manifest
    graph = graph_input(manifest)
    others = _baselines(against, needs_checkpoint=_needs_checkpoint(manifest.model.weights), checkpoint=checkpoint)
    names = ["ort", *others]
    sessions = {name: open_session(opened, name, checkpoint=checkpoint, threads=threads) for name in names}
    height, width = graph.optimum
    try:
        picture = measuring_crop("astronaut", height, width).transpose(2, 0, 1)
    except MissingDependency:  # on a device without the measuring pictures any picture times alike
        picture = np.random.default_rng(0).random((3, height, width), dtype=np.float32)
    batch = np.repeat(picture[None], graph.batch, axis=0)

    console.stage(f"timing {', '.join(names)} in turn, {rounds} rounds")
    outputs = {name: session.run(batch) for name, session in sessions.items()}
    timings = time_together(
        {name: partial(session.run, batch) for name, session in sessions.items()},
        rounds=rounds,
        warmup=warmup,
    )
    peaks: dict[str, int] = {}
    if memory:
        console.stage("measuring peak memory")
        peaks = {name: peak_memory_bytes(bundle, name, checkpoint=checkpoint) for name in names}

    baseline = others[-1] if others else None
    rows: list[tuple[Cell, ...]] = []
    for name in names:
        timing = timings[name]
        ratio = speedup(timing, timings[baseline]) if baseline else None
        same = compare_outputs(name, outputs[name], outputs[baseline], height=height, width=width) if baseline else None
        rows.append(
            (
                name,
                sessions[name].name,
                timing.percentile_ms(50),
                timing.percentile_ms(90),
                timing.percentile_ms(99),
                graph.batch * 1e3 / timing.percentile_ms(50),
                timing.warmup_ms,
                round(peaks[name] / 2**20) if name in peaks else None,
                ratio[0] if ratio else None,
                f"{ratio[1]:.2f} to {ratio[2]:.2f}" if ratio else None,
                same.fidelity_db if same else None,
            )
        )
    state = "trained" if manifest.model.trained else "UNTRAINED"
    ratio_text = (
        f", {speedup(timings['ort'], timings[baseline])[0]:.2f} times as fast as {sessions[baseline].name}"
        if baseline
        else ""
    )
    report = Report(
        title=f"edgeir bench: {manifest.name} {manifest.precision}",
        summary=f"{manifest.name} ({state}) {manifest.precision} at {height}x{width}, batch {graph.batch}: "
        f"p50 {timings['ort'].percentile_ms(50):.1f} ms{ratio_text}.",
        facts=(
            Fact("input", f"batch {graph.batch}, {height}x{width}"),
            Fact("rounds", f"{rounds} counted, {warmup} before, backends in turn"),
        ),
        tables=(
            Table(
                title="Latency",
                columns=(
                    "backend", "runtime", "p50 ms", "p90 ms", "p99 ms", "pictures/s", "first ms", "peak MiB",
                    f"speed vs {baseline or 'nothing'}", "lowest to highest", "fidelity dB",
                ),
                rows=tuple(rows),
                note="Speed is the median of the ratios taken round by round; fidelity is against the same baseline.",
            ),
        ),
        provenance=collect(seconds=time.perf_counter() - started).to_dict(),
        notes=("Engines in the bundle were not timed: no GPU runtime was used.",),
    )  # fmt: skip
    print_result(emit(report, "json" if as_json else "text"))


def _needs_checkpoint(weights: object) -> bool:
    return getattr(weights, "source", None) == "checkpoint"


def _baselines(against: str | None, *, needs_checkpoint: bool, checkpoint: Path | None) -> list[str]:
    """What to compare with: what was asked for, else PyTorch where it is installed and its weights can be found."""
    from edgeir.errors import MissingDependency
    from edgeir.runtime.opening import require_backend

    if against == "none":
        return []
    if against is None:
        try:
            require_backend("torch")
        except MissingDependency:
            return []
        return [] if needs_checkpoint and checkpoint is None else ["torch"]
    names = list(dict.fromkeys(part.strip() for part in against.split(",") if part.strip()))
    for name in names:
        require_backend(name)
    return [name for name in names if name != "ort"]
