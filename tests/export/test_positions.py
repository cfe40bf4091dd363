"""Positions followed through a graph: what an axis is after each kind of op."""

from __future__ import annotations

import onnx
import onnx_ir as ir
import pytest
from onnx_ir.passes.common import LiftConstantsToInitializersPass

from edgeir.errors import GraphError
from edgeir.export.positions import Factor, Layout, has_positions, layouts

HEAD = '<ir_version: 9, opset_import: ["" : 20]> g (float[1,4,6,8] x) => (y)'


def followed(body: str) -> Layout:
    """Layout of ``y``, whose shape ONNX infers."""
    model = onnx.parser.parse_model(f"{HEAD} {{ {body} }}")
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    graph = ir.from_proto(inferred)
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(graph)
    return layouts(graph)[graph.graph.outputs[0]]


def marks(layout: Layout) -> list[str]:
    """``["1", "4", "6*", "8*"]``: factors of each axis, positions starred."""
    return [" ".join(f"{one.length}{'*' if one.positions else ''}" for one in axis) for axis in layout]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("y = Relu(x)", ["1", "4", "6*", "8*"]),
        ("s = Constant<value_ints = [1, 4, 48]>() y = Reshape(x, s)", ["1", "4", "6* 8*"]),
        ("s = Constant<value_ints = [1, 2, 2, 48]>() y = Reshape(x, s)", ["1", "2", "2", "6* 8*"]),
        # Windows of 2 x 2: which window is a position, which pixel of it is not.
        ("s = Constant<value_ints = [1, 4, 3, 2, 4, 2]>() y = Reshape(x, s)", ["1", "4", "3*", "2", "4*", "2"]),
        ("y = Transpose<perm = [0, 2, 3, 1]>(x)", ["1", "6*", "8*", "4"]),
        ("a = Constant<value_ints = [-1]>() y = ReduceMean(x, a)", ["1", "4", "6*", "1"]),
        ("a = Constant<value_ints = [2, 3]>() y = ReduceMean(x, a)", ["1", "4", "1", "1"]),
        ("a = Constant<value_ints = [2, 3]>() y = ReduceMean<keepdims = 0>(x, a)", ["1", "4"]),
        ("y = GlobalMaxPool(x)", None),
        ("y = Concat<axis = 1>(x, x)", ["1", "8", "6*", "8*"]),
        ("y, z = Split<axis = 1, num_outputs = 2>(x)", ["1", "2", "6*", "8*"]),
        ("t = Transpose<perm = [0, 1, 3, 2]>(x) y = MatMul(x, t)", ["1", "4", "6*", "6*"]),
        (
            "s = Constant<value_ints = [1, 4, 48]>() r = Reshape(x, s) t = Transpose<perm = [0, 2, 1]>(r) "
            "y = MatMul(r, t)",
            ["1", "4", "4"],
        ),
        ("y = DepthToSpace<blocksize = 2>(x)", ["1", "1", "12*", "16*"]),
        ("y = AveragePool<kernel_shape = [2, 2], strides = [2, 2]>(x)", ["1", "4", "3*", "4*"]),
        ("y = Softmax<axis = -1>(x)", ["1", "4", "6*", "8*"]),
        ("a = Constant<value_ints = [2, 3]>() m = ReduceMean(x, a) y = Mul(m, x)", ["1", "4", "6*", "8*"]),
    ],
)
def test_ops(body: str, expected: list[str] | None) -> None:
    if expected is None:
        with pytest.raises(GraphError, match=r"no rule says where positions go.*GlobalMaxPool"):
            followed(body)
    else:
        assert marks(followed(body)) == expected


def test_channels_of_a_convolution_are_no_positions() -> None:
    layout: Layout = ((Factor(3, True), Factor(2)), (Factor(4),))
    assert has_positions(layout)
    assert not has_positions(layout[1:])


def test_a_reshape_that_cuts_across() -> None:
    with pytest.raises(GraphError, match="a reshape cannot be followed"):
        followed("s = Constant<value_ints = [1, 3, 64]>() y = Reshape(x, s)")


def test_the_graph_has_to_be_static() -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 9, opset_import: ["" : 20]> g (float[1,4,H,8] x) => (float[1,4,H,8] y) { y = Relu(x) }'
    )
    with pytest.raises(GraphError, match="the shape of a value is not known"):
        layouts(ir.from_proto(model))
