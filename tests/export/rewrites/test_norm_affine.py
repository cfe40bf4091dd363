"""Scale and shift into the 1x1 convolutions behind: exact, through a pooling, and refused where they do not commute."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
import pytest

from edgeir.export.rewrites.apply import RULE_KEY, explain, rewrite
from edgeir.export.rewrites.norm_affine import FOLD, POOL

X = (1, 4, 6, 8)
AFFINE = "m = Mul(x, s)\n a = Add(m, t)\n "
CHANNELS = {"s": (4, 1, 1), "t": (1, 4, 1, 1)}


@pytest.mark.parametrize(
    ("body", "constants"),
    [
        (AFFINE + "y = Conv(a, w)", CHANNELS | {"w": (5, 4, 1, 1)}),
        (
            AFFINE + "y = Conv<kernel_shape = [1, 1], pads = [0, 0, 0, 0]>(a, w, b)",
            CHANNELS | {"w": (5, 4, 1, 1), "b": (5,)},
        ),
        (AFFINE + "y = Conv<group = 2>(a, w)", CHANNELS | {"w": (6, 2, 1, 1)}),
        ("a = Mul(x, s)\n y = Conv(a, w)", {"s": (4, 1, 1), "w": (5, 4, 1, 1)}),
        ("a = Mul(x, s)\n y = Conv(a, w, b)", {"s": (1, 4, 1, 1), "w": (5, 4, 1, 1), "b": (5,)}),
        (AFFINE + "y = Conv(a, w)", {"s": (1, 1, 1), "t": (1, 1, 1), "w": (5, 4, 1, 1)}),
    ],
    ids=["plain", "bias", "groups", "scale alone", "scale and bias", "one number"],
)
def test_the_affine_disappears(body: str, constants: dict[str, tuple[int, ...]], graph: Any, after: Any) -> None:
    assert dict(after(graph(body, x=X, constants=constants))) == {"Conv": 1}


def test_two_users_fold_apart(graph: Any, after: Any) -> None:
    body = AFFINE + "p = Conv(a, w)\n q = Conv<group = 4>(a, v)\n y = Concat<axis = 1>(p, q)"
    left = after(graph(body, x=X, constants=CHANNELS | {"w": (5, 4, 1, 1), "v": (4, 1, 1, 1)}))
    assert dict(left) == {"Conv": 2, "Concat": 1}


def test_another_user_keeps_the_affine(graph: Any, after: Any) -> None:
    body = AFFINE + "y = Conv(a, w)\n z = Relu(a)"
    left = after(graph(body, x=X, constants=CHANNELS | {"w": (5, 4, 1, 1)}, outputs=("y", "z")))
    assert dict(left) == {"Mul": 1, "Add": 1, "Conv": 1, "Relu": 1}


@pytest.mark.parametrize("affine", [AFFINE, "a = Mul(x, s)\n "], ids=["affine", "scale"])
def test_through_a_pooling(affine: str, graph: Any, after: Any) -> None:
    body = affine + "p = AveragePool<kernel_shape = [2, 2], strides = [2, 2]>(a)\n y = Conv(p, w)"
    left = after(graph(body, x=X, constants=CHANNELS | {"w": (5, 4, 1, 1)}))
    assert dict(left) == {"AveragePool": 1, "Conv": 1}


@pytest.mark.parametrize(
    ("body", "constants", "rule", "reason"),
    [
        (AFFINE + "y = Conv(a, w)", CHANNELS | {"w": (5, 4, 3, 3)}, FOLD, "not a 1x1"),
        (AFFINE + "y = Conv<pads = [1, 1, 1, 1]>(a, w)", CHANNELS | {"w": (5, 4, 1, 1)}, FOLD, "not a 1x1"),
        (AFFINE + "y = Conv<strides = [2, 2]>(a, w)", CHANNELS | {"w": (5, 4, 1, 1)}, FOLD, "not a 1x1"),
        (AFFINE + "v = Relu(w)\n y = Conv(a, v)", CHANNELS | {"w": (5, 4, 1, 1)}, FOLD, "not a 1x1"),
        (AFFINE + "c = Relu(b)\n y = Conv(a, w, c)", CHANNELS | {"w": (5, 4, 1, 1), "b": (5,)}, FOLD, "bias"),
        (AFFINE + "y = Conv(a, w)", {"s": (4, 6, 8), "t": (4, 1, 1), "w": (5, 4, 1, 1)}, FOLD, "per channel"),
        (AFFINE + "y = Conv(a, w)", {"s": (4, 1, 1), "t": (1, 4, 6, 1), "w": (5, 4, 1, 1)}, FOLD, "per channel"),
        (
            AFFINE + "y = AveragePool<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(a)",
            CHANNELS,
            POOL,
            "pads",
        ),
        (
            AFFINE + "y = AveragePool<kernel_shape = [4, 4], strides = [3, 3], ceil_mode = 1>(a)",
            CHANNELS,
            POOL,
            "rounds up",
        ),
        (AFFINE + "y = AveragePool<kernel_shape = [2, 2]>(a)", {"s": (6, 8), "t": (4, 1, 1)}, POOL, "per channel"),
    ],
)
def test_where_it_refuses(
    body: str, constants: dict[str, tuple[int, ...]], rule: str, reason: str, graph: Any, after: Any
) -> None:
    model = graph(body, x=X, constants=constants)
    before = [node.op_type for node in model.graph.node]
    assert sorted(after(model).elements()) == sorted(before)
    misses = explain(ir.from_proto(model), rule)
    assert misses
    assert not any(miss.fires for miss in misses)
    assert any(reason in miss.reason for miss in misses), misses


def test_new_nodes_carry_rule_and_module(graph: Any) -> None:
    body = AFFINE + "p = AveragePool<kernel_shape = [2, 2], strides = [2, 2]>(a)\n y = Conv(p, w)\n z = Relu(a)"
    model = ir.from_proto(graph(body, x=X, constants=CHANNELS | {"w": (5, 4, 1, 1)}, outputs=("y", "z")))
    rewrite(model)
    made = {node.op_type: node for node in model.graph if RULE_KEY in node.metadata_props}
    assert FOLD in made["Conv"].metadata_props[RULE_KEY]
    assert POOL in made["AveragePool"].metadata_props[RULE_KEY]
    assert made["Conv"].name == "block.3/Conv"
    names = [node.name for node in model.graph]
    assert all(names)
    assert len(set(names)) == len(names)


def test_a_rule_can_be_left_out(graph: Any, after: Any) -> None:
    model = graph(AFFINE + "y = Conv(a, w)", x=X, constants=CHANNELS | {"w": (5, 4, 1, 1)})
    assert dict(after(model, without=(FOLD,))) == {"Mul": 1, "Add": 1, "Conv": 1}
