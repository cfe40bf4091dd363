"""What the choices of a calibration cost: each method's ranges, as the graph is and with scales moved between channels.

    python -m benchmarks.calibration PHOTOGRAPHS --model cea-tiny --out benchmarks/results/calibration-cpu.json

Every layer that may be is in INT8 on top of FP32, and the measuring pictures under every degradation say what that
costs against the FP32 graph: how the layers that stand it are chosen is another question (`benchmarks.int8`). The
graphs are small, so that many crops can be looked at: ranges of few small crops do not hold for other pictures, scales
of channels still less. Minutes for each network; no time is measured.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import onnx_ir as ir

from benchmarks.int8 import drift, remembered, serialized
from benchmarks.result_files import GrowingTable
from edgeir.calibrate.eight_bits import placement_of, plan_eight_bits
from edgeir.calibrate.migration import find_exponents, migrate, seams
from edgeir.calibrate.observe import observe
from edgeir.calibrate.observers import OBSERVERS
from edgeir.calibrate.qdq import input_tensors
from edgeir.calibrate.typed import apply_plan
from edgeir.cli.calibrating import SAMPLES, CalibrationRequest, choose_pictures
from edgeir.export.graph import TraceShape
from edgeir.export.rewrites.apply import rewrite
from edgeir.export.trace import trace
from edgeir.imaging.measuring import measuring_pictures
from edgeir.models.loading import load_named
from edgeir.precision import Precision, PrecisionPlan
from edgeir.runtime.ort_session import OrtSession
from edgeir.runtime.restore import GraphInput


def main() -> None:
    """Measure, print a table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("photographs", type=Path, help="clean pictures to calibrate on")
    parser.add_argument("--model", default="cea-tiny")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--samples", type=int, default=5 * SAMPLES)
    parser.add_argument("--methods", nargs="+", default=["percentile", "mse"], choices=tuple(OBSERVERS))
    parser.add_argument("--pictures", type=int, default=4, help="measuring pictures, from the first")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    loaded = load_named(arguments.model)
    size = (arguments.size, arguments.size)
    model = trace(loaded, TraceShape(1, *size))
    placement = placement_of(model.graph)
    rewrite(model)
    graph = GraphInput(1, size, size, size, loaded.spec.size, loaded.spec.scale)
    pictures = choose_pictures(CalibrationRequest(arguments.photographs, samples=arguments.samples), graph)
    names = [picture.name for picture in measuring_pictures(arguments.pictures)]
    setting = {"size": arguments.size, "samples": arguments.samples, "pictures": names}
    table = GrowingTable(arguments.out, ("model", "method", "migrated"), setting)
    reference = remembered(OrtSession(serialized(model), arena=False).run)
    plan = plan_eight_bits(model.graph, PrecisionPlan(default=Precision.FP32), placement, Precision.INT8)
    exponents = find_exponents(model, seams(model.graph, placement.quantized), pictures.batches)
    print("| method | migrated | mean drift dB | worst degradation | worst picture | least fidelity | brightness |")
    print("|---|---|---:|---:|---:|---:|---:|")
    for method in arguments.methods:
        for moved in ({}, exponents):
            low = ir.from_proto(ir.to_proto(model))
            migrate(low, moved)
            tensors = list(dict.fromkeys(input_tensors(low.graph).values()))
            ranges = observe(low, tensors, pictures.batches, method=method).ranges.tensors
            apply_plan(low, plan, {name: entry.amax for name, entry in ranges.items()})
            found = drift(serialized(low), reference, names, arguments.size)
            row = {"model": arguments.model, "method": method, "migrated": len(moved)}
            table.put({**row, "weights_sha256": loaded.spec.weights.sha256 if loaded.spec.weights else None, **found})
            print(
                f"| {method} | {len(moved)} | "
                + " | ".join(str(value) for key, value in found.items() if key != "nonfinite")
                + " |",
                flush=True,
            )


if __name__ == "__main__":
    main()
