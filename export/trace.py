"""From a loaded network to an FP32 graph: ``torch.onnx.export`` (dynamo), then edgeir's own names and functions."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import onnx_ir as ir
import torch
from onnx_ir.passes.common import (
    CommonSubexpressionEliminationPass,
    DeduplicateInitializersPass,
    InlinePass,
    LiftConstantsToInitializersPass,
    RemoveUnusedFunctionsPass,
    RemoveUnusedNodesPass,
    RemoveUnusedOpsetsPass,
    ShapeInferencePass,
)
from onnxscript.optimizer import fold_constants
from onnxscript.rewriter import RewriteRuleSet
from onnxscript.rewriter.rules.common import materialize_reshape_shape_rule, reshape_reshape_rule

from edgeir.export.graph import TraceShape, finish_graph
from edgeir.ops.functions import OPSET
from edgeir.spec import INPUT_NAME, OUTPUT_NAME

if TYPE_CHECKING:
    from edgeir.models.loading import LoadedModel

_FOLDS = 3  # a shape that one pass makes known lets the next one fold what reads it
_RESHAPES = RewriteRuleSet([materialize_reshape_shape_rule, reshape_reshape_rule])


def trace(loaded: LoadedModel, shape: TraceShape) -> ir.Model:
    """Trace a network in its fast form into an FP32 graph.

    Args:
        loaded: the network; its module is set to evaluation mode and to the fast form.
        shape: batch, height and width, static or dynamic.

    Returns:
        A model with one input ``image`` and one output ``restored``, ``(N, 3, H, W) float32``; fused ops are nodes of
        domain ``edgeir`` whose bodies are model-local functions; node names follow the modules
        (``latent.3.attn.qkv/Conv``); the model spec is in ``metadata_props``.

    Raises:
        UsageError: the size does not fit the network's size rule.
    """
    shape.require(loaded.spec.size)
    module = loaded.module.eval()
    module.set_form("fast")
    side = loaded.spec.size.multiple
    example = torch.zeros(shape.batch, loaded.spec.channels, shape.height, shape.width)
    dynamic_shapes = None
    if shape.dynamic is not None:
        # A side is a multiple of the size rule: torch.export needs to know, and checks every guard against it.
        dims = {
            axis: side * torch.export.Dim(letter, min=low[index] // side, max=high[index] // side)
            for axis, letter, index in ((2, "h", 0), (3, "w", 1))
            for low, high in ((shape.dynamic.minimum, shape.dynamic.maximum),)
        }
        dynamic_shapes = (dims,)
    program = _export(module, example, dynamic_shapes=dynamic_shapes, optimize=False)
    _fold(program.model)
    return finish_graph(program.model, loaded.spec, shape)


def plain_export(loaded: LoadedModel, batch: int, height: int, width: int) -> bytes:
    """An ONNX file as anybody would make one: the network as published through ``torch.onnx.export``, nothing else.

    What edgeir's own graphs are compared with. The module is left in evaluation mode, in its reference form.
    """
    module = loaded.module.eval()
    module.set_form("reference")
    example = torch.zeros(batch, loaded.spec.channels, height, width)
    program = _export(module, example, dynamic_shapes=None, optimize=True)
    return bytes(program.model_proto.SerializeToString())


def _export(module: torch.nn.Module, example: torch.Tensor, *, dynamic_shapes: Any, optimize: bool) -> Any:
    with torch.no_grad(), _quiet():
        program = torch.onnx.export(
            module,
            (example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=[INPUT_NAME],
            output_names=[OUTPUT_NAME],
            dynamic_shapes=dynamic_shapes,
            verbose=False,
            optimize=optimize,
        )
    assert program is not None
    return program


def _fold(model: ir.Model) -> None:
    """Compute what is known: what the exporter writes for shapes and types are three nodes of five.

    The exporter's own ``optimize`` does the same, and then tries some forty rules at every node, of which none fits
    edgeir's networks: that took a third of the whole export.
    """
    InlinePass()(model)  # of the exporter's own functions; edgeir's bodies come later
    for _ in range(_FOLDS):
        fold_constants(model)
        _RESHAPES.apply_to_model(model)
        RemoveUnusedNodesPass()(model)
        ShapeInferencePass()(model)
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    DeduplicateInitializersPass()(model)
    CommonSubexpressionEliminationPass()(model)
    RemoveUnusedFunctionsPass()(model)  # type: ignore[no-untyped-call]
    RemoveUnusedOpsetsPass()(model)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's notices about absent torchvision and its own deprecations out of the user's terminal."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
