"""The checks of single nodes: each knows one operator and says what a runtime would refuse about it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import onnx_ir as ir

from edgeir.export.runtimes import Runtime

Raw = tuple[Literal["error", "warning"], str, str, str]
"""Level, rule, message, fix."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A graph as a runtime's parser sees it."""

    graph: ir.Graph
    runtime: Runtime


Check = Callable[[ir.Node, Seen], Iterator[Raw]]

# K of TopK is a limit of the builder: 3840 builds, 3841 does not (TensorRT-RTX 1.7.1; documented for all versions).
MOST_NEIGHBOURS = 3840
SMALLEST_HALF = 2.0**-24

# Operators without an importer in any version so far (onnx-tensorrt, docs/operators.md, TensorRT 11.1).
# fmt: off
_UNSUPPORTED = frozenset((
    "AffineGrid", "Bernoulli", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", "CenterCropPad",
    "Col2Im", "Compress", "ConvInteger", "Det", "DynamicQuantizeLinear", "MatMulInteger", "MaxUnpool", "Multinomial",
    "Optional", "OptionalGetElement", "OptionalHasElement", "QLinearConv", "QLinearMatMul", "RegexFullMatch",
    "SequenceAt", "SequenceConstruct", "SequenceEmpty", "SequenceErase", "SequenceInsert", "SequenceLength",
    "StringConcat", "StringNormalizer", "StringSplit", "Unique",
))
# Their inputs must have one type: TensorRT promotes nothing.
_SAME_TYPE = frozenset((
    "Add", "Concat", "Conv", "ConvTranspose", "Div", "Equal", "Gemm", "Greater", "GreaterOrEqual", "Less",
    "LessOrEqual", "MatMul", "Max", "Mean", "Min", "Mul", "PRelu", "Sub", "Sum",
))
# fmt: on
_FP8 = (ir.DataType.FLOAT8E4M3FN, ir.DataType.FLOAT8E4M3FNUZ, ir.DataType.FLOAT8E5M2, ir.DataType.FLOAT8E5M2FNUZ)


def check_every_node(node: ir.Node, seen: Seen) -> Iterator[Raw]:
    """What holds for every operator: known to the parser, and not fed two types."""
    runtime = seen.runtime
    if node.op_type in runtime.missing:
        fix = f"edgeir export --for {runtime.name} decomposes it."
        yield "error", "unsupported-op", f"{runtime.title} does not know {node.op_type}", fix
    if not runtime.is_tensorrt:
        return
    if node.op_type in _UNSUPPORTED:
        yield "error", "unsupported-op", f"no TensorRT knows {node.op_type}", "Express it by other operators."
    types = {value.dtype for value in node.inputs if value is not None and value.dtype is not None}
    if node.op_type in _SAME_TYPE and len(types) > 1:
        names = " and ".join(sorted(dtype.name for dtype in types))
        yield "error", "mixed-types", f"{node.op_type} of {names}: types are never promoted", "Cast one of them."
    outputs = {value.dtype for value in node.outputs if value.dtype is not None}
    if not runtime.fp8 and (types | outputs) & set(_FP8):
        yield "error", "fp8", f"{runtime.title} has no 8-bit floats", "Use INT8 or FP16."
    if ir.DataType.UINT8 in types | outputs:
        yield from _bytes(node, seen, types | outputs)


def _bytes(node: ir.Node, seen: Seen, types: set[ir.DataType]) -> Iterator[Raw]:
    """Bytes stand at the ends of a network and nowhere else, in every version since 8.5."""
    if node.op_type in ("QuantizeLinear", "DequantizeLinear", "Identity"):
        return  # the first two have a check of their own
    title, fix = seen.runtime.title, "edgeir export --io uint8 puts a Cast from or to a float type there."
    if node.op_type != "Cast":
        yield "error", "uint8", f"{title} knows no {node.op_type} of UINT8, only a Cast at the network's ends", fix
    elif node.outputs[0].dtype == ir.DataType.UINT8 and not node.outputs[0].is_graph_output():
        yield "error", "uint8", f"{title} knows UINT8 at the network's ends only, not between nodes", fix
    elif not types & {ir.DataType.FLOAT, ir.DataType.FLOAT16}:
        yield "warning", "uint8", "UINT8 is documented to be cast from and to FP32 and FP16 only", fix


def _top_k(node: ir.Node, seen: Seen) -> Iterator[Raw]:
    if not seen.runtime.is_tensorrt:
        return
    count = _constant(node, 1)
    if count is None and seen.runtime.constant_k:
        fix = f"edgeir export --for {seen.runtime.name} folds constants."
        yield "error", "top-k", f"{seen.runtime.title} needs a constant K", fix
    if count is not None and count[0] > MOST_NEIGHBOURS:
        message = f"K is {count[0]:.0f}; TensorRT builds up to {MOST_NEIGHBOURS}"
        yield "error", "top-k", message, "Choose fewer neighbours (--k) or a smaller window."
    if node.attributes.get_int("sorted", 1) == 0:
        yield "warning", "top-k", "sorted=0 is not documented as supported", "Leave sorted at 1."


def _resize(node: ir.Node, seen: Seen) -> Iterator[Raw]:
    if not seen.runtime.is_tensorrt:
        return
    if node.attributes.get_int("antialias", 0):
        yield "error", "resize", "Resize with antialias=1 is rejected", "Write it as a convolution with fixed weights."
    if node.attributes.get_string("keep_aspect_ratio_policy", "stretch") != "stretch":
        yield "error", "resize", "Resize knows only the policy stretch", "Give both sizes."
    mode = node.attributes.get_string("mode", "nearest")
    if mode not in ("nearest", "linear", "cubic"):
        yield "error", "resize", f"Resize has no mode {mode}", "Use nearest, linear or cubic."


def _scatter(node: ir.Node, seen: Seen) -> Iterator[Raw]:
    reduction = node.attributes.get_string("reduction", "none")
    if seen.runtime.is_tensorrt and reduction != "none":
        message = f"{node.op_type} with reduction={reduction} is an unsupported reduction type"
        yield "error", "scatter", message, "Use a threshold mask and Where, or reduction=none."


def _eye_like(node: ir.Node, seen: Seen) -> Iterator[Raw]:
    source = node.inputs[0]
    static = source is not None and source.shape is not None and source.shape.is_static()
    if seen.runtime.is_tensorrt and not static:
        yield "error", "eye-like", "EyeLike needs a static shape", "Fold it to a constant."


def _layer_normalization(node: ir.Node, seen: Seen) -> Iterator[Raw]:
    if not seen.runtime.is_tensorrt:
        return
    if any(value.uses() or value.is_graph_output() for value in node.outputs[1:]):
        message = "LayerNormalization gives only its first output"
        yield "error", "layer-norm", message, "Compute mean and deviation apart."
    types = {value.dtype for value in node.inputs if value is not None and value.dtype is not None}
    if len(types) > 1:
        names = " and ".join(sorted(dtype.name for dtype in types))
        yield "error", "layer-norm", f"input, scale and bias are {names}", "Give all three one type."


def _attention(node: ir.Node, seen: Seen) -> Iterator[Raw]:
    decomposable: int = node.attributes.get_int("TRT_decomposable", 0)
    if not seen.runtime.is_tensorrt or decomposable:
        return
    query = node.inputs[0]
    if query is None:
        return
    fix = "Set TRT_decomposable=1 on the node, or write MatMul, Softmax, MatMul."
    if query.dtype == ir.DataType.FLOAT:
        yield "error", "attention", "Attention in FP32 has no kernel and does not build", fix
    width = query.shape[-1] if query.shape is not None and len(query.shape) == 4 else None
    if isinstance(width, int) and width > 256:
        yield "error", "attention", f"a head of {width} channels has no kernel", fix


def _quantize(node: ir.Node, seen: Seen) -> Iterator[Raw]:
    if not seen.runtime.is_tensorrt:
        return
    zero = node.inputs[2] if len(node.inputs) > 2 else None
    if zero is not None:
        points = _constant(node, 2)
        if points is None or any(points):
            yield "error", "zero-point", "quantization must be symmetric: zero point 0", "Quantize symmetrically."
        if zero.dtype == ir.DataType.UINT8:
            yield "error", "uint8", "UINT8 is not quantized to", "Use INT8."
    scales = _constant(node, 1)
    if scales is not None and any(not scale > 0 or math.isinf(scale) for scale in scales):
        yield "error", "scale", "a scale is not above 0 and finite", "Calibrate again."


def _cast(node: ir.Node, seen: Seen) -> Iterator[Raw]:
    target = node.attributes.get_int("to", 0)
    values = _constant(node, 0)
    if target == ir.DataType.FLOAT16 and values and any(0 < abs(value) < SMALLEST_HALF for value in values):
        yield (
            "warning",
            "underflow",
            "a constant becomes 0 in FP16",
            "Keep what uses it in FP32, or raise the constant.",
        )


def _constant(node: ir.Node, index: int) -> list[float] | None:
    """The values of a small constant input; ``None`` where it is computed, absent, external or large."""
    value = node.inputs[index] if index < len(node.inputs) else None
    if value is None:
        return None
    tensor = value.const_value
    producer = value.producer()
    if tensor is None and producer is not None and producer.op_type == "Constant":
        attribute = next(iter(producer.attributes.values()))
        if attribute.type == ir.AttributeType.TENSOR:
            tensor = attribute.as_tensor()
        elif attribute.type in (ir.AttributeType.INT, ir.AttributeType.FLOAT):
            return [float(attribute.value)]
        elif attribute.type in (ir.AttributeType.INTS, ir.AttributeType.FLOATS):
            return [float(number) for number in attribute.value]
    if tensor is None and producer is not None and producer.op_type == "Reshape":
        return _constant(producer, 0)
    if tensor is None or isinstance(tensor, ir.ExternalTensor) or tensor.size > 2**16:
        return None
    return [float(number) for number in tensor.numpy().reshape(-1)]


CHECKS: Mapping[str, Check] = {
    "Attention": _attention,
    "Cast": _cast,
    "DequantizeLinear": _quantize,
    "EyeLike": _eye_like,
    "LayerNormalization": _layer_normalization,
    "QuantizeLinear": _quantize,
    "Resize": _resize,
    "ScatterElements": _scatter,
    "ScatterND": _scatter,
    "TopK": _top_k,
}
