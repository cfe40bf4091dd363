"""Layers of a graph: what training would quantise is what the graph describes, name for name."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch

from edgeir.calibrate.layers import graph_layers
from edgeir.quantization_placement import place
from edgeir.train.fake_quant import quantizable_layers


@pytest.mark.parametrize("architecture", ["exda", "cea", "kgt"])
def test_module_and_graph_describe_the_same_layers(architecture: str, micro: Any) -> None:
    network = micro(architecture)
    example = torch.zeros(1, 3, network.shape.height, network.shape.width)
    of_module = quantizable_layers(network.loaded.module, example)
    found = graph_layers(network.graph().graph)
    assert [entry.layer for entry in found if entry.weight_index is not None] == of_module
    placed = place(entry.layer for entry in found)
    assert placed.quantized == place(of_module).quantized


GRAPH = """<ir_version: 10, opset_import: ["" : 20]>
agraph (float[1, 16, 8, 8] image) => (float[1, 16, 8, 8] y) {
    c = Conv<pads = [1, 1, 1, 1]>(image, w)
    constant_a = Relu(m)
    constant_b = MatMul(constant_a, g)
    rows = Constant<value_ints = [64, 16]>()
    tokens = Reshape(c, rows)
    wide = Gemm<transB = 1>(tokens, m)
    narrow = MatMul(wide, m)
    turned = Transpose<perm = [1, 0]>(narrow)
    gram = MatMul(turned, narrow)
    probed = MatMul(left, gram)
    all = ReduceSum<keepdims = 1>(probed)
    y = Add(c, all)
}"""


def test_kinds_and_what_is_left_out() -> None:
    proto = onnx.parser.parse_model(GRAPH)
    for name, shape in (("w", (16, 16, 3, 3)), ("m", (32, 16)), ("g", (16, 8)), ("left", (8, 16))):
        proto.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(shape, np.float32), name))
    for node in proto.graph.node:
        node.name = f"block.{node.output[0]}/{node.op_type}"
    model = ir.from_proto(onnx.shape_inference.infer_shapes(proto, data_prop=True))
    found = {entry.layer.name: entry for entry in graph_layers(model.graph)}
    assert list(found) == ["block.c", "block.wide", "block.narrow", "block.gram/MatMul", "block.probed/MatMul"]
    assert [entry.layer.kind for entry in found.values()] == ["conv", "linear", "linear", "matmul", "matmul"]
    assert (found["block.c"].layer.is_first, found["block.narrow"].layer.is_last) == (True, True)
    wide, narrow = found["block.wide"], found["block.narrow"]
    assert (wide.layer.in_channels, wide.layer.out_channels, wide.layer.rows, wide.channel_axis) == (16, 32, 64, 0)
    assert (narrow.layer.in_channels, narrow.layer.out_channels, narrow.channel_axis) == (32, 16, 1)
    assert found["block.gram/MatMul"].weight_index is None


def test_a_graph_without_layers() -> None:
    proto = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 20]> agraph (float[2] image) => (float[2] y) { y = Relu(image) }'
    )
    assert graph_layers(ir.from_proto(proto).graph) == []
