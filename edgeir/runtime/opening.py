"""Opening a bundle with one of the backends, by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from edgeir.bundle import Bundle
from edgeir.errors import BundleError, UsageError
from edgeir.manifest import MANIFEST_NAME, Manifest
from edgeir.runtime.availability import BACKENDS, require_backend
from edgeir.runtime.engine_choice import Ends
from edgeir.runtime.engine_runtimes import ENGINE_RUNTIMES
from edgeir.runtime.restore import GraphInput
from edgeir.runtime.session import Session

__all__ = ["BACKENDS", "graph_input", "open_session", "require_backend"]


def graph_input(manifest: Manifest) -> GraphInput:
    """Which batches the graphs of a bundle accept."""
    if len(manifest.input.shape) != 4:
        raise BundleError(
            "the manifest's input is not a batch of pictures",
            where=MANIFEST_NAME,
            expected="a shape of 4 sides, N C H W",
            got=str(list(manifest.input.shape)),
        )
    height, width = manifest.input.shape[2:]
    sides = []
    for side in (height, width):
        if isinstance(side, int):
            sides.append((side, side, side))
        else:
            bounds = manifest.ranges[side]
            sides.append((bounds.minimum, bounds.optimum, bounds.maximum))
    (low_h, best_h, high_h), (low_w, best_w, high_w) = sides
    return GraphInput(
        batch=manifest.batch,
        minimum=(low_h, low_w),
        optimum=(best_h, best_w),
        maximum=(high_h, high_w),
        rule=manifest.model.size,
        scale=manifest.model.scale,
    )


def open_session(
    bundle: Bundle,
    backend: str,
    *,
    checkpoint: Path | None = None,
    threads: int | None = None,
    plugins: Sequence[Path] = (),
    ends: Ends = "floats",
    say: Callable[[str], None] = lambda text: None,
) -> Session:
    """Open a bundle for pictures. Some sessions hold memory of a GPU: `edgeir.runtime.session.closing` gives it back.

    Args:
        bundle: an opened bundle.
        backend: ``"ort"`` (the graph prepared for ONNX Runtime, or else ``model.onnx``), ``"ort-reference"``
            (``reference.onnx`` in ONNX Runtime), ``"rtx"`` or ``"tensorrt"`` (the bundle's engine), ``"ort-cuda"``,
            ``"ort-tensorrt"`` or ``"ort-rtx"`` (ONNX Runtime with that execution provider), ``"torch"`` (the network
            as published in PyTorch), ``"torch-fast"`` (its exact fast form) or ``"torch-compile"`` (as published,
            compiled by ``torch.compile`` on first use).
        checkpoint: the weights, for a torch backend and a bundle that was made from a user's checkpoint.
        threads: threads within an operator; ``None`` leaves it to the runtime. Backends on a GPU take no notice.
        plugins: libraries of TensorRT plugins, for ``"tensorrt"``.
        ends: of a bundle with engines of several kinds the one to open (of bytes: `lost_depth` says what that costs);
            without effect on other backends.
        say: told what the user should know and no error is.

    Raises:
        UsageError, MissingDependency: see `require_backend`; plugins for another backend.
        CheckpointError: the weights are not those of the bundle, or cannot be found.
        BundleError, GraphError: the bundle has no engine or graph for this, only an engine that takes NV12, or one that
            is not what it should be.
    """
    require_backend(backend)
    if plugins and backend not in ENGINE_RUNTIMES:
        raise UsageError(f"the backend '{backend}' takes no plugins", where="--plugins", fix="Leave --plugins out.")
    if backend in ENGINE_RUNTIMES:
        from edgeir.runtime.engine_session import EngineSession

        return EngineSession(bundle, backend, plugins=plugins, ends=ends, frames=False, say=say)
    if backend.startswith("torch"):
        from edgeir.models.rebuild import rebuild
        from edgeir.runtime.torch_session import TorchSession

        loaded = rebuild(bundle.manifest.model, checkpoint=checkpoint)
        return TorchSession(
            loaded,
            form="fast" if backend == "torch-fast" else "reference",
            threads=threads,
            compiled=backend == "torch-compile",
        )
    if backend not in ("ort", "ort-reference"):
        from edgeir.runtime.ort_provider import OrtProviderSession

        return OrtProviderSession(bundle.graph_for("onnxruntime"), backend, say)
    from edgeir.runtime.ort_engine import ort_graph
    from edgeir.runtime.ort_session import OrtSession

    path = ort_graph(bundle) if backend == "ort" else bundle.file("reference")
    # No CPU has FP8 kernels, and ONNX Runtime moves FP8 through operators that refuse it.
    return OrtSession(path, threads=threads, integer_kernels=bundle.manifest.precision != "fp8")
