"""A GPU through cuda-python's bindings of the driver: memory that is counted and given back, events, streams' parent.

The driver's own functions are used and not the CUDA runtime's: the bindings of CUDA 13 then also work where the driver
is of CUDA 12, as on JetPack 6, for as long as they find the functions they name. `edgeir.runtime.cuda_driver` does with
ctypes what little ``edgeir plugins check`` needs, on devices without cuda-python.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import importlib.util
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from edgeir.errors import MissingDependency
from edgeir.runtime.cuda_driver import CudaError

BINDINGS = "cuda.bindings.driver"
_INSTALL = "Run: pip install 'edgeir[gpu]'"
_OLDER = "Install the cuda-bindings of the driver's CUDA, such as: pip install 'cuda-bindings<13'"


class OutOfDeviceMemory(MissingDependency):
    """The GPU has no memory left for what is asked for. A smaller tile may fit.

    Attributes:
        memory: which memory that is, for sentences.
    """

    memory = "the GPU's memory"


class OutOfPinnedMemory(OutOfDeviceMemory):
    """The host has no memory left that it can lock for the GPU's copies. A smaller tile needs less of it as well."""

    memory = "the memory that the host can lock for the GPU"


class DeviceFault(MissingDependency):
    """The GPU failed at its work. Nothing that this process has on it can be used any more."""


class DeviceBlock:
    """Bytes on the GPU: ``address``, ``size``. Made and freed by `Gpu`."""

    __slots__ = ("address", "size")

    def __init__(self, address: int, size: int) -> None:
        self.address = address
        self.size = size


class PinnedArray:
    """Memory of the host that the GPU copies from and to while the host works: ``array``, ``address``, ``size``."""

    __slots__ = ("address", "array", "size")

    def __init__(self, address: int, size: int, array: NDArray[Any]) -> None:
        self.address = address
        self.size = size
        self.array = array


def has_bindings() -> bool:
    """Whether cuda-python's bindings are installed; nothing of them is loaded."""
    try:
        return importlib.util.find_spec(BINDINGS) is not None
    except ModuleNotFoundError:
        return False


class Gpu:
    """The first GPU and its primary context, which TensorRT and ONNX Runtime use as well.

    Context manager. What was allocated and not freed is freed at the end.

    Raises:
        MissingDependency: cuda-bindings, the driver or the GPU is not here, or it cannot be used.
    """

    def __init__(self) -> None:
        if not has_bindings():
            raise MissingDependency("running engines needs cuda-bindings, which is not installed", fix=_INSTALL)
        self._cuda: Any = importlib.import_module(BINDINGS)
        self._device: Any = None
        self._context: Any = None
        self._blocks: dict[int, DeviceBlock] = {}
        self._pinned: dict[int, PinnedArray] = {}
        self._peak = 0
        try:
            self.call("cuInit", 0)
            self._device = self.call("cuDeviceGet", 0)
        except (CudaError, RuntimeError) as error:  # the bindings' own error where there is no driver
            raise MissingDependency(
                "there is no GPU to use",
                where="CUDA",
                got=str(error).strip().splitlines()[0].rstrip("."),
                fix="Run this on a machine with an NVIDIA GPU and its driver.",
            ) from error
        try:
            self._context = self.call("cuDevicePrimaryCtxRetain", self._device)
            self.use()
        except BaseException as error:
            self.close()
            if not isinstance(error, CudaError):
                raise
            raise MissingDependency(
                "the GPU cannot be used",
                where="CUDA",
                got=error.what,
                fix="Look whether nvidia-smi sees it; restart what else uses it, or the machine.",
            ) from error

    def __enter__(self) -> Gpu:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free what is left and let the context go; doing it twice is one time too many and does nothing."""
        if self._context is None:
            return
        with contextlib.suppress(CudaError):  # after a fault of a kernel every call fails
            self.use()
            for block in list(self._blocks.values()):
                self.free(block)
            for pinned in list(self._pinned.values()):
                self.free_pinned(pinned)
        self._context = None
        with contextlib.suppress(CudaError):
            self.call("cuDevicePrimaryCtxRelease", self._device)

    def use(self) -> None:
        """Make the context that of this thread: every thread that calls has to."""
        self.call("cuCtxSetCurrent", self._context)

    @property
    def name(self) -> str:
        """``"NVIDIA GeForce RTX 4090"``."""
        text: bytes = self.call("cuDeviceGetName", 256, self._device)
        return text.split(b"\0", 1)[0].decode(errors="replace")

    @property
    def architecture(self) -> str:
        """``"sm89"``."""
        attributes = self._cuda.CUdevice_attribute
        major = self.call("cuDeviceGetAttribute", attributes.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, self._device)
        minor = self.call("cuDeviceGetAttribute", attributes.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, self._device)
        return f"sm{major}{minor}"

    @property
    def cuda_version(self) -> str:
        """The CUDA version that the driver knows: ``"13.0"``."""
        number = int(self.call("cuDriverGetVersion"))
        return f"{number // 1000}.{number % 1000 // 10}"

    @property
    def free_bytes(self) -> int:
        """Memory of the GPU that nobody uses, other programs included."""
        free, _ = self.call("cuMemGetInfo")
        return int(free)

    @property
    def allocated_bytes(self) -> int:
        """What `allocate` gave and was not freed."""
        return sum(block.size for block in self._blocks.values())

    @property
    def peak_bytes(self) -> int:
        """The most that `allocated_bytes` ever was."""
        return self._peak

    def allocate(self, size: int) -> DeviceBlock:
        """``size`` bytes on the GPU, on a boundary of 256; what is in them is whatever was there.

        Raises:
            OutOfDeviceMemory: so many are not left.
        """
        size = max(size, 1)
        address = int(self.call("cuMemAlloc", size, wanted=size))
        block = DeviceBlock(address, size)
        self._blocks[address] = block
        self._peak = max(self._peak, self.allocated_bytes)
        return block

    def free(self, block: DeviceBlock) -> None:
        """Give memory of `allocate` back; no work may use it any more."""
        del self._blocks[block.address]
        self.call("cuMemFree", block.address)

    def allocate_pinned(self, shape: tuple[int, ...], dtype: DTypeLike) -> PinnedArray:
        """An array in page-locked memory of the host.

        Raises:
            OutOfPinnedMemory: the system locks no more pages.
        """
        size = max(int(np.prod(shape)) * np.dtype(dtype).itemsize, 1)
        try:
            address = int(self.call("cuMemHostAlloc", size, 0))
        except OutOfDeviceMemory as error:
            raise OutOfPinnedMemory(
                "the host has not enough memory left that it can lock for the GPU",
                where=error.where,
                expected=_mebibytes(size),
                fix="Stop other programs, or allow more locked memory (ulimit -l).",
            ) from error
        bytes_ = (ctypes.c_uint8 * size).from_address(address)
        array: NDArray[Any] = np.ndarray(shape, np.dtype(dtype), buffer=memoryview(bytes_))
        pinned = PinnedArray(address, size, array)
        self._pinned[address] = pinned
        return pinned

    def free_pinned(self, pinned: PinnedArray) -> None:
        """Give memory of `allocate_pinned` back; nobody may look at its array any more."""
        del self._pinned[pinned.address]
        pinned.array = np.empty(0, pinned.array.dtype)
        self.call("cuMemFreeHost", pinned.address)

    def call(self, name: str, *arguments: object, wanted: int | None = None) -> Any:
        """One function of the driver: what it gives besides its status, a tuple where that is several values.

        Args:
            name: of the function.
            arguments: as in the CUDA driver API reference.
            wanted: bytes that it is to allocate, for the message where they are not there.

        Raises:
            OutOfDeviceMemory: the driver says so.
            MissingDependency: the driver is older than the bindings and lacks the function.
            CudaError: it failed in another way.
        """
        try:
            status, *values = getattr(self._cuda, name)(*arguments)
        except RuntimeError as error:
            if "not found" in str(error) and name not in {"cuInit", "cuDeviceGet"}:
                raise MissingDependency(
                    "the driver is older than the installed cuda-bindings", where=name, got=str(error), fix=_OLDER
                ) from error
            raise
        results = self._cuda.CUresult
        if status == results.CUDA_ERROR_OUT_OF_MEMORY:
            raise OutOfDeviceMemory(
                "the GPU has not enough memory left", where=name, expected=_mebibytes(wanted), got=self._left()
            )
        if status != results.CUDA_SUCCESS:
            _, text = self._cuda.cuGetErrorString(status)
            raise CudaError(name, int(status), (text or b"no text").decode(errors="replace"))
        return values[0] if len(values) == 1 else tuple(values)

    def constant(self, group: str, name: str) -> Any:
        """A constant of the driver: ``constant("CUstream_flags", "CU_STREAM_NON_BLOCKING")``."""
        return getattr(getattr(self._cuda, group), name)

    def _left(self) -> str | None:
        if self._context is None:
            return None
        with contextlib.suppress(CudaError, OutOfDeviceMemory):
            return f"{self.free_bytes / 2**20:.0f} MiB free"
        return None


def _mebibytes(size: int | None) -> str | None:
    return None if size is None else f"{size / 2**20:.1f} MiB"
