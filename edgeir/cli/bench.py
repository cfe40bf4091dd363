"""``edgeir bench``: latency of a bundle, side by side with what else there is, correctness in the same table."""

from __future__ import annotations

from pathlib import Path

import typer

from edgeir.cli.console import Console, print_result
from edgeir.errors import MissingDependency, UsageError

DEFAULT_ROUNDS = 15
_STAGE_ROUNDS = 5


def command(
    bundle: Path = typer.Argument(..., help="A bundle made by 'edgeir export'."),
    backend: str = typer.Option(
        "ort", "--backend", help="What is timed: ort, rtx, tensorrt, ort-cuda, ort-tensorrt, ort-rtx, torch, ..."
    ),
    against: str | None = typer.Option(
        None,
        "--against",
        help="What to compare with, comma-separated: torch (where installed), torch-fast, torch-compile, plain-onnx, "
        "ort, ort-reference or another --backend; 'none' for nothing. Ratios are to the last one named.",
    ),
    plugins: list[Path] = typer.Option(
        [], "--plugins", metavar="PATH", help="A library of TensorRT plugins to load, absolute; repeatable."
    ),
    rounds: int = typer.Option(DEFAULT_ROUNDS, "--rounds", help="Counted rounds; each runs every backend once."),
    warmup: int | None = typer.Option(
        None, "--warmup", help="Rounds before that, not counted (until latencies settle, at most 12)."
    ),
    checkpoint: Path | None = typer.Option(None, "--checkpoint", help="The weights, if they were your own."),
    threads: int | None = typer.Option(None, "--threads", min=1, help="Threads of the runtimes."),
    cpus: str | None = typer.Option(None, "--cpus", metavar="LIST", help="Processors to stay on, such as 0,2-3."),
    memory: bool = typer.Option(True, "--memory/--no-memory", help="Measure peak memory, in a process each."),
    power: bool = typer.Option(True, "--power/--no-power", help="Measure joules per picture where a meter answers."),
    layers: bool = typer.Option(False, "--layers", help="Profile, and show which layers take the time."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON value."),
) -> None:
    """Time a bundle: percentiles, pictures per second, peak memory, and ratios with their intervals."""
    if rounds < 1 or (warmup is not None and warmup < 0):
        raise UsageError("rounds must be at least 1 and warm-up at least 0", got=f"{rounds} and {warmup or 0}")
    if layers and backend != "ort":
        raise UsageError("layers are profiled in ONNX Runtime on the CPU", where="--layers", got=f"--backend {backend}")

    import time
    from contextlib import ExitStack
    from functools import partial

    from edgeir.bundle import Bundle
    from edgeir.cli.affinity import stay_on
    from edgeir.cli.baselines import PLAIN, baseline_names, open_baseline
    from edgeir.cli.bench_report import BenchFacts, bench_report
    from edgeir.cli.energy import measure_energy, meters_for
    from edgeir.cli.latency import time_sessions, time_stages, timing_batch
    from edgeir.cli.layer_times import layer_table
    from edgeir.precision import read_plan
    from edgeir.provenance import collect
    from edgeir.report.formats import emit
    from edgeir.runtime.availability import require_backend
    from edgeir.runtime.board import board_state
    from edgeir.runtime.memory import peak_memory_bytes
    from edgeir.runtime.opening import graph_input
    from edgeir.runtime.ort_profile import node_times
    from edgeir.runtime.power import search_meters
    from edgeir.runtime.session import closing

    require_backend(backend)
    if plugins and backend != "tensorrt":
        raise UsageError("plugins are for the backend 'tensorrt'", where="--plugins", got=f"--backend {backend}")
    started = time.perf_counter()
    console = Console(stages=3 + layers + memory + power)
    processors = None if cpus is None else stay_on(cpus)
    if processors is not None and threads is None:
        threads = len(processors)  # left to itself, ONNX Runtime puts its threads on processors of its own choice
    console.stage(f"opening {bundle}")
    opened = Bundle.open(bundle)
    graph = graph_input(opened.manifest)
    names = [backend, *baseline_names(against, opened, checkpoint, timed=backend)]
    if PLAIN in names:
        console.say("      exporting the network once more, as torch.onnx.export does it alone")

    with ExitStack() as open_:
        how = partial(open_baseline, opened, checkpoint=checkpoint, threads=threads, plugins=plugins, say=console.say)
        sessions = {name: open_.enter_context(closing(how(name))) for name in names}
        console.stage(f"timing {', '.join(names)} in turn, {rounds} rounds")
        before = board_state()
        timed = time_sessions(sessions, graph, rounds=rounds, warmup=warmup)
        after = board_state()
        console.stage("timing one picture from file to file")
        stages = time_stages(sessions[backend], graph, rounds=min(rounds, _STAGE_ROUNDS))
        by_layer = None
        if layers:
            console.stage("profiling")
            plans = opened.files("plan")
            by_layer = layer_table(
                node_times(opened.graph_for("onnxruntime"), timing_batch(graph), threads=threads),
                read_plan(plans[0]) if plans else None,
            )
        energy = None
        if power:
            console.stage("measuring power")
            batch, search = timing_batch(graph), search_meters()
            energy = measure_energy(
                partial(sessions[backend].run, batch),
                meters_for(backend, search),
                search.reasons,
                batch=graph.batch,
            )
        device_bytes = getattr(sessions[backend], "device_bytes", None)
        runtimes = {name: session.name for name, session in sessions.items()}
    peaks: dict[str, int] = {}
    unknown = []
    if memory:
        console.stage("measuring peak memory")
        for name in names:
            if name != PLAIN:
                try:
                    peaks[name] = peak_memory_bytes(bundle, name, checkpoint=checkpoint)
                except MissingDependency as error:  # all else is measured by now
                    unknown.append(str(error))
    facts = BenchFacts(
        manifest=opened.manifest,
        graph=graph,
        runtimes=runtimes,
        timed=timed,
        stages=stages,
        layers=by_layer,
        energy=energy,
        peaks=peaks,
        no_peak=tuple(unknown),
        threads=threads,
        processors=processors,
        before=before,
        after=after,
        provenance={**collect(seconds=time.perf_counter() - started).to_dict(), "machine": before.to_dict()},
        device_bytes=device_bytes,
    )
    print_result(emit(bench_report(facts), "json" if as_json else "text"))
