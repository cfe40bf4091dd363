"""Does fine-tuning for INT8 pay? The same INT8 plan on the shipped weights and on weights that were trained with it.

    edgeir train qat-cea-tiny --data DATA --out RUN
    python -m benchmarks.qat PHOTOGRAPHS RUN --out benchmarks/results/qat-cea-tiny-cpu.json

| row | weights | precision |
|---|---|---|
| float | shipped | FP32: what the others are compared with |
| int8 | shipped | every layer that may be in INT8, ranges found on PHOTOGRAPHS |
| tuned float | of the run | FP32 |
| tuned int8 | of the run | the same layers, ranges found in the same way |

Drift is the loss of PSNR against the truth that a row has next to the first one, on the measuring pictures, which
neither trained nor calibrated anything; fidelity is its PSNR to the first one's output.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import onnx_ir as ir

from benchmarks.int8 import drift, remembered, serialized
from benchmarks.result_files import write_result
from edgeir.calibrate.eight_bits import candidates, placement_of, plan_eight_bits
from edgeir.calibrate.qdq import INT8
from edgeir.calibrate.typed import apply_plan
from edgeir.cli.calibrating import CalibrationRequest, calibrate, choose_pictures
from edgeir.cli.console import Console
from edgeir.export.graph import TraceShape
from edgeir.export.rewrites.apply import rewrite
from edgeir.export.trace import trace
from edgeir.imaging.measuring import measuring_pictures
from edgeir.models.build import LoadedModel
from edgeir.models.checkpoint import load_checkpoint
from edgeir.models.loading import load_named
from edgeir.precision import Precision, PrecisionPlan
from edgeir.runtime.ort_session import OrtSession
from edgeir.runtime.restore import GraphInput
from edgeir.train.recipe import read_recipe
from edgeir.train.state import LATEST


def forms(loaded: LoadedModel, photographs: Path, side: int) -> tuple[bytes, bytes, int]:
    """The graph in FP32 and in INT8 on top of FP32, and how many layers are in INT8."""
    size = (side, side)
    model = trace(loaded, TraceShape(1, *size))
    placement = placement_of(model.graph)
    rewrite(model)
    graph = GraphInput(1, size, size, size, loaded.spec.size, loaded.spec.scale)
    request = CalibrationRequest(photographs)
    pictures = choose_pictures(request, graph)
    base = PrecisionPlan(default=Precision.FP32)
    placed = candidates(model.graph, base, placement, Precision.INT8)
    calibration = calibrate(model, pictures, graph, request=request, layers=placed, kind=INT8, console=Console())
    low = ir.from_proto(ir.to_proto(model))
    plan = plan_eight_bits(low.graph, base, placement, Precision.INT8)
    counts = apply_plan(low, plan, calibration.amax())
    return serialized(model), serialized(low), counts.eight_bits


def main() -> None:
    """Build, measure, print a table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("photographs", type=Path, help="clean pictures to calibrate on")
    parser.add_argument("run", type=Path, help="folder of a finished run with 'qat:'")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--pictures", type=int, default=8, help="measuring pictures, from the first")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    started = time.perf_counter()
    recipe = read_recipe(arguments.run / "recipe.yaml")
    if recipe.qat is None or recipe.model.variant is None:
        raise SystemExit(f"{arguments.run}: its recipe has no 'qat:'")
    name = recipe.model.variant
    shipped, tuned = load_named(name), load_checkpoint(arguments.run / LATEST, variant=name)
    graphs: dict[str, bytes] = {}
    graphs["float"], graphs["int8"], layers = forms(shipped, arguments.photographs, arguments.size)
    graphs["tuned float"], graphs["tuned int8"], _ = forms(tuned, arguments.photographs, arguments.size)
    names = [picture.name for picture in measuring_pictures(arguments.pictures)]
    reference = remembered(OrtSession(graphs["float"], arena=False).run)
    rows = []
    print("| | mean drift dB | worst degradation | worst picture | least fidelity | brightness of 255 |")
    print("|---|---:|---:|---:|---:|---:|")
    for row in ("int8", "tuned float", "tuned int8"):
        found = drift(graphs[row], reference, names, arguments.size)
        rows.append({"row": row, **found})
        print(f"| {row} | " + " | ".join(str(value) for key, value in found.items() if key != "nonfinite") + " |")
    result = {
        "model": name,
        "recipe": recipe.name,
        "steps": recipe.steps,
        "layers_int8": layers,
        "pictures": names,
        "size": arguments.size,
        "rows": rows,
    }
    write_result(arguments.out, result, started=started)


if __name__ == "__main__":
    main()
