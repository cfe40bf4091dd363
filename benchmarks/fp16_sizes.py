"""Does the FP16 graph survive large pictures? Fidelity to PyTorch FP32 and NaN or Inf, per size and picture.

    python -m benchmarks.fp16_sizes --sizes 64 256 512 --out benchmarks/results/fp16-sizes-cpu.json
    python -m benchmarks.fp16_sizes --sizes 1024 2048 --graphs edgeir --out benchmarks/results/fp16-sizes-cpu.json

Pictures are a real one and the hard ones: all 0, all 1, one white pixel, pure noise. Two FP16 graphs per size:

| graph | what it is |
|---|---|
| edgeir | rewritten, and FP16 where `edgeir.calibrate.fp16` plans it: what ``model.onnx`` is |
| plain | torch.onnx.export of the network as published, every node FP16 |

The reference is the network as published, PyTorch eager, FP32; above 512x512 it is edgeir's FP32 file for ONNX Runtime,
which agrees with that to 130 dB (`benchmarks/results/rewrites-cpu.json`) in a sixth of the time. Both FP16 graphs run
on the CPU with every FP16 result rounded (`edgeir.calibrate.rounded`), above 1024x1024 piece by piece
(`edgeir.calibrate.pieces`): the whole takes more than 24 GB at 2048x2048.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

from benchmarks.result_files import GrowingTable
from edgeir.calibrate.fp16 import plan_fp16
from edgeir.calibrate.pieces import cut, run_pieces
from edgeir.calibrate.rounded import rounded
from edgeir.calibrate.typed import apply_plan
from edgeir.cli.measuring import rounding_session
from edgeir.compare.parity import compare_outputs
from edgeir.export.graph import TraceShape, save_graph
from edgeir.export.portability import prepare
from edgeir.export.rewrites.apply import rewrite
from edgeir.export.runtimes import runtime_named
from edgeir.export.trace import plain_export, trace
from edgeir.imaging.measuring import measuring_crop
from edgeir.models.loading import load_named
from edgeir.precision import Precision, PrecisionPlan
from edgeir.runtime.ort_session import OrtSession
from edgeir.runtime.torch_session import TorchSession
from edgeir.spec import OUTPUT_NAME

LARGEST_EAGER_SIDE = 512
LARGEST_WHOLE_SIDE = 1024
PIECES = 900


def pictures(side: int) -> dict[str, np.ndarray]:
    """Inputs by name, ``(1, 3, side, side) float32``."""
    white_pixel = np.zeros((1, 3, side, side), np.float32)
    white_pixel[:, :, side // 2, side // 2] = 1
    return {
        "astronaut": measuring_crop("astronaut", side, side).transpose(2, 0, 1)[None].copy(),
        "all 0": np.zeros((1, 3, side, side), np.float32),
        "all 1": np.ones((1, 3, side, side), np.float32),
        "one white pixel": white_pixel,
        "noise": np.random.default_rng(0).random((1, 3, side, side), dtype=np.float32),
    }


def reference(model: str, side: int) -> Callable[[np.ndarray], np.ndarray]:
    """The network in FP32 at ``(1, 3, side, side)``."""
    loaded = load_named(model)
    if side <= LARGEST_EAGER_SIDE:
        return TorchSession(loaded).run
    graph = trace(loaded, TraceShape(1, side, side))
    rewrite(graph)
    data = ir.to_proto(prepare(graph, runtime_named("onnxruntime"))).SerializeToString()
    return OrtSession(data, arena=False).run


def rounding(path: Path, side: int) -> Callable[[np.ndarray], np.ndarray]:
    """An FP16 graph with every FP16 result rounded."""
    if side <= LARGEST_WHOLE_SIDE:
        return rounding_session(path).run
    pieces = cut(rounded(path.read_bytes()), pieces=PIECES)
    return lambda picture: run_pieces(pieces, picture)[OUTPUT_NAME]


def measure(
    model: str, side: int, names: list[str] | None, graphs: list[str], folder: Path
) -> Iterator[dict[str, object]]:
    """One row per graph and picture at one size; all pictures where no names are given."""
    wanted = {name: picture for name, picture in pictures(side).items() if not names or name in names}
    run = reference(model, side)
    expected = {name: run(picture) for name, picture in wanted.items()}
    del run
    for kind in graphs:
        if kind == "plain":
            graph = ir.from_proto(onnx.load_model_from_string(plain_export(load_named(model), 1, side, side)))
            plan = PrecisionPlan(default=Precision.FP16)
        else:
            graph = trace(load_named(model), TraceShape(1, side, side))
            rewrite(graph)
            plan = plan_fp16(graph)
        counts = apply_plan(graph, plan)
        path = folder / f"{side}.onnx"
        save_graph(graph, path)
        typed = rounding(path, side)
        for name, picture in wanted.items():
            row = compare_outputs(name, typed(picture), expected[name], height=side, width=side)
            yield {
                "graph": kind,
                "size": f"{side}x{side}",
                "picture": name,
                "fidelity_db": round(row.fidelity_db, 2) if math.isfinite(row.fidelity_db) else None,
                "max_abs": row.max_abs,
                "nonfinite": row.nonfinite,
                "nodes_fp16": counts.fp16,
                "nodes_fp32": counts.fp32,
            }
            print(f"{kind:7s} {side:5d}  {name:16s}  {row.fidelity_db:6.1f} dB  NaN or Inf {row.nonfinite}", flush=True)


def main() -> None:
    """Measure, print a line per row, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--model", default="exda-tiny")
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 256, 512, 1024, 2048])
    parser.add_argument("--graphs", nargs="+", default=["edgeir", "plain"], choices=["edgeir", "plain"])
    parser.add_argument("--pictures", nargs="*", help="only these; 1024x1024 takes a minute and several GB each")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    setting = {"model": arguments.model, "weights_sha256": load_named(arguments.model).spec.weights.sha256}
    table = GrowingTable(arguments.out, ("graph", "size", "picture"), setting)
    with tempfile.TemporaryDirectory() as folder:
        for side in arguments.sizes:
            for row in measure(arguments.model, side, arguments.pictures, arguments.graphs, Path(folder)):
                table.put(row)


if __name__ == "__main__":
    main()
