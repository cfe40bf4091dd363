"""Micro networks, traced once per run and shared by the tests of export, calibrate, runtime and compare."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
import pytest

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a run in a shell's background ignores it, and so would ours
    signal.signal(signal.SIGINT, signal.default_int_handler)

if TYPE_CHECKING:
    import onnx_ir as ir

    from edgeir.export.graph import TraceShape
    from edgeir.models.build import LoadedModel

_RESTORMER_LIKE = {"dim": 8, "blocks": [1, 1, 1, 1], "refine": 1, "heads": [1, 2, 1, 2]}
_KGT = {"dim": 8, "layers": [1, 1, 1, 1], "heads": [1, 2], "windows": [8, 4], "k": 12, "cpb_hidden": 16}
_CONFIGS = {"exda": _RESTORMER_LIKE, "kgt": _KGT, "cea": {**_RESTORMER_LIKE, "rank": 4, "adapter_width": 8}}
# Traced size and, for a dynamic graph, smallest and largest size.
_SIZES = {
    "exda": ((32, 48), (32, 32), (96, 96)),
    "kgt": ((24, 32), (16, 16), (48, 48)),
    "cea": ((16, 24), (16, 16), (64, 64)),
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the README: it takes longest, and alone at the end it would leave the other processes idle."""
    items.sort(key=lambda item: item.path.name != "test_readme.py")


def _surroundings() -> dict[str, str | None]:
    variables = {name: os.environ.get(name) for name in ("HOME", "PATH", "TMPDIR", "XDG_CONFIG_HOME")}
    return {**variables, "temporary folder": tempfile.gettempdir(), "folder": str(Path.cwd())}


_FOUND = _surroundings()


@pytest.fixture(scope="module", autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """A file of tests leaves the process as it found it: what stays set reaches whatever this process tests next."""
    yield
    assert _surroundings() == _FOUND


@pytest.fixture(scope="session")
def built_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the sources, so that nothing is written into the repository."""
    root = Path(__file__).resolve().parent.parent
    source = tmp_path_factory.mktemp("source")
    for name in ("edgeir", "export", "calibrate", "train"):
        shutil.copytree(root / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(root / name, source / name)
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(source / "dist")]
    if _setuptools_major() >= 77:
        command.append("--no-isolation")
    result = subprocess.run(command, cwd=source, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    (built,) = (source / "dist").glob("*.whl")
    return built


def _setuptools_major() -> int:
    try:
        return int(importlib.metadata.version("setuptools").split(".")[0])
    except importlib.metadata.PackageNotFoundError:
        return 0


@dataclass(frozen=True)
class Micro:
    """A micro network and its FP32 graph as `save_graph` wrote it."""

    loaded: LoadedModel
    shape: TraceShape
    path: Path

    def graph(self) -> ir.Model:
        """A fresh copy, to be changed at will."""
        import onnx_ir as ir

        return ir.load(self.path)

    def picture(self, height: int = 0, width: int = 0, seed: int = 0) -> np.ndarray:
        """Noise of the traced size or another, ``(1, 3, H, W) float32``."""
        size = (height or self.shape.height, width or self.shape.width)
        return np.random.default_rng(seed).random((1, 3, *size), dtype=np.float32)


@pytest.fixture(scope="session")
def tool() -> Callable[[str], ModuleType]:
    """``tool("links")``: a script of ``tools/`` as a module."""

    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).parents[1] / "tools" / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture(scope="session")
def emulated_objects(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The kernels and their launchers, compiled for the emulator of CUDA blocks on this CPU (tests/ops/cuda)."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("g++ is not on this machine: the kernels are not run in the emulator")
    folder = tmp_path_factory.mktemp("emulated")
    root = Path(__file__).parents[1]
    sources = root / "edgeir" / "ops" / "cuda"
    flags = ["-std=c++17", "-O2", "-c", "-fPIC", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas"]
    folders = [f"-I{root / 'tests' / 'ops' / 'cuda'}", f"-I{sources}"]
    command = [compiler, *flags, "-DEDGEIR_EMULATED", *folders, "-x", "c++", *map(str, sorted(sources.glob("*.cu")))]
    built = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert built.returncode == 0, built.stderr
    return sorted(folder.glob("*.o"))


@pytest.fixture(scope="session")
def emulated_library(emulated_objects: list[Path]) -> Path:
    """Those kernels as a library."""
    library = emulated_objects[0].with_name("kernels.so")
    subprocess.run(["g++", "-shared", *map(str, emulated_objects), "-o", str(library)], check=True)
    return library


@pytest.fixture(scope="session")
def micro(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Micro]:
    """``micro("exda")`` or ``micro("exda", dynamic=True)``: seeded, off their initial values, traced at first use."""
    made: dict[tuple[str, bool], Micro] = {}
    folder = tmp_path_factory.mktemp("micro")

    def get(architecture: str, *, dynamic: bool = False) -> Micro:
        key = (architecture, dynamic)
        if key not in made:
            from edgeir.export.graph import DynamicSize, TraceShape, save_graph
            from edgeir.export.trace import trace

            size, low, high = _SIZES[architecture]
            shape = TraceShape(1, *size, dynamic=DynamicSize(low, size, high) if dynamic else None)
            loaded = _load(architecture)
            path = folder / f"{architecture}{'-dynamic' if dynamic else ''}.onnx"
            save_graph(trace(loaded, shape), path)
            made[key] = Micro(loaded, shape, path)
        return made[key]

    return get


def _load(architecture: str) -> LoadedModel:
    import torch

    from edgeir.models.build import LoadedModel, build_seeded, describe

    module = build_seeded(architecture, _CONFIGS[architecture], seed=1).eval()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in module.parameters():  # zero adapters and unit temperatures would hide mistakes
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return LoadedModel(module, describe(f"{architecture}-micro", architecture, _CONFIGS[architecture], None))
