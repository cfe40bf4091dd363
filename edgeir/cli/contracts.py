"""What a contract asks to be measured besides drift: time, memory, size."""

from __future__ import annotations

from pathlib import Path

from edgeir.bundle import Bundle
from edgeir.cli.latency import time_sessions
from edgeir.compare.contract import Contract, Measured
from edgeir.runtime.memory import peak_memory_bytes
from edgeir.runtime.opening import graph_input, open_session

BACKEND = "ort"  # what edgeir runs here
ROUNDS = 15


def measure_costs(contract: Contract, bundle: Bundle, *, checkpoint: Path | None) -> Measured:
    """Measure what the contract's sections on latency and memory name, and nothing they do not."""
    p50 = p95 = speed = peak = size = None
    if contract.latency is not None:
        graph = graph_input(bundle.manifest)
        session = open_session(bundle, BACKEND, checkpoint=checkpoint)
        timing = time_sessions({BACKEND: session}, graph, rounds=ROUNDS).timings[BACKEND]
        p50, p95 = timing.percentile_ms(50), timing.percentile_ms(95)
        speed = graph.batch * 1e3 / p50
    if contract.memory is not None:
        size = sum(artifact.bytes for artifact in bundle.manifest.artifacts) / 1e6
        if contract.memory.peak_mib is not None:
            peak = peak_memory_bytes(bundle.path, BACKEND, checkpoint=checkpoint) / 2**20
    return Measured(p50_ms=p50, p95_ms=p95, pictures_per_second=speed, peak_mib=peak, bundle_mb=size)
