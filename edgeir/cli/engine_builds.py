"""What of a bundle is for one runtime: files and kernels prepared for it, engines, and what became of each."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import onnx_ir as ir

from edgeir.bundle import KERNELS_NAME, BundleWriter, prepared_name
from edgeir.cli.console import Console
from edgeir.errors import MissingDependency
from edgeir.export.engines.builder import build_engine, can_build, target_for
from edgeir.export.engines.target import Profile
from edgeir.export.graph import TraceShape, save_graph
from edgeir.export.kernels import kernels_wanted
from edgeir.export.portability import needs_plugins, prepare
from edgeir.export.runtimes import Runtime
from edgeir.manifest import EngineNote
from edgeir.ops.tensorrt.ahead import compile_ahead, to_json
from edgeir.precision import Precision
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
) -> tuple[EngineNote, ...]:
    """Build every engine from ``model.onnx`` and add it to the bundle.

    Raises:
        BuildFailed: a builder refused, died or ran out of time.
    """
    profile = None
    if shape.dynamic is not None:
        head = (shape.batch, spec.channels)
        low, best, high = shape.dynamic.minimum, shape.dynamic.optimum, shape.dynamic.maximum
        profile = Profile(INPUT_NAME, (*head, *low), (*head, *best), (*head, *high))
    notes = []
    for runtime in runtimes:
        target = target_for(runtime, fp8=precision is Precision.FP8)
        building = writer.path("engines/unfinished.plan")
        written = writer.path(KERNELS_NAME)
        given = written if runtime == "tensorrt" and written.is_file() else None
        result = build_engine(target, writer.path("model.onnx"), building, profile=profile, kernels=given)
        relative = f"engines/{runtime}-{result.version}-{target.architecture}.plan"
        building.rename(writer.path(relative))
        writer.add(relative, "engine", parents=("model.onnx",))
        console.say(f"      {relative}: {result.bytes / 1e6:.1f} MB in {result.seconds:.0f} s")
        kernels = f" Kernels for {', '.join(result.kernels)}." if result.kernels else ""
        note = f"For {target.devices}, from {result.layers} layers in {result.seconds:.1f} s.{kernels} Not run here."
        notes.append(EngineNote(runtime, result.version, target.architecture, relative, note))
    return tuple(notes)
