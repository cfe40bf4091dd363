"""Names to networks: what ``--model NAME`` means.

LoadedModel(module, spec) = load_named("exda-tiny")
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgeir.errors import UsageError
from edgeir.models.build import LoadedModel, build, build_seeded, describe, name_of
from edgeir.models.checkpoint import load_checkpoint
from edgeir.models.digest import weights_digest
from edgeir.models.registry import architecture, variant
from edgeir.spec import ModelSpec, WeightsSpec

__all__ = ["SHIPPED", "LoadedModel", "build", "load_named", "load_seeded", "reconfigure"]

SHIPPED = Path(__file__).parent / "weights"
"""Where weights that come with edgeir lie: ``NAME.safetensors`` per variant."""


def load_named(name: str, *, seed: int = 0, overrides: Mapping[str, Any] | None = None) -> LoadedModel:
    """The variant ``name`` of the zoo, with shipped weights where there are any, else initialised from ``seed``.

    Args:
        name: key of `edgeir.models.registry.VARIANTS`.
        seed: seed of the initialisation where no weights are shipped. The result is the same bit for bit on every
            run and thread; the global RNG is neither read nor changed.
        overrides: settings to change. Settings that only steer inference (KGT's ``k``) keep name and weights; other
            changes make another variant or ``ARCHITECTURE-custom``, with seeded weights.

    Returns:
        the module in evaluation mode and fast form on the CPU, and its spec.

    Raises:
        UsageError: unknown name or setting (offers the nearest one), or a value out of range.
        CheckpointError: the shipped file is damaged.
    """
    entry = variant(name)
    settings = {**entry.config, **(overrides or {})}
    found = name_of(entry.architecture, settings)
    spec = describe(found, entry.architecture, settings, None)
    shipped = SHIPPED / f"{found}.safetensors"
    return _shipped(shipped, spec) if shipped.is_file() else _seeded(spec, seed)


def load_seeded(name: str, *, seed: int, overrides: Mapping[str, Any] | None = None) -> LoadedModel:
    """Like `load_named`, always initialised from ``seed``: what a training run begins with.

    Raises:
        UsageError: unknown name or setting (offers the nearest one), or a value out of range.
    """
    entry = variant(name)
    settings = {**entry.config, **(overrides or {})}
    return _seeded(describe(name_of(entry.architecture, settings), entry.architecture, settings, None), seed)


def reconfigure(loaded: LoadedModel, overrides: Mapping[str, Any]) -> LoadedModel:
    """The same weights under other settings, of those that only steer inference (KGT's ``k`` and ``k_choices``).

    Args:
        loaded: a network from `load_named` or `edgeir.models.checkpoint.load_checkpoint`; it stays as it is, but the
            result shares its weights.
        overrides: settings to change, JSON values.

    Raises:
        UsageError: a setting is unknown or belongs to the trained network.
    """
    spec = loaded.spec
    changed = describe(spec.name, spec.architecture, {**spec.config, **overrides}, spec.weights)
    free = architecture(spec.architecture).inference_settings
    fixed = [name for name, value in changed.config.items() if value != spec.config[name] and name not in free]
    if fixed:
        raise UsageError(
            f"setting '{fixed[0]}' belongs to the trained network and cannot be changed afterwards",
            where=spec.name,
            expected=", ".join(free) or f"no setting: {spec.architecture} has none that only steers inference",
            got=fixed[0],
        )
    module = build(spec.architecture, changed.config, device="meta")
    module.load_state_dict(loaded.module.state_dict(), assign=True)
    module.set_form(loaded.module.form)
    return LoadedModel(module.train(loaded.module.training), changed)


def _seeded(spec: ModelSpec, seed: int) -> LoadedModel:
    module = build_seeded(spec.architecture, spec.config, seed=seed).eval()
    weights = WeightsSpec(source="seeded", trained=False, sha256=weights_digest(module.state_dict()), seed=seed)
    return LoadedModel(module, replace(spec, weights=weights))


def _shipped(path: Path, spec: ModelSpec) -> LoadedModel:
    """The weights in ``path`` under the settings of ``spec``, which may differ in what only steers inference."""
    loaded = reconfigure(load_checkpoint(path, variant=spec.name), spec.config)
    weights = loaded.spec.weights and replace(loaded.spec.weights, source="shipped")
    return LoadedModel(loaded.module, replace(loaded.spec, weights=weights))
