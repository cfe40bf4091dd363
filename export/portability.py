"""One typed graph, made into the file that one version of one runtime can read.

``model.onnx`` of a bundle is opset 20 with fused ops as model-local functions. `prepare` decides what becomes of the
functions (kept, inlined, or stripped so that a plugin is found), lowers ops and opset for TensorRT 8, and applies the
rewrites that pay on this runtime only. The result computes the same numbers: every step is an identity.
"""

from __future__ import annotations

from collections.abc import Collection

import onnx.inliner
import onnx_ir as ir

from edgeir.errors import UsageError
from edgeir.export.lowering import lowered
from edgeir.export.rewrites.apply import apply_rule
from edgeir.export.rewrites.catalogue import FOR_RUNTIME
from edgeir.export.runtimes import Functions, Runtime
from edgeir.ops import table


def require_plugins(runtime: Runtime) -> None:
    """Raise ``UsageError`` where a runtime has no plugins."""
    if not runtime.has_plugins:
        raise UsageError(
            f"{runtime.title} has no plugins", where="--plugins", fix="Leave it out: the bodies are used there."
        )


def needs_plugins(model: ir.Model) -> bool:
    """Whether a node has neither an operator nor a body behind it: only a runtime with the plugin can run the graph."""
    return any(node.domain == table.DOMAIN and node.op_identifier() not in model.functions for node in model.graph)


def prepare(model: ir.Model, runtime: Runtime, *, plugins: bool = False, without: Collection[str] = ()) -> ir.Model:
    """The file for ``runtime``; ``model`` itself stays as it is.

    Args:
        model: a graph as edgeir writes it.
        runtime: a row of `edgeir.export.runtimes.RUNTIMES`.
        plugins: edgeir's plugins will be registered when the file is parsed: fused ops are left to them.
        without: names of rewrites to leave out, of those that pay on this runtime only.

    Raises:
        UsageError: plugins are asked for where there are none.
    """
    if plugins:
        require_plugins(runtime)
    metadata = dict(model.metadata_props)  # the inliner keeps it, shape inference and folding do not promise to
    proto = ir.to_proto(model)
    if runtime.functions is Functions.UNKNOWN and not plugins:
        proto = onnx.inliner.inline_local_functions(proto)
    prepared = ir.from_proto(proto)
    if plugins and runtime.functions in (Functions.UNKNOWN, Functions.BODY_FIRST):
        for identifier in [key for key in prepared.functions if key[0] == table.DOMAIN]:
            del prepared.functions[identifier]
    if runtime.opsets[1] < prepared.opset_imports.get("", 0):
        prepared = lowered(prepared, opset=runtime.opsets[1], missing=runtime.missing)
    for name in FOR_RUNTIME.get(runtime.name, ()):
        if name not in without:
            apply_rule(prepared, name)
    prepared.metadata_props.update(metadata)
    return prepared
