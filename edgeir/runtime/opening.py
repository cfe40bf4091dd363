"""Opening a bundle with one of the backends, by name."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from edgeir.bundle import Bundle
from edgeir.errors import BundleError, MissingDependency, UsageError, nearest
from edgeir.manifest import MANIFEST_NAME, Manifest
from edgeir.runtime.restore import GraphInput
from edgeir.runtime.session import Session

# Backend names, and the package each one needs.
BACKENDS = {
    "ort": "onnxruntime",
    "ort-reference": "onnxruntime",
    "torch": "torch",
    "torch-fast": "torch",
    "torch-compile": "torch",
}


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


def require_backend(backend: str) -> None:
    """Raise unless ``backend`` is known and its package is installed.

    Raises:
        UsageError: no such backend; the nearest is offered.
        MissingDependency: its package is not installed.
    """
    if backend not in BACKENDS:
        raise UsageError(f"unknown backend '{backend}'", where="--backend", fix=nearest(backend, BACKENDS))
    package = BACKENDS[backend]
    if importlib.util.find_spec(package) is None:
        raise MissingDependency(
            f"the backend '{backend}' needs {package}, which is not installed",
            fix="Run: pip install 'edgeir[export]'" if package == "torch" else f"Run: pip install {package}",
        )


def open_session(
    bundle: Bundle, backend: str, *, checkpoint: Path | None = None, threads: int | None = None
) -> Session:
    """Open a bundle.

    Args:
        bundle: an opened bundle.
        backend: ``"ort"`` (the graph prepared for ONNX Runtime, or else ``model.onnx``), ``"ort-reference"``
            (``reference.onnx`` in ONNX Runtime), ``"torch"`` (the network as published in PyTorch), ``"torch-fast"``
            (its exact fast form) or ``"torch-compile"`` (as published, compiled by ``torch.compile`` on first use).
        checkpoint: the weights, for a torch backend and a bundle that was made from a user's checkpoint.
        threads: threads within an operator; ``None`` leaves it to the runtime.

    Raises:
        UsageError, MissingDependency: see `require_backend`.
        CheckpointError: the weights are not those of the bundle, or cannot be found.
    """
    require_backend(backend)
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
    from edgeir.runtime.ort_session import OrtSession

    path = bundle.graph_for("onnxruntime") if backend == "ort" else bundle.file("reference")
    # No CPU has FP8 kernels, and ONNX Runtime moves FP8 through operators that refuse it.
    return OrtSession(path, threads=threads, integer_kernels=bundle.manifest.precision != "fp8")
