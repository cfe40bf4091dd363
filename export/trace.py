"""From a loaded network to an FP32 graph: ``torch.onnx.export`` (dynamo), then edgeir's own names and functions."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import onnx_ir as ir
import torch

from edgeir.export.graph import TraceShape, finish_graph
from edgeir.ops.functions import OPSET
from edgeir.spec import INPUT_NAME, OUTPUT_NAME

if TYPE_CHECKING:
    from edgeir.models.loading import LoadedModel


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
        )
    assert program is not None
    return finish_graph(program.model, loaded.spec, shape)


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
