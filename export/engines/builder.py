"""Building engines from the exporting process: one subprocess per engine, watched and bounded."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from edgeir.errors import BuildFailed, MissingDependency
from edgeir.export.engines.target import (
    FP8_ARCHITECTURES,
    NATIVE,
    RTX_ARCHITECTURES,
    BuildRequest,
    BuildResult,
    EngineTarget,
    Profile,
    Progress,
)
from edgeir.storage import SPACE_ERRNOS, storage_error
from edgeir.subprocesses import run_module

BUILD_TIMEOUT_S = 3600.0

_PACKAGES = {"rtx": "tensorrt_rtx", "tensorrt": "tensorrt"}


def can_build(runtime: str) -> bool:
    """Whether the builder of ``"rtx"`` or ``"tensorrt"`` is installed here."""
    return importlib.util.find_spec(_PACKAGES[runtime]) is not None


def target_for(runtime: str, *, fp8: bool = False) -> EngineTarget:
    """The engine to build for a runtime: all GeForce generations for RTX, the present GPU for TensorRT proper.

    Args:
        runtime: ``"rtx"`` or ``"tensorrt"``.
        fp8: the graph has FP8 in it, which not every generation knows.
    """
    if runtime != "rtx":
        present = present_architecture()
        return EngineTarget(runtime, NATIVE if present is None else (present,))
    return EngineTarget(runtime, FP8_ARCHITECTURES if fp8 else RTX_ARCHITECTURES)


def target_here(runtime: str, *, fp8: bool = False, say: Callable[[str], None] = lambda text: None) -> EngineTarget:
    """The engine to build on the machine that is to run it: `target_for`, or one for a GPU that is not among those.

    An engine for such a GPU is for it alone: NVIDIA advises against one for Turing and later ones together, which costs
    the others speed, and formats that later ones have would be refused.

    Args:
        runtime, fp8: see `target_for`.
        say: told where the engine will run on other machines only.
    """
    usual = target_for(runtime, fp8=fp8)
    present = present_architecture() if runtime == "rtx" else None
    if present is None or present in usual.architectures:
        return usual
    if present not in builder_targets(runtime):
        why = f"TensorRT-RTX has no target for {present}: use --target and --backend tensorrt or ort on this machine."
    elif fp8 and int(present.removeprefix("sm")) < int(min(FP8_ARCHITECTURES).removeprefix("sm")):
        why = f"This machine's GPU ({present}) has no FP8: export with --int8 or --fp16 for it."
    else:
        return EngineTarget(runtime, (present,))
    say(f"{why} The engine is for {usual.devices}.")
    return usual


def present_architecture() -> str | None:
    """Compute capability of this machine's first GPU (``"sm87"``), ``None`` where the driver cannot be asked."""
    from edgeir.runtime.cuda_driver import CudaDevice

    try:
        with CudaDevice() as device:
            return f"sm{device.architecture}"
    except MissingDependency:
        return None


def builder_version(runtime: str, *, timeout_s: float = 120.0) -> str:
    """Version of the builder of ``"rtx"`` or ``"tensorrt"`` that is installed here, asked in a process of its own.

    Raises:
        BuildFailed: it cannot even be imported.
    """
    return str(_asked(runtime, timeout_s)["version"])


def builder_targets(runtime: str, *, timeout_s: float = 120.0) -> tuple[str, ...]:
    """GPUs that the builder installed here can be told to build for, ``("sm75", "sm80")``; TensorRT proper names none.

    Raises:
        BuildFailed: it cannot even be imported.
    """
    return tuple(_asked(runtime, timeout_s)["targets"])


def _asked(runtime: str, timeout_s: float) -> dict[str, Any]:
    """What the builder says of itself."""
    request = BuildRequest(EngineTarget(runtime, NATIVE), "", "", None)
    return _run_worker(request, timeout_s, where=_PACKAGES[runtime], on_progress=None)


def build_engine(
    target: EngineTarget,
    onnx_path: Path,
    engine_path: Path,
    *,
    profile: Profile | None = None,
    kernels: Path | None = None,
    timing_cache: Path | None = None,
    libraries: Sequence[Path] = (),
    weak_flags: tuple[str, ...] = (),
    on_progress: Callable[[Progress], None] | None = None,
    timeout_s: float = BUILD_TIMEOUT_S,
) -> BuildResult:
    """Build one engine in a subprocess.

    Args:
        target: runtime and architecture.
        onnx_path: a typed graph.
        engine_path: where the plan file goes; it appears only when the build succeeded.
        profile: range of the dynamic input, ``None`` for a static graph.
        kernels: ``kernels.json`` of the bundle, for TensorRT proper; versions before 10.9 use the bodies.
        timing_cache: read where it exists, and written anew by a build that succeeds; TensorRT-RTX has none.
        libraries: plugin libraries to load, of TensorRT proper.
        weak_flags: builder flags for a TensorRT without strong typing, such as ``("FP16",)``.
        on_progress: told what the builder is at, where it says so.
        timeout_s: the process is killed after that many seconds.

    Raises:
        BuildFailed: the parser or builder refused, the process died (with the signal's name) or ran out of time.
    """
    unfinished = engine_path.resolve().with_name(f"{engine_path.name}.part")
    request = BuildRequest(
        target,
        str(onnx_path.resolve()),
        str(unfinished),
        profile,
        None if kernels is None else str(kernels.resolve()),
        None if timing_cache is None else str(timing_cache.resolve()),
        tuple(str(library.resolve()) for library in libraries),
        weak_flags,
    )
    try:
        answer = _run_worker(request, timeout_s, where=onnx_path.name, on_progress=on_progress)
        unfinished.replace(engine_path)
    finally:
        unfinished.unlink(missing_ok=True)
    return BuildResult(
        target=target,
        version=str(answer["version"]),
        layers=int(answer["layers"]),
        seconds=float(answer["seconds"]),
        bytes=int(answer["bytes"]),
        warnings=tuple(answer["warnings"]),
        kernels=tuple(answer["kernels"]),
        timing_cache=str(answer.get("timing_cache", "none")),
    )


def _run_worker(
    request: BuildRequest, timeout_s: float, *, where: str, on_progress: Callable[[Progress], None] | None
) -> dict[str, Any]:
    """The worker's answer to ``request``; the process is gone when this returns or raises."""
    label = request.target.label
    process = subprocess.Popen(
        [sys.executable, "-c", run_module("edgeir.export.engines.worker")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",  # a builder's own libraries write what they like
    )
    assert process.stdin is not None
    try:
        with contextlib.suppress(BrokenPipeError):  # it died before it read; its last words say why
            process.stdin.write(json.dumps(request.to_dict()) + "\n")
            process.stdin.flush()
        # stdin stays open: its end is the worker's sign that this process is gone.
        output, errors = _wait(process, timeout_s, on_progress)
    except subprocess.TimeoutExpired as error:
        what = f"the engine build for {label} did not finish within {timeout_s:.0f} s"
        raise BuildFailed(what, where=where) from error
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        with contextlib.suppress(BrokenPipeError):  # closing writes what is left to write
            process.stdin.close()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()
    answer = _answer(output)
    if answer is not None and answer.get("errno") in SPACE_ERRNOS:
        raise storage_error(OSError(answer["errno"], answer["error"]), Path(request.engine_path))
    if process.returncode != 0 or answer is None or "error" in answer:
        raise BuildFailed(
            f"the engine build for {label} failed: {_why(process.returncode, answer, errors)}",
            where=where,
            fix="Build for other runtimes with --target, or keep the ONNX file only with --target ort.",
        )
    return answer


def _wait(
    process: subprocess.Popen[str], timeout_s: float, on_progress: Callable[[Progress], None] | None
) -> tuple[str, str]:
    """Read both pipes to their end without closing stdin (``communicate`` would close it)."""
    texts: dict[str, str] = {}

    def drain(name: str) -> None:
        kept = []
        for line in getattr(process, name):
            progress = _progress(line) if name == "stdout" else None
            if progress is None:
                kept.append(line)
            elif on_progress is not None:
                on_progress(progress)
        texts[name] = "".join(kept)

    readers = [threading.Thread(target=drain, args=(name,), daemon=True) for name in ("stdout", "stderr")]
    for reader in readers:
        reader.start()
    process.wait(timeout=timeout_s)
    for reader in readers:
        reader.join(timeout=10)
    return texts.get("stdout", ""), texts.get("stderr", "")


def _progress(line: str) -> Progress | None:
    """What a line of progress says, ``None`` for any other line."""
    if not line.startswith('{"progress":'):
        return None
    try:
        return Progress(**json.loads(line)["progress"])
    except (TypeError, ValueError):
        return None


def _answer(output: str) -> dict[str, Any] | None:
    lines = output.strip().splitlines()
    try:
        answer = json.loads(lines[-1]) if lines else None
    except json.JSONDecodeError:
        return None
    return answer if isinstance(answer, dict) else None


def _why(returncode: int, answer: dict[str, Any] | None, errors: str) -> str:
    if answer is not None and "error" in answer:
        return str(answer["error"])
    last = errors.strip().splitlines()[-1:] or ["it said nothing"]
    if returncode < 0:
        known = {number.value: number.name for number in signal.Signals}
        return f"the builder died of {known.get(-returncode, f'signal {-returncode}')} ({last[0]})"
    return last[0]
