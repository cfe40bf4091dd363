"""The stand-ins hold the real names: whatever the product calls on them is there in cuda-bindings and tensorrt_rtx."""

from __future__ import annotations

import importlib.util
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeir.runtime.engine_session import EngineSession

needs_rtx = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None, reason="tensorrt_rtx is not installed: no names to compare with"
)


def bindings_are_here() -> bool:
    try:
        return importlib.util.find_spec("cuda.bindings.driver") is not None
    except ModuleNotFoundError:
        return False


needs_bindings = pytest.mark.skipif(
    not bindings_are_here(), reason="cuda-bindings is not installed: no names to compare with"
)


def everything(fakes: Any, device: Any, folder: Path) -> None:
    """Use all that sessions use: both runtimes, a graph, one that is refused, plugins, bytes, times, memory."""
    library = folder.resolve() / "plugins.so"
    library.write_text("plugins: EdgeirKeyGraph EdgeirKeyGraphAttention EdgeirGstAttention")
    picture = np.zeros((1, 3, 8, 8), np.float32)
    dynamic = device.plan((1, 3, 8, 8), (1, 3, 16, 16), scratch=4)
    plans = {"rtx": dynamic, "tensorrt-plugins": dynamic}
    bundle = device.make_bundle(folder / "all", plans, largest=(16, 16))
    for backend, plugins in (("rtx", []), ("tensorrt", [library])):
        with EngineSession(bundle, backend, plugins=plugins) as session:
            for _ in session.run_many([picture] * 4):
                session.device_times()
            assert session.device_bytes > 0
    fakes.rtx.refuse["deserialize_cuda_engine"] = "no"
    with pytest.raises(Exception, match="refuses the engine"):
        EngineSession(bundle, "rtx")


@needs_rtx
def test_names_of_tensorrt_rtx(fakes: Any, device: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    everything(fakes, device, tmp_path)
    used = set(fakes.used)
    assert ("IExecutionContext", "execute_async_v3") in used
    assert ("", "Runtime") in used
    assert len(used) > 30
    monkeypatch.delitem(sys.modules, "tensorrt_rtx")
    import tensorrt_rtx as real

    missing = [
        f"{kind}.{name}" for kind, name in sorted(used) if not hasattr(getattr(real, kind) if kind else real, name)
    ]
    assert missing == []


@needs_rtx
def test_signatures_of_tensorrt_rtx(device: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parameters have the names that the real methods document, in some overload."""
    fakes = [value for value in vars(device.fake_tensorrt).values() if getattr(value, "_real", "")]
    monkeypatch.delitem(sys.modules, "tensorrt_rtx", raising=False)
    import tensorrt_rtx as real

    compared = 0
    for kind in fakes:
        for name, method in vars(kind).items():
            if name.startswith("_") or not inspect.isfunction(method):
                continue
            ours = list(inspect.signature(method).parameters)[1:]
            text = getattr(getattr(real, kind._real), name).__doc__ or ""
            theirs = [re.findall(r"(\w+): ", found)[1:] for found in re.findall(rf"{name}\(self: [^)]*\)", text)]
            assert any(ours == names[: len(ours)] for names in theirs), (kind._real, name, ours, theirs)
            compared += 1
    assert compared > 20


@needs_rtx
def test_values_of_tensorrt_rtx(fakes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Members of enumerations are real ones, and what stands as bits in an answer has the real bits."""
    fake = sys.modules["tensorrt_rtx"]
    monkeypatch.delitem(sys.modules, "tensorrt_rtx")
    import tensorrt_rtx as real

    for name in (
        "TensorIOMode", "TensorFormat", "DataType", "ExecutionContextAllocationStrategy", "EngineValidity",
        "EngineInvalidityDiagnostics", "CudaGraphStrategy", "DynamicShapesKernelSpecializationStrategy",
        "ComputeCapability",
    ):  # fmt: skip
        ours, theirs = getattr(fake, name).__members__, getattr(real, name).__members__
        assert set(ours) <= set(theirs), name
    for name, value in fake.EngineInvalidityDiagnostics.__members__.items():
        assert int(real.EngineInvalidityDiagnostics.__members__[name]) == int(value)


@needs_bindings
def test_names_and_arguments_of_the_driver(
    fakes: Any, device: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything(fakes, device, tmp_path)
    monkeypatch.delitem(sys.modules, "cuda.bindings.driver")
    from cuda.bindings import driver

    called = set(fakes.cuda.calls)
    assert len(called) > 25
    for name, count in called:
        first = getattr(driver, name).__doc__.splitlines()[0]
        parameters = first[first.index("(") + 1 : first.rindex(")")]
        assert len([one for one in parameters.split(",") if one.strip()]) == count, first
    for kind, members in (
        ("CUresult", device.fake_cuda.CUresult),
        ("CUdevice_attribute", device.fake_cuda.Attributes),
        ("CUstream_flags", device.fake_cuda.StreamFlags),
        ("CUstreamCaptureMode", device.fake_cuda.CaptureMode),
    ):
        for name, value in members.__members__.items():
            assert int(getattr(getattr(driver, kind), name)) == int(value)


WITHOUT_A_DRIVER = """
import json, sys
import tensorrt_rtx as trt

class Logger(trt.ILogger):
    def __init__(self):
        trt.ILogger.__init__(self)
        self.said = []
    def log(self, severity, message):
        if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
            self.said.append(message)

logger = Logger()
builder = trt.Builder(logger)
network = builder.create_network(0)
image = network.add_input("image", trt.float32, (1, 3, 8, 8))
restored = network.add_activation(image, trt.ActivationType.RELU).get_output(0)
restored.name = "restored"
network.mark_output(restored)
config = builder.create_builder_config()
config.num_compute_capabilities = 1
config.set_compute_capability(trt.ComputeCapability.SM89, 0)
plan = bytes(memoryview(builder.build_serialized_network(network, config)))
runtime = trt.Runtime(logger)
validity, diagnostics = runtime.get_engine_validity(plan[: runtime.engine_header_size])
engine = runtime.deserialize_cuda_engine(plan)
print(json.dumps({"host_code": runtime.engine_host_code_allowed, "validity": validity.name,
                  "diagnostics": int(diagnostics), "engine": engine is not None, "said": logger.said}))
"""


@needs_rtx
def test_the_real_one_without_a_driver() -> None:
    """What TensorRT-RTX 1.7.1 says where there is no GPU: no engine, no crash, and error 35 in words."""
    from edgeir.runtime.cuda_driver import CudaDevice

    try:
        with CudaDevice():
            pytest.skip("there is a GPU on this machine")
    except Exception as error:
        assert "driver" in str(error) or "GPU" in str(error)
    ran = subprocess.run([sys.executable, "-c", WITHOUT_A_DRIVER], capture_output=True, text=True, check=True)
    answer = json.loads(ran.stdout.splitlines()[-1])
    assert (answer["host_code"], answer["engine"]) == (False, False)
    assert (answer["validity"], answer["diagnostics"]) == ("INVALID", 0)
    assert any(
        "cudaError 35: CUDA driver version is insufficient for CUDA runtime version" in one for one in answer["said"]
    )


def test_a_real_gpu_would_be_used_here(tmp_path: Path) -> None:
    """Without a driver the bindings say so, and it is one sentence of ours."""
    if not bindings_are_here():
        pytest.skip("cuda-bindings is not installed")
    from edgeir.errors import MissingDependency
    from edgeir.runtime.gpu_device import Gpu

    try:
        with Gpu() as gpu:
            assert re.fullmatch(r"sm\d{2,3}", gpu.architecture)
            assert gpu.name
            assert gpu.free_bytes > 0
    except MissingDependency as error:
        assert "\n" not in str(error)
        assert str(error).startswith("CUDA: there is no GPU to use (got ")


@needs_rtx
@pytest.mark.gpu
def test_a_session_on_a_real_gpu(device: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole path on a card: build, open, run, overlap, keep what was compiled. It has not run on one yet."""
    from edgeir.errors import MissingDependency
    from edgeir.runtime.gpu_device import Gpu

    try:
        with Gpu() as gpu:
            architecture = gpu.architecture
    except MissingDependency as error:
        pytest.skip(str(error))
    import tensorrt_rtx as trt

    if not hasattr(trt.ComputeCapability, architecture.upper()):
        pytest.skip(f"TensorRT-RTX {trt.__version__} builds nothing for {architecture}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    builder = trt.Builder(trt.Logger(trt.Logger.ERROR))
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, trt.Logger(trt.Logger.ERROR))
    assert parser.parse(device.onnx_bytes())
    config, profile = builder.create_builder_config(), builder.create_optimization_profile()
    profile.set_shape("image", (1, 3, 16, 16), (1, 3, 32, 32), (1, 3, 64, 64))
    config.add_optimization_profile(profile)
    config.num_compute_capabilities = 1
    config.set_compute_capability(getattr(trt.ComputeCapability, architecture.upper()), 0)
    plan = bytes(memoryview(builder.build_serialized_network(network, config)))
    notes = {"rtx": ("rtx", str(trt.__version__), architecture)}
    bundle = device.make_bundle(tmp_path / "b", {"rtx": plan}, notes=notes, size=(16, 16), largest=(64, 64))
    batches = [np.random.default_rng(side).random((1, 3, side, 32), np.float32) for side in (16, 32, 32, 64, 32, 16)]
    for _ in range(2):
        with EngineSession(bundle, "rtx") as session:
            for given, restored in zip(batches, session.run_many(batches), strict=True):
                np.testing.assert_allclose(restored, 1 - given / 2, rtol=1e-5)
                times = session.device_times()
                assert times is not None
                assert times.execute_ms > 0
    assert len(list((tmp_path / "cache" / "edgeir" / "runtime").iterdir())) == 1
