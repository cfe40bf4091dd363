"""One table, four sides: bodies, twins, torch functions and the table itself agree on names."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from types import ModuleType

import onnx
import pytest

from edgeir.models import fused
from edgeir.ops import reference, table
from edgeir.ops.functions import OPSET, function_proto

OPS = pytest.mark.parametrize("op", table.FUSED_OPS, ids=lambda op: op.name)


def function_name(op: table.FusedOp) -> str:
    """``EdgeirKeyGraph`` is ``key_graph`` in Python."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", op.name.removeprefix("Edgeir")).lower()


def names(fields: tuple[table.Field, ...]) -> list[str]:
    return [field.name for field in fields]


def test_op_types_are_unique_and_nobody_elses() -> None:
    """TensorRT's parser looks functions up by op type alone (facts: tensorrt.md 2.1)."""
    types = [op.name for op in table.FUSED_OPS]
    assert len(types) == len({name.lower() for name in types})
    assert all(name.startswith("Edgeir") for name in types)
    standard = {schema.name for schema in onnx.defs.get_all_schemas_with_history()}
    assert not standard & set(types)


@OPS
def test_body_is_the_table(op: table.FusedOp) -> None:
    body = function_proto(op.name)
    assert (body.domain, body.name) == (table.DOMAIN, op.name)
    assert list(body.input) == names(op.inputs)
    assert list(body.output) == names(op.outputs)
    assert list(body.attribute) == [attribute.name for attribute in op.attributes]
    assert [(opset.domain, opset.version) for opset in body.opset_import] == [("", OPSET)]
    assert body.doc_string == op.doc


@OPS
def test_body_nodes_are_named_and_standard(op: table.FusedOp) -> None:
    body = function_proto(op.name)
    called = [node.name for node in body.node]
    assert len(called) == len(set(called))
    assert all(name.startswith(f"{op.name}.") for name in called)
    assert {node.domain for node in body.node} == {""}
    for node in body.node:
        onnx.defs.get_schema(node.op_type, OPSET, "")


@OPS
def test_python_sides_take_the_same_arguments(op: table.FusedOp) -> None:
    inputs, attributes = names(op.inputs), [attribute.name for attribute in op.attributes]
    for module in (reference, fused):
        parameters = list(inspect.signature(getattr(module, function_name(op))).parameters)
        assert parameters[: len(inputs)] == inputs, module.__name__
        extra = set(parameters[len(inputs) :])
        assert extra <= {*attributes, "value_scale"}, module.__name__
    assert set(attributes) <= set(parameters)  # of the torch side, which fills the node's attributes


@OPS
def test_type_letters(op: table.FusedOp) -> None:
    assert {field.dtype for field in (*op.inputs, *op.outputs)} <= {"T", "bool"}


def test_lookups() -> None:
    assert table.fused_op("EdgeirKeyGraph") is table.KEY_GRAPH
    assert table.fused_op("KeyGraph") is None
    assert table.KEY_GRAPH.qualified_name == "edgeir::EdgeirKeyGraph"
    assert table.plugin_attributes() == {"plugin_namespace": "edgeir", "plugin_version": "1"}
    with pytest.raises((KeyError, StopIteration)):
        function_proto("EdgeirNothing")


def test_the_folders_readme_is_the_table(tool: Callable[[str], ModuleType]) -> None:
    made = tool("ops_readme")
    assert made.README.read_text(encoding="utf-8") == made.readme(), "run: python tools/ops_readme.py"
