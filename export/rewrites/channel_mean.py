"""The mean over channels becomes a matrix product with a row of 1/C.

*What.* ``ReduceMean(x, axes=[1])`` of a map ``(N, C, H, W)`` becomes ``(1/C, ..., 1/C) @ x``, pixels as columns.

*Why.* ONNX Runtime on a CPU walks a mean over the second axis pixel by pixel, which takes a fifth of the time of a
network with layer norms; its matrix product reads the same map once, in order. TensorRT fuses the mean with the rest of
the norm, so that this rule is applied for ONNX Runtime only.

*When it refuses.* The mean is over other axes or drops its axis, the input has no four sides or an unknown number of
channels.

*Numerics.* An identity: ``sum(x) / C = sum(x * (1 / C))``, with 1/C rounded once, and other roundings of the sum.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from onnxscript.rewriter import MatchResult, RewriteRuleClassBase

from edgeir.export.rewrites.constants import constant

MEAN = "channel-mean-as-product"


class ChannelMeanAsProduct(RewriteRuleClassBase):
    """``ReduceMean`` over channels to ``MatMul``."""

    def __init__(self) -> None:
        super().__init__(name=MEAN)

    def pattern(self, op: Any, x: Any, axes: Any) -> Any:
        """The subgraph to look for."""
        return op.ReduceMean(x, axes, _outputs=["mean"])

    def check(  # type: ignore[override]  # the base names no bindings
        self, context: Any, x: ir.Value, axes: ir.Value, mean: ir.Value, **_: Any
    ) -> MatchResult:
        """Whether the identity holds here, and if not, why."""
        result = MatchResult()
        node, over = mean.producer(), constant(axes)
        assert node is not None
        if x.shape is None or len(x.shape) != 4:
            return result.fail("the input is not known to have four sides", node)
        if over is None or over.tolist() not in ([1], [-3]):
            return result.fail("the mean is not over channels alone", node)
        if node.attributes.get_int("keepdims", 1) != 1:
            return result.fail("the mean drops its axis", node)
        if not isinstance(x.shape[1], int) or x.dtype is None:
            return result.fail("the number of channels or the type is not known", node)
        return result

    def rewrite(self, op: Any, x: ir.Value, axes: ir.Value, mean: ir.Value) -> ir.Value:
        """Flatten, multiply, restore."""
        node = mean.producer()
        assert node is not None and x.shape is not None and x.dtype is not None
        _, channels, height, width = x.shape
        assert isinstance(channels, int)
        row = np.full((1, channels), 1 / channels, x.dtype.numpy())
        columns = op.Reshape(x, _integers(op, node, "columns", [0, 0, -1]))
        product = op.MatMul(op.initializer(ir.tensor(row, name=f"{node.name}.row")), columns)
        if isinstance(height, int) and isinstance(width, int):
            shape = _integers(op, node, "shape", [0, 1, height, width])
        else:
            shape = op.Concat(_integers(op, node, "leading", [0, 1]), op.Shape(x, start=2), axis=0)
        restored: ir.Value = op.Reshape(product, shape)
        return restored


def _integers(op: Any, node: ir.Node, role: str, numbers: list[int]) -> ir.Value:
    value: ir.Value = op.initializer(ir.tensor(np.array(numbers, np.int64), name=f"{node.name}.{role}"))
    return value
