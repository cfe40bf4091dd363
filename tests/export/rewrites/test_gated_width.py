"""Wider halves of a gated feed-forward network: exact, and refused where the parts are not what they seem."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
import pytest

from edgeir.export.rewrites.apply import apply_rules, explain
from edgeir.export.rewrites.channel_mean import MEAN
from edgeir.export.rewrites.gated_width import PAD
from edgeir.export.rewrites.split_conv import SPLIT

X = (1, 4, 6, 8)
WEIGHTS = {"w": (10, 4, 1, 1), "v": (10, 1, 3, 3), "u": (4, 5, 1, 1)}
GATED = (
    "p = Conv(x, w)\n d = Conv<group = 10, pads = [1, 1, 1, 1]>(p, v)\n "
    "a, b = Split<axis = 1, num_outputs = 2>(d)\n g = Gelu(a)\n m = Mul(g, b)\n y = Conv(m, u)"
)


def widths(model: ir.Model) -> list[int]:
    """Output channels of the convolutions."""
    sides = [node.inputs[1].shape for node in model.graph if node.op_type == "Conv"]  # type: ignore[union-attr]
    return [int(shape[0]) for shape in sides if shape is not None]  # type: ignore[arg-type]


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("gelu_first", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_five_become_eight(bias: bool, gelu_first: bool, swapped: bool, graph: Any, after: Any, dtype: Any) -> None:
    body, weights = GATED, dict(WEIGHTS)
    if bias:
        body = body.replace("x, w)", "x, w, c)").replace("p, v)", "p, v, c)").replace("m, u)", "m, u, e)")
        weights |= {"c": (10,), "e": (4,)}
    if gelu_first:
        body = body.replace(
            "d = Conv<group = 10, pads = [1, 1, 1, 1]>(p", "q = Gelu(p)\n d = Conv<group = 10, pads = [1, 1, 1, 1]>(q"
        )
    if swapped:
        body = body.replace("Mul(g, b)", "Mul(b, g)")
    model = graph(body, x=X, constants=weights)
    left = after(model, without=(SPLIT, MEAN))
    assert dict(left) == {"Conv": 3, "Split": 1, "Gelu": 2 if gelu_first else 1, "Mul": 1}
    changed = ir.from_proto(model)
    apply_rules(changed, [PAD])
    assert widths(changed) == [16, 16, 4]


@pytest.mark.parametrize(
    ("body", "constants", "reason"),
    [
        (
            GATED.replace("group = 10", "group = 16"),
            {"w": (16, 4, 1, 1), "v": (16, 1, 3, 3), "u": (4, 8, 1, 1)},
            "multiple of 8 already",
        ),
        (GATED.replace("group = 10", "group = 5"), WEIGHTS | {"v": (10, 2, 3, 3)}, "not depth-wise"),
        (GATED.replace("y = Conv(m, u)", "k = Relu(u)\n y = Conv(m, k)"), WEIGHTS, "weights are computed"),
        (
            GATED.replace("Split<axis = 1, num_outputs = 2>(d)", "Split<axis = -3, num_outputs = 2>(d)").replace(
                "y = Conv(m, u)", "y = Conv<pads = [1, 1, 1, 1]>(m, u)"
            ),
            WEIGHTS | {"u": (4, 5, 3, 3)},
            "not 1x1",
        ),
        (
            GATED.replace("Conv(x, w)", "Conv<group = 2>(x, w)"),
            WEIGHTS | {"w": (10, 2, 1, 1)},
            "grouped",
        ),
        (GATED.replace("y = Conv(m, u)", "n = Conv(m, u)\n y = Concat<axis = 1>(n, d)"), WEIGHTS, ""),
    ],
)
def test_where_it_refuses(
    body: str, constants: dict[str, tuple[int, ...]], reason: str, graph: Any, after: Any
) -> None:
    model = graph(body, x=X, constants=constants)
    kept = ir.from_proto(model)
    misses = explain(kept, PAD)
    assert not any(miss.fires for miss in misses)
    assert any(reason in miss.reason for miss in misses), misses
    after(model)
