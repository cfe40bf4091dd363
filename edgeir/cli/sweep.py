"""``edgeir sweep``: many trials, each in a process of its own, one report."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from edgeir.cli.console import Console, print_result
from edgeir.errors import CheckFailed, MissingDependency, UsageError
from edgeir.subprocesses import run_module

if TYPE_CHECKING:
    from edgeir.cli.sweep_report import SweepFacts
    from edgeir.sweep.job import Executor
    from edgeir.sweep.recipe import SweepRecipe

WORKER = ("-c", run_module("edgeir.cli.sweep_trial"))


def command(
    recipe: list[str] = typer.Argument(
        ..., metavar="RECIPE", help="A YAML file, or one that comes with edgeir: tiny, quick. With --merge: folders."
    ),
    out: Path | None = typer.Option(None, "--out", metavar="FOLDER", help="Where results go and go on (NAME.sweep)."),
    calibration: Path | None = typer.Option(
        None, "--calibration", metavar="FOLDER", help="Clean pictures to find the ranges for eight bits on."
    ),
    minutes: float | None = typer.Option(
        None, "--minutes", min=0.01, help="Time to spend: everything a little first, then the better half more, ..."
    ),
    jobs: int = typer.Option(1, "--jobs", min=1, help="Exports at a time; measuring goes alone in any case."),
    retry: bool = typer.Option(False, "--retry", help="Run again what crashed, failed or ran out of time or memory."),
    ray: str | None = typer.Option(None, "--ray", metavar="ADDRESS", help="Run on this Ray cluster ('auto': here)."),
    merge: bool = typer.Option(False, "--merge", help="Join the results in the folders named into --out."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON value."),
) -> None:
    """Measure model x precision x size x batch x k x tile x backend x threads, resumably, and say what to ship."""
    if merge:
        _merge([Path(name) for name in recipe], out, as_json=as_json)
        return
    if len(recipe) != 1:
        raise UsageError("name one recipe", got=" ".join(recipe), fix="Folders of several sweeps go with --merge.")
    if ray is not None and jobs != 1:
        raise UsageError(
            "--jobs is for this machine; on a cluster every node takes one trial at a time", where="--jobs"
        )

    import time

    from edgeir.cli.sweep_progress import Progress
    from edgeir.cli.sweep_report import SweepFacts
    from edgeir.sweep.campaign import run_campaign
    from edgeir.sweep.expansion import expand
    from edgeir.sweep.ledger import Ledger
    from edgeir.sweep.recipe import load_recipe
    from edgeir.sweep.trial import Settings

    started = time.perf_counter()
    console = Console()
    loaded, path = load_recipe(recipe[0])
    trials = expand(loaded, path, calibration=calibration)
    folder = out or Path(f"{loaded.name}.sweep")
    _require_runnable(loaded, here=ray is None)
    with Ledger(folder) as ledger:
        if ledger.cut_bytes:
            console.say("the last row was half-written and is cut off; that trial runs again")
        executor = _executor(loaded, folder, jobs=jobs, ray=ray, console=console)
        with closing(executor), Progress(console, lambda: ledger.rows, executor.width) as progress:
            campaign = run_campaign(
                trials,
                Settings(loaded.pictures, loaded.rounds),
                executor,
                ledger,
                watcher=progress,
                minutes=minutes,
                retry=retry,
            )
    rows, left_out = campaign.final(), [job.trial.label for job in campaign.left_out]
    _finish(SweepFacts(loaded.name, loaded.about, rows, left_out, folder), started, as_json=as_json)


def _require_runnable(recipe: SweepRecipe, *, here: bool) -> None:
    """Refuse now what every trial, or the report, would fail of: unknown runtimes, and what is not installed here."""
    import importlib.util

    from edgeir.runtime.opening import require_backend

    for package in ("psutil", "plotly"):
        if importlib.util.find_spec(package) is None:
            raise MissingDependency(
                f"a sweep needs {package}, which is not installed", fix="Run: pip install 'edgeir[sweep]'"
            )

    if recipe.runtimes:
        from edgeir.export.runtimes import runtime_named

        for name in recipe.runtimes:
            runtime_named(name)
    if here:
        for name in recipe.backends:
            require_backend(name)
        if recipe.models:
            require_backend("torch")  # exports trace the network with it
        if recipe.targets:
            from edgeir.cli.engine_builds import runtimes_to_build

            runtimes_to_build(recipe.targets)


def _executor(recipe: SweepRecipe, folder: Path, *, jobs: int, ray: str | None, console: Console) -> Executor:
    from edgeir.sweep.isolation import Limits
    from edgeir.sweep.local import LocalExecutor

    limits = Limits(recipe.limits.seconds, int(recipe.limits.memory_gib * 2**30))
    if ray is None:
        return LocalExecutor(folder, WORKER, limits, width=jobs)
    from edgeir.sweep.fleet import FleetExecutor

    executor = FleetExecutor(ray, folder, WORKER, limits)
    console.say(f"{executor.width} nodes: {', '.join(machine.label for machine in executor.machines)}")
    return executor


def _merge(folders: list[Path], out: Path | None, *, as_json: bool) -> None:
    import time

    from edgeir.cli.sweep_report import SweepFacts
    from edgeir.sweep.campaign import most_thorough
    from edgeir.sweep.ledger import copy_pictures, write_merged

    if out is None:
        raise UsageError("say where the joined results go", where="--merge", fix="Name a new folder with --out.")
    started = time.perf_counter()
    rows = write_merged(folders, out)
    copy_pictures(folders, out)
    facts = SweepFacts(out.name, f"{len(folders)} sweeps joined", most_thorough(rows), [], out)
    _finish(facts, started, as_json=as_json)


def _finish(facts: SweepFacts, started: float, *, as_json: bool) -> None:
    """Write and print the report.

    Raises:
        CheckFailed: no trial could be measured.
    """
    import time

    from edgeir.cli.sweep_report import sweep_report, write_report
    from edgeir.provenance import collect
    from edgeir.report.formats import emit

    report = sweep_report(facts, collect(seconds=time.perf_counter() - started))
    write_report(report, facts.folder)
    print_result(emit(report, "json" if as_json else "text"))
    if not as_json:
        print_result(f"Written: {facts.folder / 'report.html'}, and report.json, report.md, trials.csv beside it.\n")
    if facts.rows and not any(row.ok for row in facts.rows):
        first = facts.rows[0]
        raise CheckFailed(
            "no trial could be measured", where=first.trial.label, got=f"{first.status}: {first.reason.rstrip('.')}"
        )
