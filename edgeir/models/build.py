"""Settings to modules: `build` a network by its architecture, and `describe` it in a `ModelSpec`."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from edgeir.models.config import config_from_dict, config_to_dict
from edgeir.models.network import RestorationNetwork, initialise
from edgeir.models.registry import VARIANTS
from edgeir.models.registry import architecture as architecture_named
from edgeir.spec import ModelSpec, WeightsSpec


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A network with its weights, in evaluation mode and fast form, and the spec that describes both."""

    module: RestorationNetwork
    spec: ModelSpec


def read_config(architecture: str, config: Mapping[str, Any]) -> Any:
    """The settings object of ``architecture`` from JSON values; defaults fill what is absent.

    Raises:
        UsageError: unknown architecture or setting, or a value out of range.
    """
    entry = architecture_named(architecture)
    kind = getattr(importlib.import_module(entry.module), entry.config)
    return config_from_dict(kind, config, where=architecture)


def build(architecture: str, config: Mapping[str, Any], *, device: str | torch.device = "cpu") -> RestorationNetwork:
    """The network of ``architecture`` with PyTorch's own initialisation, in training mode and fast form.

    Args:
        architecture: key of `edgeir.models.registry.ARCHITECTURES`.
        config: the architecture's settings, JSON values; absent ones take their defaults.
        device: where the parameters are made; ``"meta"`` allocates nothing and draws nothing from the global RNG.

    Raises:
        UsageError: unknown architecture or setting, or a value out of range.
    """
    settings = read_config(architecture, config)
    entry = architecture_named(architecture)
    network = getattr(importlib.import_module(entry.module), entry.network)
    with torch.device(device):
        module: RestorationNetwork = network(settings)
    return module


def build_seeded(architecture: str, config: Mapping[str, Any], *, seed: int) -> RestorationNetwork:
    """Like `build` on the CPU, initialised from ``seed`` alone: same bits on every run, thread and thread count.

    The global RNG is neither read nor changed.
    """
    module = build(architecture, config, device="meta")
    empty = {name: torch.empty(tensor.shape, dtype=tensor.dtype) for name, tensor in module.state_dict().items()}
    module.load_state_dict(empty, assign=True)
    initialise(module, torch.Generator().manual_seed(seed))
    return module


def describe(name: str, architecture: str, config: Mapping[str, Any], weights: WeightsSpec | None) -> ModelSpec:
    """The spec of ``architecture`` under ``config``; its settings are complete, with every default written out."""
    settings = read_config(architecture, config)
    return ModelSpec(
        name=name,
        architecture=architecture,
        config=config_to_dict(settings),
        size=settings.size_rule,
        scale=settings.scale,
        weights=weights,
    )


def name_of(architecture: str, config: Mapping[str, Any]) -> str:
    """The variant that ``config`` describes, or ``ARCHITECTURE-custom``; settings that steer inference do not count."""
    free = architecture_named(architecture).inference_settings

    def fixed(settings: Mapping[str, Any]) -> dict[str, Any]:
        complete = config_to_dict(read_config(architecture, settings))
        return {name: value for name, value in complete.items() if name not in free}

    wanted = fixed(config)
    for name, entry in VARIANTS.items():
        if entry.architecture == architecture and fixed(entry.config) == wanted:
            return name
    return f"{architecture}-custom"
