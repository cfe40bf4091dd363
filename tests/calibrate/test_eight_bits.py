"""Plans with eight bits: where the placement says, around what FP16 forbids, and the graph that comes of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from edgeir.calibrate.eight_bits import placement_of, plan_eight_bits
from edgeir.calibrate.fp16 import plan_fp16
from edgeir.calibrate.layers import graph_layers
from edgeir.calibrate.qdq import input_tensors
from edgeir.calibrate.rounded import rounded
from edgeir.calibrate.typed import apply_plan
from edgeir.errors import GraphError
from edgeir.imaging.metrics import fidelity_db
from edgeir.precision import LayerPlan, Precision, PrecisionPlan, plan_from_yaml, plan_to_yaml
from edgeir.runtime.ort_session import OrtSession

FP16, INT8, FP8 = Precision.FP16, Precision.INT8, Precision.FP8


def ranges_of(model: ir.Model, amax: float = 4.0) -> dict[str, float]:
    return dict.fromkeys(input_tensors(model.graph).values(), amax)


def run(model: ir.Model, picture: np.ndarray) -> np.ndarray:
    return OrtSession(rounded(ir.to_proto(model).SerializeToString()), threads=1, integer_kernels=False).run(picture)


@pytest.mark.parametrize("kind", [INT8, FP8])
@pytest.mark.parametrize("architecture", ["exda", "cea", "kgt"])
def test_every_layer_with_weights_has_a_type_and_a_reason(architecture: str, kind: Precision, micro: Any) -> None:
    model = micro(architecture).graph()
    placement = placement_of(model.graph)
    base = plan_fp16(model)
    plan = plan_eight_bits(model.graph, base, placement, kind, costs_db={placement.quantized[0]: 0.01})
    assert plan.layers[: len(base.layers)] == base.layers  # what FP16 forbids stays forbidden
    assert plan_from_yaml(plan_to_yaml(plan), where="p") == plan
    entries = {entry.layer.name: entry for entry in graph_layers(model.graph)}
    for placed in placement.layers:
        node = entries[placed.layer.name].node.name or ""
        exception = plan.exception_for(node)
        assert exception is not None
        assert exception.reason
        if base.type_of(node) is Precision.FP32:
            assert exception.type is Precision.FP32
        else:
            assert exception.type is (kind if placed.quantized else FP16), node
    assert plan.exception_for(entries[placement.quantized[0]].node.name or "").evidence_db == 0.01  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", [INT8, FP8])
def test_the_plan_written_into_a_graph(kind: Precision, micro: Any) -> None:
    network = micro("cea")
    model, plain = network.graph(), network.graph()
    plan = plan_eight_bits(model.graph, plan_fp16(model), placement_of(model.graph), kind)
    wanted = [layer.layer for layer in plan.layers if layer.type is kind]
    counts = apply_plan(model, plan, ranges_of(model))
    assert counts.eight_bits == len(wanted) > 10
    assert counts.fp16 + counts.fp32 == sum(apply_counts(plain))
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
    restored = {node.inputs[0].producer().op_type for node in model.graph if node.op_type == "Conv"}  # type: ignore[union-attr]
    assert "DequantizeLinear" in restored
    apply_plan(plain, plan_fp16(plain))
    picture = network.picture()
    # Ranges of 4 on values of order 1: coarse, but the same picture.
    assert fidelity_db(run(model, picture), run(plain, picture)) > 20


def apply_counts(model: ir.Model) -> tuple[int, int]:
    counts = apply_plan(ir.from_proto(ir.to_proto(model)), plan_fp16(model))
    return counts.fp16, counts.fp32


def test_without_eight_bits_nothing_is_quantised(micro: Any) -> None:
    model = micro("cea").graph()
    counts = apply_plan(model, plan_fp16(model), ranges_of(model))
    assert (counts.eight_bits, counts.pairs) == (0, 0)


def test_what_is_refused(micro: Any) -> None:
    network = micro("cea")
    name = placement_of(network.graph().graph).quantized[0]
    low = PrecisionPlan(FP16, (LayerPlan(name, INT8, ""),))
    for ranges in (None, {}):
        with pytest.raises(GraphError, match=f"'{name}' into int8, and no range of its input is known.*--calibration"):
            apply_plan(network.graph(), low, ranges)
    norm = next(node.name.partition("/")[0] for node in network.graph().graph if "norm" in (node.name or ""))
    with pytest.raises(GraphError, match=f"'{norm}' into eight bits, and no convolution"):
        model = network.graph()
        apply_plan(model, PrecisionPlan(FP16, (LayerPlan(norm, INT8, ""),)), ranges_of(model))
