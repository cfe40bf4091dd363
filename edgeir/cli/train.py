"""``edgeir train``: a recipe to a checkpoint with its spec inside."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import typer

from edgeir.cli.console import Console, print_result
from edgeir.cli.training_progress import TrainingProgress
from edgeir.errors import UsageError

if TYPE_CHECKING:
    from edgeir.train.distributed import Group
    from edgeir.train.loop import Outcome
    from edgeir.train.recipe import Recipe
    from edgeir.train.setup import Pictures

DEVICES = ("auto", "cpu", "cuda")
_LISTED = 5  # skipped pictures that are named


def command(
    recipe: str = typer.Argument(..., help="A recipe file, or the name of one that comes with edgeir."),
    data: Path = typer.Option(Path(), "--data", help="The folder that the recipe's paths start from."),
    out: Path | None = typer.Option(None, "--out", help="Where state and weights go (default: runs/NAME)."),
    check: bool = typer.Option(False, "--check", help="Resolve everything, say what it would take, train nothing."),
    resume: bool = typer.Option(False, "--resume", help="Go on with the run in --out."),
    device: str = typer.Option("auto", "--device", help="auto, cpu or cuda."),
    tensorboard: bool = typer.Option(False, "--tensorboard", help="Write scalars and pictures for TensorBoard."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON value."),
) -> None:
    """Train a network by a recipe; several processes through torchrun --no-python edgeir train RECIPE."""
    if device not in DEVICES:
        raise UsageError("unknown device", where="--device", expected=", ".join(DEVICES), got=device)
    from edgeir.runtime.opening import require_backend

    require_backend("torch")
    from edgeir.train.distributed import joined
    from edgeir.train.recipe import find_recipe, read_recipe

    chosen = read_recipe(find_recipe(recipe))
    if check:
        _check(chosen, data, as_json=as_json)
        return
    folder = out or Path("runs") / chosen.name
    with joined(device) as group:
        outcome = _train(chosen, data, folder, group, resume=resume, tensorboard=tensorboard)
    if group.first:
        result = {
            "recipe": chosen.name,
            "steps": outcome.step,
            "seconds": round(outcome.seconds, 1),
            "best_db": outcome.best_db,
            "weights": str(folder / "latest.safetensors"),
        }
        print_result(json.dumps(result, indent=2) if as_json else _result_text(outcome, folder))


def _check(recipe: Recipe, data: Path, *, as_json: bool) -> None:
    from edgeir.train.estimate import estimate
    from edgeir.train.setup import check_sizes, require_apart, spec_of, training_pictures, validation_pictures

    spec = spec_of(recipe)
    check_sizes(recipe, spec, world=1)
    training = training_pictures(recipe, spec, data)
    held_out = validation_pictures(recipe, spec, data)
    require_apart(training, held_out)
    needs = estimate(recipe)
    watched = sum(len(part.source.examples) for part in held_out)
    epoch = sum(len(part.source.examples) * part.source.repeat for part in training)
    found = {
        "recipe": recipe.name,
        "model": spec.name,
        "parameters": needs.parameters,
        "pictures": {str(part.section.root): len(part.source.examples) for part in training},
        "skipped": {str(path): reason for part in training for path, reason in part.skipped},
        "held_out": watched,
        "samples_per_epoch": epoch,
        "steps": recipe.steps,
        "epochs": round(recipe.samples / epoch, 2),
        "weights_and_optimiser_bytes": needs.state_bytes,
        "activation_bytes": needs.activation_bytes,
    }
    if as_json:
        print_result(json.dumps(found, indent=2))
        return
    _warn_skipped(training, Console())
    lines = [
        f"{recipe.name}: {spec.name}, {needs.parameters:,} parameters",
        *(
            f"  {part.section.layout:<16}{len(part.source.examples):>7} pictures x {part.source.repeat}, "
            f"{part.section.root}"
            for part in training
        ),
        f"  held out        {watched:>7} pictures",
        f"  steps           {recipe.steps:>7,}, {recipe.samples:,} patches, {recipe.samples / epoch:.2f} epochs",
        f"  memory          {needs.state_bytes / 2**20:>7,.0f} MiB weights, gradients and moments, "
        f"{needs.activation_bytes / 2**20:,.0f} MiB activations at most (float32)",
    ]
    print_result("\n".join(lines))


def _train(recipe: Recipe, data: Path, folder: Path, group: Group, *, resume: bool, tensorboard: bool) -> Outcome:
    from edgeir.runtime.memory import keep_for_reuse
    from edgeir.storage import atomic_write_bytes, writing
    from edgeir.train.data import TrainingSet
    from edgeir.train.loop import Trainer
    from edgeir.train.recipe import recipe_yaml
    from edgeir.train.setup import (
        check_sizes,
        held_out_measure,
        network_of,
        require_apart,
        training_pictures,
        validation_pictures,
    )
    from edgeir.train.state import STATE
    from edgeir.train.watching import Board, Several

    console = Console(quiet=not group.first)
    if group.device.type == "cpu":
        keep_for_reuse()
    loaded = network_of(recipe, data)
    check_sizes(recipe, loaded.spec, world=group.world)
    training = training_pictures(recipe, loaded.spec, data)
    held_out = validation_pictures(recipe, loaded.spec, data)
    require_apart(training, held_out)
    _warn_skipped(training, console)
    if (folder / STATE).is_file() and not resume:
        raise UsageError(
            "there is a run in this folder already",
            where=str(folder),
            fix="Go on with it by --resume, or take another --out.",
        )
    group.wait()
    if group.first:
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
    samples = TrainingSet(
        [part.source for part in training],
        seed=recipe.seed,
        flips=recipe.flips,
        scale=loaded.spec.scale,
        cache_bytes=recipe.cache_mib * 2**20 // max(1, recipe.workers),
    )
    validator = held_out_measure(recipe, loaded.spec, held_out, group.device)
    with TrainingProgress(console, recipe.steps) as lines, _stopping() as stop:
        watcher = Several([lines, Board(folder, validator)] if tensorboard and group.first else [lines])
        trainer = Trainer(
            recipe, loaded, samples, group, folder, watcher=watcher, validator=validator, should_stop=stop
        )
        if resume:
            trainer.resume()
            console.say(f"going on after step {trainer.step} of {recipe.steps}")
        elif group.first:
            atomic_write_bytes(folder / "recipe.yaml", recipe_yaml(recipe).encode())
        outcome = trainer.run()
        if not outcome.finished:
            console.say(f"stopped after step {outcome.step} of {recipe.steps}; --resume goes on")
    return outcome


@contextmanager
def _stopping() -> Iterator[Callable[[], bool]]:
    """Ask the run to stop at the first SIGINT or SIGTERM, and let the signal do what it does once the run has."""
    received: list[int] = []
    before: dict[int, Any] = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)
        signal.signal(number, before[number])  # the second one does not wait

    for number in before:
        signal.signal(number, note)
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if received:
        signal.raise_signal(received[0])


def _warn_skipped(training: list[Pictures], console: Console) -> None:
    skipped = [entry for part in training for entry in part.skipped]
    for path, reason in skipped[:_LISTED]:
        console.say(f"skipped {path}: {reason}")
    if len(skipped) > _LISTED:
        console.say(f"skipped {len(skipped)} pictures in all")


def _result_text(outcome: Outcome, folder: Path) -> str:
    best = "" if outcome.best_db is None else f", {outcome.best_db:.2f} dB on held-out pictures at best"
    return f"{outcome.step} steps in {outcome.seconds:.0f} s{best}: {folder / 'latest.safetensors'}"
