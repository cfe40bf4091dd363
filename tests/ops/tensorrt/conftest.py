"""TensorRT's headers, where this machine has them, and a plugin library on emulated kernels that the harness drives.

The headers are public but not ours: they are looked for in ``EDGEIR_TENSORRT_HEADERS`` (folders, separated as in PATH)
and where packages put them. Without any, the adaptor is not compiled, and the skip says so.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from edgeir.errors import MissingDependency
from edgeir.ops import toolchain
from edgeir.ops.tensorrt import library
from edgeir.runtime.cuda_driver import CudaDevice

HERE = Path(__file__).parent
_NO_HEADERS = (
    "TensorRT's headers are not on this machine: the C++ adaptor is not compiled. To compile it, set "
    "EDGEIR_TENSORRT_HEADERS to the include folder of one TensorRT or of several (10.0 or later)."
)


def header_folders() -> list[Path]:
    """Every folder with headers that can be found here."""
    named = [Path(name) for name in os.environ.get("EDGEIR_TENSORRT_HEADERS", "").split(os.pathsep) if name]
    try:
        usual = [library.find_headers(None)]
    except MissingDependency:
        usual = []
    return [folder for folder in (*named, *usual) if (folder / "NvInfer.h").is_file()]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "headers" in metafunc.fixturenames:
        found = [pytest.param(folder, id=library.headers_version(folder)) for folder in header_folders()]
        none = [pytest.param(None, id="none", marks=pytest.mark.skip(reason=_NO_HEADERS))]
        metafunc.parametrize("headers", found or none, scope="session")


def cuda_include() -> Path:
    """The folder with cuda_runtime_api.h, which TensorRT's headers include."""
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        pytest.skip("the CUDA toolkit is not on this machine: the C++ adaptor is not compiled")
    macros = subprocess.run([nvcc, "--dryrun", "-x", "cu", "-c", os.devnull], capture_output=True, text=True).stderr
    top = next(line.partition("TOP=")[2].strip() for line in macros.splitlines() if "TOP=" in line)
    found = [folder for folder in Path(top).rglob("include") if (folder / "cuda_runtime_api.h").is_file()]
    assert found, f"no cuda_runtime_api.h below {top}"
    return found[0]


def compiled(command: list[str]) -> None:
    """Run a compiler; its errors and warnings are the test's."""
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    assert "warning" not in built.stderr, built.stderr


@pytest.fixture(scope="session")
def plugin_library(tmp_path_factory: pytest.TempPathFactory, emulated_objects: list[Path]) -> Callable[[Path], Path]:
    """``plugin_library(headers)``: plugins.cpp against these headers, on kernels that run on this CPU."""

    @cache
    def build(headers: Path) -> Path:
        folder = tmp_path_factory.mktemp("plugins")
        compiler = shutil.which("g++") or pytest.skip("g++ is not on this machine")
        flags = ["-std=c++17", "-O2", "-fPIC", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas"]
        sources = [f"-I{toolchain.CUDA_SOURCES}"]
        systems = ["-isystem", str(headers), "-isystem", str(cuda_include())]
        adaptor = Path(library.__file__).parent / "plugins.cpp"
        hidden = ["-fvisibility=hidden", '-DEDGEIR_BUILD="emulated"']
        compiled([compiler, *flags, *hidden, *sources, *systems, "-c", str(adaptor), "-o", str(folder / "adaptor.o")])
        made = folder / library.LIBRARY
        compiled([compiler, "-shared", *map(str, emulated_objects), str(folder / "adaptor.o"), "-o", str(made)])
        return made

    return build


class Harness:
    """The harness, compiled against some headers.

    Args:
        program: the executable.
        library: that it drives.
        folder: for requests and answers.
    """

    def __init__(self, program: Path, library: Path, folder: Path) -> None:
        self._program = program
        self._library = library
        self._folder = folder
        self.stderr = ""
        self.stdout = ""

    def run(self, op: str, attributes: dict[str, int], inputs: list[np.ndarray], output: np.ndarray) -> int:
        """The exit status: 0, or the question that the plugin refused; ``output`` is filled."""
        lines = [f"attribute {name} {value}" for name, value in attributes.items()]
        for index, array in enumerate(inputs):
            file = self._folder / f"{index}.bin"
            file.write_bytes(np.ascontiguousarray(array).tobytes())
            lines.append(_line(array, str(file)))
        lines.append(_line(output, "-"))
        request, answer = self._folder / "request.txt", self._folder / "answer.bin"
        request.write_text("\n".join(lines) + "\n", encoding="utf-8")
        command = [str(self._program), str(self._library), op, str(request), str(answer)]
        done = subprocess.run(command, capture_output=True, text=True)
        self.stderr, self.stdout = done.stderr, done.stdout
        if done.returncode == 0:
            output[...] = np.frombuffer(answer.read_bytes(), output.dtype).reshape(output.shape)
        return done.returncode


def _line(array: np.ndarray, file: str) -> str:
    return f"tensor {array.dtype.name} {array.ndim} {' '.join(map(str, array.shape))} {file}"


@pytest.fixture
def harness(
    headers: Path,
    plugin_library: Callable[[Path], Path],
    tmp_path_factory: pytest.TempPathFactory,
    tmp_path: Path,
    harness_programs: dict[Path, Path],
) -> Harness:
    """The harness on the emulated library of these headers."""
    made = plugin_library(headers)
    if headers not in harness_programs:
        program = tmp_path_factory.mktemp("harness") / "harness"
        flags = ["-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "-DEDGEIR_EMULATED"]
        systems = ["-isystem", str(headers), "-isystem", str(cuda_include())]
        compiled(["g++", *flags, *systems, str(HERE / "harness.cpp"), "-ldl", "-o", str(program)])
        harness_programs[headers] = program
    return Harness(harness_programs[headers], made, tmp_path)


@pytest.fixture
def gpu_harness(headers: Path, tmp_path: Path) -> Harness:
    """The harness on a library that `edgeir plugins build` makes for this machine's GPU."""
    try:
        with CudaDevice() as device:
            architecture = device.architecture
    except MissingDependency as error:
        pytest.skip(str(error))
    made, _ = library.build(headers, (architecture,), tmp_path / "plugins")
    program = tmp_path / "harness"
    compiled(["nvcc", "-std=c++17", "-isystem", str(headers), str(HERE / "harness.cpp"), "-ldl", "-o", str(program)])
    return Harness(program, made.path, tmp_path)


@pytest.fixture(scope="session")
def harness_programs() -> dict[Path, Path]:
    """Those that were compiled."""
    return {}
