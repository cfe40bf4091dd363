"""ONNX Runtime: runs ``model.onnx`` on the CPU, function bodies included."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeir.errors import GraphError, MissingDependency
from edgeir.runtime.external_data import require_self_contained
from edgeir.runtime.memory import free_at_once
from edgeir.runtime.session import Pictures
from edgeir.spec import INPUT_NAME, OUTPUT_NAME

OPTIMISED = ".optimised.onnx"  # how files end that ONNX Runtime wrote after its own optimisation


class OrtSession:
    """A graph opened by ONNX Runtime on its CPU provider.

    FP16 on the CPU is emulated: operators without FP16 kernels run in float32 between casts, and where two of them meet
    ONNX Runtime drops the casts, at every optimization level. Weights are rounded; activations mostly are not, and
    their overflows do not show. The figures of an FP16 graph are kinder than a GPU's.

    Args:
        model: an ONNX file that edgeir wrote, or its bytes; one of `edgeir.runtime.ort_engine` is run as it stands.
        threads: threads within an operator; ``None`` lets ONNX Runtime decide.
        arena: keep working memory for the next run; without it every buffer is given back as soon as it is read,
            and from then on the C library gives the process's large blocks back too.
        integer_kernels: let layers between Q and DQ run in the CPU's own eight-bit kernels; without, they are computed
            in floats as the graph says, which is what measuring wants.

    Raises:
        MissingDependency: onnxruntime is not installed.
        GraphError: the file names other files, or ONNX Runtime refuses it.
    """

    def __init__(
        self, model: Path | bytes, *, threads: int | None = None, arena: bool = True, integer_kernels: bool = True
    ) -> None:
        try:
            import onnxruntime as ort
        except ImportError as error:
            raise MissingDependency("onnxruntime is not installed", fix="Run: pip install onnxruntime") from error
        self._version = str(ort.__version__)  # the distribution is called otherwise on a Jetson
        if isinstance(model, Path):
            require_self_contained(model)
        options = ort.SessionOptions()
        options.log_severity_level = 3  # errors only: notes on constant folding of FP16 nodes say nothing to a user
        options.enable_cpu_mem_arena = arena
        if not arena:
            free_at_once()
        if not integer_kernels:
            options.add_session_config_entry("session.disable_quant_qdq", "1")
        if isinstance(model, Path) and model.name.endswith(OPTIMISED):
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        if threads is not None:
            options.intra_op_num_threads = threads
        try:
            source = model if isinstance(model, bytes) else str(model)
            self._session = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's own exception types are private
            where = "the graph in memory" if isinstance(model, bytes) else model.name
            reason = str(error).strip().splitlines()[0]
            raise GraphError("ONNX Runtime refuses the graph", where=where, got=reason) from error

    @property
    def name(self) -> str:
        """``"onnxruntime 1.31.1 CPU"``."""
        return f"onnxruntime {self._version} CPU"

    def run(self, pictures: Pictures) -> Pictures:
        """Restore a batch, see `edgeir.runtime.session.Session.run`."""
        output = self._session.run([OUTPUT_NAME], {INPUT_NAME: np.ascontiguousarray(pictures, np.float32)})[0]
        return np.asarray(output, np.float32)

    def run_all(self, pictures: Pictures) -> dict[str, NDArray[np.generic]]:
        """Every output of the graph by name, for graphs that were given more than one output."""
        return self.run_values({INPUT_NAME: np.ascontiguousarray(pictures, np.float32)})

    def run_values(self, values: Mapping[str, NDArray[np.generic]]) -> dict[str, NDArray[np.generic]]:
        """Every output of a graph by name, for graphs that read other values than pictures."""
        names = [output.name for output in self._session.get_outputs()]
        outputs = self._session.run(names, dict(values))
        return {name: np.asarray(output) for name, output in zip(names, outputs, strict=True)}

    def input_shapes(self) -> dict[str, tuple[int, ...]]:
        """The sides of every input of a static graph by name; a symbolic side is 0."""
        return {
            value.name: tuple(side if isinstance(side, int) else 0 for side in value.shape)
            for value in self._session.get_inputs()
        }
