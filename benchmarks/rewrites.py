r"""What do the rewrites buy? The same network five ways, interleaved in one run, on ONNX Runtime's CPU provider.

    python -m benchmarks.rewrites --models exda-tiny cea-tiny kgt-tiny --sizes 128 256 512 \
        --out benchmarks/results/rewrites-cpu.json

| way | what it is |
|---|---|
| eager | PyTorch eager, the network as published |
| plain | torch.onnx.export of the network as published |
| traced | edgeir's reference.onnx: fast forms, fused ops as functions |
| rewritten | edgeir's model.onnx in FP32 |
| cpu | edgeir's model.onnxruntime.onnx in FP32: the rules that pay on a CPU besides |

Every round runs each way once, in turn; figures are medians over the rounds of times and of ratios within a round.
The floor is the time of convolutions and matrix products alone, from ONNX Runtime's profile of the last way. Peak
memory is that of a process that opens one file and runs it once. Drift is the largest difference, over the validation
degradations of one picture, between the PSNR against the truth that the plain and the last way reach; above 256x256 it
is left out, since it takes as long as all the rest.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import torch

from benchmarks.op_times import ms_by_op, products_ms, session
from benchmarks.result_files import GrowingTable
from edgeir.export.graph import TraceShape
from edgeir.export.portability import prepare
from edgeir.export.rewrites.apply import rewrite
from edgeir.export.rewrites.cost import cost_of
from edgeir.export.runtimes import runtime_named
from edgeir.export.trace import plain_export, trace
from edgeir.imaging.conditions import VALIDATION_CONDITIONS, degrade
from edgeir.imaging.measuring import measuring_crop
from edgeir.imaging.metrics import fidelity_db, psnr_float
from edgeir.models.loading import load_named
from edgeir.spec import INPUT_NAME

PICTURE = "astronaut"
DRIFT_SIDE = 256
Run = Callable[[np.ndarray], np.ndarray]


_PEAK = """
import sys
import numpy as np
import onnxruntime as ort
options = ort.SessionOptions()
options.intra_op_num_threads = int(sys.argv[2])
options.log_severity_level = 3
session = ort.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
(graph_input,) = session.get_inputs()
session.run(None, {graph_input.name: np.zeros(graph_input.shape, np.float32)})
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def peak_mib(model: bytes, threads: int, folder: Path) -> int:
    """Peak resident memory of a process that opens ``model`` and runs it once, MiB; reads Linux's /proc."""
    path = folder / "peak.onnx"
    path.write_bytes(model)
    command = [sys.executable, "-c", _PEAK, str(path), str(threads)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout) // 1024


def drift_db(run: Run, reference: Run, side: int) -> float:
    """Largest difference of PSNR against the truth over the validation degradations, dB."""
    truth = measuring_crop(PICTURE, side, side)
    largest = 0.0
    for condition in VALIDATION_CONDITIONS:
        batch = np.ascontiguousarray(degrade(condition, truth, PICTURE).transpose(2, 0, 1)[None])
        reached = [psnr_float(way(batch)[0].transpose(1, 2, 0), truth) for way in (run, reference)]
        largest = max(largest, abs(reached[0] - reached[1]))
    return largest


def measure(model: str, side: int, *, lean: bool, threads: int, rounds: int) -> dict[str, object]:
    """One row: times, ratios, costs and fidelity of one network at one size; ``lean`` as the command line says."""
    loaded = load_named(model)
    picture = np.ascontiguousarray(measuring_crop(PICTURE, side, side).transpose(2, 0, 1)[None])
    started = time.perf_counter()
    plain_bytes = plain_export(load_named(model), 1, side, side)
    plain_seconds = time.perf_counter() - started
    started = time.perf_counter()
    graph = trace(loaded, TraceShape(1, side, side))
    traced_bytes, traced_cost = ir.to_proto(graph).SerializeToString(), cost_of(graph)
    rewrite(graph)
    rewritten_seconds = time.perf_counter() - started
    rewritten_bytes, rewritten_cost = ir.to_proto(graph).SerializeToString(), cost_of(graph)
    graph = prepare(graph, runtime_named("onnxruntime"))
    cpu_bytes, cpu_cost = ir.to_proto(graph).SerializeToString(), cost_of(graph)
    module = load_named(model).module.eval()
    module.set_form("reference")

    @torch.inference_mode()
    def eager(batch: np.ndarray) -> np.ndarray:
        return module(torch.from_numpy(batch)).numpy()

    def runner(data: bytes) -> Run:
        opened = session(data, threads, arena=not lean)
        return lambda batch: np.asarray(opened.run(None, {INPUT_NAME: batch})[0])

    files = {"plain": plain_bytes, "traced": traced_bytes, "rewritten": rewritten_bytes, "cpu": cpu_bytes}
    wanted = ("plain", "cpu") if lean else tuple(files)
    ways: dict[str, Run] = {"eager": eager, **{name: runner(files[name]) for name in wanted}}
    outputs = {name: run(picture) for name, run in ways.items()}  # warm-up as well
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, run in ways.items():
            started = time.perf_counter()
            run(picture)
            seconds[name].append(time.perf_counter() - started)
    floor = products_ms(ms_by_op(cpu_bytes, threads, picture))
    with tempfile.TemporaryDirectory() as folder:
        peak = {
            "plain": peak_mib(plain_bytes, threads, Path(folder)),
            "cpu": peak_mib(cpu_bytes, threads, Path(folder)),
        }
    plain_cost = cost_of(ir.from_proto(_proto(plain_bytes)))
    costs = {"plain": plain_cost, "traced": traced_cost, "rewritten": rewritten_cost, "cpu": cpu_cost}
    row: dict[str, object] = {
        "model": model,
        "size": f"{side}x{side}",
        "arena": not lean,
        "ms": {name: round(statistics.median(times) * 1e3, 1) for name, times in seconds.items()},
        "floor_ms": round(floor, 1),
        "ratio_to_cpu": {
            name: round(statistics.median(a / b for a, b in zip(times, seconds["cpu"], strict=True)), 3)
            for name, times in seconds.items()
            if name != "cpu"
        },
        "fidelity_to_eager_db": {
            name: round(fidelity_db(output, outputs["eager"]), 1) for name, output in outputs.items() if name != "eager"
        },
        "drift_db": round(drift_db(ways["cpu"], ways["plain"], side), 4) if side <= DRIFT_SIDE else None,
        "peak_mib": peak,
        "nodes": {name: cost.nodes for name, cost in costs.items()},
        "gmac": {name: _rounded(cost.gmac) for name, cost in costs.items()},
        "moved_mb": {name: _rounded(cost.moved_mb) for name, cost in costs.items()},
        "export_seconds": {"plain": round(plain_seconds, 1), "traced and rewritten": round(rewritten_seconds, 1)},
    }
    print(json.dumps(row), flush=True)
    return row


def _proto(data: bytes):  # type: ignore[no-untyped-def]
    import onnx

    return onnx.load_model_from_string(data)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def main() -> None:
    """Measure, print a line per row, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--models", nargs="+", default=["exda-tiny", "cea-tiny", "kgt-tiny"])
    parser.add_argument("--sizes", type=int, nargs="+", default=[128, 256, 512])
    parser.add_argument(
        "--lean", action="store_true", help="where memory is short: eager, plain and cpu alone, and without arenas"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    setting = {"threads": arguments.threads, "rounds": arguments.rounds}
    table = GrowingTable(arguments.out, ("model", "size"), setting)
    for model, side in ((model, side) for model in arguments.models for side in arguments.sizes):
        row = measure(model, side, lean=arguments.lean, threads=arguments.threads, rounds=arguments.rounds)
        table.put(row)


if __name__ == "__main__":
    main()
