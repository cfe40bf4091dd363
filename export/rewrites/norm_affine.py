"""The scale and shift of a normalisation move into the 1x1 convolutions behind it.

*What.* ``Conv1x1(x * scale + shift; W, b)`` becomes ``Conv1x1(x; W diag(scale), b + W shift)``, and so does a scale
without a shift. An average pooling without padding in between is passed first: the mean of ``x * scale + shift`` is the
mean of ``x`` times scale plus shift.

*Why.* Two passes over all channels of a map are two reads and two writes of memory; the convolution does the same on
its weights, once, at export.

*When it refuses.* A kernel larger than 1x1 or padding (the shift would have to be padded too), a stride, scale or shift
that are not constants per channel, weights that are computed.

*Numerics.* An identity: products and sums of constants in float64, rounded once to the type of the weights. A network
in float32 differs by the rounding of its weights.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from onnxscript.rewriter import MatchResult, RewriteRuleClassBase

from edgeir.export.rewrites.constants import (
    attributes_of,
    constant,
    conv_like,
    has_computed_bias,
    is_pointwise,
    per_channel,
)

POOL = "pool-before-affine"
FOLD = "affine-into-conv"


class _BehindAffine(RewriteRuleClassBase):
    """A rule for what stands behind a scale and a shift, or, with ``shifted=False``, a scale alone."""

    rule_name = ""

    def __init__(self, shifted: bool) -> None:
        super().__init__(name=self.rule_name, remove_nodes=False)
        self._shifted = shifted

    def _affine(self, op: Any, x: Any, scale: Any, shift: Any) -> Any:
        scaled = op.Mul(x, scale)
        return op.Add(scaled, shift) if self._shifted else scaled


class PoolBeforeAffine(_BehindAffine):
    """``AveragePool(x * scale + shift)`` to ``AveragePool(x) * scale + shift``; ``shifted=False``: without a shift."""

    rule_name = POOL

    def pattern(self, op: Any, x: Any, scale: Any, shift: Any) -> Any:
        """The subgraph to look for."""
        return op.AveragePool(self._affine(op, x, scale, shift), _outputs=["pooled"])

    def check(  # type: ignore[override]  # the base names no bindings
        self, context: Any, pooled: ir.Value, scale: ir.Value, shift: ir.Value | None = None, **_: Any
    ) -> MatchResult:
        """Whether the identity holds here, and if not, why."""
        result = MatchResult()
        node = pooled.producer()
        assert node is not None
        if any(node.attributes.get_ints("pads", [0])) or node.attributes.get_string("auto_pad", "NOTSET") != "NOTSET":
            return result.fail("the pooling pads: the means at its border hold fewer pixels", node)
        if node.attributes.get_int("ceil_mode", 0):
            return result.fail("the pooling rounds up: its last means may hold fewer pixels", node)
        if per_channel(scale) is None or (shift is not None and per_channel(shift) is None):
            return result.fail("scale and shift are not constants per channel", scale)
        return result

    def rewrite(
        self, op: Any, x: ir.Value, scale: ir.Value, pooled: ir.Value, shift: ir.Value | None = None
    ) -> ir.Value:
        """The same result, pooled first."""
        node = pooled.producer()
        assert node is not None
        mean = op.AveragePool(x, **attributes_of(node))
        mean.producer().name = node.name
        scaled: ir.Value = op.Mul(mean, scale)
        return scaled if shift is None else op.Add(scaled, shift)


class AffineIntoConv(_BehindAffine):
    """``Conv1x1(x * scale + shift)`` to ``Conv1x1(x)`` with other weights; ``shifted=False``: without a shift."""

    rule_name = FOLD

    def pattern(self, op: Any, x: Any, scale: Any, shift: Any) -> Any:
        """The subgraph to look for."""
        return op.Conv(self._affine(op, x, scale, shift), _allow_other_inputs=True, _outputs=["mapped"])

    def check(  # type: ignore[override]  # the base names no bindings
        self, context: Any, mapped: ir.Value, scale: ir.Value, shift: ir.Value | None = None, **_: Any
    ) -> MatchResult:
        """Whether the identity holds here, and if not, why."""
        result = MatchResult()
        conv = mapped.producer()
        assert conv is not None
        if not is_pointwise(conv):
            return result.fail("the convolution is not a 1x1 without padding and stride, with constant weights", conv)
        if has_computed_bias(conv):
            return result.fail("the bias of the convolution is computed", conv)
        for value in (scale, shift):
            numbers = None if value is None else per_channel(value)
            if value is not None and (numbers is None or numbers.size not in (1, _in_channels(conv))):
                return result.fail("scale and shift are not constants per channel", value)
        return result

    def rewrite(
        self, op: Any, x: ir.Value, scale: ir.Value, mapped: ir.Value, shift: ir.Value | None = None
    ) -> ir.Value:
        """The convolution alone."""
        conv = mapped.producer()
        assert conv is not None
        weight, channels = constant(conv.inputs[1]), _in_channels(conv)
        assert weight is not None
        # Row i of W sees the input channels of its group, in order.
        groups = conv.attributes.get_int("group", 1)
        outputs, width = weight.shape[:2]
        seen = np.repeat(np.arange(groups) * width, outputs // groups)[:, None] + np.arange(width)
        wide = weight[:, :, 0, 0].astype(np.float64)
        scaled = (wide * np.broadcast_to(_numbers(scale), channels)[seen]).astype(weight.dtype)
        bias = constant(conv.inputs[2]) if len(conv.inputs) > 2 else None
        if shift is not None:
            moved = (wide * np.broadcast_to(_numbers(shift), channels)[seen]).sum(axis=1)
            bias = (moved + (0 if bias is None else bias.astype(np.float64))).astype(weight.dtype)
        numbers = [scaled[:, :, None, None]] if bias is None else [scaled[:, :, None, None], bias]
        return conv_like(op, x, conv, numbers, conv.name or "")


def _in_channels(conv: ir.Node) -> int:
    weight = constant(conv.inputs[1])
    assert weight is not None
    return int(weight.shape[1]) * conv.attributes.get_int("group", 1)


def _numbers(value: ir.Value) -> np.ndarray[Any, np.dtype[np.float64]]:
    numbers = per_channel(value)
    assert numbers is not None
    return numbers.astype(np.float64)
