"""Which backends can run on this machine, and in one clause each why the others cannot."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping

from edgeir.errors import EdgeIRError, MissingDependency, UsageError, nearest
from edgeir.runtime.cuda_driver import CudaDevice
from edgeir.runtime.engine_runtimes import ENGINE_RUNTIMES, load_runtime
from edgeir.runtime.gpu_device import Gpu, has_bindings

# Backend names, and the package each one needs.
BACKENDS: Mapping[str, str] = {
    "ort": "onnxruntime",
    "ort-reference": "onnxruntime",
    "rtx": "tensorrt_rtx",
    "tensorrt": "tensorrt",
    "ort-cuda": "onnxruntime",
    "ort-tensorrt": "onnxruntime",
    "ort-rtx": "onnxruntime",
    "torch": "torch",
    "torch-fast": "torch",
    "torch-compile": "torch",
}
ON_GPU = ("rtx", "tensorrt", "ort-cuda", "ort-tensorrt", "ort-rtx")


def require_backend(backend: str) -> None:
    """Raise unless ``backend`` is known and what it needs is installed; no GPU is looked for.

    Raises:
        UsageError: no such backend; the nearest is offered.
        MissingDependency: a package is not installed, or ONNX Runtime was built without the execution provider.
    """
    if backend not in BACKENDS:
        raise UsageError(f"unknown backend '{backend}'", where="--backend", fix=nearest(backend, BACKENDS))
    package = BACKENDS[backend]
    if importlib.util.find_spec(package) is None:
        raise MissingDependency(
            f"the backend '{backend}' needs {package}, which is not installed", fix=_install(backend, package)
        )
    if backend in ENGINE_RUNTIMES and not has_bindings():
        raise MissingDependency(
            f"the backend '{backend}' needs cuda-bindings, which is not installed",
            fix="Run: pip install 'edgeir[gpu]'",
        )
    if backend.startswith("ort-") and backend in ON_GPU:
        from edgeir.runtime.ort_provider import require_provider

        require_provider(backend)


def why_not(backend: str) -> str | None:
    """Why a backend cannot run here, a sentence; ``None`` where it can, the GPU and its driver included.

    Nothing of any bundle is read: whether one holds an engine for this machine shows when it is opened.
    """
    try:
        require_backend(backend)
        if backend in ENGINE_RUNTIMES:
            load_runtime(ENGINE_RUNTIMES[backend])
        if backend in ON_GPU:
            with Gpu() if has_bindings() else CudaDevice():
                pass
    except EdgeIRError as error:
        return str(error)
    return None


def _install(backend: str, package: str) -> str:
    if backend in ENGINE_RUNTIMES:
        return ENGINE_RUNTIMES[backend].install
    return "Run: pip install 'edgeir[export]'" if package == "torch" else f"Run: pip install {package}"
