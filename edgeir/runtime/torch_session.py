"""PyTorch: eager, the reference every other runtime is held against, and compiled, for comparison."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch._dynamo.exc import BackendCompilerFailed

from edgeir.errors import MissingDependency
from edgeir.runtime.session import Pictures

if TYPE_CHECKING:
    from edgeir.models.loading import LoadedModel


class TorchSession:
    """A loaded network run by PyTorch in float32 on the CPU.

    Args:
        loaded: the network.
        form: ``"reference"`` (as published) or ``"fast"`` (the exact form that is exported).
        threads: threads of PyTorch in this process; ``None`` leaves them as they are.
        compiled: run through ``torch.compile``; the first run of a size then compiles, which takes a minute or more.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        *,
        form: Literal["reference", "fast"] = "reference",
        threads: int | None = None,
        compiled: bool = False,
    ) -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        self._module = loaded.module.eval()
        self._form: Literal["reference", "fast"] = form
        self._way = "compiled" if compiled else "eager"
        self._call: Callable[[torch.Tensor], torch.Tensor] = torch.compile(self._module) if compiled else self._module

    @property
    def name(self) -> str:
        """``"torch 2.13.0 eager CPU"``, or ``compiled``."""
        return f"torch {torch.__version__.partition('+')[0]} {self._way} CPU"

    def run(self, pictures: Pictures) -> Pictures:
        """Restore a batch, see `edgeir.runtime.session.Session.run`.

        Raises:
            MissingDependency: PyTorch's compiler does not work here; it needs a C++ compiler.
        """
        self._module.set_form(self._form)
        try:
            with torch.inference_mode():
                output: Pictures = self._call(_tensor(pictures)).numpy()
        except BackendCompilerFailed as error:
            reason = str(error).strip().splitlines()[0]
            raise MissingDependency("torch.compile fails here", got=reason, fix="Install a C++ compiler.") from error
        return output

    def run_with_key_graphs(self, pictures: Pictures, graphs: Sequence[NDArray[np.bool_]]) -> tuple[Pictures, float]:
        """Restore a batch with key graphs chosen elsewhere.

        Args:
            pictures: see `run`.
            graphs: ``(windows, n, n)`` each, in the order of the stages.

        Returns:
            the restored batch, and the smallest Jaccard overlap of a given graph with the network's own choice.
        """
        from edgeir.models.fused import given_key_graphs

        self._module.set_form("fast")
        with torch.inference_mode(), given_key_graphs([torch.from_numpy(graph) for graph in graphs]) as given:
            output: Pictures = self._module(_tensor(pictures)).numpy()
        return output, min(given.overlaps)


def _tensor(pictures: Pictures) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(pictures, np.float32))
