"""Streams, events and captured graphs of a GPU: work in order, and what waits for what."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edgeir.errors import MissingDependency
from edgeir.runtime.cuda_driver import CudaError
from edgeir.runtime.gpu_device import DeviceBlock, Gpu, PinnedArray


class Event:
    """A mark in a stream that can be waited for, and timed against another."""

    def __init__(self, gpu: Gpu) -> None:
        self._gpu = gpu
        self.handle: Any = gpu.call("cuEventCreate", 0)

    def synchronize(self) -> None:
        """Until the work before the mark is done; a fault of a kernel shows here."""
        self._gpu.call("cuEventSynchronize", self.handle)

    def ms_since(self, earlier: Event) -> float:
        """Milliseconds of the device between two marks that were both passed."""
        return float(self._gpu.call("cuEventElapsedTime", earlier.handle, self.handle))

    def close(self) -> None:
        """Give it back."""
        if self.handle is not None:
            handle, self.handle = self.handle, None
            with contextlib.suppress(CudaError):
                self._gpu.call("cuEventDestroy", handle)


@dataclass(frozen=True, slots=True)
class Refused:
    """Why work could not be captured, a clause."""

    reason: str

    @classmethod
    def of(cls, error: MissingDependency) -> Refused:
        """For a call of the driver that failed, memory that ran out and functions that it lacks included."""
        return cls(str(error).rstrip("."))


class CapturedGraph:
    """Work that was recorded once and is launched as one. Addresses are those of the recording."""

    def __init__(self, gpu: Gpu, handle: Any) -> None:
        self._gpu = gpu
        self.handle: Any = handle

    def close(self) -> None:
        """Give it back; it may not be running."""
        if self.handle is not None:
            handle, self.handle = self.handle, None
            with contextlib.suppress(CudaError):
                self._gpu.call("cuGraphExecDestroy", handle)


class Stream:
    """Work in order, beside other streams' and beside the host's. It waits for no default stream."""

    def __init__(self, gpu: Gpu) -> None:
        self._gpu = gpu
        self._handle: Any = gpu.call("cuStreamCreate", gpu.constant("CUstream_flags", "CU_STREAM_NON_BLOCKING"))

    @property
    def address(self) -> int:
        """What TensorRT takes for a stream."""
        return int(self._handle)

    def copy_in(self, target: DeviceBlock, source: PinnedArray) -> None:
        """The whole array into the block. The array may not change before the stream has passed this."""
        if source.array.nbytes > target.size:
            raise ValueError(f"{source.array.nbytes} bytes do not fit into {target.size}")
        self._gpu.call("cuMemcpyHtoDAsync", target.address, source.address, source.array.nbytes, self._handle)

    def copy_out(self, target: PinnedArray, source: DeviceBlock) -> None:
        """From the block, as much as the array holds. It may not be read before the stream has passed this."""
        if target.array.nbytes > source.size:
            raise ValueError(f"{target.array.nbytes} bytes are not in {source.size}")
        self._gpu.call("cuMemcpyDtoHAsync", target.address, source.address, target.array.nbytes, self._handle)

    def record(self, event: Event) -> None:
        """Put a mark behind what was started."""
        self._gpu.call("cuEventRecord", event.handle, self._handle)

    def wait(self, event: Event) -> None:
        """Let what comes wait for a mark in another stream; the host does not wait."""
        self._gpu.call("cuStreamWaitEvent", self._handle, event.handle, 0)

    def synchronize(self) -> None:
        """Until all of its work is done; a fault of a kernel shows here."""
        self._gpu.call("cuStreamSynchronize", self._handle)

    def capture(self, start: Callable[[], bool]) -> CapturedGraph | Refused:
        """Record what ``start`` starts on this stream, without running it.

        Args:
            start: starts work on this stream, ``False`` where it cannot.

        Returns:
            the graph, or why there is none, for want of memory too. The stream is usable in both cases.
        """
        mode = self._gpu.constant("CUstreamCaptureMode", "CU_STREAM_CAPTURE_MODE_THREAD_LOCAL")
        try:
            self._gpu.call("cuStreamBeginCapture", self._handle, mode)
        except MissingDependency as error:
            return Refused.of(error)
        try:
            started = start()
        except BaseException:  # whatever happened, the stream must leave this mode
            self._forget(self._end_capture()[0])
            raise
        graph, failed = self._end_capture()
        try:
            if failed is not None:
                return failed
            if not started:
                return Refused("the runtime refused to enqueue")
            return CapturedGraph(self._gpu, self._gpu.call("cuGraphInstantiate", graph, 0))
        except MissingDependency as error:
            return Refused.of(error)
        finally:
            self._forget(graph)

    def launch(self, graph: CapturedGraph) -> None:
        """Start what was captured."""
        self._gpu.call("cuGraphLaunch", graph.handle, self._handle)

    def close(self) -> None:
        """Give it back, when its work is done."""
        if self._handle is not None:
            handle, self._handle = self._handle, None
            with contextlib.suppress(CudaError):
                self._gpu.call("cuStreamDestroy", handle)

    def _end_capture(self) -> tuple[Any, Refused | None]:
        try:
            return self._gpu.call("cuStreamEndCapture", self._handle), None
        except MissingDependency as error:
            return None, Refused.of(error)

    def _forget(self, graph: Any) -> None:
        """Give a recording back, where there is one; what is launched was made of it and stays."""
        if graph is not None:
            with contextlib.suppress(CudaError):
                self._gpu.call("cuGraphDestroy", graph)
