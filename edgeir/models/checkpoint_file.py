"""Files of tensors: read without running anything that is in them, written whole or not at all."""

from __future__ import annotations

import os
import pickle
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from edgeir.errors import CheckpointError, OutputError

SPEC_KEY = "edgeir_spec"
"""Key of the model spec (JSON) in a safetensors file's metadata."""

PICKLED = (".pth", ".pt", ".ckpt", ".bin")
WRAPPERS = ("params_ema", "params", "state_dict", "model_state_dict", "model", "net")
"""Keys under which training frameworks put the weights; where several are there, the first of these is used."""
PREFIXES = ("module.", "net.", "_orig_mod.")
"""Prefixes of DistributedDataParallel, Lightning modules and ``torch.compile``, removed where every name has them."""

# What torch's restricted unpickler says when the pickle names something that it would have to call or build.
_WANTS_CODE = (
    "unsupported global",
    "unsupported class",
    "reduce for unrecognized",
    "can not create new object",
    "can only build",
    "torchscript",
)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], str | None]:
    """Tensors of a checkpoint by name (wrappers and prefixes removed, on the CPU), and the spec JSON where it has one.

    ``.safetensors`` holds no code. The pickled kinds go through ``torch.load(weights_only=True)`` alone.

    Raises:
        CheckpointError: the file is missing, empty, damaged, of another kind, without weights, or wants to run code.
    """
    where = str(path)
    if not path.is_file():
        raise CheckpointError("there is no such checkpoint file", where=where, fix="Check the path.")
    if path.stat().st_size == 0:
        raise CheckpointError("the checkpoint file is empty", where=where, fix="Download or save it again.")
    suffix = path.suffix.lower()
    if suffix == ".safetensors":
        tensors, spec = _read_safetensors(path)
        return _without_prefix(tensors), spec
    if suffix in PICKLED:
        return _without_prefix(_unwrapped(_read_pickled(path), where)), None
    raise CheckpointError(
        "unknown kind of checkpoint file",
        where=where,
        expected=", ".join((".safetensors", *PICKLED)),
        got=suffix or "none",
    )


def write_tensors(path: Path, tensors: Mapping[str, Tensor], spec_json: str) -> None:
    """Write a safetensors file with the spec in its metadata; a reader sees the old file or the new one, never half.

    Raises:
        OutputError: the folder is missing or cannot be written to.
    """
    # A tensor may be a view of another's memory; safetensors wants each on its own.
    stored = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    data = save(stored, metadata={SPEC_KEY: spec_json})
    temporary: Path | None = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = Path(file.name)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise OutputError(
            "the checkpoint cannot be written", where=str(path), got=error.strerror or str(error)
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], str | None]:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
            metadata = file.metadata() or {}
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            "the file is damaged or not a safetensors file",
            where=str(path),
            got=str(error).splitlines()[0],
            fix="Download or save it again.",
        ) from error
    if not tensors:
        raise CheckpointError("the checkpoint holds no tensors", where=str(path))
    return tensors, metadata.get(SPEC_KEY)


def _read_pickled(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (
        pickle.UnpicklingError,
        RuntimeError,
        EOFError,
        OSError,
        ValueError,
        KeyError,
        IndexError,
        TypeError,
    ) as error:
        if any(phrase in str(error).lower() for phrase in _WANTS_CODE):
            raise CheckpointError(
                "the checkpoint wants to run code while it is read; it was refused and nothing was run",
                where=str(path),
                expected="tensors and plain containers only",
                fix="Ask its author for a safetensors file.",
            ) from error
        raise CheckpointError(
            "the file is truncated, damaged or not a PyTorch checkpoint",
            where=str(path),
            got=type(error).__name__,
            fix="Download or save it again.",
        ) from error


def _unwrapped(data: Any, where: str) -> dict[str, Tensor]:
    """The innermost name-to-tensor mapping under the known wrapper keys."""
    while isinstance(data, Mapping):
        inner = next((data[key] for key in WRAPPERS if isinstance(data.get(key), Mapping)), None)
        if inner is None:
            break
        data = inner
    tensors = {
        name: tensor
        for name, tensor in (data.items() if isinstance(data, Mapping) else ())
        if isinstance(name, str) and isinstance(tensor, Tensor)
    }
    if not tensors:
        raise CheckpointError(
            "no weights were found in the checkpoint",
            where=where,
            expected=f"tensors by name, bare or under {', '.join(WRAPPERS)}",
            got=type(data).__name__,
        )
    return tensors


def _without_prefix(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors, with `PREFIXES` removed from the names as long as every name has one in common."""
    while True:
        prefix = next((prefix for prefix in PREFIXES if all(name.startswith(prefix) for name in tensors)), None)
        if prefix is None:
            return tensors
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
