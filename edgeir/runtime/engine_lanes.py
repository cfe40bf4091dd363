"""The lanes of an engine by shape: made at first use, a few kept, on two streams and one block of scratch memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress

from edgeir.runtime.cuda_driver import CudaError
from edgeir.runtime.engine_contexts import EngineContexts
from edgeir.runtime.engine_lane import Lane
from edgeir.runtime.engine_loading import LoadedEngine
from edgeir.runtime.engine_tensors import EngineTensors, Shape
from edgeir.runtime.gpu_device import DeviceBlock, Gpu, OutOfDeviceMemory
from edgeir.runtime.gpu_stream import Stream

STREAMS = 2
SHAPES_KEPT = 4
"""Shapes whose buffers and graphs are kept. A folder of pictures may hold any number of sizes."""


class EngineLanes:
    """Finds or makes the lane for a shape and a stream.

    Args:
        gpu, loaded, contexts, tensors: see `edgeir.runtime.engine_lane.Lane`.
        say: told things once.
    """

    def __init__(
        self,
        gpu: Gpu,
        loaded: LoadedEngine,
        contexts: EngineContexts,
        tensors: EngineTensors,
        say: Callable[[str], None],
    ) -> None:
        self._gpu = gpu
        self._loaded = loaded
        self._contexts = contexts
        self._tensors = tensors
        self._say = _Once(say)
        self._streams: list[Stream] = []
        self._lanes: OrderedDict[Shape, dict[int, Lane]] = OrderedDict()
        self._scratch: DeviceBlock | None = None

    def ready(self, shape: Shape, turn: int) -> bool:
        """Whether the lane exists: nothing will be waited for, moved or dropped to get it."""
        return turn in self._lanes.get(shape, {})

    def get(self, shape: Shape, turn: int) -> Lane:
        """The lane of stream ``turn`` for a shape; no work may be under way unless `ready` said yes.

        Raises:
            OutOfDeviceMemory: it does not fit, even with the lanes of all other shapes gone.
            MissingDependency: the runtime refuses.
        """
        while len(self._streams) < STREAMS:
            self._streams.append(Stream(self._gpu))
        if not self.ready(shape, turn):
            self._make(shape, turn)
        self._lanes.move_to_end(shape)
        return self._lanes[shape][turn]

    def synchronize(self) -> None:
        """Until nothing is under way."""
        for stream in self._streams:
            stream.synchronize()

    def close(self) -> None:
        """Wait, then give everything back. After a fault every call fails; who ran the batch was told of it."""
        with suppress(CudaError):
            self._gpu.use()  # whichever thread this is
            self.synchronize()
        for shape in list(self._lanes):
            with suppress(CudaError):
                self._drop(shape)
        with suppress(CudaError):
            self._free_scratch()
        for stream in self._streams:
            stream.close()
        self._streams.clear()

    def _make(self, shape: Shape, turn: int) -> None:
        self.synchronize()
        while len(self._lanes) >= SHAPES_KEPT and shape not in self._lanes:
            self._drop(next(iter(self._lanes)))
        try:
            lane = self._new(shape, turn)
        except OutOfDeviceMemory:
            if not set(self._lanes) - {shape}:
                raise
            for other in set(self._lanes) - {shape}:
                self._drop(other)
            lane = self._new(shape, turn)
        self._lanes.setdefault(shape, {})[turn] = lane

    def _new(self, shape: Shape, turn: int) -> Lane:
        return Lane(
            self._gpu,
            self._streams[turn],
            self._loaded,
            self._contexts,
            self._tensors,
            shape,
            self._scratch_of,
            self._say,
        )

    def _scratch_of(self, size: int) -> DeviceBlock:
        """The block; a larger one takes its place, and with it go the lanes whose graphs know the old one's address."""
        if self._scratch is None or self._scratch.size < size:
            for shape in list(self._lanes):
                self._drop(shape)
            self._free_scratch()
            self._scratch = self._gpu.allocate(size)
        return self._scratch

    def _free_scratch(self) -> None:
        if self._scratch is not None:
            block, self._scratch = self._scratch, None
            self._gpu.free(block)

    def _drop(self, shape: Shape) -> None:
        for lane in self._lanes.pop(shape).values():
            lane.close()


class _Once:
    """Says each sentence once."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._said: set[str] = set()

    def __call__(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self._say(text)
