"""Nodes of ONNX Runtime's back to layers, with the type and the cost that plan.yaml has for each."""

from __future__ import annotations

import json
from typing import Any

import pytest

from edgeir.cli.layer_times import SHOWN, layer_of, layer_table
from edgeir.precision import LayerPlan, Precision, PrecisionPlan
from edgeir.runtime.ort_profile import NodeTime

PLAN = PrecisionPlan(
    default=Precision.FP16,
    layers=(LayerPlan("a.ffn.dwconv", Precision.INT8, "within the budget", 0.012),),
)


@pytest.mark.parametrize(
    ("node", "op", "layer"),
    [
        ("a.ffn.dwconv/Conv", "FusedConv", "a.ffn.dwconv"),
        ("a.0.attn.qkv/Cast:mul_64.float16", "Cast", "a.0.attn.qkv"),
        ("InsertedPrecisionFreeCast__inlfunc_EdgeirKeyGraph_token_3_unit_rows", "Cast", "EdgeirKeyGraph"),
        ("InsertedPrecisionFreeCast_conv2d_102", "Cast", "(Cast)"),
        ("Erf_4116", "Erf", "(Erf)"),
    ],
)
def test_layers_of_nodes(node: str, op: str, layer: str) -> None:
    assert layer_of(node, op) == layer


def test_a_layer_has_all_its_nodes_and_its_type() -> None:
    nodes = [
        NodeTime("a.ffn.dwconv/Conv", "Conv", 3.0),
        NodeTime("a.ffn.dwconv/QuantizeLinear", "QuantizeLinear", 1.0),
        NodeTime("a.norm/Sub", "Sub", 5.0),
        NodeTime("Erf_1", "Erf", 1.0),
    ]
    table, chart = layer_table(nodes, PLAN)
    assert table.rows == (
        ("a.norm", 5.0, 50.0, "fp16", None),
        ("a.ffn.dwconv", 4.0, 40.0, "int8", 0.012),
        ("(Erf)", 1.0, 10.0, None, None),
    )
    assert chart.find([table]) is table


def test_what_is_not_shown_is_counted() -> None:
    nodes = [NodeTime(f"a.l{index}.conv/Conv", "Conv", 2.0) for index in range(SHOWN + 4)]
    table, _ = layer_table(nodes, None)
    assert len(table.rows) == SHOWN + 1
    assert table.rows[-1] == ("4 others", 8.0, 16.7, None, None)
    assert sum(float(row[1] or 0) for row in table.rows) == pytest.approx(2.0 * len(nodes))


def test_bench_shows_them(cli: Any, made_static: Any) -> None:
    arguments = ("--against", "none", "--rounds", 1, "--no-memory", "--no-power", "--layers", "--json")
    value = json.loads(cli("bench", made_static, *arguments).done().out)
    (table,) = [table for table in value["tables"] if table["title"] == "Layers by time"]
    names = [row[0] for row in table["rows"]]
    assert any(name.endswith(".dwconv") for name in names)
    assert {row[3] for row in table["rows"]} & {"fp16", "fp32"}
    assert [chart["table"] for chart in value["charts"]] == ["Layers by time"]
