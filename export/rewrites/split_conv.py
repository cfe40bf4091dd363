"""Convolutions whose result is split at once become one convolution per part.

*What.* ``Split(DWConv(Conv1x1(x)))`` over channels becomes one ``DWConv(Conv1x1(x))`` per part, each with its rows of
the weights: q, k and v, and the two halves of a gated feed-forward network.

*Why.* Split copies the whole map; parts that are born apart need no copy. But an engine
of TensorRT-RTX for exda-tiny grows from 37 to 55 MB, since each part is a kernel of its own, which is why this rule is
applied on request only.

*When it refuses.* The map before the Split is used elsewhere, the Split is not over channels or into equal parts, the
second convolution is not depth-wise, a weight is computed.

*Numerics.* The same sums in the same order: equal bit for bit wherever a runtime's kernel does not depend on the number
of channels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from onnxscript.rewriter import MatchResult, RewriteRuleClassBase

from edgeir.export.rewrites.constants import constant, conv_like, numbers_of

SPLIT = "split-convs"


class SplitConvs(RewriteRuleClassBase):
    """``Split(DWConv(Conv1x1(x)))`` into ``parts`` parts, to that many pairs of convolutions."""

    def __init__(self, parts: int) -> None:
        super().__init__(name=SPLIT)
        self._parts = parts

    def pattern(self, op: Any, x: Any) -> Any:
        """The subgraph to look for."""
        pointwise = op.Conv(x, _allow_other_inputs=True, _outputs=["pointwise"])
        depthwise = op.Conv(pointwise, _allow_other_inputs=True, _outputs=["depthwise"])
        return op.Split(depthwise, _outputs=[f"part{index}" for index in range(self._parts)])

    def check(  # type: ignore[override]  # the base names no bindings
        self, context: Any, pointwise: ir.Value, depthwise: ir.Value, part0: ir.Value, **_: Any
    ) -> MatchResult:
        """Whether the identity holds here, and if not, why."""
        result = MatchResult()
        first, second, split = pointwise.producer(), depthwise.producer(), part0.producer()
        assert first is not None and second is not None and split is not None
        for value in (pointwise, depthwise):
            if len(value.uses()) > 1 or value.is_graph_output():
                return result.fail("the whole map is used elsewhere", value)
        if split.attributes.get_int("axis", 0) not in (1, -3):
            return result.fail("the split is not over channels", split)
        weights = [constant(conv.inputs[1]) for conv in (first, second)]
        if weights[0] is None or weights[1] is None:
            return result.fail("weights are computed", first)
        if any(len(conv.inputs) > 2 and constant(conv.inputs[2]) is None for conv in (first, second)):
            return result.fail("a bias is computed", first)
        outputs = weights[1].shape[0]
        if weights[1].shape[1] != 1 or second.attributes.get_int("group", 1) != outputs != 1:
            return result.fail("the second convolution is not depth-wise", second)
        if first.attributes.get_int("group", 1) != 1 or weights[0].shape[0] != outputs:
            return result.fail("the channels of the two convolutions do not correspond one to one", first)
        if outputs % self._parts or len(split.inputs) > 1:
            return result.fail("the parts are not equal", split)
        return result

    def rewrite(self, op: Any, x: ir.Value, pointwise: ir.Value, depthwise: ir.Value, **_: Any) -> tuple[ir.Value, ...]:
        """One pair of convolutions per part."""
        first, second = pointwise.producer(), depthwise.producer()
        assert first is not None and second is not None
        return tuple(self._conv(op, self._conv(op, x, first, index), second, index) for index in range(self._parts))

    def _conv(self, op: Any, x: ir.Value, conv: ir.Node, index: int) -> ir.Value:
        """Part ``index`` of ``conv``, on ``x``."""
        rows = [np.ascontiguousarray(np.split(numbers, self._parts)[index]) for numbers in numbers_of(conv)]
        return conv_like(op, x, conv, rows, f"{conv.name}.part{index + 1}")
