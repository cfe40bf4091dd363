"""The real cuda-bindings on a stand-in for the driver's library: what is passed to them arrives."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAM = """
import ctypes, json, sys
import numpy as np
from edgeir.runtime.gpu_device import Gpu
from edgeir.runtime.gpu_stream import CapturedGraph, Event, Refused, Stream

said = {}
left = ctypes.CDLL("libcuda.so.1").fake_left
try:
    with Gpu() as gpu:
        said |= {"name": gpu.name, "architecture": gpu.architecture, "cuda": gpu.cuda_version, "free": gpu.free_bytes}
        stream, began, ended = Stream(gpu), Event(gpu), Event(gpu)
        host, back = (gpu.allocate_pinned((2, 3), np.float16) for _ in range(2))
        block = gpu.allocate(host.size)
        said["aligned"] = block.address % 256 == 0
        host.array[...] = np.arange(6).reshape(2, 3)
        stream.record(began)
        stream.copy_in(block, host)
        stream.wait(began)
        stream.copy_out(back, block)
        stream.record(ended)
        ended.synchronize()
        stream.synchronize()
        said |= {"back": back.array.tolist(), "ms": ended.ms_since(began), "allocated": gpu.allocated_bytes}
        started = []
        graph = stream.capture(lambda: bool(started.append(stream.address)) or True)
        if isinstance(graph, CapturedGraph):
            stream.launch(graph)
            said["graph"] = started[0] > 0
            graph.close()
            graph.close()
        else:
            said["graph"] = graph.reason
        said["refused"] = stream.capture(lambda: False).reason
        try:
            stream.capture(lambda: [].pop())
        except IndexError:
            said["within"] = "a defect"
        for smaller in (lambda: stream.copy_in(gpu.allocate(3), host), lambda: stream.copy_out(back, gpu.allocate(3))):
            try:
                smaller()
            except ValueError as error:
                said.setdefault("sizes", []).append(str(error))
        try:
            gpu.allocate(9 << 20)
        except Exception as error:
            said["memory"] = [type(error).__name__, str(error)]
        gpu.free(block)
        for one in (began, ended, stream):
            one.close()
        gpu.allocate(16)  # given back at the end, as are the pinned arrays
except Exception as error:
    said["error"] = [type(error).__name__, str(error)]
said["left"] = left()
print(json.dumps(said))
"""


def bindings_are_here() -> bool:
    try:
        return importlib.util.find_spec("cuda.bindings.driver") is not None
    except ModuleNotFoundError:
        return False


pytestmark = [
    pytest.mark.skipif(not bindings_are_here(), reason="cuda-bindings is not installed"),
    pytest.mark.skipif(sys.platform != "linux", reason="the stand-in takes the place of Linux's libcuda.so.1"),
]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler on this machine: the stand-in for the driver is not made")
    folder = tmp_path_factory.mktemp("driver")
    flags = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    source = Path(__file__).with_name("fake_driver.c")
    subprocess.run([compiler, *flags, str(source), "-o", str(folder / "libcuda.so.1"), "-ldl"], check=True)
    return folder


def said(library: Path, **environment: str) -> dict[str, Any]:
    path = f"{library}:{os.environ.get('LD_LIBRARY_PATH', '')}"
    variables = {**os.environ, "LD_LIBRARY_PATH": path, **environment}
    ran = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=variables, check=False)
    assert ran.returncode == 0, ran.stderr
    answer = json.loads(ran.stdout.splitlines()[-1])
    assert isinstance(answer, dict)
    return answer


def test_everything_arrives(library: Path) -> None:
    answer = said(library)
    assert "error" not in answer, answer
    assert (answer["name"], answer["architecture"], answer["cuda"]) == ("FAKE 0", "sm87", "12.6")
    assert answer["free"] == 3 << 20
    assert answer["aligned"]
    assert answer["back"] == [[0, 1, 2], [3, 4, 5]]
    assert answer["ms"] == 0.75
    assert answer["allocated"] == 12
    assert answer["graph"] is True
    assert answer["refused"] == "the runtime refused to enqueue"
    assert answer["sizes"] == ["12 bytes do not fit into 3", "12 bytes are not in 3"]
    assert answer["memory"] == [
        "OutOfDeviceMemory",
        "cuMemAlloc: the GPU has not enough memory left (expected 9.0 MiB, got 3 MiB free).",
    ]
    assert answer["left"] == 0


@pytest.mark.parametrize("call", ["cuStreamBeginCapture", "cuStreamEndCapture", "cuGraphInstantiate"])
@pytest.mark.parametrize(
    ("status", "says"), [(900, " gave 900 (other)"), (2, ": the GPU has not enough memory left (got 3 MiB free)")]
)
def test_a_capture_that_fails(library: Path, call: str, status: int, says: str) -> None:
    answer = said(library, FAKE_FAIL=f"{call}={status}")
    assert answer["graph"] == f"{call}{says}"
    assert answer["left"] == 0


def test_a_fault_of_the_device(library: Path) -> None:
    answer = said(library, FAKE_FAIL="cuEventSynchronize=719")
    assert answer["error"] == ["CudaError", "cuEventSynchronize gave 719 (launch failure)."]


@pytest.mark.parametrize("call", ["cuDevicePrimaryCtxRetain", "cuCtxSetCurrent"])
def test_a_gpu_that_cannot_be_used(library: Path, call: str) -> None:
    answer = said(library, FAKE_FAIL=f"{call}=719")
    kind, text = answer["error"]
    assert kind == "MissingDependency"
    assert text.startswith(f"CUDA: the GPU cannot be used (got {call} gave 719 (launch failure)). Look whether")
    assert answer["left"] == 0, "the context was let go"


def test_memory_of_the_host(library: Path) -> None:
    kind, text = said(library, FAKE_FAIL="cuMemHostAlloc=2")["error"]
    assert kind == "OutOfPinnedMemory"
    assert text.startswith(
        "cuMemHostAlloc: the host has not enough memory left that it can lock for the GPU (expected "
    )


def test_an_error_within_a_capture(library: Path) -> None:
    answer = said(library)
    assert answer["within"] == "a defect"
    assert answer["left"] == 0, "what was recorded until then is given back"


@pytest.mark.parametrize("call", ["cuInit", "cuDeviceGet"])
def test_no_gpu(library: Path, call: str) -> None:
    answer = said(library, FAKE_FAIL=f"{call}=100")
    kind, text = answer["error"]
    assert kind == "MissingDependency"
    assert text.startswith(f"CUDA: there is no GPU to use (got {call} gave 100")
    assert answer["left"] == 0


@pytest.mark.parametrize("call", ["cuStreamCreate", "cuMemHostAlloc"])
def test_a_driver_older_than_the_bindings(library: Path, call: str) -> None:
    kind, text = said(library, FAKE_LACKS=call)["error"]
    assert kind == "MissingDependency"
    assert text.startswith(f"{call}: the driver is older than the installed cuda-bindings (got ")
    assert "pip install 'cuda-bindings<13'" in text
