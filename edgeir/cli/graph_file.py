"""Opening an ONNX file that a user named."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgeir.errors import GraphError, MissingDependency

if TYPE_CHECKING:
    import onnx_ir as ir


def load_graph(path: Path) -> ir.Model:
    """The model in ``path``; external data is not read.

    Raises:
        MissingDependency: onnx is not installed.
        GraphError: it is no ONNX file.
    """
    try:
        import onnx_ir as ir
    except ImportError as error:
        raise MissingDependency("looking into a graph needs onnx", fix="Run: pip install 'edgeir[export]'") from error
    try:
        model = ir.load(path)
    except Exception as error:  # protobuf's own exception types are private
        raise GraphError("this is not an ONNX file", where=str(path)) from error
    if not model.graph.outputs:  # an empty file is a valid protobuf, and many a text is
        raise GraphError("this is not an ONNX file", where=str(path), got="no graph with outputs")
    return model
