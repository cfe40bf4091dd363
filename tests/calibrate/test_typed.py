"""A plan written into a graph: strongly typed, casts only where types meet, and the same picture as before."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.inliner
import onnx_ir as ir
import onnxruntime as ort
import pytest

from edgeir.calibrate.fp16 import FLOATS, MOVEMENT, computes, plan_fp16
from edgeir.calibrate.typed import apply_plan
from edgeir.errors import GraphError
from edgeir.export.engines.builder import build_engine, can_build
from edgeir.export.engines.target import EngineTarget, Profile
from edgeir.export.graph import save_graph
from edgeir.imaging.metrics import fidelity_db
from edgeir.ops import table
from edgeir.precision import LayerPlan, Precision, PrecisionPlan

Build = Callable[..., ir.Model]
Micro = Callable[..., Any]
FP16, FP32 = Precision.FP16, Precision.FP32
HALF, SINGLE = ir.DataType.FLOAT16, ir.DataType.FLOAT
ALL_FP16 = PrecisionPlan(FP16)
# Written again from the operators' definition, not taken from the code under test.
FLOAT32_BY_DEFINITION = {("Resize", 1), ("Resize", 2)}


def float_slots(node: ir.Node) -> list[ir.Value]:
    return [
        value
        for index, value in enumerate(node.inputs)
        if value is not None and value.dtype in (HALF, SINGLE) and (node.op_type, index) not in FLOAT32_BY_DEFINITION
    ]


def require_strongly_typed(model: ir.Model) -> None:
    """What TensorRT asks of a network: nothing is ever promoted."""
    for node in model.graph:
        assert all(value.dtype is not None for value in node.outputs), node.name
        if node.op_type == "Cast":
            (source,), (result,) = node.inputs, node.outputs
            assert source is not None
            assert result.dtype == ir.DataType(node.attributes["to"].as_int())
            continue
        types = {value.dtype for value in float_slots(node)}
        assert len(types) <= 1, f"{node.name} is given {types}"
        results = {value.dtype for value in node.outputs if value.dtype in (HALF, SINGLE)}
        if types and results and node.op_type not in ("Shape", "Constant"):
            assert results == types, f"{node.name} is given {types} and gives {results}"
    for value in (*model.graph.inputs, *model.graph.outputs):
        assert value.dtype == SINGLE, value.name


def require_no_idle_casts(model: ir.Model) -> None:
    casts = [node for node in model.graph if node.op_type == "Cast"]
    sources = [(node.inputs[0], node.outputs[0].dtype) for node in casts if node.outputs[0].dtype in FLOATS]
    assert len(sources) == len(set(sources)), "a value is cast twice to one type"
    for source, dtype in sources:
        assert source is not None
        assert source.dtype != dtype, "a cast that changes nothing"
        assert not source.is_initializer(), "weights are converted in the file"
        producer = source.producer()
        if producer is not None and producer.op_type == "Cast":  # a traced graph turns sizes into floats
            assert producer.inputs[0] is not None
            assert producer.inputs[0].dtype not in FLOATS, "a cast of a cast"
    names = [node.name for node in model.graph]
    assert len(names) == len(set(names))


def run(model: ir.Model, picture: np.ndarray) -> np.ndarray:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(ir.to_proto(model).SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"image": picture})[0])


def run_rounded(model: ir.Model, picture: np.ndarray) -> np.ndarray:
    """`run` with every FP16 result rounded, bodies included.

    ONNX Runtime drops the casts between neighbours that it computes in float32, and with them every rounding and
    overflow of FP16. It does not look through an Unsqueeze and a Squeeze, which it has in FP16.
    """
    proto = onnx.inliner.inline_local_functions(ir.to_proto(model))
    proto = onnx.shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True)
    half = {
        value.name
        for value in (*proto.graph.value_info, *proto.graph.output)
        if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT16
    }
    nodes = []
    for node in proto.graph.node:
        nodes.append(node)
        for index, name in enumerate(node.output):
            if name in half and node.op_type not in MOVEMENT:
                node.output[index] = f"{name}.raw"
                nodes.append(onnx.helper.make_node("Unsqueeze", [f"{name}.raw", "axis"], [f"{name}.high"]))
                nodes.append(onnx.helper.make_node("Squeeze", [f"{name}.high", "axis"], [name]))
    copied = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del proto.graph.node[:]
    proto.graph.node.extend(copied)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray([0], np.int64), "axis"))
    return run(ir.from_proto(proto), picture)


def casts(model: ir.Model) -> list[str]:
    return [node.name or "" for node in model.graph if node.op_type == "Cast"]


def only(*layers: str, kind: Precision = FP32, default: Precision = FP16) -> PrecisionPlan:
    return PrecisionPlan(default, tuple(LayerPlan(name, kind, "test") for name in layers))


class TestByHand:
    CHAIN = '["a/Mul"] p = Mul(image, w) ["b/Exp"] q = Exp(p) ["c/Mul"] y = Mul(q, w)'
    WEIGHT = "float[1] w = {0.1}"

    def test_one_island(self, build: Build) -> None:
        model = build(self.CHAIN, constants=self.WEIGHT)
        counts = apply_plan(model, only("b"))
        require_strongly_typed(model)
        require_no_idle_casts(model)
        assert (counts.fp16, counts.fp32, counts.casts) == (2, 1, 4)
        assert len(casts(model)) == 4
        assert [node.op_type for node in model.graph] == ["Cast", "Mul", "Cast", "Exp", "Cast", "Mul", "Cast"]
        assert [value.name for value in model.graph.outputs] == ["y"]

    def test_weights_are_converted_once_and_shared(self, build: Build) -> None:
        model = build(self.CHAIN, constants=self.WEIGHT)
        apply_plan(model, only("b"))
        assert {name: value.dtype for name, value in model.graph.initializers.items()} == {"w.float16": HALF}
        array = model.graph.initializers["w.float16"].const_value.numpy()
        assert (array.dtype, float(array[0])) == (np.float16, float(np.float16(0.1)))

    def test_weights_of_two_types_stay_twice(self, build: Build) -> None:
        model = build(self.CHAIN, constants=self.WEIGHT)
        apply_plan(model, only("c"))
        require_strongly_typed(model)
        assert {name: value.dtype for name, value in model.graph.initializers.items()} == {
            "w": SINGLE,
            "w.float16": HALF,
        }

    def test_a_value_is_cast_once_for_all_its_users(self, build: Build) -> None:
        model = build('["a/Exp"] p = Exp(image) ["b/Relu"] q = Relu(p) ["c/Relu"] r = Relu(p) ["d/Add"] y = Add(q, r)')
        assert apply_plan(model, only("a")).casts == 2  # after the island, and at the output
        require_no_idle_casts(model)

    def test_movement_follows_its_data(self, build: Build) -> None:
        model = build(
            '["a/Exp"] p = Exp(image) ["m/Transpose"] t = Transpose <perm = [0,1,3,2]> (p) ["b/Exp"] q = Exp(t)'
            '["c/Relu"] h = Relu(t) ["m/Concat"] y = Concat <axis = 1> (q, h)'
        )
        counts = apply_plan(model, only("a", "b"))
        require_strongly_typed(model)
        types = {node.name: node.outputs[0].dtype for node in model.graph}
        assert (types["m/Transpose"], types["m/Concat"]) == (SINGLE, HALF)
        assert (counts.fp16, counts.fp32) == (1, 2)

    def test_inputs_that_are_float32_by_definition(self, build: Build) -> None:
        model = build(
            '["up/Resize"] out = Resize <mode = "nearest"> (image, , scales) ["far/Relu"] y = Relu(out)',
            constants="float[4] scales = {1,1,2,2}",
        )
        apply_plan(model, ALL_FP16)
        require_strongly_typed(model)
        assert model.graph.initializers["scales"].dtype == SINGLE
        picture = np.random.default_rng(0).random((1, 4, 8, 8), dtype=np.float32)
        wanted = picture.repeat(2, 2).repeat(2, 3)
        assert np.abs(run(model, picture) - wanted).max() <= 2**-12  # one rounding below 1

    def test_constants_and_casts_keep_their_own_type(self, build: Build) -> None:
        model = build(
            '["k/Constant"] k = Constant <value = float {0.5}> () ["a/Mul"] p = Mul(image, k)'
            '["b/Cast"] n = Cast <to = 7> (p) ["b/Cast_2"] f = Cast <to = 1> (n) ["c/Relu"] y = Relu(f)'
        )
        apply_plan(model, ALL_FP16)
        require_strongly_typed(model)
        types = {node.name: node.outputs[0].dtype for node in model.graph}
        assert (types["b/Cast"], types["b/Cast_2"]) == (ir.DataType.INT64, SINGLE)

    def test_an_output_in_fp16_keeps_its_name(self, build: Build) -> None:
        model = build('["a/Relu"] p = Relu(image) ["b/Exp"] y = Exp(p)', output="y")
        apply_plan(model, ALL_FP16)
        (value,) = model.graph.outputs
        producer = value.producer()
        assert (value.name, value.dtype) == ("y", SINGLE)
        assert producer is not None
        assert producer.op_type == "Cast"

    def test_all_in_fp32_changes_nothing(self, build: Build) -> None:
        model = build(self.CHAIN, constants=self.WEIGHT)
        before = ir.to_proto(model)
        counts = apply_plan(model, PrecisionPlan(FP32))
        assert (counts.fp32, counts.fp16, counts.casts) == (3, 0, 0)
        assert ir.to_proto(model) == before

    def test_weights_that_overflow(self, build: Build) -> None:
        model = build('["a.b/Mul"] y = Mul(image, w)', constants="float[2] w = {1.0, 70000.0}", shape="1,4,8,2")
        with pytest.raises(GraphError, match=r"a\.b/Mul: the weights 'w' overflow FP16 .*65504, got 7e\+04.*in fp32"):
            apply_plan(model, ALL_FP16)

    def test_infinite_weights_are_meant(self, build: Build) -> None:
        model = build('["a/Max"] y = Max(image, w)', constants="float[1] w = {-1.0}")
        model.graph.initializers["w"].const_value = ir.tensor(np.asarray([-np.inf], np.float32), name="w")
        apply_plan(model, ALL_FP16)
        require_strongly_typed(model)

    @pytest.mark.parametrize(
        ("layer", "sentence"),
        [
            ("b.c/Exq", "does not have: 'b.c/Exq'. Did you mean 'b.c/Exp'"),
            ("b.d", "does not have: 'b.d'"),
            ("b.c/Transpose", "only moves data: 'b.c/Transpose'"),
        ],
    )
    def test_layers_that_a_plan_cannot_name(self, build: Build, layer: str, sentence: str) -> None:
        nodes = '["b.c/Exp"] p = Exp(image) ["b.c/Transpose"] y = Transpose <perm = [0,1,3,2]> (p)'
        with pytest.raises(GraphError, match=f"^plan: .*{sentence}"):
            apply_plan(build(nodes), only(layer))
        for good in ("b", "b.c", "b.c/Exp"):
            assert apply_plan(build(nodes), only(good)).fp32 == 1


GRAPHS = pytest.mark.parametrize(
    ("architecture", "dynamic"), [("exda", False), ("exda", True), ("kgt", True), ("cea", True)]
)


@GRAPHS
def test_micro_networks_become_strongly_typed(micro: Micro, tmp_path: Path, architecture: str, dynamic: bool) -> None:
    model = micro(architecture, dynamic=dynamic).graph()
    computing = sum(computes(node) for node in model.graph)
    counts = apply_plan(model, plan_fp16(model))
    require_strongly_typed(model)
    require_no_idle_casts(model)
    save_graph(model, tmp_path / "model.onnx")
    assert counts.fp16 + counts.fp32 == computing
    assert counts.fp16 > 30  # KGT's: 33, its post-norms keep the products they read in FP32
    assert counts.casts < 100
    weights = [value for value in model.graph.initializers.values() if value.dtype == HALF]
    assert len(weights) > 10
    # Half the weights' bytes, and the text of the graph; KGT keeps the convolutions of its residual stream.
    bound = 0.85 if architecture == "kgt" else 0.75
    assert (tmp_path / "model.onnx").stat().st_size < bound * micro(architecture, dynamic=dynamic).path.stat().st_size


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("architecture", ["exda", "kgt", "cea"])
def test_any_plan_gives_a_graph_that_the_checker_accepts(
    micro: Micro, tmp_path: Path, architecture: str, seed: int
) -> None:
    """A user's plan need not be wise: whatever it says must come out strongly typed."""
    model = micro(architecture, dynamic=True).graph()
    dice = random.Random(seed)
    names = [node.name or "" for node in model.graph if computes(node)]
    layers = [LayerPlan(name, dice.choice((FP16, FP32)), "dice") for name in dice.sample(names, len(names) // 2)]
    plan = PrecisionPlan(dice.choice((FP16, FP32)), tuple(layers))
    counts = apply_plan(model, plan)
    require_strongly_typed(model)
    require_no_idle_casts(model)
    save_graph(model, tmp_path / "model.onnx")
    of_plan = [plan.type_of(name) for name in names]
    assert (counts.fp16, counts.fp32) == (of_plan.count(FP16), of_plan.count(FP32))
    for node in model.graph:
        if node.name in names:
            wanted = HALF if plan.type_of(node.name or "") is FP16 else SINGLE
            assert {value.dtype for value in float_slots(node)} == {wanted}, node.name


@pytest.mark.parametrize("architecture", ["exda", "kgt", "cea"])
def test_a_plan_of_fp32_changes_no_bit(micro: Micro, architecture: str) -> None:
    network = micro(architecture, dynamic=True)
    model, picture = network.graph(), network.picture()
    before = run(model, picture)
    assert apply_plan(model, PrecisionPlan(FP32)).casts == 0
    assert np.array_equal(run(model, picture), before)


@pytest.mark.parametrize(("architecture", "dynamic"), [("exda", False), ("exda", True), ("cea", True)])
def test_fp16_is_faithful(micro: Micro, architecture: str, dynamic: bool) -> None:
    """The gate of design section 5; KGT's choice of neighbours is judged by parity, given the same choice."""
    network = micro(architecture, dynamic=dynamic)
    model, picture = network.graph(), network.picture()
    before = run(model, picture)
    apply_plan(model, plan_fp16(model))
    assert fidelity_db(run(model, picture), before) >= 55
    assert fidelity_db(run_rounded(model, picture), before) >= 55


def test_rounding_everywhere_shows_what_onnxruntime_hides(build: Build) -> None:
    model = build('["a/Add"] p = Add(image, image) ["b/Mul"] y = Mul(p, w)', constants="float[1] w = {0.001}")
    picture = np.full((1, 4, 8, 8), 60000, np.float32)
    apply_plan(model, ALL_FP16)
    assert np.isinf(run_rounded(model, picture)).all()  # 120000 is beyond FP16
    assert np.isfinite(run(model, picture)).all()  # should this fail, ONNX Runtime got stricter: drop run_rounded


def test_functions_stay_as_they_are(micro: Micro) -> None:
    """Bodies are typed by what they are given: one function serves both types."""
    model = micro("kgt", dynamic=True).graph()
    before = {key: ir.to_proto(function) for key, function in model.functions.items()}
    apply_plan(model, plan_fp16(model))
    assert {key: ir.to_proto(function) for key, function in model.functions.items()} == before
    masks = [node for node in model.graph if node.domain == table.DOMAIN and node.op_type == "EdgeirKeyGraphAttention"]
    assert all(node.inputs[3] is not None and node.inputs[3].dtype == ir.DataType.BOOL for node in masks)


def test_movement_is_the_standards() -> None:
    for name in MOVEMENT:
        onnx.defs.get_schema(name, 20, "")


@pytest.mark.skipif(not can_build("rtx"), reason="tensorrt_rtx is not installed: no engine can be built here")
@pytest.mark.parametrize("architecture", ["exda", "kgt", "cea"])
def test_a_real_builder_accepts_the_types(micro: Micro, tmp_path: Path, architecture: str) -> None:
    network = micro(architecture, dynamic=True)
    size = network.shape.dynamic
    profile = Profile("image", (1, 3, *size.minimum), (1, 3, *size.optimum), (1, 3, *size.maximum))
    sizes = {}
    for precision in (FP32, FP16):
        model = network.graph()
        apply_plan(model, plan_fp16(model) if precision is FP16 else PrecisionPlan(FP32))
        path = tmp_path / f"{precision}.onnx"
        save_graph(model, path)
        result = build_engine(EngineTarget("rtx", ("sm89",)), path, tmp_path / "engine.plan", profile=profile)
        sizes[precision] = result.bytes
    assert min(sizes.values()) > 100_000
