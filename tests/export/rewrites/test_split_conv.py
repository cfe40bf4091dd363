"""Parts that are born apart: exact, bit for bit in a reference evaluator, and refused where the whole is needed."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
import pytest

from edgeir.export.rewrites.apply import explain
from edgeir.export.rewrites.split_conv import SPLIT

X = (1, 4, 6, 8)
CONVS = "p = Conv(x, w)\n d = Conv<group = 12, pads = [1, 1, 1, 1]>(p, v)\n "
WEIGHTS = {"w": (12, 4, 1, 1), "v": (12, 1, 3, 3)}


@pytest.mark.parametrize("parts", [2, 3])
@pytest.mark.parametrize("bias", [False, True])
def test_parts_are_born_apart(parts: int, bias: bool, graph: Any, after: Any) -> None:
    names = [f"a{index}" for index in range(parts)]
    body = CONVS.replace("w)", "w, c)").replace("v)", "v, c)") if bias else CONVS
    body += f"{', '.join(names)} = Split<axis = 1, num_outputs = {parts}>(d)\n y = Sum({', '.join(names)})"
    left = after(graph(body, x=X, constants=WEIGHTS | ({"c": (12,)} if bias else {})))
    assert dict(left) == {"Conv": 2 * parts, "Sum": 1}


@pytest.mark.parametrize(
    ("body", "constants", "reason"),
    [
        (CONVS + "a, b = Split<axis = 2, num_outputs = 2>(d)\n y = Mul(a, b)", WEIGHTS, "not over channels"),
        (
            CONVS + "n = Constant<value_ints = [6, 6]>()\n a, b = Split<axis = 1>(d, n)\n y = Mul(a, b)",
            WEIGHTS,
            "",
        ),
        (
            CONVS + "a, b = Split<axis = 1, num_outputs = 2>(d)\n e = Mul(a, b)\n y = Concat<axis = 1>(e, d)",
            WEIGHTS,
            "used elsewhere",
        ),
        (
            CONVS + "a, b = Split<axis = 1, num_outputs = 2>(d)\n e = Mul(a, b)\n y = Concat<axis = 1>(e, p)",
            WEIGHTS,
            "used elsewhere",
        ),
        (
            "p = Conv(x, w)\n d = Conv<group = 6, pads = [1, 1, 1, 1]>(p, v)\n "
            "a, b = Split<axis = 1, num_outputs = 2>(d)\n y = Mul(a, b)",
            {"w": (12, 4, 1, 1), "v": (12, 2, 3, 3)},
            "not depth-wise",
        ),
        (
            "p = Conv(x, w)\n d = Conv<group = 4>(p, v)\n a, b = Split<axis = 1, num_outputs = 2>(d)\n y = Mul(a, b)",
            {"w": (4, 4, 1, 1), "v": (8, 1, 1, 1)},
            "not depth-wise",
        ),
        (
            "p = Conv<group = 2>(x, w)\n d = Conv<group = 4>(p, v)\n a, b = Split<axis = 1, num_outputs = 2>(d)"
            "\n y = Mul(a, b)",
            {"w": (4, 2, 1, 1), "v": (4, 1, 1, 1)},
            "one to one",
        ),
        (
            "u = Relu(w)\n p = Conv(x, u)\n d = Conv<group = 4>(p, v)\n a, b = Split<axis = 1, num_outputs = 2>(d)"
            "\n y = Mul(a, b)",
            {"w": (4, 4, 1, 1), "v": (4, 1, 1, 1)},
            "weights are computed",
        ),
    ],
)
def test_where_it_refuses(
    body: str, constants: dict[str, tuple[int, ...]], reason: str, graph: Any, after: Any
) -> None:
    model = graph(body, x=X, constants=constants)
    before = sorted(node.op_type for node in model.graph.node if node.op_type != "Constant")
    assert sorted(op for op in after(model).elements() if op != "Constant") == before
    misses = explain(ir.from_proto(model), SPLIT)
    assert not any(miss.fires for miss in misses)
    assert any(reason in miss.reason for miss in misses), misses
