"""What ``edgeir build`` does: the graph for the builder that is here, its engine, and the bundle with that in it."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgeir.bundle import Bundle
from edgeir.bundle_change import Addition, Change, commit_change
from edgeir.bundle_writer import BundleWriter
from edgeir.cli.console import Console
from edgeir.errors import EdgeIRError, MissingDependency, OutOfSpace
from edgeir.export.engines.builder import build_engine, builder_version, target_here
from edgeir.export.engines.choice import inputs_for, row_of
from edgeir.export.engines.target import BuildResult, EngineTarget, Progress
from edgeir.manifest import Board, DeviceRecord, EngineNote, Manifest
from edgeir.provenance import collect
from edgeir.runtime.board import BoardState, board_state
from edgeir.runtime.ort_engine import architecture, ort_version, write_optimised
from edgeir.runtime.ort_session import OPTIMISED
from edgeir.storage import atomic_write_bytes, writing

TIMING_CACHE = "timing-cache"
_SPEAK_EVERY_S = 5.0
# What a build leaves at most, as multiples of the graph: engines hold weights once or twice, a timing cache is small.
_SPACE = 3


@dataclass(frozen=True, slots=True)
class BuildTask:
    """What the command line asked for.

    Attributes:
        bundle: of any precision.
        runtime: ``"ort"``, ``"rtx"`` or ``"tensorrt"``.
        timing_cache: a file to keep the timing cache in, ``None`` for the bundle.
        plugins: load edgeir's plugin library.
        floats: build from the graph of floats although there is one of bytes.
        tiles: build from the graph whose tiles share statistics.
        force: build although the engine is there.
    """

    bundle: Path
    runtime: str
    timing_cache: Path | None
    plugins: bool
    floats: bool
    tiles: bool
    force: bool


@dataclass(frozen=True, slots=True)
class BuildOutcome:
    """The bundle, the engine's note, whether it was built now, and the seconds that took."""

    bundle: Path
    note: EngineNote
    built: bool
    seconds: float


def build_with_tensorrt(task: BuildTask, console: Console) -> BuildOutcome:
    """Build an engine with TensorRT or TensorRT-RTX, and add it to the bundle with its timing cache.

    Raises:
        BundleError: the bundle is damaged, or holds no graph for this builder.
        MissingDependency: the builder is too old, or there is no plugin library.
        OutOfSpace, OutputError: the bundle, or the place for the timing cache, cannot be written; it is as it was.
        BuildFailed: the builder refused, died or ran out of time; the bundle is as it was.
    """
    started = time.perf_counter()
    console.stage(f"opening {task.bundle}")
    bundle = Bundle.open(task.bundle)
    if task.timing_cache is not None:
        require_writable(task.timing_cache)
    version = builder_version(task.runtime)
    inputs = inputs_for(
        bundle, row_of(task.runtime, version), plugins=task.plugins, floats=task.floats, tiles=task.tiles
    )
    libraries = (_library(),) if task.plugins else ()
    target = target_here(task.runtime, fp8=bundle.manifest.precision == "fp8", say=console.say)
    kind = "-tiles" if task.tiles else "" if inputs.form is None else f"-{inputs.form.name}"
    marks = kind + ("-plugins" if task.plugins else "")
    stem = f"engines/{task.runtime}-{version}-{target.architecture}{marks}"
    relative, graph = f"{stem}.plan", inputs.graph.relative_to(bundle.path).as_posix()
    if (there := _there(bundle, relative)) and not task.force:
        return BuildOutcome(bundle.path, there, built=False, seconds=0.0)
    _require_space(bundle.path, inputs.graph)
    last = last_build_s(bundle.manifest, task.runtime)
    with BundleWriter(bundle.path, force=True) as writer:
        console.stage(f"building {relative} from {graph}{_as_last(last)}")
        before = board_state()
        cache = writer.path(f"{stem}.timing") if task.runtime == "tensorrt" else None
        old = task.timing_cache or bundle.path / f"{stem}.timing"
        if cache is not None and old.is_file():
            with writing(cache):
                shutil.copyfile(old, cache)
        result = build_engine(
            target,
            inputs.graph,
            writer.path(relative),
            profile=inputs.profile,
            kernels=inputs.kernels,
            timing_cache=cache,
            libraries=libraries,
            weak_flags=inputs.weak_flags,
            on_progress=progress_lines(console, last),
        )
        console.stage(f"adding it: {result.bytes / 1e6:.1f} MB in {result.seconds:.0f} s")
        files = [Addition(relative, "engine", (graph,))]
        tactics: bytes | None = None
        if cache is not None and cache.is_file():
            if task.timing_cache is not None:
                tactics = cache.read_bytes()
                cache.unlink()
            else:
                files.append(Addition(f"{stem}.timing", TIMING_CACHE))
        note = EngineNote(task.runtime, version, target.architecture, relative, _sentence(result, target, graph))
        commit_change(writer, bundle, Change(tuple(files), (note,), (_record(files, before, result.seconds),)))
    if tactics is not None and task.timing_cache is not None:
        _keep(task.timing_cache, tactics, console)
    return BuildOutcome(bundle.path, note, built=True, seconds=time.perf_counter() - started)


def build_for_ort(task: BuildTask, console: Console) -> BuildOutcome:
    """Have ONNX Runtime write its optimised graph, and add it to the bundle.

    Raises:
        MissingDependency: onnxruntime is not installed.
        BundleError, OutOfSpace, OutputError, BuildFailed: see `build_with_tensorrt`.
    """
    started = time.perf_counter()
    console.stage(f"opening {task.bundle}")
    bundle = Bundle.open(task.bundle)
    version, machine = ort_version(), architecture()
    source = bundle.graph_for("onnxruntime")
    relative, graph = f"engines/ort-{version}-{machine}{OPTIMISED}", source.relative_to(bundle.path).as_posix()
    if (there := _there(bundle, relative)) and not task.force:
        return BuildOutcome(bundle.path, there, built=False, seconds=0.0)
    _require_space(bundle.path, source)
    with BundleWriter(bundle.path, force=True) as writer:
        console.stage(f"ONNX Runtime {version} optimises {graph}")
        before = board_state()
        plain_s, written_s = write_optimised(
            source, writer.path(relative), integer_kernels=bundle.manifest.precision != "fp8"
        )
        console.stage("adding it")
        text = (
            f"{graph} as ONNX Runtime {version} optimised it: opens in {written_s:.1f} s instead of {plain_s:.1f} s "
            "on processors like this one, and computes the same."
        )
        note = EngineNote("ort", version, machine, relative, text)
        files = (Addition(relative, "engine", (graph,)),)
        seconds = time.perf_counter() - started
        commit_change(writer, bundle, Change(files, (note,), (_record(files, before, seconds),)))
    return BuildOutcome(bundle.path, note, built=True, seconds=time.perf_counter() - started)


def progress_lines(
    console: Console, last_s: float | None, clock: Callable[[], float] = time.monotonic
) -> Callable[[Progress], None]:
    """Tells a build's progress in a line every five seconds: what the builder says, and how long it may still take.

    Args:
        console: to say it on.
        last_s: seconds that the last build of this bundle took, where that is known.
        clock: seconds that never go back.
    """
    started = spoken = clock()

    def tell(progress: Progress) -> None:
        nonlocal spoken
        now = clock()
        if now - spoken < _SPEAK_EVERY_S:
            return
        spoken = now
        left = f", {_time(progress.left_s)} left in this phase" if progress.left_s is not None else ""
        whole = ""
        if last_s is not None and now - started < last_s:
            whole = f"; about {_time(last_s - (now - started))} left in all"
        at = f"{progress.phase}: {progress.done} of {progress.steps}"
        console.say(f"      {_time(now - started)}  {at}{left}{whole}")

    return tell


def board_of(state: BoardState) -> Board:
    """The settings of a board that an engine or a latency is worth nothing without."""
    return Board(state.l4t, state.jetpack, state.power_mode, state.clocks_pinned, state.driver)


def last_build_s(manifest: Manifest, runtime: str) -> float | None:
    """Seconds that the last build for a runtime took that the bundle knows of."""
    ours = {note.path for note in manifest.engines if note.runtime == runtime}
    found = [record.provenance.seconds for record in manifest.devices if ours & set(record.files)]
    return found[-1] if found else None


def require_writable(path: Path) -> None:
    """Raise now what writing a file to ``path`` would raise after an hour's build: `OutputError` or `OutOfSpace`."""
    with writing(path):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        with tempfile.TemporaryFile(dir=path.resolve().parent):
            pass


def _keep(path: Path, tactics: bytes, console: Console) -> None:
    """Write the timing cache; the engine is in the bundle by now, and a failure is a sentence."""
    try:
        atomic_write_bytes(path, tactics)
    except EdgeIRError as error:
        console.say(f"The engine is built, its timing cache could not be kept: {error}")


def _record(files: list[Addition] | tuple[Addition, ...], state: BoardState, seconds: float) -> DeviceRecord:
    gpu = state.gpus[0].name if state.gpus else None
    return DeviceRecord(tuple(one.path for one in files), board_of(state), collect(seconds=seconds, gpu=gpu))


def _there(bundle: Bundle, relative: str) -> EngineNote | None:
    return next((note for note in bundle.manifest.engines if note.path == relative), None)


def _sentence(result: BuildResult, target: EngineTarget, graph: str) -> str:
    kernels = f" Kernels for {', '.join(result.kernels)}." if result.kernels else ""
    cache = {"used": " With a timing cache.", "refused": " The timing cache was of another GPU or version."}
    return (
        f"For {target.devices}, from {graph} with {result.layers} layers in {result.seconds:.1f} s.{kernels}"
        f"{cache.get(result.timing_cache, '')}"
    )


def _library() -> Path:
    """The plugin library that was built here last, of this edgeir's sources.

    Raises:
        MissingDependency: there is none.
    """
    from edgeir.ops.tensorrt.library import built_libraries, default_folder

    folder = default_folder()
    current = [one.path for one in built_libraries(folder) if one.is_current]
    if not current:
        raise MissingDependency(
            "there is no plugin library", where=str(folder), fix="Build one on this machine: edgeir plugins build."
        )
    return max(current, key=lambda path: path.stat().st_mtime)


def _require_space(folder: Path, graph: Path) -> None:
    needed, free = _SPACE * graph.stat().st_size, shutil.disk_usage(folder).free
    if free < needed:
        raise OutOfSpace(
            "the disk has too little room for an engine",
            where=str(folder),
            expected=f"{needed / 1e6:.0f} MB",
            got=f"{free / 1e6:.0f} MB",
            fix="Free some space.",
        )


def _as_last(seconds: float | None) -> str:
    return "" if seconds is None else f", which took {_time(seconds)} the last time"


def _time(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
