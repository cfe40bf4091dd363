"""The hidden width of a gated feed-forward network becomes a multiple of 8, by channels of zeros.

*What.* In ``Conv1x1(Gelu(a) * b)`` with ``a, b = Split(DWConv(Conv1x1(x)))``, each half gets channels whose weights are
zero, up to the next multiple of 8: 85 become 88. A GELU in front of the depth-wise convolution may stand there or not.

*Why.* 2.66 times the width of the network is a number that no kernel likes: vectors of a CPU, and tensor cores in FP16,
take channels eight or sixteen at a time, and convert maps of other widths on the way in and out.

*When it refuses.* The width is a multiple of 8 already, a map in between is used elsewhere, the Split is not over
channels or into equal parts, the second convolution is not depth-wise, a weight is computed.

*Numerics.* An identity: GELU(0) * 0 = 0, and the last convolution has zeros for these channels too. The other sums have
the same terms; a kernel may take them in another order.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnxscript.rewriter import MatchResult, RewriteRuleClassBase

from edgeir.export.rewrites.constants import attributes_of, constant, conv_like, is_pointwise, numbers_of

PAD = "pad-gated-width"
MULTIPLE = 8


class PadGatedWidth(RewriteRuleClassBase):
    """Zero channels for a width that is no multiple of 8.

    Args:
        gelu_first: the form with a GELU before the depth-wise convolution.
        swapped: the form that multiplies ``b * Gelu(a)``.
    """

    def __init__(self, gelu_first: bool, swapped: bool) -> None:
        super().__init__(name=PAD)
        self._gelu_first = gelu_first
        self._swapped = swapped

    def pattern(self, op: Any, x: Any) -> Any:
        """The subgraph to look for."""
        widened = op.Conv(x, _allow_other_inputs=True, _outputs=["widened"])
        before = op.Gelu(widened, _outputs=["before"]) if self._gelu_first else widened
        both = op.Conv(before, _allow_other_inputs=True, _outputs=["both"])
        gate, linear = op.Split(both, _outputs=["gate", "linear"])
        opened = op.Gelu(gate, _outputs=["opened"])
        gated = op.Mul(linear, opened) if self._swapped else op.Mul(opened, linear)
        return op.Conv(gated, _allow_other_inputs=True, _outputs=["narrowed"])

    def check(  # type: ignore[override]  # the base names no bindings
        self, context: Any, widened: ir.Value, both: ir.Value, gate: ir.Value, narrowed: ir.Value, **_: Any
    ) -> MatchResult:
        """Whether the identity holds here, and if not, why."""
        result = MatchResult()
        first, second, last = (value.producer() for value in (widened, both, narrowed))
        split = gate.producer()
        assert first is not None and second is not None and last is not None and split is not None
        if any(constant(source) is None for conv in (first, second, last) for source in conv.inputs[1:]):
            return result.fail("weights are computed", first)
        if split.attributes.get_int("axis", 0) not in (1, -3):
            return result.fail("the split is not over channels", split)
        if not (is_pointwise(first) and is_pointwise(last)):
            return result.fail("the convolutions around are not 1x1", first)
        if any(conv.attributes.get_int("group", 1) != 1 for conv in (first, last)):
            return result.fail("the convolutions around are grouped", first)
        channels = numbers_of(first)[0].shape[0]
        if numbers_of(second)[0].shape[:2] != (channels, 1) or second.attributes.get_int("group", 1) != channels:
            return result.fail("the second convolution is not depth-wise", second)
        if len(split.inputs) > 1 or channels % 2:
            return result.fail("the halves are not equal", split)
        if (channels // 2) % MULTIPLE == 0:
            return result.fail(f"the width is a multiple of {MULTIPLE} already", last)
        return result

    def rewrite(
        self,
        op: Any,
        x: ir.Value,
        widened: ir.Value,
        both: ir.Value,
        opened: ir.Value,
        narrowed: ir.Value,
        before: ir.Value | None = None,
        **_: Any,
    ) -> ir.Value:
        """The same with wider halves."""
        first, second, last, activation = (value.producer() for value in (widened, both, narrowed, opened))
        assert first is not None and second is not None and last is not None and activation is not None
        hidden = numbers_of(first)[0].shape[0] // 2
        more = -hidden % MULTIPLE
        gelu = attributes_of(activation)
        wide = _padded(op, x, first, [_pad_halves(numbers, more) for numbers in numbers_of(first)])
        if before is not None:
            earlier = before.producer()
            assert earlier is not None
            wide = op.Gelu(wide, **attributes_of(earlier))
        halves = _padded(op, wide, second, [_pad_halves(numbers, more) for numbers in numbers_of(second)])
        gate, linear = op.Split(halves, axis=1, num_outputs=2, _outputs=2)
        gated = op.Mul(op.Gelu(gate, **gelu), linear)
        weight, *bias = numbers_of(last)
        padded = np.pad(weight, ((0, 0), (0, more), (0, 0), (0, 0)))
        return _padded(op, gated, last, [padded, *bias])


def _pad_halves(numbers: NDArray[np.generic], more: int) -> NDArray[np.generic]:
    """``more`` zeros along the first axis behind each of its halves."""
    wider = [(0, more), *[(0, 0)] * (numbers.ndim - 1)]
    return np.concatenate([np.pad(half, wider) for half in np.split(numbers, 2)])


def _padded(op: Any, x: ir.Value, conv: ir.Node, numbers: list[NDArray[np.generic]]) -> ir.Value:
    return conv_like(op, x, conv, numbers, f"{conv.name}.padded")
