"""What would break when one version of one runtime reads a graph: found by reading it, with the fix.

The limits are those of the parser and builder (tried with TensorRT-RTX 1.7.1, and as NVIDIA documents them) and
of ONNX Runtime. A graph without findings is not promised to build; a finding of level ``error`` does break.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import onnx
import onnx.inliner
import onnx.shape_inference
import onnx_ir as ir

from edgeir.export.lint_nodes import CHECKS, Seen, check_every_node
from edgeir.export.runtimes import Functions, Runtime, Typing
from edgeir.ops import table

Level = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that would break or mislead.

    Attributes:
        level: ``"error"``: the runtime refuses the graph or computes something else; ``"warning"``: worth knowing.
        rule: short name of the check.
        node: name of the node, ``""`` for the graph.
        module: path of the network's module that the node came from, ``""`` where it has none.
        message: what is wrong.
        fix: what to do.
    """

    level: Level
    rule: str
    node: str
    module: str
    message: str
    fix: str


def lint(model: onnx.ModelProto, runtime: Runtime, *, plugins: bool = False) -> list[Finding]:
    """Everything that ``runtime`` would stumble over in ``model``, errors first.

    Args:
        model: any ONNX model; external data need not be loaded.
        runtime: a row of `edgeir.export.runtimes.RUNTIMES`.
        plugins: edgeir's plugins will be registered.
    """
    found = [*_opset(model, runtime), *_functions(model, runtime, plugins=plugins)]
    seen = _as_parsed(model, runtime, plugins=plugins)
    for node in seen.graph:
        if node.domain not in ("", "ai.onnx"):
            continue  # a fused op that stays one: functions above say whether it may
        for level, rule, message, fix in (
            *check_every_node(node, seen),
            *(CHECKS[node.op_type](node, seen) if node.op_type in CHECKS else ()),
        ):
            found.append(Finding(level, rule, node.name or "", _module(node.name), message, fix))
    found.extend(_unnamed(model, runtime))
    return sorted(dict.fromkeys(found), key=lambda finding: finding.level != "error")


def _module(name: str | None) -> str:
    return (name or "").rpartition("/")[0]


def _opset(model: onnx.ModelProto, runtime: Runtime) -> Iterator[Finding]:
    version = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), None)
    low, high = runtime.opsets
    if version is None:
        yield Finding(
            "error", "opset", "", "", "the graph imports no version of the standard operators", "Export again."
        )
    elif not low <= version <= high:
        yield Finding(
            "error",
            "opset",
            "",
            "",
            f"the graph is opset {version}; {runtime.title} reads {low} to {high}",
            f"edgeir export --for {runtime.name} writes a file that it reads.",
        )
    if runtime.typing is Typing.WEAK and any(_is_half(value) for value in model.graph.initializer):
        yield Finding(
            "warning",
            "weak-typing",
            "",
            "",
            f"{runtime.title} decides on types by flags; the FP16 in the graph is a hint there",
            "Build with --fp16 --precisionConstraints=obey, and compare with ONNX Runtime afterwards.",
        )
    if runtime.typing is Typing.OPTIONAL:
        yield Finding(
            "warning",
            "strong-typing",
            "",
            "",
            f"{runtime.title} follows the types of the graph only if it is asked to",
            "Build with --stronglyTyped (NetworkDefinitionCreationFlag.STRONGLY_TYPED).",
        )


def _is_half(value: onnx.TensorProto) -> bool:
    return value.data_type in (onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)


def _functions(model: onnx.ModelProto, runtime: Runtime, *, plugins: bool) -> Iterator[Finding]:
    bodies = Counter(function.name for function in model.functions)
    used = Counter((node.domain, node.op_type) for node in model.graph.node if node.domain not in ("", "ai.onnx"))
    prepare = f"edgeir export --for {runtime.name} writes a file that it reads."
    for name, count in bodies.items():
        if runtime.is_tensorrt and onnx.defs.has(name):
            message = f"the function {name} has the name of a standard op, which the parser takes instead of its body"
            yield Finding("error", "function-name", "", "", message, "Give the function a name of its own.")
        if runtime.is_tensorrt and count > 1:
            message = f"{count} functions are called {name}; the parser takes the first body for all"
            yield Finding("error", "function-name", "", "", message, "Give every body a name of its own.")
    for (domain, name), count in used.items():
        node = next(n for n in model.graph.node if (n.domain, n.op_type) == (domain, name))
        body, ours = name in bodies, domain == table.DOMAIN
        nodes = f"{count} node{'s' if count > 1 else ''} of {domain}::{name}"
        where = (node.name, _module(node.name))
        if runtime.functions is Functions.UNKNOWN and not (plugins and ours):
            message = f"{nodes}: {runtime.title} knows no model-local functions"
            yield Finding("error", "function", *where, message, prepare)
        elif not body and not (plugins and ours and runtime.has_plugins):
            message = f"{nodes} without a body: nothing says what it means"
            yield Finding("error", "no-body", *where, message, "Keep the functions of the file that was exported.")
        elif plugins and ours and body and runtime.functions is Functions.BODY_FIRST:
            message = f"{nodes}: {runtime.title} uses the body and never the plugin while there is one"
            yield Finding("error", "plugin-ignored", *where, message, f"{prepare} Use --plugins there too.")
        elif plugins and ours and runtime.functions is Functions.PLUGIN_IF_NAMED and not _names_plugin(node):
            message = f"{nodes}: without the attribute plugin_namespace {runtime.title} uses the body"
            yield Finding("error", "plugin-ignored", *where, message, "Export again with this version of edgeir.")


def _names_plugin(node: onnx.NodeProto) -> bool:
    return any(attribute.name == "plugin_namespace" for attribute in node.attribute)


def _unnamed(model: onnx.ModelProto, runtime: Runtime) -> Iterator[Finding]:
    count = sum(not node.name for node in model.graph.node)
    if count and runtime.is_tensorrt:
        message = f"{count} nodes have no name: an engine's layers cannot be traced back to them"
        yield Finding("warning", "unnamed", "", "", message, "Name them; edgeir export does.")


def _as_parsed(model: onnx.ModelProto, runtime: Runtime, *, plugins: bool) -> Seen:
    """The graph with the bodies that the runtime would use in their places, and with inferred types."""
    kept = [(table.DOMAIN, op.name) for op in table.FUSED_OPS] if plugins else []
    if runtime.functions is not Functions.UNKNOWN and model.functions:
        model = onnx.inliner.inline_selected_functions(model, kept, exclude=True)
    with contextlib.suppress(onnx.shape_inference.InferenceError):  # types stay unknown where inference gives up
        model = onnx.shape_inference.infer_shapes(model, data_prop=True)
    return Seen(ir.from_proto(model).graph, runtime)
