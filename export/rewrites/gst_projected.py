"""GST attention and the 1x1 convolution behind it become products of small matrices with the maps as they are.

*What.* With M_v and M_g the attention's rows for values and tokens, ``W (M_v V + up(M_g G))`` becomes
``(W M_v) V + up((W M_g) G)``: the convolution's weights are multiplied by C x C matrices, and by no map. The logits
divide C x C cosines by the norms and not the maps they are made of, and the tokens' products with one another are taken
at low resolution: ``up(G) up(G)^T = G (up^T up) G^T``, where ``up^T up`` of a bilinear doubling is the 3 x 3 stencil
``(3/8, 5/4, 3/8) x (3/8, 5/4, 3/8)`` on a map whose border is repeated; the diagonal of that matrix is the squares of
the upsampled tokens' norms.

*Why.* ONNX Runtime on a CPU is kept waiting by memory: per attention, three scaled copies of maps, a sum of squares, a
convolution and its two changes of layout are not made. TensorRT has a plugin for the attention and fuses what is around
it, so that this rule is applied for ONNX Runtime only.

*When it refuses.* FP16, where undivided products of large maps overflow; sizes that are not fixed; tokens that are not
of half the size; a projection that is no 1x1 convolution of one group with constant weights; an attention that others
read as well.

*Numerics.* An identity. float32 holds undivided sums of ten million squares with its relative precision unchanged.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from onnxscript.rewriter import MatchResult, RewriteRuleClassBase

from edgeir.export.rewrites.constants import has_computed_bias, is_pointwise, numbers_of
from edgeir.ops import table

GST = "gst-projected"

_STENCIL = (0.375, 1.25, 0.375)  # of up^T up, up the bilinear doubling with half-pixel centres


class GstProjected(RewriteRuleClassBase):
    """``Conv1x1(EdgeirGstAttention(...))`` to its low-resolution form."""

    def __init__(self) -> None:
        super().__init__(name=GST)

    def pattern(self, op: Any, query: Any, key: Any, value: Any, tokens: Any, temperature: Any, alpha: Any) -> Any:
        """The subgraph to look for."""
        attended = op.EdgeirGstAttention(
            query,
            key,
            value,
            tokens,
            temperature,
            alpha,
            _domain=table.DOMAIN,
            _allow_other_attributes=True,
        )
        return op.Conv(attended, _allow_other_inputs=True, _outputs=["projected"])

    def check(  # type: ignore[override]  # the base names no bindings
        self,
        context: Any,
        query: ir.Value,
        tokens: ir.Value,
        temperature: ir.Value,
        projected: ir.Value,
        **_: Any,
    ) -> MatchResult:
        """Whether the identity holds here, and if not, why."""
        result = MatchResult()
        conv = projected.producer()
        assert conv is not None
        if query.dtype not in (ir.DataType.FLOAT, ir.DataType.DOUBLE):
            return result.fail("undivided products overflow in this type, or the type is not known", query)
        for value in (query, tokens, temperature):
            if value.shape is None or not value.shape.is_static():
                return result.fail("the size is not fixed", value)
        assert query.shape is not None and tokens.shape is not None
        if query.shape.numpy()[2:] != tuple(2 * side for side in tokens.shape.numpy()[2:]):
            return result.fail("the tokens are not of half the size", tokens)
        if not is_pointwise(conv) or conv.attributes.get_int("group", 1) != 1:
            return result.fail("the projection is not a 1x1 convolution of one group with constant weights", conv)
        if has_computed_bias(conv):
            return result.fail("the bias of the projection is computed", conv)
        return result

    def rewrite(
        self,
        op: Any,
        query: ir.Value,
        key: ir.Value,
        value: ir.Value,
        tokens: ir.Value,
        temperature: ir.Value,
        alpha: ir.Value,
        projected: ir.Value,
        **_: Any,
    ) -> ir.Value:
        """The same result without the attended map."""
        conv = projected.producer()
        assert conv is not None
        form = _Form(op, conv, query, tokens, temperature)
        norm, unit = form.unit_tokens(tokens)
        weights = form.weights(query, key, unit, temperature, alpha)
        of_values, of_tokens = op.Split(weights, axis=-1, num_outputs=2, _outputs=2)
        of_units = op.Mul(of_tokens, op.Reshape(norm, form.as_row))
        from_values = op.Reshape(op.MatMul(form.projection(of_values), op.Reshape(value, form.flat)), form.out_shape)
        low = op.Reshape(op.MatMul(form.projection(of_units), op.Reshape(unit, form.flat)), form.low_out_shape)
        if form.bias is not None:
            low = op.Add(low, form.bias)  # an upsampled constant is that constant
        return op.Add(from_values, form.upsampled(low, form.out_shape))  # type: ignore[no-any-return]


class _Form:
    """The nodes of one rewritten attention, with its sizes as constants.

    Args:
        op: what a rule builds nodes with.
        conv: the projection, ``(O, C, 1, 1)``.
        query: ``(N, C, H, W)``.
        tokens: ``(N, C, H/2, W/2)``.
        temperature: ``(heads, 1, 1)``.
    """

    def __init__(self, op: Any, conv: ir.Node, query: ir.Value, tokens: ir.Value, temperature: ir.Value) -> None:
        assert query.shape is not None and tokens.shape is not None and temperature.shape is not None
        assert query.dtype is not None
        self._op, self._stem, self._type = op, conv.name or conv.outputs[0].name, query.dtype.numpy()
        batch, channels, height, width = query.shape.numpy()
        heads = int(temperature.shape.numpy()[0])
        weight, *bias = numbers_of(conv)
        outputs = weight.shape[0]
        self._channels = channels
        self._head_channels = channels // heads
        by_head = weight.reshape(outputs, heads, self._head_channels).swapaxes(0, 1)[None]
        self._weight = self._constant("weight", by_head)  # (1, heads, O, C/heads)
        self.bias = self._constant("bias", bias[0].reshape(1, -1, 1, 1)) if bias else None
        self._last, self._rows_axis = self._constant("last", [-1]), self._constant("rows_axis", [-2])
        self._floor = self._constant("floor", table.LEAST_NORM)
        self._rows = self._constant("rows", [batch, heads, self._head_channels, -1])
        self._as_column = self._constant("as_column", [batch, heads, -1, 1])
        self.as_row = self._constant("as_row", [batch, heads, 1, -1])
        self.flat = self._constant("flat", [batch, channels, -1])
        self._matrix = self._constant("matrix", [batch, outputs, channels])
        self._shape = self._constant("shape", [batch, channels, height, width])
        self._low_shape = self._constant("low_shape", [batch, channels, height // 2, width // 2])
        self.out_shape = self._constant("out_shape", [batch, outputs, height, width])
        self.low_out_shape = self._constant("low_out_shape", [batch, outputs, height // 2, width // 2])

    def _constant(self, role: str, numbers: Any) -> ir.Value:
        array = np.asarray(numbers)
        kind = np.int64 if array.dtype.kind == "i" else self._type
        tensor = ir.tensor(np.ascontiguousarray(array, kind), name=f"{self._stem}.{role}")
        value: ir.Value = self._op.initializer(tensor)
        return value

    def unit_tokens(self, tokens: ir.Value) -> tuple[ir.Value, ir.Value]:
        """Norms ``(N, C, 1, 1)`` of the softmax of each token map, and the maps over them, at low resolution."""
        weights = self._op.Softmax(self._op.Reshape(tokens, self.flat), axis=-1)
        low = self._op.Reshape(weights, self._low_shape)
        norm = self._norm(low)
        return norm, self._op.Mul(low, self._op.Reciprocal(norm))

    def weights(
        self, query: ir.Value, key: ir.Value, unit: ir.Value, temperature: ir.Value, alpha: ir.Value
    ) -> ir.Value:
        """The attention's rows, those of the tokens combined with those of the queries: ``(N, heads, c, 2c)``."""
        op = self._op
        q, k, g = (op.Reshape(maps, self._rows) for maps in (query, key, self.upsampled(unit, self._shape)))
        gg = self._gram(op.Reshape(unit, self._rows), op.Reshape(self._stencilled(unit), self._rows))
        squares = op.ReduceSum(op.Mul(gg, self._constant("eye", np.eye(self._head_channels))), self._last)
        over_g = op.Reciprocal(op.Max(op.Sqrt(squares), self._floor))  # a column
        over_q, over_k = (op.Reciprocal(self._norm(maps)) for maps in (query, key))
        over_q, row_k = op.Reshape(over_q, self._as_column), op.Reshape(over_k, self.as_row)
        row_g = op.Reshape(over_g, self.as_row)
        local = op.Concat(op.Mul(self._gram(q, k), row_k), op.Mul(self._gram(q, g), row_g), axis=-1)
        of_tokens = op.Concat(op.Mul(self._gram(g, k), row_k), op.Mul(gg, row_g), axis=-1)
        attended, reinjected = (
            op.Softmax(op.Mul(op.Mul(cosines, over), temperature), axis=-1)
            for cosines, over in ((local, over_q), (of_tokens, over_g))
        )
        combined: ir.Value = op.Add(attended, op.Mul(reinjected, alpha))
        return combined

    def projection(self, rows: ir.Value) -> ir.Value:
        """The projection's weights times ``rows``, ``(N, heads, c, c)``: ``(N, O, C)``."""
        by_head = self._op.MatMul(self._weight, rows)
        matrix: ir.Value = self._op.Reshape(self._op.Transpose(by_head, perm=[0, 2, 1, 3]), self._matrix)
        return matrix

    def upsampled(self, low: ir.Value, shape: ir.Value) -> ir.Value:
        """Twice the size, bilinear."""
        high: ir.Value = self._op.Resize(
            low, None, None, shape, mode="linear", coordinate_transformation_mode="half_pixel"
        )
        return high

    def _norm(self, maps: ir.Value) -> ir.Value:
        """``(N, C, 1, 1)``; along rows first, as the fused op's body says why."""
        along = self._op.ReduceSumSquare(maps, self._last)
        root = self._op.Sqrt(self._op.ReduceSum(along, self._rows_axis))
        norm: ir.Value = self._op.Max(root, self._floor)
        return norm

    def _gram(self, rows: ir.Value, others: ir.Value) -> ir.Value:
        gram: ir.Value = self._op.MatMul(rows, self._op.Transpose(others, perm=[0, 1, 3, 2]))
        return gram

    def _stencilled(self, unit: ir.Value) -> ir.Value:
        """``up^T up`` of each map."""
        bordered = self._op.Pad(unit, self._constant("border", [0, 0, 1, 1, 0, 0, 1, 1]), mode="edge")
        kernel = np.broadcast_to(np.outer(_STENCIL, _STENCIL), (self._channels, 1, 3, 3))
        stencilled: ir.Value = self._op.Conv(
            bordered, self._constant("stencil", kernel), group=self._channels, kernel_shape=[3, 3]
        )
        return stencilled
