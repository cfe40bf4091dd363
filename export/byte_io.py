"""Bytes at both ends of a graph: the conversion that a host would do to every picture, as nodes.

::

    image (N, H, W, 3) uint8 ─ Cast ─ Transpose ─ Div 255 ──► image.pixels (N, 3, H, W) float32
                                                                  │ the graph as it was, its own casts included
    restored (N, sH, sW, 3) uint8 ◄─ Cast ─ Transpose ─ Round ─ Mul 255 ─ Clip 0 1 ◄── restored.pixels
    restored_mean (N,) float32 ◄────────────────────────────────── ReduceMean ◄───────────┘

A host copies 3 bytes per pixel each way in place of 12. All of it is FP32: one step of a picture is 1/255, which half
precision rounds by up to 1/16 of a step above 0.5. The division is the one that reading a file does, and Round is half
to even as `edgeir.imaging.colour.to_uint8`, so that the bytes are those that the float graph's result is written as.

TensorRT knows uint8 at the ends of a network only, and there only a Cast from or to a float type (``DataType`` in
NvInferRuntimeBase.h; the ONNX parser since 8.5): hence the Casts stand outermost. Its Cast cuts digits off and leaves
values outside [0, 256) undefined: hence Clip and Round stand before it. What it makes of a pixel that is not a number
is undefined as well, and no byte could say it, which is what ``restored_mean`` is for.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass
from onnx_ir.tape import Tape

from edgeir.errors import GraphError
from edgeir.imaging.byte_formats import IO_KEY, MEAN_NAME, ByteFormat
from edgeir.spec import INPUT_NAME, OUTPUT_NAME

_FRONT, _BACK = "bytes_in", "bytes_out"
_PIXELS = f"{INPUT_NAME}.pixels"
_SPLIT_BY_COUNT = 18  # the opset since which Split has num_outputs, and reductions take their axes as an input
_WHITE = 255.0


def with_bytes(model: ir.Model, form: ByteFormat) -> ir.Model:
    """A copy of ``model`` that takes and gives bytes; ``model`` itself stays as it is.

    Args:
        model: a graph as edgeir writes it, of any precision, or prepared for one runtime: ``image``
            ``(N, 3, H, W) float32`` to ``restored (N, 3, s*H, s*W) float32``.
        form: how pictures lie in the bytes. Its name is written into the metadata.

    Raises:
        GraphError: the graph's ends are others.
        UsageError: NV12 of odd sides.
    """
    _require_float_pictures(model)
    wrapped = ir.from_proto(ir.to_proto(model))
    graph = wrapped.graph
    picture, restored = graph.inputs[0], graph.outputs[0]
    assert picture.shape is not None and restored.shape is not None
    given = _bytes_value(INPUT_NAME, _input_shape(picture.shape, form))
    picture.name, restored.name = _PIXELS, f"{OUTPUT_NAME}.pixels"
    opset = graph.opset_imports.get("", 0)

    front = _Builder(graph, _FRONT, opset)
    pixels = front.from_nv12(given, form) if form.yuv is not None else front.from_hwc(given)
    if form.kind == "bgr":
        pixels = front.reversed_channels(pixels)
    picture.replace_all_uses_with(pixels)
    pixels.name, pixels.shape, pixels.type = picture.name, picture.shape, picture.type
    graph.inputs[0] = given
    first = graph[0]
    graph.insert_before(first, front.nodes)

    back = _Builder(graph, _BACK, opset)
    mean = back.mean(restored)
    swapped = back.reversed_channels(restored) if form.kind == "bgr" else restored
    taken = back.to_hwc(swapped)
    taken.name, taken.shape = OUTPUT_NAME, ir.Shape([restored.shape[0], *restored.shape[2:], 3])
    mean.name, mean.shape = MEAN_NAME, ir.Shape([restored.shape[0]])
    graph.outputs[0] = taken
    graph.outputs.append(mean)
    graph.extend(back.nodes)
    wrapped.metadata_props[IO_KEY] = form.name
    return wrapped


def front_of(wrapped: ir.Model) -> ir.Model:
    """What `with_bytes` put before the network, alone: bytes to ``image.pixels (N, 3, H, W) float32``."""
    front = ir.from_proto(ir.to_proto(wrapped))
    found = [value for node in front.graph for value in node.outputs if value.name == _PIXELS]
    front.graph.outputs[:] = found
    RemoveUnusedNodesPass()(front)
    front.functions.clear()
    return front


class _Builder:
    """Nodes of one end, and their constants, which the graph gets at once."""

    def __init__(self, graph: ir.Graph, where: str, opset: int) -> None:
        self._graph = graph
        self._tape = Tape()
        self._where = where
        self._opset = opset

    @property
    def nodes(self) -> list[ir.Node]:
        """In order."""
        return list(self._tape.nodes)

    def from_hwc(self, given: ir.Value) -> ir.Value:
        pixels = self._op("Transpose", self._floats(given), perm=[0, 3, 1, 2])
        return self._op("Div", pixels, self._constant("white", _WHITE))

    def from_nv12(self, given: ir.Value, form: ByteFormat) -> ir.Value:
        """Three thirds of the rows: the upper half of luma, the lower, and chroma; no size is computed."""
        assert form.yuv is not None
        matrix, offset = form.yuv.to_rgb()
        floats = self._floats(given)
        upper, lower, chroma = self._split(floats, 3, axis=1)
        luma = self._op("Transpose", self._op("Concat", upper, lower, axis=1), perm=[0, 3, 1, 2])
        # 0 keeps N and H/2 as they are, W bytes are W/2 pairs.
        pairs = self._op("Reshape", chroma, self._integers("pairs", [0, 0, -1, 2]))
        u, v = self._split(self._op("Transpose", pairs, perm=[0, 3, 1, 2]), 2, axis=1)
        of_u = self._op("Mul", u, self._column("of_u", matrix[:, 1]))
        of_v = self._op("Mul", v, self._column("of_v", matrix[:, 2]))
        colour = self._op("Add", self._op("Add", of_u, of_v), self._column("offset", offset))
        scales = self._constant("scales", [1, 1, 2, 2])
        repeated = self._op(
            "Resize",
            colour,
            None,
            scales,
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )
        bright = self._op("Mul", luma, self._column("of_y", matrix[:, 0]))
        return self._clipped(self._op("Add", repeated, bright))

    def to_hwc(self, restored: ir.Value) -> ir.Value:
        steps = self._op("Mul", self._clipped(restored), self._constant("white", _WHITE))
        rows = self._op("Transpose", self._op("Round", steps), perm=[0, 2, 3, 1])
        return self._op("Cast", rows, dtype=ir.DataType.UINT8, to=int(ir.DataType.UINT8))

    def mean(self, restored: ir.Value) -> ir.Value:
        if self._opset < _SPLIT_BY_COUNT:
            return self._op("ReduceMean", restored, axes=[1, 2, 3], keepdims=0)
        return self._op("ReduceMean", restored, self._integers("axes", [1, 2, 3]), keepdims=0)

    def reversed_channels(self, pixels: ir.Value) -> ir.Value:
        return self._op("Gather", pixels, self._integers("reversed", [2, 1, 0]), axis=1)

    def _floats(self, given: ir.Value) -> ir.Value:
        return self._op("Cast", given, to=int(ir.DataType.FLOAT))

    def _clipped(self, pixels: ir.Value) -> ir.Value:
        return self._op("Clip", pixels, self._constant("zero", 0.0), self._constant("one", 1.0))

    def _split(self, value: ir.Value, count: int, *, axis: int) -> tuple[ir.Value, ...]:
        name = self._name("Split")
        by_count = {"num_outputs": count} if self._opset >= _SPLIT_BY_COUNT else {}
        outputs = self._tape.op_multi_out("Split", [value], {"axis": axis, **by_count}, num_outputs=count, name=name)
        for index, output in enumerate(outputs):
            output.name, output.type = f"{name}.{index}", ir.TensorType(ir.DataType.FLOAT)
        return tuple(outputs)

    def _op(
        self, op_type: str, *inputs: ir.Value | None, dtype: ir.DataType = ir.DataType.FLOAT, **attributes: object
    ) -> ir.Value:
        name = self._name(op_type)
        output = self._tape.op(op_type, list(inputs), attributes or None, name=name)  # type: ignore[arg-type]
        output.name, output.type = name, ir.TensorType(dtype)
        return output

    def _name(self, op_type: str) -> str:
        count = sum(node.op_type == op_type for node in self._tape.nodes)
        return f"{self._where}/{op_type}" if not count else f"{self._where}/{op_type}_{count + 1}"

    def _constant(self, name: str, numbers: object) -> ir.Value:
        return self._initializer(name, np.asarray(numbers, np.float32))

    def _column(self, name: str, numbers: object) -> ir.Value:
        return self._initializer(name, np.asarray(numbers, np.float32).reshape(1, 3, 1, 1))

    def _integers(self, name: str, numbers: list[int]) -> ir.Value:
        return self._initializer(name, np.asarray(numbers, np.int64))

    def _initializer(self, name: str, array: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> ir.Value:
        full = f"{self._where}.{name}"
        if full in self._graph.initializers:
            return self._graph.initializers[full]
        value = ir.val(full, const_value=ir.tensor(array, name=full))
        self._graph.register_initializer(value)
        return value


def _bytes_value(name: str, shape: ir.Shape) -> ir.Value:
    return ir.Value(name=name, type=ir.TensorType(ir.DataType.UINT8), shape=shape)


def _input_shape(pictures: ir.Shape, form: ByteFormat) -> ir.Shape:
    """Of the bytes for pictures of the shape (N, 3, H, W); a dynamic side keeps its symbol."""
    batch, _, height, width = pictures
    if form.yuv is None:
        return ir.Shape([batch, height, width, 3])
    if isinstance(height, int) and isinstance(width, int):
        form.require_size(height, width, where="--io")
    rows = height // 2 * 3 if isinstance(height, int) else f"3*{height.value}/2"
    return ir.Shape([batch, rows, width, 1])


def _require_float_pictures(model: ir.Model) -> None:
    """Raise ``GraphError`` unless both ends are what edgeir writes."""
    ends = ((INPUT_NAME, model.graph.inputs), (OUTPUT_NAME, model.graph.outputs))
    for name, values in ends:
        found = ", ".join(f"{value.name} {value.dtype} {value.shape}" for value in values)
        value = values[0] if values else None
        known = value is not None and value.name == name and value.dtype == ir.DataType.FLOAT
        if len(values) != 1 or not known or value is None or value.shape is None or len(value.shape) != 4:
            raise GraphError(
                "bytes go around a graph of float pictures only",
                expected=f"one {name} of type FLOAT and shape (N, 3, H, W)",
                got=found or "none",
            )
        if value.shape[1] != 3:
            raise GraphError("bytes are pictures of three channels", where=name, got=str(value.shape))
