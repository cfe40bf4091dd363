"""The graph as edgeir writes it: names, metadata, functions, and the refusals before anything is written."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
import pytest

from edgeir.errors import GraphError, UsageError
from edgeir.export.graph import DynamicSize, TraceShape, finish_graph, read_spec, save_graph
from edgeir.ops import table
from edgeir.spec import SPEC_KEY, ModelSpec, SizeRule

Micro = Callable[..., Any]
RULE = SizeRule(16, 16)
SPEC = ModelSpec("toy", "exda", {}, RULE)
GRAPHS = pytest.mark.parametrize(
    ("architecture", "dynamic"), [("exda", False), ("exda", True), ("kgt", True), ("cea", True)]
)
FUSED = {"exda": {"EdgeirGstAttention"}, "kgt": {"EdgeirKeyGraph", "EdgeirKeyGraphAttention"}, "cea": set()}


@GRAPHS
def test_node_names_follow_the_modules(micro: Micro, architecture: str, dynamic: bool) -> None:
    network = micro(architecture, dynamic=dynamic)
    modules = {name for name, _ in network.loaded.module.named_modules() if name} | {"model"}
    graph = network.graph().graph
    names = [node.name for node in graph]
    assert [name for name, count in Counter(names).items() if count > 1] == []
    for node in graph:
        module, _, rest = node.name.partition("/")
        assert rest.partition("_")[0] == node.op_type, node.name
        assert module in modules, node.name
    assert len({name.partition("/")[0] for name in names}) > len(modules) // 3


def test_a_module_keeps_its_own_nodes(micro: Micro) -> None:
    nodes = {node.name: node for node in micro("exda").graph().graph}
    assert nodes["encoder_level1.0.attn/EdgeirGstAttention"].domain == table.DOMAIN
    assert nodes["encoder_level1.0.attn.qkv/Conv"].op_type == "Conv"
    assert nodes["model/Add"].inputs[1] is not None
    assert any(value.name == "image" for value in nodes["model/Add"].inputs)


@GRAPHS
def test_nothing_of_the_tracer_or_the_machine_is_left(micro: Micro, architecture: str, dynamic: bool) -> None:
    proto = onnx.load(micro(architecture, dynamic=dynamic).path)
    for tensor in proto.graph.initializer:  # random bytes can spell anything
        tensor.ClearField("raw_data")
    content = proto.SerializeToString()
    traces = ["pkg.", "torch", "_empty_nn", "site-packages", ".py", str(Path.home()) + "/", tempfile.gettempdir() + "/"]
    assert [text for text in [str(Path.cwd()), *traces] if text.encode() in content] == []
    assert [entry.key for entry in proto.metadata_props] == [SPEC_KEY]
    assert not proto.graph.metadata_props
    assert not any(node.metadata_props or node.doc_string for node in proto.graph.node)
    assert not any(value.metadata_props or value.doc_string for value in proto.graph.value_info)


@GRAPHS
def test_opsets_functions_and_producer(micro: Micro, architecture: str, dynamic: bool) -> None:
    proto = onnx.load(micro(architecture, dynamic=dynamic).path)
    used = {node.op_type for node in proto.graph.node if node.domain == table.DOMAIN}
    assert used == FUSED[architecture] == {function.name for function in proto.functions}
    wanted = {"": 20, "edgeir": 1} if used else {"": 20}
    assert {opset.domain: opset.version for opset in proto.opset_import} == wanted
    assert (proto.producer_name, proto.ir_version) == ("edgeir", 10)


@GRAPHS
def test_fused_nodes_have_what_the_table_asks_for(micro: Micro, architecture: str, dynamic: bool) -> None:
    for node in onnx.load(micro(architecture, dynamic=dynamic).path).graph.node:
        if node.domain != table.DOMAIN:
            continue
        op = table.fused_op(node.op_type)
        assert op is not None
        assert (len(node.input), len(node.output)) == (len(op.inputs), len(op.outputs))
        values = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
        assert set(values) == {attribute.name for attribute in op.attributes} | set(table.plugin_attributes())
        for name, value in table.plugin_attributes().items():
            assert values[name].decode() == value


@GRAPHS
def test_input_output_and_spec(micro: Micro, architecture: str, dynamic: bool) -> None:
    network = micro(architecture, dynamic=dynamic)
    model = network.graph()
    (picture,), (restored,) = model.graph.inputs, model.graph.outputs
    sides = ("H", "W") if dynamic else (network.shape.height, network.shape.width)
    for value, name in ((picture, "image"), (restored, "restored")):
        assert (value.name, value.dtype) == (name, ir.DataType.FLOAT)
        assert tuple(str(side) for side in value.shape) == tuple(map(str, (1, 3, *sides)))
    assert read_spec(model, where="model.onnx") == network.loaded.spec
    assert model.graph.name == network.loaded.spec.name


def test_a_file_without_a_spec(micro: Micro) -> None:
    model = micro("exda").graph()
    model.metadata_props.clear()
    with pytest.raises(GraphError, match=r"model\.onnx: the ONNX file holds no edgeir model spec"):
        read_spec(model, where="model.onnx")
    model.metadata_props[SPEC_KEY] = "{"
    with pytest.raises(UsageError, match="not JSON"):
        read_spec(model, where="model.onnx")


def toy(text: str) -> ir.Model:
    return ir.from_proto(onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 20, "edgeir": 1]> {text}'))


def test_super_resolution_names_its_output_sides() -> None:
    model = toy(
        'g (float[1,3,h,w] image) => (float[1,3,h2,w2] restored) { restored = Resize <mode="nearest"> (image) }'
    )
    spec = ModelSpec("toy", "kgt", {}, SizeRule(8, 8), scale=2)
    finish_graph(model, spec, TraceShape(1, 16, 16, DynamicSize((16, 16), (16, 16), (32, 32))))
    assert [str(side) for side in model.graph.outputs[0].shape or ()] == ["1", "3", "2*H", "2*W"]


def test_an_unknown_fused_op_is_refused() -> None:
    model = toy("g (float[1,3,8,8] image) => (float[1,3,8,8] restored) { restored = edgeir.EdgeirNothing(image) }")
    with pytest.raises(GraphError, match="unknown op edgeir::EdgeirNothing"):
        finish_graph(model, SPEC, TraceShape(1, 16, 16))


@pytest.mark.parametrize(
    "body",
    [
        "restored = NoSuchOperator(image)",
        "restored = Add(image, half)",
        "restored = MatMul(image, image)",
        "restored = Relu(nowhere)",
    ],
)
def test_a_broken_graph_is_refused_before_it_is_written(tmp_path: Path, body: str) -> None:
    model = toy(f"g (float[1,3,8,6] image, float16[1,3,8,6] half) => (float[1,3,8,6] restored) {{ {body} }}")
    path = tmp_path / "model.onnx"
    with pytest.raises(GraphError, match=r"^model\.onnx: onnx\.checker refuses the graph"):
        save_graph(model, path)
    assert not path.exists()


@pytest.mark.parametrize(
    ("shape", "sentence"),
    [
        (TraceShape(0, 32, 32), r"--batch: .*expected at least 1, got 0"),
        (TraceShape(1, 40, 32), r"--size: .*multiples of 16.*got 40x32\).*Use 48x32"),
        (TraceShape(1, 32, 8), r"--size: .*got 32x8\).*Use 32x16"),
        (TraceShape(1, 64, 64, DynamicSize((40, 32), (64, 64), (96, 96))), r"--dynamic: .*got 40x32"),
        (TraceShape(1, 64, 64, DynamicSize((32, 32), (64, 65), (96, 96))), r"--dynamic: .*got 64x65"),
        (TraceShape(1, 64, 64, DynamicSize((32, 32), (64, 64), (96, 97))), r"--dynamic: .*got 96x97"),
        (TraceShape(1, 64, 64, DynamicSize((16, 32), (64, 64), (96, 96))), r"at least 32x32, got 16x32"),
        (TraceShape(1, 64, 64, DynamicSize((64, 64), (32, 64), (96, 96))), r"not in order.*64x64 32x64 96x96"),
        (TraceShape(1, 64, 64, DynamicSize((32, 32), (64, 96), (96, 80))), r"not in order"),
        (TraceShape(1, 64, 64, DynamicSize((32, 64), (64, 64), (96, 64))), r"not in order.*MIN < MAX"),
    ],
)
def test_sizes_that_do_not_fit(shape: TraceShape, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        shape.require(RULE)


@pytest.mark.parametrize(
    "shape",
    [TraceShape(1, 16, 16), TraceShape(4, 32, 48), TraceShape(1, 32, 32, DynamicSize((32, 32), (32, 32), (48, 48)))],
)
def test_sizes_that_fit(shape: TraceShape) -> None:
    shape.require(RULE)
