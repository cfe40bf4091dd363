"""Which nodes must stay FP32 in an FP16 graph, and why: the plan that needs no pictures.

The rules are read off the graph; sources are the known failures of restoration networks in FP16:

* *Statistics* (means, variances, norms, softmax): a sum of squares over H*W passes 65504 at 256x256, LayerNorm's
  epsilon is 0 in FP16.
* *Elementwise nodes around statistics*, in the same module: what only feeds them, and what scales by their result (the
  reciprocal norm of a long row is below FP16's normal range).
* *Averages over the picture*: softmax weights over H*W positions are about 1/(H*W), which FP16 cannot hold.
* *Constants* that overflow FP16 or vanish in it.
* *The residual with the input picture*, so that the picture itself is not rounded.
* *What neighbours are chosen by*: a key graph and the residual stream it reads, because rounding changes the choice.

Fused ops keep their statistics in FP32 inside (`edgeir.ops.functions`), so the node itself runs in FP16.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from edgeir.ops import table
from edgeir.precision import LayerPlan, Precision, PrecisionPlan, module_of

FP16_MAX = 65504.0
FP16_SMALLEST = 2.0**-24

# Softmax weights of rows longer than this average below FP16's smallest normal number times 4 (2**-12).
LONG_ROW = 4096

STATISTICS = frozenset(
    {
        "Exp", "GlobalAveragePool", "GroupNormalization", "InstanceNormalization", "LayerNormalization", "Log",
        "LogSoftmax", "Pow", "Reciprocal", "ReduceL2", "ReduceLogSumExp", "ReduceMean", "ReduceProd", "ReduceSum",
        "Softmax", "Sqrt",
    }
)  # fmt: skip
_STATISTIC_REASONS = {
    "LayerNormalization": "LayerNorm statistics: their epsilon is 0 and their squares overflow in FP16",
    "ReduceMean": "mean and variance over channels or positions: sums and epsilon leave FP16's range",
    "Softmax": "softmax: exponentials and their sum leave FP16's range",
}
# Their results are of order 1 whatever went in: an island ends with them.
NORMALISED = frozenset({"GroupNormalization", "InstanceNormalization", "LayerNormalization", "LogSoftmax", "Softmax"})
ELEMENTWISE = frozenset({"Abs", "Add", "Clip", "Div", "Max", "Min", "Mul", "Neg", "Sigmoid", "Sub", "Where"})
# Nodes that move or choose elements and compute nothing: they take the type of what they are given.
MOVEMENT = frozenset(
    {
        "Concat", "DepthToSpace", "Expand", "Flatten", "Gather", "Identity", "Pad", "Reshape", "Slice", "SpaceToDepth",
        "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze",
    }
)  # fmt: skip
# Nodes whose result has a type of its own, whatever they are given.
OWN_TYPE = frozenset({"Cast", "Constant", "ConstantOfShape", "EyeLike", "Range", "Shape", "Size"})
FLOATS = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16})


def computes(node: ir.Node) -> bool:
    """Whether ``node`` computes with floating-point numbers: a plan decides on such nodes and on no others."""
    if node.op_type in MOVEMENT or node.op_type in OWN_TYPE:
        return False
    return any(value is not None and value.dtype in FLOATS for value in node.inputs)


def plan_fp16(model: ir.Model) -> PrecisionPlan:
    """Plan FP16 everywhere but where the rules above say FP32.

    Args:
        model: an FP32 graph with named nodes (`edgeir.export.trace`), not changed.

    Returns:
        A plan whose exceptions name whole modules where every computing node of the module stays FP32, and single
        nodes elsewhere, each with its reason.
    """
    reasons: dict[str, str] = {}
    islands = [node for node in model.graph if node.op_type in STATISTICS and computes(node)]
    for node in islands:
        reasons[_name(node)] = _STATISTIC_REASONS.get(node.op_type, f"{node.op_type} overflows or vanishes in FP16")
    _grow_forward([node for node in islands if node.op_type not in NORMALISED], reasons)
    _grow_backward(model.graph, reasons)
    for node in model.graph:
        for reason in (_average_over_picture(node), _constant_out_of_range(node), _picture_residual(node, model.graph)):
            if reason is not None:
                reasons.setdefault(_name(node), reason)
    for node in model.graph:
        if node.op_type == table.KEY_GRAPH.name:
            reasons[_name(node)] = "chooses neighbours by similarity: rounding changes the choice"
            _keep_tokens(node, reasons)
    return PrecisionPlan(default=Precision.FP16, layers=tuple(_by_module(model.graph, reasons)))


def _keep_tokens(node: ir.Node, reasons: dict[str, str]) -> None:
    """Keep the residual stream in FP32 from the input picture to a key graph: its sums and convolutions.

    The layers that add to the stream stay FP16, but for the product in front of a norm that adds to it: the norm makes
    rounding as large as its row is small. For the trained kgt-tiny on a real picture the smallest overlap of a key
    graph with FP32's, ties counted, is 0.9758 with the stream alone and 0.9847 with the products; the gate is 0.98.
    """
    for value in node.inputs:
        producer = value.producer() if value is not None else None
        if producer is None:
            continue
        if producer.op_type in NORMALISED:
            _keep_product(producer, reasons)
        elif _name(producer) in reasons:
            continue
        elif producer.op_type in ("Add", "Conv"):
            reasons[_name(producer)] = "residual stream that neighbours are chosen by"
            _keep_tokens(producer, reasons)
        elif producer.op_type in MOVEMENT:
            _keep_tokens(producer, reasons)


def _keep_product(norm: ir.Node, reasons: dict[str, str]) -> None:
    """Keep the product that ``norm`` reads, and its bias, in FP32."""
    producer = norm.inputs[0].producer() if norm.inputs[0] is not None else None
    while producer is not None and _name(producer) not in reasons:
        if producer.op_type not in MOVEMENT:
            reasons[_name(producer)] = "read by a norm that adds to the stream that neighbours are chosen by"
        if producer.op_type in ("MatMul", "Gemm", "Conv"):
            return
        sources = [value.producer() for value in producer.inputs if value is not None]
        producer = next((source for source in sources if source is not None), None)


def _name(node: ir.Node) -> str:
    return node.name or ""


def _consumers(node: ir.Node) -> Iterator[ir.Node]:
    """Nodes that compute with what ``node`` gives, looking through movement."""
    for value in node.outputs:
        for user, _ in value.uses():
            if user.op_type in MOVEMENT:
                yield from _consumers(user)
            elif user.op_type not in ("Shape", "Size"):  # they read the shape, not the numbers
                yield user


def _grow_forward(seeds: list[ir.Node], reasons: dict[str, str]) -> None:
    stack = list(seeds)
    while stack:
        node = stack.pop()
        for user in _consumers(node):
            same_module = module_of(_name(user)) == module_of(_name(node))
            if user.op_type in ELEMENTWISE and same_module and _name(user) not in reasons:
                reasons[_name(user)] = f"scales by the result of {node.op_type}"
                stack.append(user)


def _grow_backward(graph: ir.Graph, reasons: dict[str, str]) -> None:
    for node in reversed(graph):
        if node.op_type not in ELEMENTWISE or _name(node) in reasons:
            continue
        users = list(_consumers(node))
        if users and all(_name(user) in reasons and module_of(_name(user)) == module_of(_name(node)) for user in users):
            reasons[_name(node)] = f"feeds {users[0].op_type} only"


def _average_over_picture(node: ir.Node) -> str | None:
    if node.op_type != "MatMul":
        return None
    for value in node.inputs:
        producer = value.producer() if value is not None else None
        while producer is not None and producer.op_type in MOVEMENT and producer.inputs[0] is not None:
            producer = producer.inputs[0].producer()
        if producer is not None and producer.op_type == "Softmax":
            shape = producer.outputs[0].shape
            length = shape[-1] if shape is not None else None
            if not isinstance(length, int) or length > LONG_ROW:
                return "softmax weights over the picture's positions are below FP16's range"
    return None


def _constant_out_of_range(node: ir.Node) -> str | None:
    if node.op_type in MOVEMENT:
        return None
    for value in node.inputs:
        if value is None or value.const_value is None or value.dtype != ir.DataType.FLOAT:
            continue
        magnitude = np.abs(value.const_value.numpy())
        if magnitude.size and float(magnitude.max()) > FP16_MAX:
            return f"a constant of {float(magnitude.max()):.3g} overflows FP16"
        if magnitude.size == 1 and 0 < float(magnitude.max()) < FP16_SMALLEST:
            return f"a constant of {float(magnitude.max()):.3g} is 0 in FP16"
    return None


def _picture_residual(node: ir.Node, graph: ir.Graph) -> str | None:
    adds_input = node.op_type == "Add" and any(value is graph.inputs[0] for value in node.inputs)
    return "residual with the input picture: keeps the picture's own precision" if adds_input else None


def _by_module(graph: ir.Graph, reasons: dict[str, str]) -> Iterator[LayerPlan]:
    """One exception per module where all its computing nodes are exceptions, one per node elsewhere."""
    modules: dict[str, list[str]] = defaultdict(list)
    for node in graph:
        if computes(node):
            modules[module_of(_name(node))].append(_name(node))
    parents = {parent for module in modules for parent in _enclosing(module)}
    for module, nodes in modules.items():
        exceptions = [name for name in nodes if name in reasons]
        if len(exceptions) == len(nodes) and module not in parents:
            yield LayerPlan(module, Precision.FP32, reasons[exceptions[0]])
        else:
            for name in exceptions:
                yield LayerPlan(name, Precision.FP32, reasons[name])


def _enclosing(module: str) -> Iterator[str]:
    """``"a.b.c"`` gives ``"a.b"`` and ``"a"``."""
    while module := module.rpartition(".")[0]:
        yield module
