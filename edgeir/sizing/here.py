"""This machine's processor as a device: what NumPy multiplies and copies in a moment."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from edgeir.errors import MissingDependency
from edgeir.runtime.board import board_state
from edgeir.sizing.container import memory_limit_bytes
from edgeir.sizing.devices import THIS_MACHINE, Device, Mode, Rates

_SIDE = 1024
_COPIED_BYTES = 64 << 20  # beyond most caches
_ROUNDS = 5


def this_machine() -> Device:
    """Measure matrix products in FP32 and copies in memory, on every processor allowed; takes about a second.

    The memory is the machine's, or what a container leaves of it.
    FP16 and INT8 have the rate of FP32: ONNX Runtime computes both in FP32 on a processor, or in few kernels of its own
    (`edgeir.runtime.ort_session`).

    Raises:
        MissingDependency: the system does not say how much memory there is.
    """
    state = board_state()
    if state.memory_bytes is None:
        raise MissingDependency(
            "the memory of this machine is not known", expected="/proc/meminfo", fix="Name a device: --for orin-nx-8gb."
        )
    limit = memory_limit_bytes()
    memory_bytes = state.memory_bytes if limit is None else min(limit, state.memory_bytes)
    rate = _macs_per_second()
    mode = Mode("measured", Rates(rate, rate, rate), _bytes_per_second(state.cpus_allowed or 1))
    return Device(THIS_MACHINE, "this machine's processor", "cpu", memory_bytes, shared=True, modes=(mode,), fp8=True)


def _macs_per_second() -> float:
    rng = np.random.default_rng(0)
    left, right = (rng.random((_SIDE, _SIDE), dtype=np.float32) for _ in range(2))
    out = np.empty_like(left)
    return float(_SIDE**3 / _quickest(lambda: np.matmul(left, right, out=out)))


def _bytes_per_second(threads: int) -> float:
    """Bytes read plus bytes written."""
    size = _COPIED_BYTES // threads
    pairs = [(np.zeros(size, np.uint8), np.ones(size, np.uint8)) for _ in range(threads)]
    with ThreadPoolExecutor(threads) as pool:
        seconds = _quickest(lambda: list(pool.map(lambda pair: np.copyto(*pair), pairs)))
    return 2 * size * threads / seconds


def _quickest(run: Callable[[], object]) -> float:
    times = []
    for _ in range(_ROUNDS):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return min(times)
