"""What a bundle is timed against: names from the command line, and each one opened."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from edgeir.errors import MissingDependency, UsageError, nearest
from edgeir.runtime.opening import BACKENDS, open_session, require_backend

if TYPE_CHECKING:
    from edgeir.bundle import Bundle
    from edgeir.runtime.session import Session

PLAIN = "plain-onnx"
"""The network as published through ``torch.onnx.export``, in ONNX Runtime: what is had without edgeir."""

BASELINES: Mapping[str, str] = {**BACKENDS, PLAIN: "torch"}
"""Names for ``--against``, and the package each one needs."""


def baseline_names(against: str | None, bundle: Bundle, checkpoint: Path | None) -> list[str]:
    """What to compare with: what was asked for, else PyTorch where it is installed and its weights can be found.

    Raises:
        UsageError: an unknown name; the nearest is offered.
        MissingDependency: its package is not installed.
    """
    if against == "none":
        return []
    if against is None:
        try:
            require_backend("torch")
        except MissingDependency:
            return []
        weights = bundle.manifest.model.weights
        findable = checkpoint is not None or (weights is not None and weights.source != "checkpoint")
        return ["torch"] if findable else []
    names = list(dict.fromkeys(part.strip() for part in against.split(",") if part.strip()))
    for name in names:
        if name not in BASELINES:
            raise UsageError(f"unknown backend '{name}'", where="--against", fix=nearest(name, BASELINES))
        require_backend("torch" if name == PLAIN else name)
    return [name for name in names if name != "ort"]


def open_baseline(bundle: Bundle, name: str, *, checkpoint: Path | None, threads: int | None) -> Session:
    """Open one of `BASELINES`; `plain-onnx` is exported here, which takes as long as any export.

    Raises:
        see `edgeir.runtime.opening.open_session`.
    """
    if name != PLAIN:
        return open_session(bundle, name, checkpoint=checkpoint, threads=threads)
    from edgeir.export.trace import plain_export
    from edgeir.models.rebuild import rebuild
    from edgeir.runtime.opening import graph_input
    from edgeir.runtime.ort_session import OrtSession

    graph = graph_input(bundle.manifest)
    loaded = rebuild(bundle.manifest.model, checkpoint=checkpoint)
    return OrtSession(plain_export(loaded, graph.batch, *graph.optimum), threads=threads)
