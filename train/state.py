"""What a run leaves on the disk: its state, to go on from, and the weights, to use.

Every file is replaced in one step: a run that is killed at any moment leaves the files of the last save.
"""

from __future__ import annotations

import io
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edgeir.errors import CheckpointError, UsageError
from edgeir.storage import atomic_write_bytes

STATE = "state.pt"
LATEST = "latest.safetensors"
BEST = "best.safetensors"
STATE_VERSION = 1


@dataclass(slots=True)
class TrainingState:
    """A run after ``step`` optimiser steps.

    Attributes:
        step: optimiser steps done.
        recipe: digest of the recipe.
        network: weights by name, float32.
        optimiser: state of AdamW.
        average: averaged weights, or ``None``.
        best_db: highest PSNR of a validation so far, dB, or ``None``.
        seconds: time trained so far, in all sessions.
        ranges: of activations under fake quantisation, by module; empty without.
    """

    step: int
    recipe: str
    network: dict[str, Tensor]
    optimiser: dict[str, Any]
    average: dict[str, Tensor] | None
    best_db: float | None
    seconds: float
    ranges: dict[str, float]


def save_state(folder: Path, state: TrainingState) -> None:
    """Write `STATE`; raises ``OutputError`` or ``OutOfSpace``."""
    content = {field: getattr(state, field) for field in TrainingState.__slots__}
    buffer = io.BytesIO()
    torch.save({"version": STATE_VERSION, **content}, buffer)
    atomic_write_bytes(folder / STATE, buffer.getvalue())


def load_state(folder: Path, *, recipe_digest: str) -> TrainingState:
    """Read `STATE`, running no code from it.

    Raises:
        UsageError: there is none, or another recipe wrote it.
        CheckpointError: it is damaged.
    """
    path = folder / STATE
    if not path.is_file():
        raise UsageError("there is no run to go on with", where=str(path), fix="Leave out --resume to begin one.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        if content.pop("version") != STATE_VERSION:
            raise KeyError("version")
        state = TrainingState(**content)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            "the state of the run is damaged or of another version of edgeir",
            where=str(path),
            got=type(error).__name__,
            fix=f"{LATEST} beside it holds the weights; a new run can start from them (model: initial).",
        ) from error
    if state.recipe != recipe_digest:
        raise UsageError(
            "the run in this folder was started by another recipe, or by an earlier form of this one",
            where=str(path),
            expected=f"recipe {recipe_digest[:12]}",
            got=state.recipe[:12],
            fix="Take another --out, or the recipe.yaml in this folder.",
        )
    return state
