"""INT8 against what else there is: drift, low-precision work and CPU time of one network, by whom it was quantised.

    edgeir export --model cea-tiny --int8 --calibration PHOTOGRAPHS --drift-budget 0.05
    python -m benchmarks.int8 BUNDLE PHOTOGRAPHS --out benchmarks/results/int8-cpu.json

| graph | what it is |
|---|---|
| fp32 | rewritten by edgeir: what all times are divided by |
| edgeir, planned | ``model.onnx`` of the bundle: layers chosen under a budget; FP16 around them |
| edgeir, all placed | every layer that `edgeir.quantization_placement` allows, whatever it costs |
| edgeir, FP32 around | the same layers in INT8, everything else in FP32: a CPU computes FP16 in FP32, between casts |
| every layer | all convolutions and matrix products with weights, first and last included |
| ort, defaults | ``onnxruntime.quantization.quantize_static`` as it comes |
| ort, TensorRT style | the same, symmetric, per channel, QDQ, no quantised bias, Conv and MatMul only |
| fp16, ort | ``onnxruntime.transformers.float16.convert_float_to_float16``, inputs and outputs kept |

All are calibrated on the same crops of PHOTOGRAPHS, those of the bundle: edgeir's graphs with its ranges, ONNX
Runtime's with min-max as it comes. They are judged by the measuring pictures under every degradation: drift against the
FP32 graph, every FP16 result rounded, Q/DQ computed as written. Time is ONNX Runtime's with its own kernels, medians of
rounds in turn in one run; where it goes, by kind of node, is in the results file.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnx.inliner
import onnx_ir as ir
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.transformers.float16 import convert_float_to_float16

from benchmarks.op_times import ms_by_op
from benchmarks.result_files import GrowingTable
from edgeir.bundle import Bundle
from edgeir.calibrate.eight_bits import placement_of, plan_eight_bits
from edgeir.calibrate.fp16 import plan_fp16
from edgeir.calibrate.layers import graph_layers
from edgeir.calibrate.migration import migrate
from edgeir.calibrate.pictures import CalibrationSet
from edgeir.calibrate.ranges import Ranges, read_ranges
from edgeir.calibrate.rounded import rounded
from edgeir.calibrate.typed import apply_plan
from edgeir.cli.calibrating import CalibrationRequest, calibration_record, choose_pictures
from edgeir.compare.drift import degraded_samples, mean_drift_db, measure_drift, worst_condition, worst_sample
from edgeir.compare.parity import Run
from edgeir.errors import GraphError
from edgeir.export.rewrites.apply import rewrite
from edgeir.export.rewrites.cost import macs_of, sized
from edgeir.imaging.conditions import VALIDATION_CONDITIONS
from edgeir.imaging.measuring import measuring_crop, measuring_pictures
from edgeir.precision import LayerPlan, Precision, PrecisionPlan
from edgeir.quantization_placement import Placement
from edgeir.runtime.opening import graph_input
from edgeir.runtime.ort_session import OrtSession
from edgeir.runtime.timing import time_together
from edgeir.spec import INPUT_NAME

Graphs = dict[str, bytes]
COSTLIEST = 8
"""Kinds of nodes whose time is kept."""


class Crops(CalibrationDataReader):
    """The calibration's crops as ONNX Runtime asks for them."""

    def __init__(self, crops: CalibrationSet) -> None:
        self._batches: Iterator[np.ndarray] = crops.batches()

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next input, or ``None``."""
        batch = next(self._batches, None)
        return None if batch is None else {INPUT_NAME: batch}


def serialized(model: ir.Model) -> bytes:
    """Functions inlined: ONNX Runtime's quantizer does not look into them."""
    data: bytes = onnx.inliner.inline_local_functions(ir.to_proto(model)).SerializeToString()
    return data


def edgeirs(model: ir.Model, placement: Placement, ranges: Ranges) -> Graphs:
    """What edgeir would write with other plans."""
    base = plan_fp16(model)
    everything = [entry.layer.name for entry in graph_layers(model.graph) if entry.weight_index is not None]
    around = PrecisionPlan(default=Precision.FP32)
    plans = {
        "edgeir, all placed": plan_eight_bits(model.graph, base, placement, Precision.INT8),
        "edgeir, FP32 around": plan_eight_bits(model.graph, around, placement, Precision.INT8),
        "every layer": PrecisionPlan(
            Precision.FP16,
            (
                *(layer for layer in base.layers if layer.layer not in everything),
                *(LayerPlan(name, Precision.INT8, "every layer") for name in everything),
            ),
        ),
    }
    amax = {name: entry.amax for name, entry in ranges.tensors.items()}
    graphs = {}
    for name, plan in plans.items():
        copy = ir.from_proto(ir.to_proto(model))
        apply_plan(copy, plan, amax)
        graphs[name] = serialized(copy)
    return graphs


def renamed(model: bytes) -> bytes:
    """The same graph, no name of a value the beginning of another's: ONNX Runtime's quantizer takes them for one."""
    proto = onnx.load_model_from_string(model)
    kept = {value.name for value in (*proto.graph.input, *proto.graph.output)}
    made = [name for node in proto.graph.node for name in node.output if name not in kept]
    made += [tensor.name for tensor in proto.graph.initializer]
    names = {name: f"value{place:06d}" for place, name in enumerate(made)}
    for node in proto.graph.node:
        for values in (node.input, node.output):
            values[:] = [names.get(name, name) for name in values]
    for tensor in proto.graph.initializer:
        tensor.name = names[tensor.name]
    del proto.graph.value_info[:]
    data: bytes = proto.SerializeToString()
    return data


def others(model: ir.Model, crops: CalibrationSet, folder: Path) -> tuple[Graphs, dict[str, str]]:
    """What ONNX Runtime's own tools make of the same graph, and why they made nothing of it."""
    source = folder / "source.onnx"
    source.write_bytes(renamed(serialized(model)))
    quantised = {
        "ort, defaults": {},
        "ort, TensorRT style": {
            "quant_format": QuantFormat.QDQ,
            "activation_type": QuantType.QInt8,
            "weight_type": QuantType.QInt8,
            "per_channel": True,
            "op_types_to_quantize": ["Conv", "MatMul", "Gemm"],
            "extra_options": {
                "ActivationSymmetric": True,
                "WeightSymmetric": True,
                "QuantizeBias": False,
                "DedicatedQDQPair": False,
                "QDQOpTypePerChannelSupportToAxis": {"Conv": 0, "MatMul": 1},
            },
        },
    }
    graphs, failed = {}, {}
    for name, options in quantised.items():
        path = folder / "quantised.onnx"
        try:
            quantize_static(str(source), str(path), Crops(crops), **options)
            OrtSession(path.read_bytes())
        except (AssertionError, ValueError, GraphError) as error:  # it cannot, or makes what it cannot read
            failed[name] = f"{type(error).__name__}: {error}"
        else:
            graphs[name] = path.read_bytes()
    half = convert_float_to_float16(onnx.load_model_from_string(source.read_bytes()), keep_io_types=True)
    try:
        OrtSession(half.SerializeToString())
    except GraphError as error:  # exda-tiny: one name for two casts
        failed["fp16, ort"] = f"{type(error).__name__}: {error}"
    else:
        graphs["fp16, ort"] = half.SerializeToString()
    return graphs, failed


def low_share(model: bytes) -> float:
    """Share of multiply-accumulates whose operands both come from a DequantizeLinear, bodies of functions included."""
    low = total = 0
    for node in sized(ir.from_proto(onnx.load_model_from_string(model))).graph:
        work = macs_of(node)
        total += work
        sources = [value.producer() for value in node.inputs[:2] if value is not None]
        if all(source is not None and source.op_type == "DequantizeLinear" for source in sources):
            low += work
    return low / total


def remembered(run: Run) -> Run:
    """``run``, asked once for every picture."""
    known: dict[bytes, np.ndarray] = {}

    def once(picture: np.ndarray) -> np.ndarray:
        key = picture.tobytes()
        if key not in known:
            known[key] = run(picture)
        return known[key]

    return once


def drift(graph: bytes, reference: Run, names: list[str], side: int) -> dict[str, float | int]:
    """Of one graph over all degradations."""
    session = OrtSession(rounded(graph), arena=False, integer_kernels=False)
    samples = degraded_samples([(name, measuring_crop(name, side, side)) for name in names], VALIDATION_CONDITIONS)
    rows = measure_drift(samples, reference, session.run)
    return {
        "mean_drift_db": round(mean_drift_db(rows), 5),
        "worst_degradation_db": round(worst_condition(rows).mean_drift_db, 5),
        "worst_picture_db": round(worst_sample(rows).drift_db, 5),
        "least_fidelity_db": round(min(row.fidelity_db for row in rows), 2),
        "brightness_shift_8bit": round(max((row.brightness_shift_8bit for row in rows), key=abs), 4),
        "nonfinite": sum(row.nonfinite for row in rows),
    }


def main() -> None:
    """Build, measure, print a table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("bundle", type=Path, help="made by edgeir export --int8")
    parser.add_argument("photographs", type=Path, help="the pictures that it was calibrated on")
    parser.add_argument("--pictures", type=int, default=4, help="measuring pictures, from the first")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--edgeir-only", action="store_true", help="leave the other tools out: they calibrate for long")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    bundle = Bundle.open(arguments.bundle)
    graph, ranges = graph_input(bundle.manifest), read_ranges(bundle.file("ranges"))
    record = json.loads(bundle.file("calibration").read_text(encoding="utf-8"))
    request = CalibrationRequest(arguments.photographs, samples=len(record["samples"]), seed=record["seed"])
    crops = choose_pictures(request, graph)
    if calibration_record(crops) != record:
        raise SystemExit(f"{arguments.photographs}: not the pictures that {arguments.bundle} was calibrated on")
    size = graph.optimum
    names = [picture.name for picture in measuring_pictures(arguments.pictures)]
    setting = {"size": size, "threads": arguments.threads, "rounds": arguments.rounds, "pictures": names}
    table = GrowingTable(arguments.out, ("model", "graph"), setting)
    model = ir.load(bundle.file("reference"))
    placement = placement_of(model.graph)
    rewrite(model)
    theirs, failed = Graphs(), dict[str, str]()
    if not arguments.edgeir_only:
        with tempfile.TemporaryDirectory() as folder:
            theirs, failed = others(model, crops, Path(folder))
    graphs = {"fp32": serialized(model), **theirs}
    migrate(model, ranges.migrated)
    graphs |= {"edgeir, planned": serialized(ir.load(bundle.file("model"))), **edgeirs(model, placement, ranges)}
    batch = np.ascontiguousarray(measuring_crop("astronaut", *size).transpose(2, 0, 1)[None])
    sessions = {name: OrtSession(data, threads=arguments.threads) for name, data in graphs.items()}
    timings = time_together(
        {name: partial(session.run, batch) for name, session in sessions.items()}, rounds=arguments.rounds
    )
    del sessions
    by_op = {name: ms_by_op(data, arguments.threads, batch) for name, data in graphs.items()}
    reference = remembered(OrtSession(graphs["fp32"], arena=False).run)
    weights = bundle.manifest.model.weights
    print("| graph | mean drift dB | worst degradation | worst picture | low-precision MACs | time / FP32 |")
    print("|---|---:|---:|---:|---:|---:|")
    for name, data in graphs.items():
        ratio = timings[name].percentile_ms(50) / timings["fp32"].percentile_ms(50)
        found = drift(data, reference, names, size[0])
        share = low_share(data)
        table.put(
            {
                "model": bundle.manifest.name,
                "graph": name,
                "weights_sha256": weights.sha256 if weights else None,
                **found,
                "low_macs": round(share, 4),
                "time_ratio": round(ratio, 3),
                "ms_by_op": {op: round(ms, 2) for op, ms in list(by_op[name].items())[:COSTLIEST]},
            }
        )
        print(
            f"| {name} | {found['mean_drift_db']:.4f} | {found['worst_degradation_db']:.4f} | "
            f"{found['worst_picture_db']:.4f} | {share:.0%} | {ratio:.2f} |",
            flush=True,
        )
    for name, reason in failed.items():
        table.put({"model": bundle.manifest.name, "graph": name, "failed": reason})
        print(f"| {name} | {reason} | | | | |")


if __name__ == "__main__":
    main()
