"""Which engine of a bundle runs here, judged by the manifest alone, before any byte of an engine is read.

An engine is code: nothing is deserialized that the manifest does not vouch for, and nothing that it does not say to be
for this runtime, this version and this GPU. TensorRT and TensorRT-RTX document that an engine runs in the release that
built it and in no other (edgeir builds none with ``VERSION_COMPATIBLE``), so versions are compared whole.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from edgeir.bundle import Bundle
from edgeir.errors import BundleError, MissingDependency
from edgeir.imaging.byte_formats import BYTE_FORMATS, ByteFormat
from edgeir.manifest import Artifact, EngineNote
from edgeir.runtime.engine_runtimes import EngineRuntime

ANY = "any"
Ends = Literal["floats", "bytes", "statistics"]
"""What goes into an engine: pictures in floats, in bytes, or in floats with statistics to share among tiles."""
_WITH_PLUGINS = "-plugins"  # how names of graphs without bodies end, and of engines built with the plugins there


@dataclass(frozen=True, slots=True)
class ChosenEngine:
    """An engine that fits.

    Attributes:
        path: relative to the bundle.
        note: what the manifest says of it.
        needs_plugins: it was built from a graph whose fused ops have no bodies, or with edgeir's plugins loaded.
        form: how pictures lie in its bytes, ``None`` for an engine of floats.
        shares: it was built from a graph of role ``"tiles"``; it restores pictures without statistics as well.
    """

    path: str
    note: EngineNote
    needs_plugins: bool
    form: ByteFormat | None
    shares: bool = False

    @property
    def ends(self) -> Ends:
        """What goes in."""
        if self.form is not None:
            return "bytes"
        return "statistics" if self.shares else "floats"


def choose_engine(
    bundle: Bundle,
    runtime: EngineRuntime,
    *,
    version: str,
    architecture: str,
    ends: Ends = "floats",
    plugins: bool = False,
    frames: bool = True,
    fix: str | None = None,
) -> ChosenEngine:
    """The engine for a runtime, its version and the GPU here; of several that fit the one for what is asked.

    Engines that need plugins come first where some are loaded, and last where none are; after that comes the kind of
    their ends.

    Args:
        bundle: an opened bundle.
        runtime: which runtime.
        version: of the installed one.
        architecture: of the GPU: ``"sm89"``.
        ends: the one that takes this, where the bundle has several kinds.
        plugins: libraries of plugins are loaded.
        frames: whether one that takes NV12 will do: whole frames, no pictures.
        fix: what to do about it, where building an engine here does not help.

    Raises:
        BundleError: the bundle has no engine for this runtime, or without ``frames`` only one that takes NV12.
        MissingDependency: it has, but for another version or another GPU; the message says how to build one.
    """
    listed = {artifact.path: artifact for artifact in bundle.manifest.artifacts}
    found = [note for note in bundle.manifest.engines if note.runtime == runtime.name and note.path is not None]
    rebuild = fix or rebuild_command(bundle.path, runtime)
    if not found:
        why = next((note.note for note in bundle.manifest.engines if note.runtime == runtime.name), None)
        raise BundleError(f"the bundle has no engine for {runtime.title}", where=bundle.path.name, got=why, fix=rebuild)
    of_version = [note for note in found if note.version == version]
    if not of_version:
        raise MissingDependency(
            f"the engine is for another version of {runtime.title}, and engines run in no other",
            where=str(found[0].path),
            expected=version,
            got=", ".join(sorted({note.version for note in found})),
            fix=rebuild,
        )
    fitting = [note for note in of_version if architecture in architectures(note) or ANY in architectures(note)]
    if not fitting:
        built = sorted({name for note in of_version for name in architectures(note)})
        raise MissingDependency(
            "the engine is for another GPU" if built != ["native"] else "the manifest does not say for which GPU it is",
            where=str(of_version[0].path),
            expected=architecture,
            got=", ".join(built),
            fix=rebuild,
        )
    chosen = [_chosen(note, listed) for note in fitting]
    usable = [engine for engine in chosen if frames or engine.form is None or engine.form.yuv is None]
    if not usable:
        raise BundleError(
            "the engine takes NV12, which holds less colour than a picture",
            where=chosen[0].path,
            fix=f"{rebuild_command(bundle.path, runtime)} --floats",
        )
    return min(usable, key=lambda one: (one.needs_plugins != plugins, one.ends != ends))


def shares_statistics(bundle: Bundle, note: EngineNote) -> bool:
    """Whether tiles that this engine restores can share statistics."""
    listed = {artifact.path: artifact for artifact in bundle.manifest.artifacts}
    return note.path is not None and _chosen(note, listed).shares


def architectures(note: EngineNote) -> tuple[str, ...]:
    """What an engine was built for: ``("sm86", "sm89")``."""
    return tuple(note.architecture.split("-"))


def rebuild_command(bundle: Path, runtime: EngineRuntime) -> str:
    """A sentence with the command that adds an engine for what is here to a bundle."""
    return f"Run here: edgeir build {shlex.quote(str(bundle))} --target {runtime.name}"


def target_missing(trt: Any, runtime: EngineRuntime, architecture: str) -> str | None:
    """What to do where the runtime cannot be built for a GPU at all; ``None`` where it can.

    TensorRT-RTX lists the GPUs it builds for. TensorRT proper builds for the GPU it runs on.
    """
    listed = getattr(trt, "ComputeCapability", None)
    if listed is None or architecture.upper() in listed.__members__:
        return None
    return f"{runtime.title} has no target for {architecture}: use --backend tensorrt or ort."


def _chosen(note: EngineNote, listed: dict[str, Artifact]) -> ChosenEngine:
    assert note.path is not None
    parents = listed[note.path].parents
    shares = any(path in listed and listed[path].role == "tiles" for path in parents)
    form = next((form for form in BYTE_FORMATS for path in parents if path.endswith(f".{form.name}.onnx")), None)
    of_bytes = "" if form is None else f".{form.name}"
    graphs = [path.removesuffix(".onnx").removesuffix(of_bytes) for path in parents]
    needs = any(name.endswith(_WITH_PLUGINS) for name in (*graphs, note.path.removesuffix(".plan")))
    return ChosenEngine(note.path, note, needs, form, shares)
