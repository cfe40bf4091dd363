"""The lanes of an engine by shape: made at first use, a few kept, on two streams and one block of scratch memory."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from edgeir.errors import MissingDependency
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


class FixedScratch(MissingDependency):
    """The GPU has too little memory for an engine, at whatever size: smaller tiles are of no use."""


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
        self._too_much: tuple[int, int] | None = None  # elements of a shape, and scratch bytes that were not to be had

    def ready(self, shape: Shape, turn: int) -> bool:
        """Whether the lane exists: nothing will be waited for, moved or dropped to get it."""
        return turn in self._lanes.get(shape, {})

    def get(self, shape: Shape, turn: int) -> Lane:
        """The lane of stream ``turn`` for a shape; no work may be under way unless `ready` said yes.

        Raises:
            OutOfDeviceMemory: it does not fit, even with the lanes of all other shapes gone.
            FixedScratch: nor would any smaller shape.
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
            if not self._make_room(shape):
                raise
            lane = self._new(shape, turn)
        self._lanes.setdefault(shape, {})[turn] = lane

    def _make_room(self, shape: Shape) -> bool:
        """Let go what other shapes hold, and scratch memory that no lane of this one knows; whether that was any."""
        others = set(self._lanes) - {shape}
        for other in others:
            self._drop(other)
        free_scratch = self._scratch is not None and shape not in self._lanes
        if free_scratch:
            self._free_scratch()
        return bool(others) or free_scratch

    def _new(self, shape: Shape, turn: int) -> Lane:
        return Lane(
            self._gpu,
            self._streams[turn],
            self._loaded,
            self._contexts,
            self._tensors,
            shape,
            partial(self._scratch_of, shape),
            self._say,
        )

    def _scratch_of(self, shape: Shape, size: int) -> DeviceBlock:
        """The block; a larger one takes its place, and with it go the lanes whose graphs know the old one's address."""
        if self._scratch is None or self._scratch.size < size:
            for other in list(self._lanes):
                self._drop(other)
            self._free_scratch()
            try:
                self._scratch = self._gpu.allocate(size)
            except OutOfDeviceMemory as error:
                self._require_less(shape, size, error)
                raise
        return self._scratch

    def _require_less(self, shape: Shape, size: int, error: OutOfDeviceMemory) -> None:
        """Raise `FixedScratch` where a larger shape has failed for want of no more than this one asks for."""
        elements = math.prod(shape)
        if self._too_much is not None and elements < self._too_much[0] and size >= self._too_much[1]:
            raise FixedScratch(
                "the engine asks for as much scratch memory for smaller tiles as for larger ones, and the GPU has not "
                "that much left",
                where=self._loaded.chosen.path,
                expected=error.expected,
                got=error.got,
                fix="Export with a smaller largest size (--dynamic), or build the engine again (edgeir build --force) "
                "with TensorRT 10.10 or later, whose engines can ask for less.",
            ) from error
        self._too_much = elements, size

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
