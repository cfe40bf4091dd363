"""Each rule of the FP16 plan on a graph that it fits and on one that it does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx_ir as ir
import pytest

from edgeir.calibrate.fp16 import LONG_ROW, MOVEMENT, NORMALISED, STATISTICS, computes, plan_fp16
from edgeir.precision import Precision, PrecisionPlan

Build = Callable[..., ir.Model]
Micro = Callable[..., Any]
KEEP = '["far/Conv"] y = Relu(out)'


def kept(model: ir.Model) -> set[str]:
    """Names of the nodes that a plan keeps in FP32."""
    plan = plan_fp16(model)
    assert plan.default is Precision.FP16
    return {
        node.name or "" for node in model.graph if computes(node) and plan.type_of(node.name or "") is Precision.FP32
    }


def reasons(model: ir.Model) -> dict[str, str]:
    return {layer.layer: layer.reason for layer in plan_fp16(model).layers}


def test_nothing_to_keep(build: Build) -> None:
    model = build('["a/Relu"] x = Relu(image) ["a/Mul"] y = Mul(x, x)')
    assert plan_fp16(model) == PrecisionPlan(Precision.FP16)


@pytest.mark.parametrize("op", ["Exp", "Log", "Reciprocal", "ReduceL2", "ReduceMean", "ReduceSum", "Softmax", "Sqrt"])
def test_intervals(build: Build, op: str) -> None:
    model = build(f'["a/Relu"] x = Relu(image) ["s/{op}"] out = {op}(x) {KEEP}')
    assert kept(model) == {f"s/{op}"}
    assert list(reasons(model)) == ["s"]


def test_layer_norm_says_why(build: Build) -> None:
    model = build(
        '["n/LayerNormalization"] out = LayerNormalization <axis = -1> (image, w) ' + KEEP,
        constants="float[8] w = {1,1,1,1,1,1,1,1}",
    )
    assert "epsilon is 0" in reasons(model)["n"]


def test_sets_do_not_contradict_each_other() -> None:
    assert NORMALISED < STATISTICS
    assert not STATISTICS & MOVEMENT


class TestGrowth:
    def test_forward_to_what_scales_by_a_statistic_and_not_beyond_the_module(self, build: Build) -> None:
        model = build(
            '["m/ReduceL2"] norm = ReduceL2(image) ["m/Max"] safe = Max(norm, norm) ["m/Div"] unit = Div(image, safe)'
            '["other/Mul"] out = Mul(unit, unit) ' + KEEP
        )
        assert kept(model) == {"m/ReduceL2", "m/Max", "m/Div"}

    def test_forward_through_movement(self, build: Build) -> None:
        model = build(
            '["m/ReduceMean"] mean = ReduceMean(image) ["x/Transpose"] turned = Transpose <perm = [0,1,3,2]> (mean)'
            '["m/Sub"] out = Sub(image, turned) ' + KEEP
        )
        assert kept(model) == {"m/ReduceMean", "m/Sub"}

    def test_forward_stops_at_what_is_not_elementwise(self, build: Build) -> None:
        model = build(
            '["m/ReduceMean"] mean = ReduceMean(image) ["m/MatMul"] p = MatMul(mean, mean) ["m/Mul"] out = Mul(p, p) '
            + KEEP
        )
        assert kept(model) == {"m/ReduceMean"}

    def test_forward_not_from_a_softmax(self, build: Build) -> None:
        model = build('["m/Softmax"] s = Softmax(image) ["m/Mul"] out = Mul(s, s) ' + KEEP)
        assert kept(model) == {"m/Softmax"}

    def test_backward_to_what_only_feeds_a_statistic(self, build: Build) -> None:
        model = build('["m/Mul"] sq = Mul(image, image) ["m/ReduceMean"] out = ReduceMean(sq) ' + KEEP)
        assert kept(model) == {"m/Mul", "m/ReduceMean"}

    def test_backward_not_to_what_others_need_too(self, build: Build) -> None:
        model = build(
            '["m/Mul"] sq = Mul(image, image) ["m/ReduceMean"] r = ReduceMean(sq) ["far/PRelu"] y = PRelu(sq, r)'
        )
        assert kept(model) == {"m/ReduceMean"}

    def test_backward_stops_at_the_modules_border(self, build: Build) -> None:
        model = build('["before/Mul"] sq = Mul(image, image) ["m/ReduceMean"] out = ReduceMean(sq) ' + KEEP)
        assert kept(model) == {"m/ReduceMean"}

    def test_reading_a_shape_is_no_use_of_the_numbers(self, build: Build) -> None:
        """Dynamic graphs read shapes everywhere: their plans must not differ from static ones for that."""
        model = build(
            '["m/Mul"] sq = Mul(image, image) ["m/Softmax"] s = Softmax(sq) ["m/Shape"] sides = Shape(sq)'
            '["m/Reshape"] out = Reshape(s, sides) ' + KEEP
        )
        assert kept(model) == {"m/Mul", "m/Softmax"}


class TestAverageOverThePicture:
    NODES = '["a/Softmax"] s = Softmax(image) {between} ["b/MatMul"] out = MatMul({rows}, values) ' + KEEP

    def plan(self, build: Build, length: str, between: str = "", rows: str = "s") -> set[str]:
        turned = '["c/Transpose"] values = Transpose <perm = [0,2,1]> (image) '
        return kept(build(turned + self.NODES.format(between=between, rows=rows), shape=f"1,4,{length}"))

    def test_long_rows(self, build: Build) -> None:
        assert self.plan(build, str(LONG_ROW + 1)) == {"a/Softmax", "b/MatMul"}

    def test_short_rows(self, build: Build) -> None:
        assert self.plan(build, str(LONG_ROW)) == {"a/Softmax"}

    def test_rows_of_unknown_length(self, build: Build) -> None:
        assert self.plan(build, "positions") == {"a/Softmax", "b/MatMul"}

    def test_through_movement(self, build: Build) -> None:
        between = '["a/Identity"] same = Identity(s)'
        assert self.plan(build, str(LONG_ROW + 1), between, "same") == {"a/Softmax", "b/MatMul"}

    def test_a_product_with_something_else(self, build: Build) -> None:
        model = build(
            '["c/Transpose"] t = Transpose <perm = [0,2,1]> (image) ["b/MatMul"] out = MatMul(image, t) ' + KEEP,
            shape="1,4,9000",
        )
        assert kept(model) == set()


@pytest.mark.parametrize(
    ("constant", "reason"),
    [
        ("float c = {100000.0}", "a constant of 1e+05 overflows FP16"),
        ("float c = {-100000.0}", "a constant of 1e+05 overflows FP16"),
        ("float[8] c = {0,0,0,0,0,0,0,70000.0}", "a constant of 7e+04 overflows FP16"),
        ("float c = {1e-12}", "a constant of 1e-12 is 0 in FP16"),
        ("float[1] c = {-1e-8}", "a constant of 1e-08 is 0 in FP16"),
        ("float c = {65504.0}", None),
        ("float c = {1e-6}", None),
        ("float c = {0.0}", None),
        ("float[8] c = {1,1,1,1,1,1,1,1e-12}", None),
    ],
)
def test_constants(build: Build, constant: str, reason: str | None) -> None:
    model = build('["a/Relu"] x = Relu(image) ["m/Add"] out = Add(x, c) ' + KEEP, constants=constant)
    assert reasons(model) == ({} if reason is None else {"m": reason})


def test_the_residual_with_the_picture(build: Build) -> None:
    model = build('["a/Relu"] x = Relu(image) ["b/Add"] z = Add(x, x) ["model/Add"] y = Add(z, image)')
    assert list(reasons(model)) == ["model"]
    assert "input picture" in reasons(model)["model"]
    assert kept(build('["a/Relu"] x = Relu(image) ["model/Mul"] y = Mul(x, image)')) == set()


class TestNames:
    def test_a_whole_module_or_its_nodes(self, build: Build) -> None:
        model = build(
            '["whole/Exp"] a = Exp(image) ["whole/Sqrt"] b = Sqrt(a) ["part/Exp"] c = Exp(b) ["part/Relu"] y = Relu(c)'
        )
        assert list(reasons(model)) == ["whole", "part/Exp"]

    @pytest.mark.parametrize("inner", ["outer.deep", "outer.deep.deeper"])
    def test_a_module_is_not_named_for_what_lies_in_it(self, build: Build, inner: str) -> None:
        model = build(f'["outer/Exp"] a = Exp(image) ["{inner}/Relu"] y = Relu(a)')
        assert list(reasons(model)) == ["outer/Exp"]
        assert kept(model) == {"outer/Exp"}

    def test_movement_and_whole_numbers_do_not_split_a_module(self, build: Build) -> None:
        model = build(
            '["m/Exp"] a = Exp(image) ["m/Shape"] s = Shape(a) ["m/ReduceProd"] n = ReduceProd(s)'
            '["m/Flatten"] f = Flatten(a) ["far/Expand"] y = Expand(f, n)'
        )
        assert list(reasons(model)) == ["m"]
        assert kept(model) == {"m/Exp"}


def test_the_graph_is_not_changed(micro: Micro) -> None:
    model = micro("exda").graph()
    before = ir.to_proto(model).SerializeToString(deterministic=True)
    plan_fp16(model)
    assert ir.to_proto(model).SerializeToString(deterministic=True) == before


def test_static_and_dynamic_graphs_get_the_same_plan(micro: Micro) -> None:
    assert plan_fp16(micro("exda").graph()) == plan_fp16(micro("exda", dynamic=True).graph())


def test_the_micro_networks_keep_their_norms_and_residual(micro: Micro) -> None:
    for architecture in ("exda", "kgt", "cea"):
        model = micro(architecture, dynamic=True).graph()
        plan = plan_fp16(model)
        names = [node.name or "" for node in model.graph if computes(node)]
        assert all(plan.type_of(name) is Precision.FP32 for name in names if ".norm1" in name)
        assert any("input picture" in layer.reason for layer in plan.layers)
        convolutions = [name for name in names if name.partition("/")[2].partition("_")[0] == "Conv"]
        kept = {plan.exception_for(name).reason for name in convolutions if plan.type_of(name) is Precision.FP32}
        assert kept <= {"residual stream that neighbours are chosen by"}


def test_what_neighbours_are_chosen_by(micro: Micro) -> None:
    """The key graph, the residual stream in front of it, and what a norm reads that adds to it; the rest stays FP16."""
    plan = plan_fp16(micro("kgt").graph())
    graph = micro("kgt").graph()
    chooses = [node for node in graph.graph if node.op_type == "EdgeirKeyGraph"]
    assert chooses
    for node in chooses:
        exception = plan.exception_for(node.name or "")
        assert exception is not None and exception.type is Precision.FP32
    first = next(node for node in graph.graph if node.op_type == "Conv")
    assert plan.type_of(first.name or "") is Precision.FP32
    attention = next(node for node in graph.graph if node.op_type == "EdgeirKeyGraphAttention")
    assert plan.type_of(attention.name or "") is Precision.FP16
    products = [node.name or "" for node in graph.graph if node.op_type in ("MatMul", "Gemm")]
    exact = [name for name in products if plan.type_of(name) is Precision.FP32]
    assert exact  # what a norm reads that adds to the stream, and nothing else
    assert all(name.endswith((".proj/MatMul", ".fc2/MatMul")) for name in exact), exact
    assert len(exact) < len(products)


def test_a_network_without_key_graph_keeps_no_convolution(micro: Micro) -> None:
    plan = plan_fp16(micro("exda").graph())
    convolutions = [node.name or "" for node in micro("exda").graph().graph if node.op_type == "Conv"]
    assert convolutions and all(plan.type_of(name) is Precision.FP16 for name in convolutions)
