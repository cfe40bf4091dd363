"""Where ONNX Runtime's time goes: milliseconds per kind of node, by its own profiler."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from pathlib import Path

import numpy as np
import onnxruntime as ort

from edgeir.spec import INPUT_NAME

PRODUCTS = ("Conv", "FusedConv", "NhwcFusedConv", "MatMul", "FusedMatMul", "Gemm", "FusedGemm")
"""Convolutions and matrix products, as ONNX Runtime calls them once its optimizer is done."""


def session(model: bytes, threads: int, *, profile: Path | None = None, arena: bool = True) -> ort.InferenceSession:
    """ONNX Runtime as a user gets it, but for the number of threads, and for the arena where memory is short."""
    options = ort.SessionOptions()
    options.enable_cpu_mem_arena = arena
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def ms_by_op(model: bytes, threads: int, picture: np.ndarray, folder: Path, *, runs: int = 5) -> dict[str, float]:
    """Median milliseconds per operator type over ``runs`` runs after a warm-up, the costliest first.

    Args:
        model: an ONNX file.
        threads: within an operator.
        picture: ``(N, 3, H, W) float32``.
        folder: where the profiler may write.
    """
    profiled = session(model, threads, profile=folder / "profile")
    for _ in range(runs + 1):
        profiled.run(None, {INPUT_NAME: picture})
    events = json.loads(Path(profiled.end_profiling()).read_text(encoding="utf-8"))
    kernels = [e for e in events if e.get("cat") == "Node" and e["name"].endswith("_kernel_time")]
    each = len(kernels) // (runs + 1)
    found: dict[str, list[float]] = defaultdict(lambda: [0.0] * runs)
    for index, event in enumerate(kernels[each : each * (runs + 1)]):
        found[event["args"]["op_name"]][index // each] += event["dur"] / 1e3
    medians = {op: statistics.median(times) for op, times in found.items()}
    return dict(sorted(medians.items(), key=lambda item: -item[1]))


def products_ms(by_op: dict[str, float]) -> float:
    """Time of convolutions and matrix products alone: the floor of a graph in floating point."""
    return sum(ms for op, ms in by_op.items() if op in PRODUCTS)
