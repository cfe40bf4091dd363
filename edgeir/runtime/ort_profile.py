"""Where ONNX Runtime's time goes, node by node, by its own profiler."""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeir.errors import MissingDependency
from edgeir.runtime.external_data import require_self_contained
from edgeir.runtime.session import Pictures
from edgeir.spec import INPUT_NAME

_EVENT = "_kernel_time"


@dataclass(frozen=True, slots=True)
class NodeTime:
    """One node as it ran: its name and operator once ONNX Runtime's optimizer was done, and median milliseconds."""

    name: str
    op: str
    ms: float


def node_times(model: Path | bytes, pictures: Pictures, *, threads: int | None = None, runs: int = 5) -> list[NodeTime]:
    """Time every node of a graph on the CPU provider; medians over ``runs`` runs after a warm-up, the costliest first.

    The profiler itself takes some microseconds a node: sums are a little more than what a run takes without it.

    Args:
        model: an ONNX file that edgeir wrote, or its bytes.
        pictures: ``(N, 3, H, W) float32``.
        threads: within an operator; ``None`` leaves it to ONNX Runtime.

    Raises:
        MissingDependency: onnxruntime is not installed.
        GraphError: the file names other files.
    """
    if isinstance(model, Path):
        require_self_contained(model)
    try:
        import onnxruntime as ort
    except ImportError as error:
        raise MissingDependency("onnxruntime is not installed", fix="Run: pip install onnxruntime") from error
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.enable_profiling = True
    if threads is not None:
        options.intra_op_num_threads = threads
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = str(Path(folder) / "profile")
        source = model if isinstance(model, bytes) else str(model)
        session = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        for _ in range(runs + 1):
            session.run(None, {INPUT_NAME: pictures})
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    kernels = [event for event in events if event.get("cat") == "Node" and event["name"].endswith(_EVENT)]
    each = len(kernels) // (runs + 1)
    found: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0] * runs)
    for index, event in enumerate(kernels[each:]):  # the first run lays out memory
        found[event["name"].removesuffix(_EVENT), event["args"]["op_name"]][index // each] += event["dur"] / 1e3
    rows = [NodeTime(name, op, float(np.median(times))) for (name, op), times in found.items()]
    return sorted(rows, key=lambda row: -row.ms)
