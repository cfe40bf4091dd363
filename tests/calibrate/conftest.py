"""Hand-built graphs in ONNX's text form, with every type filled in."""

from __future__ import annotations

from collections.abc import Callable

import onnx
import onnx_ir as ir
import pytest

Build = Callable[..., ir.Model]


@pytest.fixture
def build() -> Build:
    """``build(nodes, constants="", shape="1,4,8,8", output="y")``: a graph from ``image`` to ``output``."""

    def make(nodes: str, *, constants: str = "", shape: str = "1,4,8,8", output: str = "y") -> ir.Model:
        values = f"<{constants}>" if constants else ""
        proto = onnx.parser.parse_model(
            '<ir_version: 10, opset_import: ["": 20]> '
            f"g (float[{shape}] image) => (float[unknown_a] {output}) {values} {{ {nodes} }}"
        )
        proto.graph.output[0].type.tensor_type.ClearField("shape")
        return ir.from_proto(onnx.shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True))

    return make
