"""Opening bundles by backend name, and the memory of one backend in a process of its own."""

from __future__ import annotations

import dataclasses
import importlib.util
import sys

import numpy as np
import pytest

from edgeir.bundle import Bundle
from edgeir.errors import CheckpointError, MissingDependency, UsageError
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


def test_every_backend_is_installed_here() -> None:
    for backend in BACKENDS:
        require_backend(backend)


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
