"""The ONNX body of each fused op: a model-local function of standard operators.

A body is type-polymorphic: T is float16 or float32. Statistics (norms, softmax, similarities that decide the key
graph) are taken in float32 between casts and the other matrix products run in T, which is what a good kernel does
(FP16 in and out, FP32 inside). Bodies read every size from their inputs, so one name is one body for all layers,
sizes and models.
"""

from __future__ import annotations

from functools import cache

import onnx
import onnx.parser

from edgeir.ops import table

OPSET = 20
IR_VERSION = 10

_CONSTANTS = f"""
    eps = Constant<value = float {{{table.LEAST_NORM}}}>()
    last = Constant<value_ints = [-1]>()
"""


def _unit_rows(rows: str, result: str, *, times: str = "") -> str:
    """Lines that set ``result`` (T) to ``rows`` (T) with each row divided by its L2 norm, in float32 inside.

    ``times``: a float32 value that multiplies the rows as well, one number per row or fewer.
    """
    inverse = f"{rows}_inverse"
    scaled = f"{rows}_scaled = Mul({inverse}, {times})" if times else ""
    return f"""
    {rows}_f = Cast<to = 1>({rows})
    {rows}_l2 = ReduceL2({rows}_f, last)
    {rows}_norm = Max({rows}_l2, eps)
    {inverse} = Reciprocal({rows}_norm)
    {scaled}
    {rows}_unit = Mul({rows}_f, {f"{rows}_scaled" if times else inverse})
    {result} = CastLike({rows}_unit, {rows})
"""


# p_i . (p_j - m) orders the tokens j as p_i . p_j does, whatever m is. With m the window's mean, the products of tokens
# that share a large common part no longer drown their differences in rounding.
_KEY_GRAPH = """
    last = Constant<value_ints = [-1]>()
    token_axis = Constant<value_ints = [1]>()
    k = Constant<value_int: int = @k>()
    k_list = Reshape(k, last)
    tokens_f = Cast<to = 1>(tokens)
    mean = ReduceMean(tokens_f, token_axis)
    centred = Sub(tokens_f, mean)
    centred_t = Transpose<perm = [0, 2, 1]>(centred)
    similarity = MatMul(tokens_f, centred_t)
    nearest, nearest_index = TopK<axis = -1, largest = 1, sorted = 1>(similarity, k_list)
    threshold = ReduceMin(nearest, last)
    keep = GreaterOrEqual(similarity, threshold)
"""

# The scale multiplies the n x d rows of the queries, not the n x n logits: a pass over the largest tensor less.
_KEY_GRAPH_ATTENTION = (
    _CONSTANTS
    + """
    scale_f = Cast<to = 1>(scale)
"""
    + _unit_rows("query", "query_rows", times="scale_f")
    + _unit_rows("key", "key_rows")
    + f"""
    heads_axis = Constant<value_ints = [1]>()
    masked = Constant<value = float {{{table.MASKED_LOGIT}}}>()
    key_columns = Transpose<perm = [0, 1, 3, 2]>(key_rows)
    scaled = MatMul(query_rows, key_columns)
    scaled_f = Cast<to = 1>(scaled)
    bias_f = Cast<to = 1>(bias)
    logits = Add(scaled_f, bias_f)
    keep_heads = Unsqueeze(keep, heads_axis)
    kept = Where(keep_heads, logits, masked)
    weights_f = Softmax<axis = -1>(kept)
    weights = CastLike(weights_f, value)
    output = MatMul(weights, value)
"""
)


def _unit_maps(maps: str) -> str:
    """Lines that set ``{maps}_norm`` (float32) to the L2 norm of each map, and ``{maps}_unit`` to the map over it.

    Squares are summed along rows first and then over rows: runtimes that sum one element after the other (ONNX Runtime
    on a CPU) lose 2e-4 of the norm of a 1024x1024 map otherwise, and 1e-7 this way.
    """
    return f"""
    {maps}_f = Cast<to = 1>({maps})
    {maps}_rows_sum = ReduceSumSquare({maps}_f, last)
    {maps}_sum = ReduceSum({maps}_rows_sum, row_axis)
    {maps}_l2 = Sqrt({maps}_sum)
    {maps}_norm = Max({maps}_l2, eps)
    {maps}_inverse = Reciprocal({maps}_norm)
    {maps}_unit_f = Mul({maps}_f, {maps}_inverse)
    {maps}_unit = CastLike({maps}_unit_f, query)
"""


# Rows are (N, heads, C/heads, H*W). Tokens are normalised at low resolution to unit length first: their entries are
# then of the order 1/sqrt(positions), which FP16 holds, while raw softmax values (1/positions) vanish in it and
# mean-1 values of a peaked token overflow it. The norm returns as a scale on the columns that multiply the tokens.
# Temperature and alpha are expanded to the logits' size: TensorRT-RTX writes a constant of one number into the kernel
# that uses it, so that each attention of a trained network had kernels of its own (exda-tiny: 48 MB instead of 37).
_GST_ATTENTION = (
    _CONSTANTS
    + """
    row_axis = Constant<value_ints = [-2]>()
    zero = Constant<value_ints = [0]>()
    one = Constant<value_ints = [1]>()
    two = Constant<value_ints = [2]>()
    four = Constant<value_ints = [4]>()
    picture_shape = Shape(query)
    token_shape = Shape(tokens)
    temperature_shape = Shape(temperature)
    batch = Slice(picture_shape, zero, one)
    heads_ = Slice(temperature_shape, zero, one)
    sides = Slice(picture_shape, two, four)
    low_sides = Slice(token_shape, two, four)
    positions = ReduceProd(sides, zero)
    low_positions = ReduceProd(low_sides, zero)
    rows_shape = Concat<axis = 0>(batch, heads_, last, positions)
    low_rows_shape = Concat<axis = 0>(batch, heads_, last, low_positions)
    scale_shape = Concat<axis = 0>(batch, heads_, one, last)
    token_rows = Reshape(tokens, low_rows_shape)
    token_rows_f = Cast<to = 1>(token_rows)
    token_weights = Softmax<axis = -1>(token_rows_f)
    low = Reshape(token_weights, token_shape)
"""
    + _unit_maps("low")
    + """
    high = Resize<mode = "linear", coordinate_transformation_mode = "half_pixel">(low_unit, , , picture_shape)
"""
    + _unit_maps("query")
    + _unit_maps("key")
    + _unit_maps("high")
    + """
    q_rows = Reshape(query_unit, rows_shape)
    k_rows = Reshape(key_unit, rows_shape)
    g_rows = Reshape(high_unit, rows_shape)
    v_rows = Reshape(value, rows_shape)
    k_columns = Transpose<perm = [0, 1, 3, 2]>(k_rows)
    g_columns = Transpose<perm = [0, 1, 3, 2]>(g_rows)
    qk = MatMul(q_rows, k_columns)
    qg = MatMul(q_rows, g_columns)
    gk = MatMul(g_rows, k_columns)
    gg = MatMul(g_rows, g_columns)
    local_rows = Concat<axis = -1>(qk, qg)
    global_rows = Concat<axis = -1>(gk, gg)
    local_f = Cast<to = 1>(local_rows)
    global_f = Cast<to = 1>(global_rows)
    logits_shape = Shape(local_f)
    tile = Slice(logits_shape, two, four)
    temperature_f = Cast<to = 1>(temperature)
    alpha_f = Cast<to = 1>(alpha)
    temperatures = Expand(temperature_f, tile)
    alphas = Expand(alpha_f, tile)
    local_logits = Mul(local_f, temperatures)
    global_logits = Mul(global_f, temperatures)
    local_weights = Softmax<axis = -1>(local_logits)
    global_weights = Softmax<axis = -1>(global_logits)
    reinjected = Mul(global_weights, alphas)
    combined = Add(local_weights, reinjected)
    of_values_f, of_tokens_f = Split<axis = -1, num_outputs = 2>(combined)
    of_values = CastLike(of_values_f, value)
    token_scale = Reshape(low_norm, scale_shape)
    of_units_f = Mul(of_tokens_f, token_scale)
    of_units = CastLike(of_units_f, value)
    from_values = MatMul(of_values, v_rows)
    unit_rows = Reshape(low_unit, low_rows_shape)
    from_tokens_low = MatMul(of_units, unit_rows)
    tokens_low = Reshape(from_tokens_low, token_shape)
    tokens_high = Resize<mode = "linear", coordinate_transformation_mode = "half_pixel">(tokens_low, , , picture_shape)
    values_high = Reshape(from_values, picture_shape)
    output = Add(values_high, tokens_high)
"""
)

_BODIES = {
    table.KEY_GRAPH.name: _KEY_GRAPH,
    table.KEY_GRAPH_ATTENTION.name: _KEY_GRAPH_ATTENTION,
    table.GST_ATTENTION.name: _GST_ATTENTION,
}


@cache
def function_proto(name: str) -> onnx.FunctionProto:
    """The body of the fused op ``name`` as a ``FunctionProto`` of domain ``edgeir``, opset 20.

    Raises:
        KeyError: there is no such op.
    """
    op = next(op for op in table.FUSED_OPS if op.name == name)
    attributes = "".join(f"{attribute.name}, " for attribute in op.attributes).rstrip(", ")
    text = (
        f'<domain: "{table.DOMAIN}", opset_import: ["" : {OPSET}]>\n'
        + f"{op.name} {f'<{attributes}> ' if attributes else ''}({', '.join(field.name for field in op.inputs)}) => "
        + f"({', '.join(field.name for field in op.outputs)}) {{{_BODIES[name]}}}"
    )
    function = onnx.parser.parse_function(text)
    function.doc_string = op.doc
    for index, node in enumerate(function.node):
        node.name = f"{op.name}.{node.output[0] or index}"
    return function
