"""Where ONNX Runtime's time goes: milliseconds per kind of node, by its own profiler."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import onnxruntime as ort

from edgeir.runtime.ort_profile import node_times

PRODUCTS = ("Conv", "FusedConv", "NhwcFusedConv", "MatMul", "FusedMatMul", "Gemm", "FusedGemm")
"""Convolutions and matrix products, as ONNX Runtime calls them once its optimizer is done."""


def session(model: bytes, threads: int, *, arena: bool = True) -> ort.InferenceSession:
    """ONNX Runtime as a user gets it, but for the number of threads, and for the arena where memory is short."""
    options = ort.SessionOptions()
    options.enable_cpu_mem_arena = arena
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def ms_by_op(model: bytes, threads: int, picture: np.ndarray, *, runs: int = 5) -> dict[str, float]:
    """Milliseconds per operator type, the sums of its nodes' medians over ``runs`` runs, the costliest first.

    Args:
        model: an ONNX file.
        threads: within an operator.
        picture: ``(N, 3, H, W) float32``.
    """
    found: dict[str, float] = defaultdict(float)
    for node in node_times(model, picture, threads=threads, runs=runs):
        found[node.op] += node.ms
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def products_ms(by_op: dict[str, float]) -> float:
    """Time of convolutions and matrix products alone: the floor of a graph in floating point."""
    return sum(ms for op, ms in by_op.items() if op in PRODUCTS)
