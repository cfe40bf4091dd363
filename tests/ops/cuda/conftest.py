"""The kernels, compiled from their own source for an emulator of CUDA blocks on the CPU: no GPU, no CUDA toolkit."""

from __future__ import annotations

import ctypes
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

GUARD = 64
TYPES = {np.dtype(np.float32): 0, np.dtype(np.float16): 1, np.dtype(ml_dtypes.bfloat16): 2}


class Emulated:
    """Launchers on the CPU.

    Args:
        library: the compiled kernels.
    """

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library

    def count(self, launcher: str, sizes: list[int], dtype: np.dtype) -> int:
        """What a launcher says of sizes alone."""
        asked = getattr(self._library, launcher)
        asked.restype = ctypes.c_int64
        return int(asked(*sizes, TYPES[dtype]))

    def call(
        self,
        launcher: str,
        inputs: list[np.ndarray],
        output: np.ndarray,
        sizes: list[int],
        *,
        workspace: int | None = None,
        seed: int = 1,
    ) -> int:
        """Run a launcher; ``output`` is filled, and bytes around all arrays are checked not to be touched.

        A workspace has this many bytes and starts as garbage.
        """
        guarded = [Guarded(array) for array in (*inputs, output)]
        space = [] if workspace is None else [Guarded(np.random.default_rng(seed).bytes(workspace))]
        self._library.edgeir_emulator_seed(seed)
        kind = TYPES[inputs[0].dtype]
        addresses = [one.address for one in (*guarded, *space)]
        status = getattr(self._library, launcher)(*addresses, *sizes, kind, None)
        for one in space:
            one.check()
        for one, array in zip(guarded, (*inputs, output), strict=True):
            one.check()
            if array is output:
                array[...] = one.inside()
            else:
                assert np.array_equal(one.inside().view(np.uint8), array.view(np.uint8)), "an input was written to"
        return int(status)


class Guarded:
    """A copy of an array between bytes that nobody may write to; it starts at a multiple of 256, as a tensor does."""

    def __init__(self, content: np.ndarray | bytes) -> None:
        array = np.frombuffer(content, np.uint8) if isinstance(content, bytes) else content
        self._like = array
        self._bytes = np.full(array.nbytes + 2 * GUARD + 256, 0xA5, np.uint8)
        self._start = GUARD + -(self._bytes.ctypes.data + GUARD) % 256
        self._bytes[self._start : self._start + array.nbytes] = np.ascontiguousarray(array).view(np.uint8).ravel()

    @property
    def address(self) -> ctypes.c_void_p:
        return ctypes.c_void_p(self._bytes.ctypes.data + self._start)

    def inside(self) -> np.ndarray:
        taken = self._bytes[self._start : self._start + self._like.nbytes]
        return taken.view(self._like.dtype).reshape(self._like.shape)

    def check(self) -> None:
        behind = self._start + self._like.nbytes
        around = np.concatenate([self._bytes[: self._start], self._bytes[behind:]])
        assert (around == 0xA5).all(), "bytes beside an array were written to"


@pytest.fixture(scope="session")
def emulated(emulated_library: Path) -> Emulated:
    return Emulated(ctypes.CDLL(str(emulated_library)))
