"""A TopK of which only the smallest value is wanted need not sort.

*What.* ``ReduceMin(TopK<sorted = 1>(x, k).values)`` becomes the same with ``sorted = 0``: the k-th largest of every
row, which is the threshold of a key graph.

*Why.* ONNX Runtime selects k values and then sorts them; a third of the time of KGT's key graphs is the sorting.
TensorRT documents sorted output only, so that this rule is applied for ONNX Runtime.

*When it refuses.* The indices, or the values by themselves, are used; the minimum is over another axis than the TopK.

*Numerics.* The same numbers, bit for bit: the minimum of a set does not depend on its order.
"""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
from onnxscript.rewriter import MatchResult, RewriteRuleClassBase

from edgeir.export.rewrites.constants import attributes_of, constant

UNSORTED = "unsorted-top-k"


class UnsortedTopK(RewriteRuleClassBase):
    """``TopK`` without its sorting."""

    def __init__(self) -> None:
        super().__init__(name=UNSORTED)

    def pattern(self, op: Any, x: Any, k: Any, axes: Any) -> Any:
        """The subgraph to look for."""
        values, _ = op.TopK(x, k, _outputs=["values", "indices"])  # no other use of either: the matcher sees to it
        return op.ReduceMin(values, axes, _outputs=["least"])

    def check(  # type: ignore[override]  # the base names no bindings
        self, context: Any, values: ir.Value, axes: ir.Value, least: ir.Value, **_: Any
    ) -> MatchResult:
        """Whether the identity holds here, and if not, why."""
        result = MatchResult()
        node, minimum = values.producer(), least.producer()
        assert node is not None and minimum is not None
        over = constant(axes)
        if over is None or over.tolist() != [node.attributes.get_int("axis", -1)]:
            return result.fail("the minimum is over another axis", minimum)
        if node.attributes.get_int("sorted", 1) == 0:
            return result.fail("it does not sort already", node)
        return result

    def rewrite(
        self, op: Any, x: ir.Value, k: ir.Value, axes: ir.Value, values: ir.Value, least: ir.Value, **_: Any
    ) -> ir.Value:
        """The same two nodes, one attribute changed."""
        node, minimum = values.producer(), least.producer()
        assert node is not None and minimum is not None
        attributes = attributes_of(node)
        chosen, _unused = op.TopK(x, k, **(attributes | {"sorted": 0}), _outputs=2)
        kept = attributes_of(minimum)
        smallest: ir.Value = op.ReduceMin(chosen, axes, **kept)
        return smallest
