"""The graph as edgeir writes it: names that follow the modules, functions attached, nothing of the tracer left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnx_ir as ir

from edgeir import __version__
from edgeir.errors import GraphError, UsageError
from edgeir.ops import table
from edgeir.ops.functions import IR_VERSION, OPSET, function_proto
from edgeir.precision import ROOT_MODULE
from edgeir.spec import SPEC_KEY, ModelSpec, SizeRule

_SCOPES_KEY = "pkg.torch.onnx.name_scopes"
# What torch.export writes where a module's path should stand, on nodes that it adds for dynamic sizes.
_NO_MODULE = "_empty_nn_module_stack_from_metadata_hook"


@dataclass(frozen=True, slots=True)
class DynamicSize:
    """The range of sizes of a dynamic graph: minimum, optimum (what engines tune for) and maximum, (H, W) pixels."""

    minimum: tuple[int, int]
    optimum: tuple[int, int]
    maximum: tuple[int, int]


@dataclass(frozen=True, slots=True)
class TraceShape:
    """Batch and size of a trace in pixels; ``height`` and ``width`` are the optimum where ``dynamic`` is given."""

    batch: int
    height: int
    width: int
    dynamic: DynamicSize | None = None

    def require(self, rule: SizeRule) -> None:
        """Raise ``UsageError`` unless batch, every size and their order are right for ``rule``."""
        if self.batch < 1:
            raise UsageError("the batch is too small", where="--batch", expected="at least 1", got=str(self.batch))
        if self.dynamic is None:
            rule.require(self.height, self.width, where="--size")
            return
        low, best, high = self.dynamic.minimum, self.dynamic.optimum, self.dynamic.maximum
        for size in (low, best, high):
            rule.require(*size, where="--dynamic")
        if min(low) < 2 * rule.multiple:  # torch.export takes a deepest level of one pixel for a constant
            raise UsageError(
                "the smallest size is too small for a dynamic graph",
                where="--dynamic",
                expected=f"at least {2 * rule.multiple}x{2 * rule.multiple}",
                got=f"{low[0]}x{low[1]}",
            )
        for index in (0, 1):
            if not low[index] <= best[index] <= high[index] or low[index] == high[index]:
                raise UsageError(
                    "the sizes are not in order",
                    where="--dynamic",
                    expected="MIN <= OPT <= MAX and MIN < MAX for both sides",
                    got=" ".join(f"{h}x{w}" for h, w in (low, best, high)),
                )


def finish_graph(model: ir.Model, spec: ModelSpec, shape: TraceShape) -> ir.Model:
    """Give a traced model its names, functions and metadata; the tracer's own metadata is dropped.

    Stack traces of the tracer hold paths of the machine, so that all metadata goes but the module path.
    """
    graph = model.graph
    _name_nodes(graph)
    for value in (*graph.inputs, *graph.outputs, *graph.initializers.values()):
        value.metadata_props.clear()
        value.doc_string = None
    if shape.dynamic is not None:
        _name_dynamic_axes(graph, spec.scale)
    used = {node.op_type for node in graph if node.domain == table.DOMAIN}
    for name in sorted(used):
        if table.fused_op(name) is None:
            raise GraphError(f"the graph has an unknown op {table.DOMAIN}::{name}")
        function = ir.serde.deserialize_function(function_proto(name))
        model.functions[function.identifier()] = function
    model.opset_imports.clear()
    model.opset_imports[""] = OPSET
    if used:
        model.opset_imports[table.DOMAIN] = table.VERSION
    model.ir_version = IR_VERSION
    model.producer_name = "edgeir"
    model.producer_version = __version__
    graph.name = spec.name
    graph.metadata_props.clear()
    graph.doc_string = None
    model.doc_string = None
    model.metadata_props.clear()
    model.metadata_props[SPEC_KEY] = spec.to_json()
    return model


def _name_nodes(graph: ir.Graph) -> None:
    """Name each node ``module.path/OpType``, numbered where a module has several of one type."""
    counts: Counter[str] = Counter()
    modules: dict[ir.Node, str] = {}
    for node in graph:
        module = _traced_module(node)
        if module is None:  # nodes that the exporter made on its own belong where their first input was made
            producers = (value.producer() for value in node.inputs if value is not None)
            module = next((modules[producer] for producer in producers if producer in modules), ROOT_MODULE)
        modules[node] = module
        name = f"{module}/{node.op_type}"
        counts[name] += 1
        node.name = name if counts[name] == 1 else f"{name}_{counts[name]}"
        node.metadata_props.clear()
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()


def _traced_module(node: ir.Node) -> str | None:
    scopes = node.metadata_props.get(_SCOPES_KEY)
    if scopes is None:
        return None
    names = [part.strip(" '\"") for part in scopes.strip("[]").split(",")]
    module = names[-2] if len(names) > 1 else ""
    return None if module == _NO_MODULE else module or ROOT_MODULE


def _name_dynamic_axes(graph: ir.Graph, scale: int) -> None:
    """Call the dynamic sides H and W (times the scale at the output); inner symbolic shapes are left to the runtime."""
    for node in graph:
        for value in node.outputs:
            if value.shape is not None and not value.shape.is_static() and not value.is_graph_output():
                value.shape = None
    picture, restored = graph.inputs[0], graph.outputs[0]
    assert picture.shape is not None and restored.shape is not None
    picture.shape = ir.Shape([picture.shape[0], picture.shape[1], "H", "W"])
    sides = ["H", "W"] if scale == 1 else [f"{scale}*H", f"{scale}*W"]
    restored.shape = ir.Shape([restored.shape[0], restored.shape[1], *sides])


def save_graph(model: ir.Model, path: Path) -> None:
    """Check the model in full (``onnx.checker`` with shape inference), then write it.

    Raises:
        GraphError: the checker refuses it; nothing is written.
    """
    proto = ir.to_proto(model)
    try:
        onnx.checker.check_model(proto, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise GraphError("onnx.checker refuses the graph", where=path.name, got=str(error).strip()) from error
    path.write_bytes(proto.SerializeToString())


def read_spec(model: ir.Model, *, where: str) -> ModelSpec:
    """The model spec stored in the ONNX file itself; raises ``GraphError`` where there is none."""
    text = model.metadata_props.get(SPEC_KEY)
    if text is None:
        raise GraphError("the ONNX file holds no edgeir model spec", where=where)
    return ModelSpec.from_json(text, where=where)


def expose_key_graphs(path: Path, names: Sequence[str] = ()) -> tuple[bytes, list[str]]:
    """A graph with the choices of its key graphs as further outputs, to see which neighbours a runtime chose.

    Args:
        path: the graph.
        names: of the values that hold the choices, for a graph whose functions were inlined: inlining keeps them.

    Returns:
        the changed model's bytes, and the names of the new outputs in the order of the stages; no names where the
        network has no key graph.
    """
    model = ir.load(path)
    chosen = [node.outputs[0] for node in model.graph if node.op_type == table.KEY_GRAPH.name]
    if not chosen:
        made = {value.name: value for node in model.graph for value in node.outputs}
        chosen = [made[name] for name in names]
    for value in chosen:
        value.type = ir.TensorType(ir.DataType.BOOL)
        model.graph.outputs.append(value)
    return ir.to_proto(model).SerializeToString(), [value.name or "" for value in chosen]
