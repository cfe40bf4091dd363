"""Execution contexts of one engine, with memory of ours, and for TensorRT-RTX with its cache of compiled kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edgeir.runtime.engine_loading import LoadedEngine
from edgeir.runtime.runtime_cache import RuntimeCacheFile


class EngineContexts:
    """Makes contexts that allocate no scratch memory themselves.

    TensorRT-RTX compiles kernels when a shape is first met. They are compiled before that batch runs (``EAGER``), so
    that all batches of one shape run the same kernels and come out alike, and its own capture of CUDA graphs is turned
    on: NVIDIA recommends it over a capture from outside, because only the runtime knows when its kernels are final.

    Args:
        loaded: the engine.
        cache: where compiled kernels are kept; TensorRT-RTX only.
        say: told of what is left out.
    """

    def __init__(self, loaded: LoadedEngine, cache: RuntimeCacheFile | None, say: Callable[[str], None]) -> None:
        self._engine = loaded.engine
        self._trt = loaded.trt
        self._loaded = loaded
        self._file = cache
        self._cache: Any = None
        self._config: Any = None
        self.captures_itself = False
        if loaded.runtime.name == "rtx":
            self._config = self._engine.create_runtime_config()
            self._config.set_execution_context_allocation_strategy(
                self._trt.ExecutionContextAllocationStrategy.USER_MANAGED
            )
            self._set_up_kernels()
            self._set_up_cache(say)

    def make(self) -> Any:
        """A context.

        Raises:
            MissingDependency: the runtime makes none; `OutOfDeviceMemory` where that is for want of memory.
        """
        how = self._trt.ExecutionContextAllocationStrategy.USER_MANAGED if self._config is None else self._config
        self._loaded.listen()
        context = self._engine.create_execution_context(how)
        if context is None:
            raise self._loaded.failure("the runtime makes no execution context")
        return context

    def close(self) -> None:
        """Keep what was compiled, let go. Every context must be gone."""
        if self._cache is not None and self._file is not None:
            data = self._cache.serialize()
            if data is not None:
                self._file.write(bytes(memoryview(data)))
        self._cache = None
        self._config = None
        self._engine = None

    def _set_up_kernels(self) -> None:
        """Options that came with TensorRT-RTX 1.2 and before; an older runtime keeps its defaults."""
        kernels = getattr(self._trt, "DynamicShapesKernelSpecializationStrategy", None)
        if kernels is not None:
            self._config.dynamic_shapes_kernel_specialization_strategy = kernels.EAGER
        graphs = getattr(self._trt, "CudaGraphStrategy", None)
        if graphs is not None:
            self._config.cuda_graph_strategy = graphs.WHOLE_GRAPH_CAPTURE
            self.captures_itself = True

    def _set_up_cache(self, say: Callable[[str], None]) -> None:
        if self._file is None:
            return
        self._cache = self._config.create_runtime_cache()
        kept = self._file.read()
        if kept is not None and not self._cache.deserialize(kept):
            self._file.refused()
        if not self._config.set_runtime_cache(self._cache):
            self._cache = None
            say("TensorRT-RTX takes no cache of compiled kernels here: they are compiled at every start.")
