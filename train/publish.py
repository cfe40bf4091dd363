"""From a finished run to weights that can be shipped: ``python -m edgeir.train.publish RUN --to FOLDER``.

Writes ``VARIANT.safetensors``, float16 with the network's spec inside, and ``VARIANT.json``, how it was trained. Half
the size costs nothing on the way to a device: an FP16 graph rounds its weights in the same way.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from edgeir.errors import CheckFailed, EdgeIRError, UsageError
from edgeir.imaging.metrics import fidelity_db
from edgeir.models.build import LoadedModel
from edgeir.models.checkpoint import load_checkpoint, save_checkpoint, weights_digest
from edgeir.provenance import collect
from edgeir.storage import atomic_write_bytes
from edgeir.train.averaging import mean_weights
from edgeir.train.recipe import Recipe, read_recipe
from edgeir.train.state import BEST, LATEST, load_state

Kept = Literal["best", "latest"]

LEAST_FIDELITY_DB = 55.0
"""Float16 weights against float32 weights on random pictures; below it they are not the same network any more."""


@dataclass(frozen=True, slots=True)
class TrainingRecord:
    """How shipped weights were trained.

    Attributes:
        variant: of the zoo.
        recipe: its name, and the sha256 of its content in ``recipe_sha256``.
        steps, patches, pixels: optimiser steps, and what they looked at.
        seconds: trained in all sessions, validation included.
        hardware: in words.
        chosen: ``"best"`` (by the mean PSNR on held-out pictures, ``held_out_db``, dB) or ``"latest"``.
        weights_sha256: digest of the float16 tensors.
        loaded_sha256: digest of the same weights loaded as float32, which specs, manifests and reports quote.
        versions: of the packages that trained.
        before: the record of the run whose weights this one began with, if it went on from one, which may have such a
            record in turn.
        averaged_with: ``loaded_sha256`` of the published weights that those of this run were averaged with, if any.
    """

    variant: str
    recipe: str
    recipe_sha256: str
    steps: int
    patches: int
    pixels: int
    seconds: int
    hardware: str
    chosen: str
    held_out_db: float | None
    weights_sha256: str
    loaded_sha256: str
    versions: dict[str, str]
    before: dict[str, Any] | None = None
    averaged_with: str | None = None


def publish(
    run: Path,
    folder: Path,
    *,
    hardware: str,
    before: Path | None = None,
    keep: Kept | None = None,
    average_with: Path | None = None,
) -> TrainingRecord:
    """Write the weights of the run in ``run`` and their record to ``folder``, which must exist.

    Args:
        run: where `edgeir train` left its files; the run must have come to its end.
        folder: where ``VARIANT.safetensors`` and ``VARIANT.json`` go.
        hardware: what it was trained on, for the model card.
        before: the published record of the run that ``model.initial`` came from.
        keep: which weights; by default the best on held-out pictures where the recipe validates. Where conditions
            differ much, one picture of an easy one can outweigh the others in that mean: then the last are better.
        average_with: published weights of the same network; the mean of both is published.

    Raises:
        UsageError: there is no finished run, it is not of a variant of the zoo, or it began with weights (did not) and
            their record is missing (is given), or is to be averaged with another network.
        CheckpointError: the weights to average with cannot be read.
        CheckFailed: float16 cannot hold the weights, or costs more than `LEAST_FIDELITY_DB` allows.
        OutputError: the folder cannot be written to.
    """
    recipe = read_recipe(run / "recipe.yaml")
    state = load_state(run, recipe_digest=recipe.digest())
    if state.step < recipe.steps:
        raise UsageError(
            "the run has not come to its end",
            where=str(run),
            expected=f"{recipe.steps} steps",
            got=str(state.step),
            fix="Go on with edgeir train --resume.",
        )
    if recipe.model.variant is None:
        raise UsageError("the recipe trains no variant of the zoo", where=recipe.name, expected="model.variant")
    variant = recipe.model.variant
    earlier = _record_before(recipe, before)
    chosen = keep or ("best" if (run / BEST).is_file() else "latest")
    loaded = load_checkpoint(run / (BEST if chosen == "best" else LATEST), variant=variant)
    averaged = None if average_with is None else _average(loaded, average_with)
    held_out_db = state.best_db if chosen == "best" and averaged is None else None  # nobody measured a mean
    single = {name: tensor.clone() for name, tensor in loaded.module.state_dict().items()}
    picture = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        exact = loaded.module(picture)
        loaded.module.half()
        half = {name: tensor.clone() for name, tensor in loaded.module.state_dict().items()}
        loaded.module.float()
        rounded = loaded.module(picture)
    fidelity = fidelity_db(rounded.numpy(), exact.numpy())
    broken = next((name for name, tensor in half.items() if not bool(tensor.isfinite().all())), None)
    if broken is not None or fidelity < LEAST_FIDELITY_DB:
        raise CheckFailed(
            "the weights do not survive float16",
            where=broken or variant,
            expected=f"at least {LEAST_FIDELITY_DB:.0f} dB to the float32 network",
            got="infinity" if broken else f"{fidelity:.1f} dB",
        )
    loaded.module.load_state_dict(single)
    stored = save_checkpoint(folder / f"{variant}.safetensors", loaded.module.half(), loaded.spec)
    assert stored.weights is not None
    record = TrainingRecord(
        variant=variant,
        recipe=recipe.name,
        recipe_sha256=recipe.digest(),
        steps=state.step,
        patches=sum(stage.steps * stage.batch for stage in recipe.stages),
        pixels=sum(stage.steps * stage.batch * stage.patch_px**2 for stage in recipe.stages),
        seconds=round(state.seconds),
        hardware=hardware,
        chosen=chosen,
        held_out_db=None if held_out_db is None else round(held_out_db, 3),
        weights_sha256=stored.weights.sha256,
        loaded_sha256=weights_digest({name: tensor.float() for name, tensor in half.items()}),
        versions={name: version for name, version in collect(seconds=0).versions.items() if name in _TRAINING},
        before=earlier,
        averaged_with=averaged,
    )
    text = json.dumps(asdict(record), indent=2) + "\n"
    atomic_write_bytes(folder / f"{variant}.json", text.encode())
    return record


_TRAINING = ("python", "numpy", "torch")


def _record_before(recipe: Recipe, before: Path | None) -> dict[str, Any] | None:
    """What was trained before this run began, which belongs to how its weights came about."""
    if (recipe.model.initial is None) != (before is None):
        began = "from its seed" if recipe.model.initial is None else f"with the weights {recipe.model.initial}"
        raise UsageError(
            "the record of what was trained before does not fit the run",
            where=recipe.name,
            expected="--before RECORD.json where the recipe has model.initial, and only there",
            got=f"a run that began {began}, {'no record' if before is None else str(before)}",
        )
    if before is None:
        return None
    try:
        found = json.loads(before.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError("the earlier record cannot be read", where=str(before), got=str(error)) from error
    if not isinstance(found, dict) or found.get("variant") != recipe.model.variant:
        raise UsageError(
            "the earlier record is of another network",
            where=str(before),
            expected=str(recipe.model.variant),
            got=str(found.get("variant")) if isinstance(found, dict) else type(found).__name__,
        )
    return found


def _average(loaded: LoadedModel, other: Path) -> str:
    """Average the weights in place with those in ``other``, and return the digest of those."""
    found = load_checkpoint(other)
    if found.spec.name != loaded.spec.name:
        raise UsageError(
            "weights of another network cannot be averaged with",
            where=str(other),
            expected=loaded.spec.name,
            got=found.spec.name,
        )
    further = found.module.state_dict()
    loaded.module.load_state_dict(mean_weights([loaded.module.state_dict(), further]))
    return weights_digest(further)


def main(arguments: Sequence[str] | None = None) -> int:
    """``python -m edgeir.train.publish RUN --to FOLDER --hardware TEXT``."""
    parser = argparse.ArgumentParser(prog="python -m edgeir.train.publish", description=__doc__.split("\n\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--to", type=Path, required=True, help="folder for the weights and their record")
    parser.add_argument("--hardware", required=True, help="what the run was trained on, in words")
    parser.add_argument("--before", type=Path, help="record of the run that this one began with, VARIANT.json")
    parser.add_argument("--keep", choices=get_args(Kept), help="which weights (best, where the recipe validates)")
    parser.add_argument("--average-with", type=Path, help="published weights: the mean of both is published")
    chosen = parser.parse_args(arguments)
    try:
        record = publish(
            chosen.run,
            chosen.to,
            hardware=chosen.hardware,
            before=chosen.before,
            keep=chosen.keep,
            average_with=chosen.average_with,
        )
    except EdgeIRError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    sys.stdout.write(f"{chosen.to / record.variant}.safetensors: {record.steps} steps, {record.seconds} s\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
