"""What an installed builder makes of a bundle: its graph, its kernels, its profile; and how builds tell progress."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgeir.bundle import Bundle, BundleWriter
from edgeir.errors import BundleError, MissingDependency
from edgeir.export.engines import worker
from edgeir.export.engines.choice import inputs_for, row_of
from edgeir.export.engines.phases import Phases
from edgeir.export.engines.target import BuildRequest, EngineTarget, Profile, Progress
from edgeir.imaging.byte_formats import byte_format_named
from edgeir.manifest import AxisRange, Manifest
from edgeir.provenance import collect
from edgeir.spec import ModelSpec, SizeRule, TensorSpec

MANIFEST = Manifest(
    name="exda-tiny",
    precision="fp16",
    input=TensorSpec("image", (1, 3, 64, 64)),
    batch=1,
    model=ModelSpec("exda-tiny", "exda", {"dim": 16}, SizeRule(8, 16)),
    provenance=collect(seconds=1.5, argv=["edgeir", "export"]),
)
FILES = {
    "model.onnx": "model",
    "kernels.json": "kernels",
    "model.tensorrt-8.6.onnx": "prepared",
    "model.tensorrt-10.3-plugins.onnx": "prepared",
    "model.tensorrt-10.13.onnx": "prepared",
}


def bundle(folder: Path, *names: str, manifest: Manifest = MANIFEST) -> Bundle:
    with BundleWriter(folder / "b.edgeir", force=True) as writer:
        for name in names or FILES:
            writer.path(name).write_bytes(name.encode())
            writer.add(name, FILES[name])
        return Bundle.open(writer.commit(manifest))


@pytest.mark.parametrize(
    ("runtime", "version", "name"),
    [
        ("tensorrt", "8.6.2", "tensorrt-8.6"),
        ("tensorrt", "10.3.0.30", "tensorrt-10.3"),
        ("tensorrt", "10.6.0", "tensorrt-10.3"),
        ("tensorrt", "10.7.0", "tensorrt-10.7"),
        ("tensorrt", "10.16.2.10", "tensorrt-10.16"),
        ("tensorrt", "12.0", "tensorrt-11.4"),
        ("rtx", "1.7.1.116", "tensorrt-rtx-1.7"),
        ("rtx", "2.0", "tensorrt-rtx-1.7"),
    ],
)
def test_rows_of_installed_versions(runtime: str, version: str, name: str) -> None:
    assert row_of(runtime, version).name == name


@pytest.mark.parametrize(("runtime", "version"), [("tensorrt", "8.4.1"), ("tensorrt", "unknown"), ("rtx", "1.2")])
def test_versions_that_are_too_old(runtime: str, version: str) -> None:
    with pytest.raises(MissingDependency, match=f"too old .*or later, got {version}"):
        row_of(runtime, version)


@pytest.mark.parametrize(
    ("version", "plugins", "graph", "kernels", "flags"),
    [
        ("8.6.2", False, "model.tensorrt-8.6.onnx", True, ("FP16", "OBEY_PRECISION_CONSTRAINTS")),
        ("10.3", False, "model.onnx", True, ()),
        ("10.3", True, "model.tensorrt-10.3-plugins.onnx", False, ()),
        ("10.7", True, "model.onnx", False, ()),
        ("10.13.3", False, "model.tensorrt-10.13.onnx", True, ()),
    ],
)
def test_the_graph_of_a_version(
    tmp_path: Path, version: str, plugins: bool, graph: str, kernels: bool, flags: tuple[str, ...]
) -> None:
    found = inputs_for(bundle(tmp_path), row_of("tensorrt", version), plugins=plugins)
    assert found.graph.name == graph
    assert (found.kernels is not None) == kernels
    assert found.weak_flags == flags
    assert found.profile is None


def test_precisions_that_tensorrt_8_has_to_be_allowed(tmp_path: Path) -> None:
    for precision, flags in (("fp32", ()), ("int8", ("FP16", "OBEY_PRECISION_CONSTRAINTS", "INT8"))):
        opened = bundle(tmp_path, manifest=dataclasses.replace(MANIFEST, precision=precision))
        assert inputs_for(opened, row_of("tensorrt", "8.6")).weak_flags == flags


def test_graphs_that_are_missing(tmp_path: Path) -> None:
    opened = bundle(tmp_path, "model.onnx")
    with pytest.raises(BundleError, match=r"no graph that TensorRT 8\.6 can build .*--for tensorrt-8\.6\."):
        inputs_for(opened, row_of("tensorrt", "8.6"))
    with pytest.raises(BundleError, match=r"with plugins .*--for tensorrt-10\.3 --plugins\."):
        inputs_for(opened, row_of("tensorrt", "10.3"), plugins=True)
    with pytest.raises(MissingDependency, match="has no plugins"):
        inputs_for(opened, row_of("rtx", "1.7"), plugins=True)
    assert inputs_for(opened, row_of("rtx", "1.7")).kernels is None


def test_the_graph_of_tiles(tmp_path: Path) -> None:
    opened = bundle(tmp_path, "model.onnx")
    with pytest.raises(BundleError, match=r"no graph whose tiles share statistics \(expected model\.tiles\.onnx\)"):
        inputs_for(opened, row_of("rtx", "1.7"), tiles=True)
    with pytest.raises(BundleError, match=r"TensorRT 8\.6 cannot build an engine whose tiles share"):
        inputs_for(opened, row_of("tensorrt", "8.6"), tiles=True)


def test_the_profile_of_a_dynamic_bundle(tmp_path: Path) -> None:
    dynamic = dataclasses.replace(
        MANIFEST,
        input=TensorSpec("image", (1, 3, "H", "W")),
        ranges={"H": AxisRange(16, 64, 128), "W": AxisRange(16, 96, 256)},
    )
    found = inputs_for(bundle(tmp_path, manifest=dynamic), row_of("rtx", "1.7"))
    assert found.profile == Profile("image", (1, 3, 16, 16), (1, 3, 64, 96), (1, 3, 128, 256))


@pytest.mark.parametrize("name", ["uint8", "nv12-bt709-limited"])
def test_a_graph_of_bytes_comes_first(tmp_path: Path, name: str) -> None:
    form = byte_format_named(name)
    dynamic = dataclasses.replace(
        MANIFEST,
        input=TensorSpec("image", (1, 3, "H", "W")),
        ranges={"H": AxisRange(16, 64, 128), "W": AxisRange(16, 96, 256)},
    )
    with BundleWriter(tmp_path / "b.edgeir") as writer:
        for file, role in (("model.onnx", "model"), (form.graph_name(), "bytes")):
            writer.path(file).write_bytes(file.encode())
            writer.add(file, role)
        opened = Bundle.open(writer.commit(dynamic))
    found = inputs_for(opened, row_of("rtx", "1.7"))
    assert (found.graph.name, found.form) == (form.graph_name(), form)
    shapes = [form.input_shape(1, *size) for size in ((16, 16), (64, 96), (128, 256))]
    assert found.profile == Profile("image", *shapes)
    floats = inputs_for(opened, row_of("rtx", "1.7"), floats=True)
    assert (floats.graph.name, floats.form) == ("model.onnx", None)


def test_phases_tell_the_innermost_with_many_steps() -> None:
    told: list[Progress] = []
    now = [0.0]
    phases = Phases(told.append, clock=lambda: now[0])
    phases.start("Building engine", 6)
    phases.step("Building engine", 0)
    assert told == []  # six steps say nothing
    phases.start("Timing graph nodes", 100)
    for step in range(4):
        now[0] += 0.25
        phases.step("Timing graph nodes", step)
    assert told == [Progress("Timing graph nodes", 1, 100, 0.25), Progress("Timing graph nodes", 3, 100, 0.75)]
    assert told[1].left_s == pytest.approx(0.25 * 97)
    now[0] += 1
    phases.finish("Timing graph nodes")
    phases.step("Building engine", 1)
    phases.step("never began", 1)
    assert len(told) == 2
    assert Progress("x", 0, 10, 5.0).left_s is None


class Config:
    """A builder's configuration that takes caches beginning with a GPU's name."""

    def __init__(self, gpu: bytes) -> None:
        self.gpu = gpu
        self.taken: bytes | None = None

    def create_timing_cache(self, data: bytes) -> bytes:
        return data

    def set_timing_cache(self, cache: bytes, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        if cache and not cache.startswith(self.gpu):
            return False
        self.taken = cache
        return True

    def get_timing_cache(self) -> Any:
        return SimpleNamespace(serialize=lambda: self.gpu + b" and what this build found")


def request(runtime: str, path: Path | None) -> BuildRequest:
    return BuildRequest(EngineTarget(runtime, ("native",)), "m", "e", None, None, None if path is None else str(path))


@pytest.mark.parametrize(("old", "state"), [(None, "new"), (b"sm87 tactics", "used"), (b"sm110 tactics", "refused")])
def test_timing_caches(tmp_path: Path, old: bytes | None, state: str) -> None:
    path = tmp_path / "cache"
    if old is not None:
        path.write_bytes(old)
    config = Config(b"sm87")
    cache = worker.TimingCache(config, request("tensorrt", path))
    assert cache.state == state
    assert config.taken == (old if state == "used" else b"")
    cache.write()
    assert path.read_bytes() == b"sm87 and what this build found"
    assert [file.name for file in tmp_path.iterdir()] == ["cache"]


def test_builders_without_a_timing_cache(tmp_path: Path) -> None:
    for one in (request("rtx", tmp_path / "cache"), request("tensorrt", None)):
        cache = worker.TimingCache(None, one)
        cache.write()
        assert cache.state == "none"
    assert list(tmp_path.iterdir()) == []


def test_nothing_here_needs_the_onnx_tools_or_torch() -> None:
    import subprocess

    code = """
import sys
for name in ("torch", "onnx", "onnx_ir", "onnxscript"):
    sys.modules[name] = None
import edgeir.export.engines.worker, edgeir.export.engines.builder, edgeir.export.engines.choice
import edgeir.cli.build_engine, edgeir.remote.board, edgeir.remote.bundles, edgeir.remote.jobs
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
