"""What a bundle is timed against: names from the command line, and each one opened."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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


def baseline_names(against: str | None, bundle: Bundle, checkpoint: Path | None, *, timed: str = "ort") -> list[str]:
    """What to compare with: what was asked for, else PyTorch where it is installed and its weights can be found.

    Args:
        against: of the command line: names with commas between, ``"none"``, or ``None`` for what is there.
        bundle: what is timed.
        checkpoint: the user's weights.
        timed: the backend that is compared, which is no baseline of its own.

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
        return ["torch"] if findable and timed != "torch" else []
    names = list(dict.fromkeys(part.strip() for part in against.split(",") if part.strip()))
    for name in names:
        if name not in BASELINES:
            raise UsageError(f"unknown backend '{name}'", where="--against", fix=nearest(name, BASELINES))
        require_backend("torch" if name == PLAIN else name)
    return [name for name in names if name != timed]


def open_baseline(
    bundle: Bundle,
    name: str,
    *,
    checkpoint: Path | None,
    threads: int | None,
    plugins: Sequence[Path] = (),
    say: Callable[[str], None] = lambda text: None,
) -> Session:
    """Open one of `BASELINES`; `plain-onnx` is exported here, which takes as long as any export.

    ``plugins`` are loaded for the backend ``"tensorrt"``, ``say`` is told what `open_session` tells.

    Raises:
        see `edgeir.runtime.opening.open_session`.
    """
    if name != PLAIN:
        libraries = plugins if name == "tensorrt" else ()
        return open_session(bundle, name, checkpoint=checkpoint, threads=threads, plugins=libraries, say=say)
    from edgeir.export.trace import plain_export
    from edgeir.models.rebuild import rebuild
    from edgeir.runtime.opening import graph_input
    from edgeir.runtime.ort_session import OrtSession

    graph = graph_input(bundle.manifest)
    loaded = rebuild(bundle.manifest.model, checkpoint=checkpoint)
    return OrtSession(plain_export(loaded, graph.batch, *graph.optimum), threads=threads)
