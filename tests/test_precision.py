"""Precision plans: which exception covers a node, and plan.yaml there and back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeir.errors import GraphError
from edgeir.precision import (
    PLAN_VERSION,
    LayerPlan,
    Precision,
    PrecisionPlan,
    module_of,
    plan_from_yaml,
    plan_to_yaml,
    read_plan,
)

FP16, FP32 = Precision.FP16, Precision.FP32
# What a YAML file can hold: no surrogates, no control characters but those that YAML escapes.
TEXT = st.text(st.characters(exclude_categories=("Cs", "Cn")), max_size=40)
LAYERS = st.builds(
    LayerPlan,
    layer=st.one_of(TEXT, st.sampled_from(["latent.0.attn/Softmax", "model", "0", "null", "1e3", "on", "2001-01-01"])),
    type=st.sampled_from(Precision),
    reason=TEXT,
    evidence_db=st.none() | st.floats(allow_nan=False),
)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    st.sampled_from([FP16, FP32]),
    st.lists(LAYERS, max_size=6, unique_by=lambda layer: layer.layer),
    st.sampled_from([Precision.INT8, Precision.FP8]),
)
def test_yaml_there_and_back(default: Precision, layers: list[LayerPlan], kind: Precision) -> None:
    same_kind = [replace(layer, type=kind) if layer.type.eight_bits else layer for layer in layers]
    plan = PrecisionPlan(default, tuple(same_kind))
    assert plan_from_yaml(plan_to_yaml(plan), where="plan.yaml") == plan


def test_yaml_is_for_people() -> None:
    plan = PrecisionPlan(FP16, (LayerPlan("latent.0.norm1", FP32, "statistics", 0.25), LayerPlan("model", FP32, "")))
    assert plan_to_yaml(plan) == (
        "# Which layer runs in which type, and why. A name covers everything inside it.\n"
        "plan_version: 1\n"
        "default: fp16\n"
        "layers:\n"
        "  latent.0.norm1:\n"
        "    type: fp32\n"
        "    reason: statistics\n"
        "    evidence_db: 0.25\n"
        "  model:\n"
        "    type: fp32\n"
        "    reason: ''\n"
    )


@pytest.mark.parametrize(
    ("node", "covered_by"),
    [
        ("latent.3.attn/Softmax", "latent.3.attn/Softmax"),
        ("latent.3.attn/Mul", "latent.3.attn"),
        ("latent.3.attn.qkv/Conv", "latent.3.attn"),
        ("latent.3.ffn/Conv", "latent"),
        ("latent/Add", "latent"),
        ("latent2/Add", None),
        ("decoder.latent/Add", None),
        ("model/Add", "model"),
        ("", "model"),
        ("latent.30.attn/Mul", "latent"),
    ],
)
def test_the_longest_name_decides(node: str, covered_by: str | None) -> None:
    names = ("latent", "latent.3.attn", "latent.3.attn/Softmax", "model")
    plan = PrecisionPlan(FP16, tuple(LayerPlan(name, FP32, name) for name in names))
    found = plan.exception_for(node)
    assert (found and found.layer) == covered_by
    assert plan.type_of(node) is (FP16 if covered_by is None else FP32)


def test_an_exception_inside_an_exception() -> None:
    plan = PrecisionPlan(FP16, (LayerPlan("a", FP32, ""), LayerPlan("a.b", FP16, "")))
    assert [plan.type_of(node) for node in ("a/Mul", "a.b/Mul", "a.b.c/Mul", "c/Mul")] == [FP32, FP16, FP16, FP16]


def test_module_of() -> None:
    assert module_of("a.b/Conv_2") == "a.b"
    assert module_of("Conv") == "Conv"
    assert module_of("") == "model"


def document(**changes: object) -> str:
    entry = {"type": "fp32", "reason": "r"}
    return yaml.safe_dump({"plan_version": 1, "default": "fp16", "layers": {"a": entry}} | changes)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: [", "the plan is not YAML"),
        ("- 1", "not a mapping .*got list"),
        ("", "not a mapping .*got NoneType"),
        ("!!python/object/apply:os.system [ls]", "the plan is not YAML"),
        (document(defualt="fp16"), "unknown key 'defualt'.*Did you mean 'default'"),
        (document(plan_version=PLAN_VERSION + 1), r"another version \(expected 1, got 2\)"),
        ("default: fp16", "another version"),
        (document(default="fp61"), "unknown type .*Did you mean 'fp16'"),
        (document(default=None), "unknown type"),
        ("plan_version: 1", "unknown type"),
        (document(layers=["a"]), "plan.yaml, layers: not a mapping"),
        (document(layers={"a": "fp32"}), "plan.yaml, layer a: not a mapping"),
        (document(layers={"a": {"typ": "fp32"}}), "layer a: unknown key 'typ'.*Did you mean 'type'"),
        (
            document(layers={"a": {"type": "int4"}}),
            "layer a: unknown type .*fp32 or fp16 or int8 or fp8, got 'int4'",
        ),
        (document(layers={"a": {"reason": "r"}}), "layer a: unknown type"),
        (document(layers={"a": {"type": "fp32", "evidence_db": "much"}}), "evidence_db is not a number"),
        (document(layers={"a": {"type": "fp32", "evidence_db": True}}), "evidence_db is not a number"),
    ],
)
def test_refusals_name_the_place(text: str, sentence: str) -> None:
    with pytest.raises(GraphError, match=sentence) as caught:
        plan_from_yaml(text, where="plan.yaml")
    assert str(caught.value).startswith("plan.yaml")


def test_a_layer_listed_twice_is_refused() -> None:
    text = "plan_version: 1\ndefault: fp16\nlayers:\n  a: {type: fp32}\n  a: {type: fp16}\n"
    with pytest.raises(GraphError, match="'a' stands there twice"):
        plan_from_yaml(text, where="plan.yaml")


def test_what_may_be_left_out() -> None:
    plan = plan_from_yaml("plan_version: 1\ndefault: fp32\n", where="p")
    assert plan == PrecisionPlan(FP32)
    plan = plan_from_yaml("plan_version: 1\ndefault: fp32\nlayers: {a: {type: fp16, reason: }}\n", where="p")
    assert plan.layers == (LayerPlan("a", FP16, ""),)


def test_read_plan(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    with pytest.raises(GraphError, match="cannot be read"):
        read_plan(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(GraphError, match="cannot be read"):
        read_plan(path)
    path.write_text(plan_to_yaml(PrecisionPlan(FP16)), encoding="utf-8")
    assert read_plan(path) == PrecisionPlan(FP16)
    path.write_text("nonsense", encoding="utf-8")
    with pytest.raises(GraphError, match=r"plan\.yaml: not a mapping"):
        read_plan(path)


def test_what_eight_bits_demand() -> None:
    low = PrecisionPlan(FP16, (LayerPlan("a", FP32, ""), LayerPlan("b", Precision.INT8, "")))
    assert (low.eight_bit_type, PrecisionPlan(FP16).eight_bit_type) == (Precision.INT8, None)
    with pytest.raises(GraphError, match=r"plan\.yaml: a plan cannot put everything into int8.*one by one"):
        plan_from_yaml("{plan_version: 1, default: int8, layers: {}}", where="plan.yaml")
    with pytest.raises(GraphError, match="layers in int8 and layers in fp8"):
        PrecisionPlan(FP16, (LayerPlan("a", Precision.FP8, ""), LayerPlan("b", Precision.INT8, "")))
