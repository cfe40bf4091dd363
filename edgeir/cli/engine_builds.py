"""What of a bundle is for one runtime: files and kernels prepared for it, engines, and what became of each."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import onnx_ir as ir

from edgeir.bundle import KERNELS_NAME, BundleWriter, prepared_name
from edgeir.cli.console import Console
from edgeir.errors import MissingDependency
from edgeir.export.byte_io import with_bytes
from edgeir.export.engines.builder import build_engine, can_build, target_for
from edgeir.export.engines.target import Profile
from edgeir.export.graph import TraceShape, save_graph
from edgeir.export.kernels import kernels_wanted
from edgeir.export.portability import needs_plugins, prepare
from edgeir.export.runtimes import Runtime
from edgeir.imaging.byte_formats import ByteFormat
from edgeir.manifest import EngineNote
from edgeir.ops.tensorrt.ahead import compile_ahead, to_json
from edgeir.precision import Precision
from edgeir.runtime.byte_session import BYTES_ROLE
from edgeir.spec import INPUT_NAME, ModelSpec

_INSTALL = {
    "rtx": "Run: pip install 'edgeir[rtx]'",
    "tensorrt": "Install TensorRT for this device (its wheels come from NVIDIA's own index, or JetPack brings it).",
}


def runtimes_to_build(targets: tuple[str, ...] | None) -> tuple[str, ...]:
    """The builders to run: those asked for, else every one installed here. ``"ort"`` needs no engine.

    Raises:
        MissingDependency: one was asked for and is not installed.
    """
    if targets is None:
        return tuple(runtime for runtime in ("rtx", "tensorrt") if can_build(runtime))
    runtimes = tuple(runtime for runtime in targets if runtime != "ort")
    for runtime in runtimes:
        if not can_build(runtime):
            raise MissingDependency(
                f"the engine builder '{runtime}' is not installed", where="--target", fix=_INSTALL[runtime]
            )
    return runtimes


def write_prepared(
    runtimes: Sequence[Runtime], writer: BundleWriter, console: Console, *, plugins: bool, without: Collection[str]
) -> dict[str, Path]:
    """``model.onnx`` for each runtime, beside it; those that can be run here, by name.

    Args:
        runtimes: what to write files for.
        writer: of the bundle.
        console: told of files that nothing here can run.
        plugins: edgeir's plugins will be there.
        without: names of rewrites to leave out.
    """
    found = {}
    for runtime in runtimes:
        name = prepared_name(runtime.name, plugins=plugins)
        prepared = prepare(ir.load(writer.path("model.onnx")), runtime, plugins=plugins, without=without)
        save_graph(prepared, writer.path(name))
        writer.add(name, "prepared", parents=("model.onnx",))
        if needs_plugins(prepared):
            console.say(f"      {name} has no bodies any more: only {runtime.title} with the plugins can run it")
        else:
            found[name] = writer.path(name)
    return found


def write_byte_graphs(io: ByteFormat | None, writer: BundleWriter, console: Console) -> None:
    """``model.onnx`` and every file prepared for a runtime once more, with bytes at their ends; none for ``None``."""
    if io is None:
        return
    graphs = [item.path for item in writer.artifacts if item.role in ("model", "prepared")]
    for graph in graphs:
        name = io.graph_name(graph)
        save_graph(with_bytes(ir.load(writer.path(graph)), io), writer.path(name))
        writer.add(name, BYTES_ROLE, parents=(graph,))
    console.say(f"      {', '.join(map(io.graph_name, graphs))}: pictures as bytes, {io.text}")


def write_kernels(model: ir.Model, writer: BundleWriter, console: Console) -> None:
    """Compile the kernels that TensorRT can put into an engine of ``model.onnx``, where nvcc is here, into the bundle.

    Raises:
        BuildFailed: nvcc refused.
    """
    wanted = kernels_wanted(model)
    if not wanted:
        return
    try:
        kernels = [compile_ahead(of) for of in wanted]
    except MissingDependency as error:
        console.say(f"      no kernels for TensorRT in the bundle, its bodies will be used: {error}")
        return
    writer.path(KERNELS_NAME).write_text(to_json(kernels), encoding="utf-8")
    writer.add(KERNELS_NAME, "kernels", parents=("model.onnx",))
    console.say(f"      {KERNELS_NAME}: {len(kernels)} kernels that TensorRT 10.9 and later takes into an engine")


def build_engines(
    runtimes: tuple[str, ...],
    writer: BundleWriter,
    shape: TraceShape,
    spec: ModelSpec,
    precision: Precision,
    console: Console,
    *,
    io: ByteFormat | None = None,
) -> tuple[EngineNote, ...]:
    """Build every engine from ``model.onnx``, or from its twin of bytes, and add it to the bundle.

    Args:
        io: what engines take and give: bytes of this format, or floats for ``None``.

    Raises:
        BuildFailed: a builder refused, died or ran out of time.
    """
    profile = profile_of(shape, spec, io)
    graph, mark = ("model.onnx", "") if io is None else (io.graph_name(), f"-{io.name}")
    notes = []
    for runtime in runtimes:
        target = target_for(runtime, fp8=precision is Precision.FP8)
        building = writer.path("engines/unfinished.plan")
        written = writer.path(KERNELS_NAME)
        given = written if runtime == "tensorrt" and written.is_file() else None
        result = build_engine(target, writer.path(graph), building, profile=profile, kernels=given)
        relative = f"engines/{runtime}-{result.version}-{target.architecture}{mark}.plan"
        building.rename(writer.path(relative))
        writer.add(relative, "engine", parents=(graph,))
        console.say(f"      {relative}: {result.bytes / 1e6:.1f} MB in {result.seconds:.0f} s")
        kernels = f" Kernels for {', '.join(result.kernels)}." if result.kernels else ""
        takes = "" if io is None else f" Takes and gives bytes, {io.text}."
        built = f"For {target.devices}, from {result.layers} layers in {result.seconds:.1f} s."
        note = f"{built}{takes}{kernels} Not run here."
        notes.append(EngineNote(runtime, result.version, target.architecture, relative, note))
    return tuple(notes)


def profile_of(shape: TraceShape, spec: ModelSpec, io: ByteFormat | None) -> Profile | None:
    """The range of the input that an engine is built for, as floats or bytes; ``None`` for one size."""
    if shape.dynamic is None:
        return None
    sizes = (shape.dynamic.minimum, shape.dynamic.optimum, shape.dynamic.maximum)
    if io is None:
        return Profile(INPUT_NAME, *((shape.batch, spec.channels, *size) for size in sizes))
    return Profile(INPUT_NAME, *(io.input_shape(shape.batch, *size) for size in sizes))
