"""A GPU through CUDA's driver API, by ctypes: memory, kernels out of PTX, streams. Needs NVIDIA's driver, nothing else.

This is for devices that have no torch and no cuda-python. Calls are those of the CUDA driver API reference, whose
``_v2`` forms have not changed since CUDA 4.
"""

from __future__ import annotations

import contextlib
import ctypes
import ctypes.util
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from edgeir.errors import MissingDependency

_LIBRARIES = ("libcuda.so.1", "libcuda.so", "nvcuda.dll")
_CAPABILITY_MAJOR = 75
_CAPABILITY_MINOR = 76


class CudaError(MissingDependency):
    """A call of the driver that failed: the GPU, its driver or a kernel that ran on it is at fault.

    Args:
        call: its name.
        status: what it gave.
        text: what the driver says of that.
    """

    def __init__(self, call: str, status: int, text: str) -> None:
        super().__init__(f"{call} gave {status} ({text})")
        self.status = status


@dataclass(frozen=True, slots=True)
class Launch:
    """How a kernel is launched: blocks of a grid, threads of a block, bytes of dynamic shared memory."""

    grid: tuple[int, int, int]
    threads: int
    shared_bytes: int = 0


class CudaDevice:
    """Context manager: the first GPU, its primary context and one stream.

    Everything that was allocated or loaded is released on leaving.

    Raises:
        MissingDependency: there is no driver, or no GPU; `CudaError` where it cannot be used.
    """

    def __init__(self) -> None:
        self._driver = _load()
        self._context = ctypes.c_void_p()
        self._device = ctypes.c_int()
        self._memory: dict[int, int] = {}
        self._modules: dict[str, ctypes.c_void_p] = {}
        self.stream = ctypes.c_void_p()

    def __enter__(self) -> CudaDevice:
        try:
            self._call("cuInit", 0)
            self._call("cuDeviceGet", ctypes.byref(self._device), 0)
        except CudaError as error:
            raise MissingDependency(
                "there is no GPU to use", where="CUDA", got=error.what, fix="Run this on a machine with an NVIDIA GPU."
            ) from error
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), self._device)
        try:
            self._call("cuCtxSetCurrent", self._context)
            self._call("cuStreamCreate", ctypes.byref(self.stream), 0)
        except BaseException:  # nobody leaves a block that was not entered
            with contextlib.suppress(CudaError):
                self._call("cuDevicePrimaryCtxRelease_v2", self._device)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(CudaError):  # after a fault of a kernel every call fails
            for module in self._modules.values():
                self._call("cuModuleUnload", module)
            for address in list(self._memory):
                self.free(address)
            self._call("cuStreamDestroy_v2", self.stream)
        with contextlib.suppress(CudaError):
            self._call("cuDevicePrimaryCtxRelease_v2", self._device)

    @property
    def name(self) -> str:
        """``"NVIDIA H100 80GB HBM3"``."""
        text = ctypes.create_string_buffer(256)
        self._call("cuDeviceGetName", text, len(text), self._device)
        return text.value.decode(errors="replace")

    @property
    def architecture(self) -> str:
        """Compute capability: ``"90"``."""
        return f"{self._attribute(_CAPABILITY_MAJOR)}{self._attribute(_CAPABILITY_MINOR)}"

    def allocate(self, size: int) -> int:
        """The address of ``size`` bytes, a multiple of 256; contents are whatever was there."""
        address = ctypes.c_uint64()
        self._call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(max(size, 1)))
        self._memory[address.value] = size
        return address.value

    def free(self, address: int) -> None:
        """Give memory of `allocate` back."""
        del self._memory[address]
        self._call("cuMemFree_v2", ctypes.c_uint64(address))

    @contextlib.contextmanager
    def holding(self, *arrays: NDArray[np.generic]) -> Iterator[tuple[int, ...]]:
        """Addresses of copies of arrays, for the length of a block."""
        addresses = []
        try:
            for array in arrays:
                addresses.append(self.allocate(array.nbytes))
                self.write(addresses[-1], array)
            yield tuple(addresses)
        finally:
            for address in addresses:
                self.free(address)

    def write(self, address: int, array: NDArray[np.generic]) -> None:
        """Copy an array to the GPU."""
        whole = np.ascontiguousarray(array)
        size = ctypes.c_size_t(whole.nbytes)
        self._call("cuMemcpyHtoD_v2", ctypes.c_uint64(address), ctypes.c_void_p(whole.ctypes.data), size)

    def read(self, address: int, like: NDArray[np.generic]) -> NDArray[np.generic]:
        """What lies at an address, as an array of this shape and type, after all work that was launched."""
        self.wait()
        found = np.empty_like(like, order="C")
        size = ctypes.c_size_t(found.nbytes)
        self._call("cuMemcpyDtoH_v2", ctypes.c_void_p(found.ctypes.data), ctypes.c_uint64(address), size)
        return found

    def kernel(self, ptx: str, name: str) -> ctypes.c_void_p:
        """A kernel out of PTX, compiled by the driver for this GPU."""
        if ptx not in self._modules:
            module = ctypes.c_void_p()
            self._call("cuModuleLoadData", ctypes.byref(module), ctypes.c_char_p(ptx.encode()))
            self._modules[ptx] = module
        function = ctypes.c_void_p()
        self._call("cuModuleGetFunction", ctypes.byref(function), self._modules[ptx], ctypes.c_char_p(name.encode()))
        return function

    def launch(self, kernel: ctypes.c_void_p, launch: Launch, arguments: Sequence[int]) -> None:
        """Start a kernel whose parameters are addresses; it runs behind everything that was started before."""
        values = [ctypes.c_uint64(argument) for argument in arguments]
        pointers = (ctypes.c_void_p * len(values))(*(ctypes.addressof(value) for value in values))
        self._call(
            "cuLaunchKernel",
            kernel,
            *launch.grid,
            launch.threads,
            1,
            1,
            launch.shared_bytes,
            self.stream,
            pointers,
            None,
        )

    def wait(self) -> None:
        """Until all work is done; a fault of a kernel shows here."""
        self._call("cuStreamSynchronize", self.stream)

    def _attribute(self, number: int) -> int:
        value = ctypes.c_int()
        self._call("cuDeviceGetAttribute", ctypes.byref(value), number, self._device)
        return value.value

    def _call(self, name: str, *arguments: object) -> None:
        status = getattr(self._driver, name)(*arguments)
        if status != 0:
            text = ctypes.c_char_p()
            self._driver.cuGetErrorString(status, ctypes.byref(text))
            raise CudaError(name, status, (text.value or b"no text").decode(errors="replace"))


def _load() -> ctypes.CDLL:
    for name in _LIBRARIES:
        with contextlib.suppress(OSError):
            return ctypes.CDLL(name)
    raise MissingDependency(
        "NVIDIA's driver is not on this machine", where="CUDA", expected=_LIBRARIES[0], fix="Install the driver."
    )
