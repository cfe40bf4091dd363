"""ONNX Runtime on a GPU: its CUDA, TensorRT and TensorRT-RTX execution providers, where they are part of what is here.

ONNX Runtime falls back to the CPU by itself in three ways, and none of them may go unseen: a provider that does not
start is left out of the session (looked at after opening, and refused), one that fails later is replaced (turned off),
and single nodes that it cannot run stay on the CPU (forbidden at first; where that is refused, a sentence says so).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeir.errors import GraphError, MissingDependency
from edgeir.runtime.external_data import require_self_contained
from edgeir.runtime.gpu_device import OutOfDeviceMemory
from edgeir.runtime.session import Pictures
from edgeir.spec import INPUT_NAME, OUTPUT_NAME


@dataclass(frozen=True, slots=True)
class Provider:
    """One execution provider.

    Attributes:
        name: what ONNX Runtime calls it.
        title: for people.
        install: how to get it, a sentence.
    """

    name: str
    title: str
    install: str


PROVIDERS: Mapping[str, Provider] = {
    "ort-cuda": Provider(
        "CUDAExecutionProvider",
        "CUDA",
        "Run: pip install onnxruntime-gpu (in place of onnxruntime; on a Jetson, the one built for its JetPack)",
    ),
    "ort-tensorrt": Provider(
        "TensorrtExecutionProvider",
        "TensorRT",
        "Run: pip install onnxruntime-gpu (in place of onnxruntime), and install TensorRT",
    ),
    "ort-rtx": Provider(
        "NvTensorRTRTXExecutionProvider",
        "TensorRT-RTX",
        "It takes an ONNX Runtime that was built with TensorRT-RTX.",
    ),
}
"""Backends that are an execution provider each."""

_NO_CPU_NODES = "session.disable_cpu_ep_fallback"
_SOME_CPU_NODES = "assigned to the default cpu ep"  # ONNX Runtime's words where that forbids a session
_MEMORY_WORDS = ("failed to allocate memory", "out of memory", "cuda_error_out_of_memory", "cudnn_status_alloc_failed")


def require_provider(backend: str) -> Provider:
    """The provider of a backend.

    Raises:
        MissingDependency: onnxruntime is not installed, or was built without the provider.
    """
    provider = PROVIDERS[backend]
    try:
        import onnxruntime as ort
    except ImportError as error:
        raise MissingDependency("onnxruntime is not installed", fix=provider.install) from error
    available = ort.get_available_providers()
    if provider.name not in available:
        raise MissingDependency(
            f"this ONNX Runtime has no {provider.title}",
            where=backend,
            expected=provider.name,
            got=", ".join(available),
            fix=provider.install,
        )
    return provider


class OrtProviderSession:
    """A graph opened by ONNX Runtime with one provider, and the CPU behind it for nodes that it cannot run.

    Args:
        graph: an ONNX file that edgeir wrote.
        backend: key of `PROVIDERS`.
        say: told where nodes run on the CPU.

    Raises:
        MissingDependency: there is no such provider, or it does not start here.
        OutOfDeviceMemory: the GPU has no room for the weights.
        GraphError: the file names other files, or ONNX Runtime refuses it.
    """

    def __init__(self, graph: Path, backend: str, say: Callable[[str], None] = lambda text: None) -> None:
        provider = require_provider(backend)
        require_self_contained(graph)
        import onnxruntime as ort

        self._graph = graph.name
        self._session: Any = _open(ort, graph, provider, strict=True)
        if self._session is None:
            self._session = _open(ort, graph, provider, strict=False)
            say(f"{provider.title} cannot run every node of {graph.name}: some run on the CPU, with copies between.")
        used = self._session.get_providers()
        if used[:1] != [provider.name]:
            raise MissingDependency(
                f"ONNX Runtime fell back from {provider.title} to {used[0] if used else 'nothing'}, which is refused",
                where=backend,
                expected=provider.name,
                got=", ".join(used),
                fix="Its libraries or the driver are missing or of another version; ONNX Runtime's log says which.",
            )
        self._session.disable_fallback()
        self.name = f"onnxruntime {ort.__version__} {provider.title}"

    def run(self, pictures: Pictures) -> Pictures:
        """Restore a batch, see `edgeir.runtime.session.Session.run`.

        Raises:
            OutOfDeviceMemory: this size needs more than there is.
            GraphError: the provider fails.
        """
        try:
            output = self._session.run([OUTPUT_NAME], {INPUT_NAME: np.ascontiguousarray(pictures, np.float32)})[0]
        except Exception as error:  # onnxruntime's own exception types are private
            raise _failure("ONNX Runtime fails", self.name, error) from error
        return np.asarray(output, np.float32)


def _open(ort: Any, graph: Path, provider: Provider, *, strict: bool) -> Any:
    """The session; ``None`` where ``strict`` and a node would run on the CPU.

    The CPU's provider may not be named where its nodes are forbidden: ONNX Runtime refuses the two together. It is
    always behind the others, named or not.
    """
    options = ort.SessionOptions()
    options.log_severity_level = 3
    if strict:
        options.add_session_config_entry(_NO_CPU_NODES, "1")
    providers = [provider.name] if strict else [provider.name, "CPUExecutionProvider"]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what it warns of is looked at afterwards
            # With its own fall back an error would be printed on stdout, and the CPU opened instead.
            return ort.InferenceSession(str(graph), options, providers=providers, enable_fallback=0)
    except Exception as error:  # onnxruntime's own exception types are private
        if strict and _SOME_CPU_NODES in str(error).lower():
            return None
        raise _failure("ONNX Runtime refuses the graph", graph.name, error) from error


def _failure(what: str, where: str, error: Exception) -> GraphError | OutOfDeviceMemory:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    if any(word in str(error).lower() for word in _MEMORY_WORDS):
        return OutOfDeviceMemory("the GPU has not enough memory left", where=where, got=reason)
    return GraphError(what, where=where, got=reason)
