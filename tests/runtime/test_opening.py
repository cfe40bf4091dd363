"""Opening bundles by backend name, and the memory of one backend in a process of its own."""

from __future__ import annotations

import dataclasses
import importlib.util
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from edgeir.bundle import Bundle
from edgeir.errors import CheckpointError, MissingDependency, UsageError
from edgeir.runtime.availability import ON_GPU, why_not
from edgeir.runtime.gpu_device import Gpu
from edgeir.runtime.memory import peak_memory_bytes
from edgeir.runtime.opening import BACKENDS, graph_input, open_session, require_backend
from edgeir.runtime.restore import GraphInput
from edgeir.spec import TensorSpec


def test_graph_input_of_a_dynamic_and_a_static_bundle(bundle: Bundle) -> None:
    rule = bundle.manifest.model.size
    assert graph_input(bundle.manifest) == GraphInput(1, (32, 32), (32, 48), (96, 96), rule)
    static = dataclasses.replace(bundle.manifest, input=TensorSpec("image", (4, 3, 64, 80)), ranges={}, batch=4)
    assert graph_input(static) == GraphInput(4, (64, 80), (64, 80), (64, 80), rule)


@pytest.mark.parametrize("backend", ["ort", "ort-reference"])
def test_open_with_onnxruntime(bundle: Bundle, backend: str) -> None:
    session = open_session(bundle, backend, threads=1)
    assert session.name.startswith("onnxruntime ")
    assert session.run(np.zeros((1, 3, 64, 32), np.float32)).shape == (1, 3, 64, 32)


def test_unknown_backend(bundle: Bundle) -> None:
    with pytest.raises(UsageError, match=r"--backend: unknown backend 'orrt'\. Did you mean 'ort'"):
        open_session(bundle, "orrt")


@pytest.mark.parametrize(
    ("backend", "fix"), [("torch", r"pip install 'edgeir\[export\]'"), ("ort", "pip install onnxruntime")]
)
def test_missing_package(monkeypatch: pytest.MonkeyPatch, backend: str, fix: str) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependency, match=f"needs {BACKENDS[backend]}, which is not installed.*{fix}"):
        require_backend(backend)


@pytest.mark.parametrize("backend", ["ort", "ort-reference", "torch", "torch-fast", "torch-compile"])
def test_what_is_installed_here_runs_here(backend: str) -> None:
    require_backend(backend)
    assert why_not(backend) is None


@pytest.mark.parametrize("backend", sorted(set(BACKENDS) & set(ON_GPU)))
def test_what_needs_a_gpu_says_what_is_missing(backend: str) -> None:
    try:
        with Gpu():
            pytest.skip("there is a GPU on this machine")
    except MissingDependency:
        pass
    reason = why_not(backend)
    assert reason is not None
    assert "\n" not in reason


def test_an_engine_needs_the_bindings_too(monkeypatch: pytest.MonkeyPatch) -> None:
    present = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name.startswith("cuda") else present("onnxruntime")
    )
    with pytest.raises(MissingDependency, match=r"needs cuda-bindings.*pip install 'edgeir\[gpu\]'"):
        require_backend("rtx")


def test_with_a_gpu_it_would_run(fakes: Any) -> None:
    assert why_not("rtx") is None
    assert why_not("tensorrt") is None
    fakes.cuda.fail["cuInit"] = 100
    assert (why_not("rtx") or "").startswith("CUDA: there is no GPU to use")
    del fakes.cuda.fail["cuInit"]


@pytest.mark.parametrize("call", ["cuDevicePrimaryCtxRetain", "cuCtxSetCurrent"])
def test_a_gpu_that_cannot_be_used_is_a_reason_and_no_error(fakes: Any, call: str) -> None:
    fakes.cuda.fail[call] = 719
    assert (why_not("rtx") or "").startswith(f"CUDA: the GPU cannot be used (got {call} gave 719")
    del fakes.cuda.fail[call]


@pytest.mark.parametrize("there", [False, True])
def test_providers_need_a_gpu_without_the_bindings_too(monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    import onnxruntime

    from edgeir.runtime import availability

    class Device:
        def __enter__(self) -> Device:
            if not there:
                raise MissingDependency("there is no GPU to use", where="CUDA")
            return self

        def __exit__(self, *error: object) -> None:
            pass

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(availability, "has_bindings", lambda: False)
    monkeypatch.setattr(availability, "CudaDevice", Device)
    assert why_not("ort-cuda") == (None if there else "CUDA: there is no GPU to use.")
    assert why_not("ort") is None


def test_a_runtime_whose_libraries_are_missing(fakes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib

    real = importlib.import_module

    def broken(name: str) -> Any:
        if name == "tensorrt_rtx":
            raise OSError("libtensorrt_rtx.so.1: cannot open shared object file")
        return real(name)

    monkeypatch.setattr(importlib, "import_module", broken)
    assert "is installed and cannot be loaded (got libtensorrt_rtx.so.1" in (why_not("rtx") or "")


def test_torch_needs_the_users_weights(bundle: Bundle) -> None:
    with pytest.raises(CheckpointError, match="--checkpoint"):
        open_session(bundle, "torch")


linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc/self/status, which is Linux's")


@linux
def test_peak_memory_is_that_of_the_backend_alone(bundle: Bundle) -> None:
    """The ballast of this process must not show: it would hide the difference between two backends."""
    ballast = np.ones(500_000_000 // 8)
    peak = peak_memory_bytes(bundle.path, "ort")
    # ONNX Runtime, NumPy and the interpreter take about 100 MB.
    assert 20_000_000 < peak < ballast.nbytes


def test_what_stopped_the_measurement_is_named(bundle: Bundle) -> None:
    with pytest.raises(MissingDependency, match=r"memory of the backend 'torch' could not be measured.*--checkpoint"):
        peak_memory_bytes(bundle.path, "torch")
    with pytest.raises(MissingDependency, match="within 0 s"):
        peak_memory_bytes(bundle.path, "ort", timeout_s=0.01)


def test_looking_for_backends_loads_none_of_them() -> None:
    code = (
        "import sys, edgeir.runtime.opening, edgeir.runtime.engine_session, edgeir.runtime.ort_provider\n"
        "heavy = ('torch', 'onnx', 'onnxruntime', 'tensorrt', 'tensorrt_rtx', 'cuda')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"
