"""The engines of a bundle: which runtimes to build for, and what became of each."""

from __future__ import annotations

from edgeir.bundle import BundleWriter
from edgeir.cli.console import Console
from edgeir.errors import MissingDependency
from edgeir.export.engines.builder import build_engine, can_build, target_for
from edgeir.export.engines.target import Profile
from edgeir.export.graph import TraceShape
from edgeir.manifest import EngineNote
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
        result = build_engine(target, writer.path("model.onnx"), building, profile=profile)
        relative = f"engines/{runtime}-{result.version}-{target.architecture}.plan"
        building.rename(writer.path(relative))
        writer.add(relative, "engine", parents=("model.onnx",))
        console.say(f"      {relative}: {result.bytes / 1e6:.1f} MB in {result.seconds:.0f} s")
        note = f"For {target.devices}, from {result.layers} layers in {result.seconds:.1f} s. Not run here."
        notes.append(EngineNote(runtime, result.version, target.architecture, relative, note))
    return tuple(notes)
