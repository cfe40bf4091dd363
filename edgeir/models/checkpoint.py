"""Checkpoints: a network's weights with its spec inside, and other people's files recognised by their tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edgeir.errors import CheckpointError, EdgeIRError
from edgeir.models import registry
from edgeir.models.build import LoadedModel, build, describe, name_of
from edgeir.models.checkpoint_file import read_tensors, write_tensors
from edgeir.models.digest import weights_digest
from edgeir.models.recognise import recognise
from edgeir.spec import ModelSpec, WeightsSpec

__all__ = ["load_checkpoint", "load_state", "save_checkpoint", "weights_digest"]

_LISTED = 5
"""How many names of each kind a mismatch lists."""


def save_checkpoint(path: Path | str, module: nn.Module, spec: ModelSpec) -> ModelSpec:
    """Write the weights of ``module`` and ``spec`` to a safetensors file; atomic.

    Args:
        path: the file, by convention ``.safetensors``; its folder must exist.
        module: the network.
        spec: its spec. The digest in ``spec.weights`` is replaced by that of the module's weights; a spec without
            ``weights`` is stored as ``source="checkpoint", trained=False``.

    Returns:
        the spec as stored.

    Raises:
        OutputError: the file cannot be written.
    """
    state = module.state_dict()
    weights = spec.weights or WeightsSpec(source="checkpoint", trained=False, sha256="")
    stored = replace(spec, weights=replace(weights, sha256=weights_digest(state)))
    write_tensors(Path(path), state, stored.to_json())
    return stored


def load_checkpoint(path: Path | str, *, variant: str | None = None) -> LoadedModel:
    """A network from a checkpoint file, in evaluation mode and fast form, float32, on the CPU.

    Args:
        path: ``.safetensors``, or ``.pth .pt .ckpt .bin`` (read without running code).
        variant: what the file holds, a key of `edgeir.models.registry.VARIANTS`; without it the spec inside the file
            decides, and without a spec the names and shapes of the tensors do (`edgeir.models.recognise`).

    Returns:
        the network and its spec with ``source="checkpoint"``; ``trained`` is what the spec inside says, and true
        for a file without one.

    Raises:
        CheckpointError: the file cannot be read safely, is damaged, or does not fit the network.
        UsageError: unknown variant.
    """
    path = Path(path)
    where = str(path)
    wanted = None if variant is None else registry.variant(variant)
    tensors, spec_json = read_tensors(path)
    stored = None if spec_json is None else _stored_spec(spec_json, where)
    if variant is not None and wanted is not None:
        spec = describe(variant, wanted.architecture, wanted.config, None)
    elif stored is not None:
        spec = replace(stored, weights=None)
    else:
        architecture, config = recognise(tensors, where=where)
        spec = describe(name_of(architecture, config), architecture, config, None)
    module = build(spec.architecture, spec.config, device="meta")
    load_state(module, tensors, where=where, network=spec.name)
    if stored is not None:
        _require_same_settings(spec, stored, where)
    digest = weights_digest(module.state_dict())
    trained, seed = True, None
    if stored is not None and stored.weights is not None:
        trained, seed = stored.weights.trained, stored.weights.seed
        if stored.weights.sha256 != weights_digest(tensors):
            raise CheckpointError(
                "the weights are not those that the spec in the file vouches for",
                where=where,
                fix="The file was damaged or edited; get it again.",
            )
    weights = WeightsSpec(source="checkpoint", trained=trained, sha256=digest, seed=seed)
    return LoadedModel(module.eval(), replace(spec, weights=weights))


def load_state(module: nn.Module, tensors: Mapping[str, Tensor], *, where: str, network: str) -> None:
    """Put ``tensors`` into ``module`` as float32; all names and shapes must agree and all values be finite.

    Args:
        module: the network; its parameters may be on the meta device.
        tensors: name to tensor of a floating type.
        where: the file, for errors.
        network: the network's name, for errors.

    Raises:
        CheckpointError: names or shapes differ (the first five of each kind are listed), or a value is not finite.
    """
    expected = module.state_dict()
    missing = [name for name in expected if name not in tensors]
    unexpected = [name for name in tensors if name not in expected]
    reshaped = [
        f"{name} {list(tensors[name].shape)} instead of {list(tensor.shape)}"
        for name, tensor in expected.items()
        if name in tensors and tensors[name].shape != tensor.shape
    ]
    kinds = (("missing", missing), ("unexpected", unexpected), ("wrong shape", reshaped))
    if any(names for _, names in kinds):
        raise CheckpointError(
            f"the checkpoint does not fit {network}",
            where=where,
            got="; ".join(_listing(kind, names) for kind, names in kinds if names),
            fix="Name the model that the file was saved from.",
        )
    state = {name: tensors[name].detach().to(torch.float32).contiguous() for name in expected}
    broken = next((name for name, tensor in state.items() if not bool(tensor.isfinite().all())), None)
    if broken is not None:
        raise CheckpointError("the weights hold NaN or infinity", where=f"{where}: {broken}")
    module.load_state_dict(state, assign=True)


def _listing(kind: str, names: list[str]) -> str:
    more = ", ..." if len(names) > _LISTED else ""
    return f"{len(names)} {kind}: {', '.join(names[:_LISTED])}{more}"


def _stored_spec(text: str, where: str) -> ModelSpec:
    try:
        stored = ModelSpec.from_json(text, where=where)
        complete = describe(stored.name, stored.architecture, stored.config, stored.weights)
    except EdgeIRError as error:
        raise CheckpointError(
            "the spec in the checkpoint cannot be used", where=where, got=str(error), fix="Save the checkpoint again."
        ) from error
    return complete


def _require_same_settings(spec: ModelSpec, stored: ModelSpec, where: str) -> None:
    """Settings without a parameter of their own must agree as well, but for those that only steer inference."""
    free = registry.architecture(spec.architecture).inference_settings
    differing: dict[str, Any] = {
        name: stored.config.get(name)
        for name, value in spec.config.items()
        if name not in free and stored.config.get(name) != value
    }
    if differing:
        raise CheckpointError(
            f"the checkpoint was saved from {stored.name}, which has other settings than {spec.name}",
            where=where,
            expected=", ".join(f"{name}={spec.config[name]}" for name in differing),
            got=", ".join(f"{name}={value}" for name, value in differing.items()),
            fix="Load it without naming a model.",
        )
