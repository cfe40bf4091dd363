"""Building engines from the exporting process: one subprocess per engine, watched and bounded."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from edgeir.errors import BuildFailed
from edgeir.export.engines.target import (
    FP8_ARCHITECTURES,
    NATIVE,
    RTX_ARCHITECTURES,
    BuildRequest,
    BuildResult,
    EngineTarget,
    Profile,
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
        return EngineTarget(runtime, NATIVE)
    return EngineTarget(runtime, FP8_ARCHITECTURES if fp8 else RTX_ARCHITECTURES)


def build_engine(
    target: EngineTarget,
    onnx_path: Path,
    engine_path: Path,
    *,
    profile: Profile | None = None,
    kernels: Path | None = None,
    timeout_s: float = BUILD_TIMEOUT_S,
) -> BuildResult:
    """Build one engine in a subprocess.

    Args:
        target: runtime and architecture.
        onnx_path: a typed graph.
        engine_path: where the plan file goes; it appears only when the build succeeded.
        profile: range of the dynamic input, ``None`` for a static graph.
        kernels: ``kernels.json`` of the bundle, for TensorRT proper; versions before 10.9 use the bodies.
        timeout_s: the process is killed after that many seconds.

    Raises:
        BuildFailed: the parser or builder refused, the process died (with the signal's name) or ran out of time.
    """
    unfinished = engine_path.resolve().with_name(f"{engine_path.name}.part")
    kernels_path = None if kernels is None else str(kernels.resolve())
    request = BuildRequest(target, str(onnx_path.resolve()), str(unfinished), profile, kernels_path)
    try:
        answer = _run_worker(request, timeout_s, where=onnx_path.name)
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
    )


def _run_worker(request: BuildRequest, timeout_s: float, *, where: str) -> dict[str, Any]:
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
        output, errors = _wait(process, timeout_s)
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


def _wait(process: subprocess.Popen[str], timeout_s: float) -> tuple[str, str]:
    """Read both pipes to their end without closing stdin (``communicate`` would close it)."""
    texts: dict[str, str] = {}

    def drain(name: str) -> None:
        stream = getattr(process, name)
        texts[name] = stream.read()

    readers = [threading.Thread(target=drain, args=(name,), daemon=True) for name in ("stdout", "stderr")]
    for reader in readers:
        reader.start()
    process.wait(timeout=timeout_s)
    for reader in readers:
        reader.join(timeout=10)
    return texts.get("stdout", ""), texts.get("stderr", "")


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
