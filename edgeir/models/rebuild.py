"""From a model spec back to the network it describes, with the very same weights."""

from __future__ import annotations

from pathlib import Path

from edgeir.errors import CheckpointError
from edgeir.models.build import LoadedModel
from edgeir.models.checkpoint import load_checkpoint
from edgeir.models.digest import weights_digest
from edgeir.models.loading import load_named
from edgeir.models.registry import VARIANTS
from edgeir.spec import ModelSpec


def rebuild(spec: ModelSpec, *, checkpoint: Path | None = None) -> LoadedModel:
    """The network of ``spec`` in PyTorch.

    Args:
        spec: what a bundle's manifest says of its model.
        checkpoint: the file the weights come from; needed where the spec's weights are neither seeded nor shipped.

    Raises:
        CheckpointError: the weights cannot be found, or are not the ones the spec describes.
    """
    if checkpoint is not None:
        loaded = load_checkpoint(checkpoint)
    elif spec.weights is None or spec.weights.source == "checkpoint" or spec.name not in VARIANTS:
        raise CheckpointError(
            "the PyTorch reference needs the checkpoint that this bundle was made from",
            where=spec.name,
            fix="Pass it with --checkpoint FILE.",
        )
    else:
        loaded = load_named(spec.name, seed=spec.weights.seed or 0, overrides=spec.config)
    if spec.weights is not None and weights_digest(loaded.module.state_dict()) != spec.weights.sha256:
        raise CheckpointError(
            "these are not the weights that the bundle was made from",
            where=str(checkpoint) if checkpoint else spec.name,
            expected=f"weights {spec.weights.sha256[:12]}...",
            got=f"{weights_digest(loaded.module.state_dict())[:12]}...",
            fix="Pass the right file with --checkpoint, or export the bundle again.",
        )
    return loaded
