"""The stand-ins where the product looks for the real ones, and bundles whose engines they read."""

from __future__ import annotations

import importlib.util
import sys
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper

from edgeir.bundle import Bundle, BundleWriter
from edgeir.manifest import AxisRange, EngineNote, Manifest, Tiling
from edgeir.provenance import collect
from edgeir.spec import ModelSpec, SizeRule, TensorSpec, WeightsSpec

RTX_VERSION = "1.7.1.116"
TRT_VERSION = "10.13.3"


def load(name: str) -> types.ModuleType:
    """A module of this folder, once."""
    full = f"edgeir_tests_{name}"
    if full not in sys.modules:
        spec = importlib.util.spec_from_file_location(full, Path(__file__).with_name(f"{name}.py"))
        assert spec is not None
        assert spec.loader is not None
        sys.modules[full] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[full])
    return sys.modules[full]


fake_cuda, fake_tensorrt = load("fake_cuda"), load("fake_tensorrt")
plan = fake_tensorrt.plan


@dataclass
class Fakes:
    """A machine with a GPU.

    Attributes:
        cuda: its driver.
        rtx, trt: the worlds of TensorRT-RTX and TensorRT.
        used: what the product looked up in their modules.
    """

    cuda: Any
    rtx: Any
    trt: Any
    used: set[tuple[str, str]]

    def assert_nothing_left(self) -> None:
        """No memory, stream, event, graph, context, engine or library that somebody forgot."""
        for world in (self.rtx, self.trt):
            world.assert_nothing_left()
        self.cuda.assert_nothing_left()

    @property
    def deserialized(self) -> list[bytes]:
        """Every plan that reached a runtime."""
        return [*self.rtx.deserialized, *self.trt.deserialized]


def install(monkeypatch: Any, cache: Path, **device: Any) -> Fakes:
    """Put the stand-ins into ``sys.modules``; compiled kernels are kept below ``cache``."""
    cuda = fake_cuda.FakeCuda(**device)
    used: set[tuple[str, str]] = set()
    rtx = fake_tensorrt.make(cuda, "tensorrt_rtx", RTX_VERSION, used)
    trt = fake_tensorrt.make(cuda, "tensorrt", TRT_VERSION)
    for name, module in {"cuda.bindings.driver": cuda.module(), "tensorrt_rtx": rtx, "tensorrt": trt}.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    return Fakes(cuda, rtx._world, trt._world, used)


def onnx_bytes(scale: int = 1, *, value: float = 0.5) -> bytes:
    """``1 - value * x`` as a graph, of any size: what the fake engines compute."""
    nodes = [
        helper.make_node("Mul", ["image", "factor"], ["half"]),
        helper.make_node("Sub", ["one", "half"], ["restored"]),
    ]
    sides = ["N", 3, "H", "W"]
    graph = helper.make_graph(
        nodes,
        "fake",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, sides)],
        [helper.make_tensor_value_info("restored", TensorProto.FLOAT, sides)],
        [
            helper.make_tensor("factor", TensorProto.FLOAT, [], [value]),
            helper.make_tensor("one", TensorProto.FLOAT, [], [1]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def make_bundle(
    folder: Path,
    engines: dict[str, bytes],
    *,
    size: tuple[int, int] = (8, 8),
    largest: tuple[int, int] | None = None,
    batch: int = 1,
    notes: dict[str, tuple[str, str, str]] | None = None,
    parents: tuple[str, ...] = ("model.onnx",),
    multiple: int = 4,
    scale: int = 1,
    files: dict[str, tuple[str, bytes]] | None = None,
    shares: bool = False,
) -> Bundle:
    """A bundle.

    Args:
        folder: where.
        engines: name of the plan to its bytes; ``rtx*`` is for TensorRT-RTX, ``tensorrt*`` for TensorRT.
        size, largest: of pictures; equal for a static bundle.
        batch: pictures per run.
        notes: name of the plan to (runtime, version, architecture), where not as installed here.
        parents: of every engine.
        multiple: of the size rule.
        scale: of the network.
        files: further ones, path to (role, bytes).
        shares: it was measured that tiles agree better where they share statistics.
    """
    dynamic = largest is not None
    ranges = {axis: AxisRange(low, low, high) for axis, low, high in zip("HW", size, largest or size, strict=True)}
    weights = WeightsSpec("checkpoint", trained=True, sha256="0" * 64)
    found = []
    with BundleWriter(folder) as writer:
        for name in ("reference.onnx", "model.onnx"):
            writer.path(name).write_bytes(onnx_bytes())
            writer.add(name, name.removesuffix(".onnx"))
        for name, (role, data) in (files or {}).items():
            writer.path(name).write_bytes(data)
            writer.add(name, role)
        for name, data in engines.items():
            runtime = "rtx" if name.startswith("rtx") else "tensorrt"
            installed = {"rtx": (RTX_VERSION, "sm86-sm89-sm120"), "tensorrt": (TRT_VERSION, "sm89")}[runtime]
            path = f"engines/{name}.plan"
            writer.path(path).write_bytes(data)
            writer.add(path, "engine", parents=parents)
            note = (notes or {}).get(name, (runtime, *installed))
            found.append(EngineNote(*note, path, "Built by nobody."))
        manifest = Manifest(
            name="fake",
            precision="fp16",
            input=TensorSpec("image", (batch, 3, *("HW" if dynamic else size))),
            ranges=ranges if dynamic else {},
            batch=batch,
            model=ModelSpec("fake", "exda", {"dim": 8}, SizeRule(multiple, multiple), scale=scale, weights=weights),
            provenance=collect(seconds=0, argv=["edgeir", "export"]),
            engines=tuple(found),
            tiling=Tiling(0, size, 40.0, 1.0, 1, shared_statistics=True) if shares else None,
        )
        return Bundle.open(writer.commit(manifest))
