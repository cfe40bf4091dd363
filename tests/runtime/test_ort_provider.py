"""ONNX Runtime's providers on a GPU: there or not, and never quietly the CPU. On stand-ins for its session."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from edgeir.errors import GraphError, MissingDependency
from edgeir.runtime.gpu_device import OutOfDeviceMemory
from edgeir.runtime.opening import open_session, require_backend
from edgeir.runtime.ort_provider import PROVIDERS, OrtProviderSession, Provider
from edgeir.runtime.session import run_many

REAL = ort.InferenceSession
# As ONNX Runtime 1.31.1 says them.
CONFLICT = "Conflicting session configuration: explicitly added the CPU EP to the session, but also disabled fallback"
CPU_NODES = "This session contains graph nodes that are assigned to the default CPU EP, but fallback to CPU EP has been"


class Stub:
    """A session of the CPU that says it is another provider's; it refuses what the real one refuses."""

    def __init__(self, path: str, options: Any, providers: list[str], enable_fallback: int = 1) -> None:
        type(self).opened += 1
        self.asked = providers
        self.strict = dict(options.entries).get("session.disable_cpu_ep_fallback") == "1"
        assert not enable_fallback, "the real one would print on stdout and open the CPU"
        if self.strict and "CPUExecutionProvider" in providers:
            raise RuntimeError(CONFLICT)
        if self.broken is not None:
            raise RuntimeError(self.broken)
        if self.strict and (self.cpu_nodes or self.starts_not):
            raise RuntimeError(CPU_NODES)
        self.session = REAL(path, providers=["CPUExecutionProvider"])
        self.fallback = True

    opened = 0
    cpu_nodes = starts_not = False
    broken: str | None = None
    fails: str | None = None

    def get_providers(self) -> list[str]:
        return ["CPUExecutionProvider"] if self.starts_not else self.asked

    def disable_fallback(self) -> None:
        self.fallback = False

    def run(self, names: list[str], values: dict[str, np.ndarray]) -> list[np.ndarray]:
        if self.fails is not None:
            raise RuntimeError(self.fails)
        return list(self.session.run(names, values))


class Options:
    def __init__(self) -> None:
        self.log_severity_level = 2
        self.entries: list[tuple[str, str]] = []

    def add_session_config_entry(self, key: str, value: str) -> None:
        self.entries.append((key, value))


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> type[Stub]:
    """An ONNX Runtime with every provider."""
    kind = type("Stub", (Stub,), {})
    names = [provider.name for provider in PROVIDERS.values()]
    monkeypatch.setattr(ort, "get_available_providers", lambda: [*names, "CPUExecutionProvider"])
    monkeypatch.setattr(ort, "InferenceSession", kind)
    monkeypatch.setattr(ort, "SessionOptions", Options)
    return kind


@pytest.fixture
def graph(device: Any, tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(device.onnx_bytes())
    return path


@pytest.mark.parametrize("backend", PROVIDERS)
def test_it_runs_and_says_where(stub: type[Stub], graph: Path, backend: str) -> None:
    said: list[str] = []
    session = OrtProviderSession(graph, backend, said.append)
    assert session.name == f"onnxruntime {ort.__version__} {PROVIDERS[backend].title}"
    pictures = np.random.default_rng(0).random((1, 3, 8, 8), dtype=np.float32)
    np.testing.assert_allclose(session.run(pictures), 1 - pictures / 2, rtol=1e-6)
    assert [output.shape for output in run_many(session, [pictures, pictures])] == [(1, 3, 8, 8)] * 2
    assert session._session.fallback is False
    assert session._session.strict
    assert said == []


def test_nodes_on_the_cpu_are_said(stub: type[Stub], graph: Path) -> None:
    stub.cpu_nodes = True
    said: list[str] = []
    session = OrtProviderSession(graph, "ort-cuda", said.append)
    assert not session._session.strict
    assert said == ["CUDA cannot run every node of model.onnx: some run on the CPU, with copies between."]


def test_a_provider_that_does_not_start_is_refused(stub: type[Stub], graph: Path) -> None:
    stub.starts_not = True
    with pytest.raises(
        MissingDependency,
        match=r"ort-tensorrt: ONNX Runtime fell back from TensorRT to CPUExecutionProvider, which is refused",
    ):
        OrtProviderSession(graph, "ort-tensorrt")


def test_a_graph_it_refuses(stub: type[Stub], graph: Path) -> None:
    stub.broken = "no such operator\nand more"
    said: list[str] = []
    with pytest.raises(GraphError, match=r"model\.onnx: ONNX Runtime refuses the graph \(got no such operator\)"):
        OrtProviderSession(graph, "ort-cuda", said.append)
    assert (stub.opened, said) == (1, []), "no second try with the CPU: no node was the reason"


def test_weights_that_do_not_fit(stub: type[Stub], graph: Path) -> None:
    stub.broken = "CUDA failure 2: out of memory"
    with pytest.raises(OutOfDeviceMemory, match=r"model\.onnx: the GPU has not enough memory left \(got CUDA"):
        OrtProviderSession(graph, "ort-cuda")


def test_the_real_one_opens_strictly_and_loosely(
    graph: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """With a provider that every build has and that runs no node: the real session, asked for no node on the CPU."""
    name = "AzureExecutionProvider"
    if name not in ort.get_available_providers():
        pytest.skip(f"this ONNX Runtime has no {name} to ask")
    monkeypatch.setitem(PROVIDERS, "ort-azure", Provider(name, "Azure", "nothing"))  # type: ignore[arg-type]
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    with pytest.raises(Exception, match=CONFLICT[:60]):
        REAL(str(graph), options, providers=[name, "CPUExecutionProvider"], enable_fallback=0)
    with pytest.raises(Exception, match=CPU_NODES):
        REAL(str(graph), options, providers=[name], enable_fallback=0)
    said: list[str] = []
    session = OrtProviderSession(graph, "ort-azure", said.append)
    assert said == ["Azure cannot run every node of model.onnx: some run on the CPU, with copies between."]
    pictures = np.zeros((1, 3, 8, 8), np.float32)
    np.testing.assert_array_equal(session.run(pictures), np.ones_like(pictures))
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("Failed to allocate memory for requested buffer of size 1", OutOfDeviceMemory),
        ("CUDA failure 700: an illegal memory access", GraphError),
    ],
)
def test_failures_while_running(stub: type[Stub], graph: Path, text: str, error: type[Exception]) -> None:
    session = OrtProviderSession(graph, "ort-cuda")
    stub.fails = text
    with pytest.raises(error, match=text[:20]):
        session.run(np.zeros((1, 3, 8, 8), np.float32))


@pytest.mark.parametrize("backend", PROVIDERS)
def test_this_machine(device: Any, tmp_path: Path, backend: str) -> None:
    if PROVIDERS[backend].name in ort.get_available_providers():
        pytest.skip(f"this ONNX Runtime has {PROVIDERS[backend].name}: there is nothing to refuse")
    says = rf"this ONNX Runtime has no {PROVIDERS[backend].title} \(expected {PROVIDERS[backend].name}, got .*CPU"
    with pytest.raises(MissingDependency, match=says):
        require_backend(backend)
    with pytest.raises(MissingDependency, match=says):
        open_session(device.make_bundle(tmp_path / "b", {}), backend)


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_what_the_real_one_does_unasked(graph: Path) -> None:
    """Why `get_providers` is looked at: a provider that is not there costs a warning, not an error."""
    if "CUDAExecutionProvider" in ort.get_available_providers():
        pytest.skip("this ONNX Runtime has CUDA")
    session = ort.InferenceSession(str(graph), providers=["CUDAExecutionProvider", "CPUExecutionProvider"])
    assert session.get_providers() == ["CPUExecutionProvider"]
    for name in ("disable_fallback", "get_providers"):
        assert hasattr(session, name)


def test_through_a_bundle(stub: type[Stub], device: Any, tmp_path: Path) -> None:
    session = open_session(device.make_bundle(tmp_path / "b", {}), "ort-rtx")
    assert session.name.endswith("TensorRT-RTX")
