"""A stand-in for ``cuda.bindings.driver`` that does nothing until somebody waits, and checks what a GPU would not.

Work is queued and runs at the latest moment that streams and events allow: what is read before it was waited for is not
there yet, and what is overwritten too early is what gets copied. Two pieces of work that touch the same memory must be
ordered, memory may not be freed under work that was not waited for, and at the end nothing may be left.
"""

from __future__ import annotations

import enum
import threading
import types
from collections.abc import Callable
from typing import Any

import numpy as np

ALIGNMENT = 256
WITHOUT_CONTEXT = {
    "cuInit",
    "cuDeviceGet",
    "cuDevicePrimaryCtxRetain",
    "cuDevicePrimaryCtxRelease",
    "cuCtxSetCurrent",
    "cuGetErrorString",
}


class CUresult(enum.IntEnum):
    CUDA_SUCCESS = 0
    CUDA_ERROR_INVALID_VALUE = 1
    CUDA_ERROR_OUT_OF_MEMORY = 2
    CUDA_ERROR_NO_DEVICE = 100
    CUDA_ERROR_LAUNCH_FAILED = 719
    CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED = 900
    CUDA_ERROR_STREAM_CAPTURE_INVALIDATED = 901


class Attributes(enum.IntEnum):
    CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR = 75
    CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR = 76


class StreamFlags(enum.IntEnum):
    CU_STREAM_NON_BLOCKING = 1


class CaptureMode(enum.IntEnum):
    CU_STREAM_CAPTURE_MODE_THREAD_LOCAL = 1


class Handle:
    """As the bindings' own: an object with an address."""

    def __init__(self, number: int, of: str) -> None:
        self.number = number
        self.of = of

    def __int__(self) -> int:
        return self.number


class Memory:
    def __init__(self, size: int, kind: str) -> None:
        whole = np.full(size + 2 * ALIGNMENT, 0xCD, np.uint8)  # as floats: no value anybody would compute
        start = -whole.ctypes.data % ALIGNMENT
        self.bytes = whole[start : start + size]
        self.address = int(self.bytes.ctypes.data)
        self.size, self.kind = size, kind


def _nothing() -> None:
    pass


class Work:
    """One piece of work: what must be done before, what it touches, when it began and ended on the device's clock."""

    def __init__(self, what: str, before: list[Work], touches: list[tuple[Memory, bool]], ms: float) -> None:
        self.what, self.before, self.touches, self.ms = what, before, touches, ms
        self.action: Callable[[], None] = _nothing
        self.done = self.waited_for = False
        self.earliest = self.began = self.ended = 0.0

    def run(self) -> None:
        if not self.done:
            for work in self.before:
                work.run()
            self.began = max([self.earliest, *(work.ended for work in self.before)])
            self.ended = self.began + self.ms
            self.action()
            self.action = _nothing  # and with it what it held
            self.done = True

    def follows(self, other: Work) -> bool:
        pending, seen = [self], set()
        while pending:
            work = pending.pop()
            if work is other:
                return True
            if id(work) not in seen:
                seen.add(id(work))
                pending += work.before
        return False


class Stream:
    def __init__(self) -> None:
        self.works: list[Work] = []
        self.waits: list[Work] = []
        self.captured: list[tuple[str, list[tuple[Memory, bool]], Callable[[], None], float]] | None = None
        self.invalidated = False


class FakeCuda:
    """The device, its driver and everything that was asked of it.

    Attributes:
        memory: bytes that it has.
        fail: name of a function to the status it gives from now on.
        refuse_capture: work that may not be captured spoils the capture.
        calls: names of all functions called, in order, with the number of arguments.
        history: all work that ran or was queued, in order of its start.
    """

    def __init__(self, memory: int = 1 << 28, capability: tuple[int, int] = (8, 9)) -> None:
        self.memory, self.capability = memory, capability
        self.fail: dict[str, CUresult] = {}
        self.refuse_capture = False
        self.calls: list[tuple[str, int]] = []
        self.history: list[Work] = []
        self.blocks: dict[int, Memory] = {}
        self.streams: dict[int, Stream] = {}
        self.events: dict[int, Work | None] = {}
        self.graphs: dict[int, list[Any]] = {}
        self.executables: dict[int, list[Any]] = {}
        self.retained = 0
        self.weights = 0
        self.current: set[int] = set()
        self.problems: list[str] = []
        self.now = 0.0  # the host's clock: what it waited for has ended
        self._next = 0x1000

    # what the tests ask

    def used(self, kind: str = "device") -> int:
        return sum(memory.size for memory in self.blocks.values() if memory.kind == kind)

    def assert_nothing_left(self) -> None:
        left = {
            "memory": len(self.blocks),
            "streams": len(self.streams),
            "events": len(self.events),
            "graphs": len(self.graphs) + len(self.executables),
            "contexts": self.retained,
        }
        assert not any(left.values()), left
        assert not self.problems, self.problems

    def ran(self, what: str) -> list[Work]:
        return [work for work in self.history if work.what == what and work.done]

    def queue(
        self, stream: int, what: str, touches: list[tuple[Memory, bool]], action: Callable[[], None], ms: float
    ) -> None:
        """Put work on a stream, or into the capture of it."""
        on = self.streams[stream]
        if on.captured is not None:
            on.captured.append((what, touches, action, ms))
            return
        if any(self.blocks.get(memory.address) is not memory for memory, _ in touches):
            self.problem(f"{what} uses memory that was freed")
        work = Work(what, [*on.works[-1:], *on.waits], touches, ms)
        work.action = action
        work.earliest = self.now
        for other in self.history:
            if not other.waited_for and not work.follows(other):
                for memory, writes in touches:
                    for theirs, they_write in other.touches:
                        if memory is theirs and (writes or they_write):
                            self.problem(f"{what} and {other.what} touch the same memory in no order")
        on.works.append(work)
        on.waits = []
        self.history.append(work)

    def find(self, address: int, size: int, kind: str) -> Memory:
        for memory in self.blocks.values():
            if memory.address <= address and address + size <= memory.address + memory.size:
                if memory.kind != kind:
                    self.problem(f"memory of the {memory.kind} where {kind} belongs")
                return memory
        self.problem(f"{size} bytes at {address:#x} are in no block of the {kind}")
        raise AssertionError(self.problems[-1])

    def problem(self, text: str) -> None:
        self.problems.append(text)
        raise AssertionError(text)

    def wait_for(self, work: Work | None) -> None:
        if work is not None:
            work.run()
            self.now = max(self.now, work.ended)
            pending = [work]
            while pending:
                one = pending.pop()
                if not one.waited_for:
                    one.waited_for = True
                    pending += one.before

    # the module

    def module(self) -> types.ModuleType:
        """What stands in ``sys.modules``."""
        module = types.ModuleType("cuda.bindings.driver")
        module.__spec__ = types.SimpleNamespace(name=module.__name__)  # type: ignore[assignment]
        module.CUresult = CUresult  # type: ignore[attr-defined]
        module.CUdevice_attribute = Attributes  # type: ignore[attr-defined]
        module.CUstream_flags = StreamFlags  # type: ignore[attr-defined]
        module.CUstreamCaptureMode = CaptureMode  # type: ignore[attr-defined]
        for name in dir(self):
            if name.startswith("cu") and name[2].isupper():
                setattr(module, name, self._called(name))
        return module

    def _called(self, name: str) -> Callable[..., tuple[Any, ...]]:
        function = getattr(self, name)

        def call(*arguments: Any) -> tuple[Any, ...]:
            self.calls.append((name, len(arguments)))
            current = self.retained and threading.get_ident() in self.current
            if not current and name not in WITHOUT_CONTEXT:
                self.problem(f"{name} without a current context in this thread")
            if name in self.fail:
                if name == "cuStreamEndCapture":
                    self.streams[int(arguments[0])].captured = None
                return self.fail[name], *([None] if name.endswith(("Alloc", "Create", "Get", "Info", "Time")) else [])
            return function(*arguments)

        return call

    def _number(self, table: dict[int, Any], value: Any, of: str) -> Handle:
        self._next += 0x10
        table[self._next] = value
        return Handle(self._next, of)

    def cuInit(self, flags: int) -> tuple[Any, ...]:
        return (CUresult.CUDA_SUCCESS,)

    def cuGetErrorString(self, error: CUresult) -> tuple[Any, ...]:
        return CUresult.CUDA_SUCCESS, CUresult(error).name.lower().encode()

    def cuDeviceGet(self, ordinal: int) -> tuple[Any, ...]:
        return CUresult.CUDA_SUCCESS, Handle(ordinal, "device")

    def cuDeviceGetName(self, length: int, dev: Handle) -> tuple[Any, ...]:
        return CUresult.CUDA_SUCCESS, b"FAKE 40" + bytes(length - 7)

    def cuDeviceGetAttribute(self, attrib: Attributes, dev: Handle) -> tuple[Any, ...]:
        return CUresult.CUDA_SUCCESS, self.capability[attrib - 75]

    def cuDriverGetVersion(self) -> tuple[Any, ...]:
        return CUresult.CUDA_SUCCESS, 13020

    def cuMemGetInfo(self) -> tuple[Any, ...]:
        return CUresult.CUDA_SUCCESS, self.memory - self.used() - self.weights, self.memory

    def cuDevicePrimaryCtxRetain(self, dev: Handle) -> tuple[Any, ...]:
        self.retained += 1
        return CUresult.CUDA_SUCCESS, Handle(1, "context")

    def cuDevicePrimaryCtxRelease(self, dev: Handle) -> tuple[Any, ...]:
        self.retained -= 1
        return (CUresult.CUDA_SUCCESS,)

    def cuCtxSetCurrent(self, ctx: Handle) -> tuple[Any, ...]:
        assert ctx.of == "context"
        self.current.add(threading.get_ident())
        return (CUresult.CUDA_SUCCESS,)

    def cuMemAlloc(self, bytesize: int) -> tuple[Any, ...]:
        if self.used() + self.weights + bytesize > self.memory:
            return CUresult.CUDA_ERROR_OUT_OF_MEMORY, None
        return CUresult.CUDA_SUCCESS, Handle(self._allocate(bytesize, "device"), "memory")

    def cuMemHostAlloc(self, bytesize: int, Flags: int) -> tuple[Any, ...]:
        return CUresult.CUDA_SUCCESS, self._allocate(bytesize, "host")

    def _allocate(self, size: int, kind: str) -> int:
        memory = Memory(size, kind)
        self.blocks[memory.address] = memory
        return memory.address

    def cuMemFree(self, dptr: int) -> tuple[Any, ...]:
        return self._free(dptr, "device")

    def cuMemFreeHost(self, p: int) -> tuple[Any, ...]:
        return self._free(p, "host")

    def _free(self, address: int, kind: str) -> tuple[Any, ...]:
        memory = self.blocks.pop(int(address), None)
        if memory is None or memory.kind != kind:
            self.problem(f"{address:#x} is freed and was not allocated, or twice")
        for work in self.history:
            if not work.waited_for and any(memory is touched for touched, _ in work.touches):
                self.problem(f"memory is freed under {work.what}")
        assert memory is not None
        memory.bytes[:] = 0xDD
        return (CUresult.CUDA_SUCCESS,)

    def cuMemcpyHtoDAsync(self, dstDevice: int, srcHost: int, ByteCount: int, hStream: Handle) -> tuple[Any, ...]:
        return self._copy("copy in", dstDevice, "device", srcHost, "host", ByteCount, hStream)

    def cuMemcpyDtoHAsync(self, dstHost: int, srcDevice: int, ByteCount: int, hStream: Handle) -> tuple[Any, ...]:
        return self._copy("copy out", dstHost, "host", srcDevice, "device", ByteCount, hStream)

    def _copy(
        self, what: str, to: int, to_kind: str, source: int, source_kind: str, size: int, stream: Handle
    ) -> tuple[Any, ...]:
        target, origin = self.find(to, size, to_kind), self.find(source, size, source_kind)
        into, out_of = to - target.address, source - origin.address

        def copy() -> None:
            target.bytes[into : into + size] = origin.bytes[out_of : out_of + size]

        self.queue(int(stream), what, [(target, True), (origin, False)], copy, 1.0)
        return (CUresult.CUDA_SUCCESS,)

    def cuStreamCreate(self, Flags: int) -> tuple[Any, ...]:
        assert Flags == StreamFlags.CU_STREAM_NON_BLOCKING
        return CUresult.CUDA_SUCCESS, self._number(self.streams, Stream(), "stream")

    def cuStreamDestroy(self, hStream: Handle) -> tuple[Any, ...]:
        stream = self.streams.pop(int(hStream))
        if any(not work.waited_for for work in stream.works):
            self.problem("a stream is destroyed under its work")
        return (CUresult.CUDA_SUCCESS,)

    def cuStreamSynchronize(self, hStream: Handle) -> tuple[Any, ...]:
        stream = self.streams[int(hStream)]
        assert stream.captured is None
        self.wait_for(stream.works[-1] if stream.works else None)
        return (CUresult.CUDA_SUCCESS,)

    def cuStreamWaitEvent(self, hStream: Handle, hEvent: Handle, Flags: int) -> tuple[Any, ...]:
        mark = self.events[int(hEvent)]
        if mark is None:
            self.problem("a wait for an event that was not recorded")
        self.streams[int(hStream)].waits.append(mark)
        return (CUresult.CUDA_SUCCESS,)

    def cuEventCreate(self, Flags: int) -> tuple[Any, ...]:
        return CUresult.CUDA_SUCCESS, self._number(self.events, None, "event")

    def cuEventRecord(self, hEvent: Handle, hStream: Handle) -> tuple[Any, ...]:
        self.queue(int(hStream), "mark", [], _nothing, 0.0)
        self.events[int(hEvent)] = self.streams[int(hStream)].works[-1]
        return (CUresult.CUDA_SUCCESS,)

    def cuEventSynchronize(self, hEvent: Handle) -> tuple[Any, ...]:
        self.wait_for(self.events[int(hEvent)])
        return (CUresult.CUDA_SUCCESS,)

    def cuEventElapsedTime(self, hStart: Handle, hEnd: Handle) -> tuple[Any, ...]:
        start, end = self.events[int(hStart)], self.events[int(hEnd)]
        if start is None or end is None or not (start.done and end.done):
            self.problem("time between marks that were not passed")
        return CUresult.CUDA_SUCCESS, end.ended - start.ended  # type: ignore[union-attr]

    def cuEventDestroy(self, hEvent: Handle) -> tuple[Any, ...]:
        del self.events[int(hEvent)]
        return (CUresult.CUDA_SUCCESS,)

    def cuStreamBeginCapture(self, hStream: Handle, mode: CaptureMode) -> tuple[Any, ...]:
        self.streams[int(hStream)].captured = []
        self.streams[int(hStream)].invalidated = False
        return (CUresult.CUDA_SUCCESS,)

    def cuStreamEndCapture(self, hStream: Handle) -> tuple[Any, ...]:
        stream = self.streams[int(hStream)]
        captured, stream.captured = stream.captured, None
        assert captured is not None
        if stream.invalidated:
            return CUresult.CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, None
        return CUresult.CUDA_SUCCESS, self._number(self.graphs, captured, "graph")

    def cuGraphInstantiate(self, hGraph: Handle, flags: int) -> tuple[Any, ...]:
        return CUresult.CUDA_SUCCESS, self._number(self.executables, self.graphs[int(hGraph)], "executable")

    def cuGraphDestroy(self, hGraph: Handle) -> tuple[Any, ...]:
        del self.graphs[int(hGraph)]
        return (CUresult.CUDA_SUCCESS,)

    def cuGraphLaunch(self, hGraphExec: Handle, hStream: Handle) -> tuple[Any, ...]:
        for what, touches, action, ms in self.executables[int(hGraphExec)]:
            self.queue(int(hStream), f"{what} in a graph", touches, action, ms)
        return (CUresult.CUDA_SUCCESS,)

    def cuGraphExecDestroy(self, hGraphExec: Handle) -> tuple[Any, ...]:
        del self.executables[int(hGraphExec)]
        return (CUresult.CUDA_SUCCESS,)
