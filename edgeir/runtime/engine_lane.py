"""One batch on its way through an engine: buffers on both sides, a context, marks, and a captured graph.

::

    stream   ├─ copy in ─┤ wait for the other lane's execution ├─ execute ─┤─ copy out ─┤
            began      copied                                started      ran       returned

Two lanes take turns, each on a stream of its own, so that one copies while the other executes. They share scratch
memory, hence the wait; and each has a context of its own, which is what NVIDIA asks for where graphs are captured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeir.errors import MissingDependency
from edgeir.runtime.engine_contexts import EngineContexts
from edgeir.runtime.engine_loading import LoadedEngine
from edgeir.runtime.engine_tensors import EngineTensors, Shape
from edgeir.runtime.gpu_device import DeviceBlock, Gpu, OutOfDeviceMemory, PinnedArray
from edgeir.runtime.gpu_stream import CapturedGraph, Event, Refused, Stream
from edgeir.spec import INPUT_NAME

Values = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class DeviceTimes:
    """Milliseconds of the device for one batch, by its own events."""

    copy_in_ms: float
    execute_ms: float
    copy_out_ms: float


class Lane:
    """Everything one batch of one shape needs.

    Args:
        gpu: the device.
        stream: the lane's own.
        loaded, contexts, tensors: the engine.
        shape: of the input.
        scratch: gives memory of at least so many bytes, the same block to every lane.
        say: told once if a graph cannot be captured.

    Raises:
        OutOfDeviceMemory: there is none left for buffers or scratch; nothing is kept then.
        MissingDependency: the runtime refuses the shape.
    """

    def __init__(
        self,
        gpu: Gpu,
        stream: Stream,
        loaded: LoadedEngine,
        contexts: EngineContexts,
        tensors: EngineTensors,
        shape: Shape,
        scratch: Callable[[int], DeviceBlock],
        say: Callable[[str], None],
    ) -> None:
        self._stream = stream
        self._loaded = loaded
        self._say = say
        self._graph: CapturedGraph | None = None
        self._may_capture = not contexts.captures_itself
        self._inputs = (INPUT_NAME, *(name for name, _, _ in tensors.more_in))
        self._host: dict[str, PinnedArray] = {}
        self._device: dict[str, DeviceBlock] = {}
        with ExitStack() as stack:
            self._context: Any = contexts.make()
            stack.callback(self._drop_context)
            shapes = self._shapes(tensors, shape)
            for name, (dtype, sides) in shapes.items():
                self._host[name] = gpu.allocate_pinned(sides, dtype)
                stack.callback(gpu.free_pinned, self._host[name])
                self._device[name] = gpu.allocate(self._host[name].size)
                stack.callback(gpu.free, self._device[name])
            block = scratch(int(self._context.update_device_memory_size_for_shapes()))
            self._context.set_device_memory(block.address, block.size)
            loaded.listen()
            for name, memory in self._device.items():
                if not self._context.set_tensor_address(name, memory.address):
                    raise loaded.failure(f"the runtime refuses the address of {name}")
            events = []
            for _ in range(5):
                events.append(Event(gpu))
                stack.callback(events[-1].close)
            self._began, self._copied, self._started, self.ran, self._returned = events
            stack.callback(self._drop_graph)
            self._release = stack.pop_all()

    def start(self, values: Values, *, after: Event | None) -> None:
        """Send a batch on its way; the lane must be idle.

        Args:
            values: every input by name, ``image`` of the lane's shape.
            after: the mark of the execution before this one, on the other stream.

        Raises:
            MissingDependency: the runtime refuses to execute.
        """
        for name in self._inputs:
            np.copyto(self._host[name].array, values[name], casting="same_kind")
        self._stream.record(self._began)
        for name in self._inputs:
            self._stream.copy_in(self._device[name], self._host[name])
        self._stream.record(self._copied)
        if after is not None:
            self._stream.wait(after)
        self._stream.record(self._started)
        if not self._launched() and not self._enqueue():
            raise self._loaded.failure("the runtime refuses to execute the engine")
        self._stream.record(self.ran)
        for name, memory in self._device.items():
            if name not in self._inputs:
                self._stream.copy_out(self._host[name], memory)
        self._stream.record(self._returned)

    def finish(self) -> dict[str, NDArray[Any]]:
        """Wait for the batch; every output by name, in memory of its own. The lane is idle then."""
        self._returned.synchronize()
        outputs = {name: pinned.array.copy() for name, pinned in self._host.items() if name not in self._inputs}
        if self._may_capture:
            self._capture()
        return outputs

    def times(self) -> DeviceTimes | None:
        """Of the batch that was finished last; ``None`` once the lane was given back."""
        if self._context is None:
            return None
        return DeviceTimes(
            self._copied.ms_since(self._began),
            self.ran.ms_since(self._started),
            self._returned.ms_since(self.ran),
        )

    def close(self) -> None:
        """Give everything back; the stream must have been synchronised."""
        self._release.close()

    def _shapes(self, tensors: EngineTensors, shape: Shape) -> dict[str, tuple[np.dtype[Any], Shape]]:
        self._loaded.listen()
        if not self._context.set_input_shape(INPUT_NAME, shape):
            raise self._loaded.failure("the runtime refuses the shape of the batch")
        try:
            missing = self._context.infer_shapes()
        except RuntimeError as error:  # the bindings' own, where the runtime gives up
            raise self._loaded.failure(
                f"the runtime cannot infer the shapes: {' '.join(str(error).split())}"
            ) from error
        if missing:
            raise self._loaded.failure(f"the shapes of {', '.join(missing)} stay unknown")
        found = {INPUT_NAME: (tensors.input_dtype, shape)}
        found |= {name: (dtype, sides) for name, dtype, sides in tensors.more_in}
        for name, dtype in tensors.outputs:
            found[name] = (dtype, tuple(self._context.get_tensor_shape(name)))
        return found

    def _enqueue(self) -> bool:
        self._loaded.listen()
        return bool(self._context.execute_async_v3(self._stream.address))

    def _capture(self) -> None:
        """Once, behind the first batch: what a runtime sets up at its first execution may not be captured."""
        self._may_capture = False
        capturable = getattr(self._context, "is_stream_capturable", None)
        if capturable is not None and not capturable(self._stream.address):
            found: CapturedGraph | Refused = Refused("the runtime says that it cannot be captured")
        else:
            try:
                found = self._stream.capture(self._enqueue)
            except MissingDependency as error:  # the batch itself has succeeded, and is not lost
                found = Refused.of(error)
        if isinstance(found, Refused):
            self._say_why(found)
        else:
            self._graph = found

    def _launched(self) -> bool:
        """Start what was captured; ``False`` where there is nothing, or no memory left that a launch takes."""
        if self._graph is None:
            return False
        try:
            self._stream.launch(self._graph)
        except OutOfDeviceMemory as error:  # nothing of it has begun
            self._drop_graph()
            self._say_why(Refused.of(error))
            return False
        return True

    def _say_why(self, refused: Refused) -> None:
        self._say(f"No CUDA graph for this engine, it is enqueued kernel by kernel: {refused.reason}.")

    def _drop_graph(self) -> None:
        if self._graph is not None:
            self._graph.close()
            self._graph = None

    def _drop_context(self) -> None:
        self._context = None
