"""A graph as ONNX Runtime has it after its own optimisation, kept so that it need not be optimised at every start.

It is the very graph that runs anyway, opened without optimising it again: outputs are the same to the last bit (opened
with, FP16 graphs lose other casts, and differ by 1e-4). What is in it depends on ONNX Runtime's version and on the
processor, and it is used with those only. On an x86-64 machine opening exda-tiny FP16 at 256 pixels takes 0.35 s of
processor time instead of 2.1 to 2.6 s, once per process: nothing else gets faster.

Written by a process of its own: ``python -m edgeir.runtime.ort_engine GRAPH OUT JSON``.
"""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
import sys
import time
from pathlib import Path

from edgeir.bundle import Bundle
from edgeir.errors import BuildFailed, GraphError, MissingDependency
from edgeir.runtime.board_sysfs import ROOT, read_text
from edgeir.runtime.external_data import require_self_contained
from edgeir.runtime.ort_session import OPTIMISED
from edgeir.storage import SPACE_ERRNOS, storage_error
from edgeir.subprocesses import run_module

RUNTIME = "ort"


def ort_version() -> str:
    """Version of the ONNX Runtime that is installed.

    Raises:
        MissingDependency: none is.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingDependency("onnxruntime is not installed", fix="Run: pip install onnxruntime") from error
    return str(onnxruntime.__version__)


def architecture() -> str:
    """What such a graph is for: the instruction set and a hash of its extensions, such as ``"x86_64-1f0e9a3c"``."""
    machine = platform.machine().lower() or "unknown"
    for line in (read_text(ROOT / "proc/cpuinfo") or "").splitlines():
        name, _, words = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return f"{machine}-{hashlib.sha256(' '.join(sorted(words.split())).encode()).hexdigest()[:8]}"
    return f"{machine}-{hashlib.sha256(platform.processor().encode()).hexdigest()[:8]}"


def ort_graph(bundle: Bundle) -> Path:
    """What ONNX Runtime opens fastest of a bundle: the graph it wrote itself where that fits, else its prepared one.

    Raises:
        BundleError: the bundle has none.
        MissingDependency: onnxruntime is not installed.
    """
    graph = bundle.graph_for("onnxruntime")
    if not any(note.runtime == RUNTIME and note.path for note in bundle.manifest.engines):
        return graph
    engine = bundle.engine(RUNTIME, ort_version(), architecture())
    # One that was made from another graph than would be taken now says nothing about that one.
    parents = {bundle.path / one.path: one.parents for one in bundle.manifest.artifacts}
    fits = engine is not None and graph.relative_to(bundle.path).as_posix() in parents[engine]
    return engine if fits and engine is not None else graph


def write_optimised(graph: Path, out: Path, *, integer_kernels: bool, timeout_s: float = 1800) -> tuple[float, float]:
    """Have ONNX Runtime write ``graph`` as it has it after optimisation, in a process of its own.

    Args:
        graph: an ONNX file that edgeir wrote.
        out: where to, ending in ``.optimised.onnx``; replaced only by a whole file that opens.
        integer_kernels: see `edgeir.runtime.ort_session.OrtSession`.
        timeout_s: the process is killed after that many seconds.

    Returns:
        Seconds to open ``graph``, and to open what was written.

    Raises:
        BuildFailed: the graph names other files, ONNX Runtime refuses it, or the process died.
        OutOfSpace: the disk is full.
    """
    unfinished = out.with_name(f"{out.name}.part{OPTIMISED}")
    settings = json.dumps({"integer_kernels": integer_kernels})
    command = [sys.executable, "-c", run_module("edgeir.runtime.ort_engine"), str(graph), str(unfinished), settings]
    try:
        done = subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", timeout=timeout_s, check=False
        )
        lines = done.stdout.strip().splitlines()
        answer = json.loads(lines[-1]) if done.returncode == 0 and lines else {}
        if answer.get("errno") in SPACE_ERRNOS:
            raise storage_error(OSError(answer["errno"], answer["error"]), out)
        if "plain_s" not in answer:
            last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise BuildFailed(f"ONNX Runtime refuses the graph: {answer.get('error', last)}", where=graph.name)
        unfinished.replace(out)
    except subprocess.TimeoutExpired as error:
        raise BuildFailed(f"ONNX Runtime was not done within {timeout_s:.0f} s", where=graph.name) from error
    finally:
        unfinished.unlink(missing_ok=True)
    return float(answer["plain_s"]), float(answer["written_s"])


def _main(graph: str, out: str, *, integer_kernels: bool) -> dict[str, object]:
    import shutil

    import onnxruntime as ort

    def opened(path: str, *, written: str | None = None) -> float:
        options = ort.SessionOptions()
        options.log_severity_level = 3
        if not integer_kernels:
            options.add_session_config_entry("session.disable_quant_qdq", "1")
        if path.endswith(OPTIMISED):
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        if written is not None:
            options.optimized_model_filepath = written
        started = time.perf_counter()
        ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        return time.perf_counter() - started

    free = shutil.disk_usage(Path(out).parent).free
    if free < 3 * Path(graph).stat().st_size:  # weights may become FP32; ONNX Runtime says little of a full disk
        return {"error": "No space left on device", "errno": min(SPACE_ERRNOS)}
    try:
        require_self_contained(Path(graph))
    except GraphError as error:
        return {"error": f"{error.what} ({error.got})" if error.got else error.what}
    try:
        opened(graph, written=out)
        return {"plain_s": opened(graph), "written_s": opened(out)}
    except Exception as error:  # onnxruntime's own exception types are private
        return {"error": (str(error).strip().splitlines() or [type(error).__name__])[0]}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_main(sys.argv[1], sys.argv[2], **json.loads(sys.argv[3]))) + "\n")
