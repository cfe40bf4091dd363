"""Does a plugin library compute what the ops mean? Its launchers on a GPU, against the NumPy twins in float64.

The library's functions take addresses, so a device that allocates, copies and waits is all that this needs.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgeir.ops import reference, table

Array = NDArray[Any]
_TYPES = {"float32": 0, "float16": 1}  # EdgeirType of launchers.h
# Rounded rows, weights and results: some times 2^-11 of values of order 1 to 3; in float32, another order of sums.
_TOLERANCE = {"float32": 5e-5, "float16": 1e-2}
# Windows, heads, n, d; batch, channels, side, heads, stride: every way that a kernel reads its rows.
_ATTENTIONS = ((2, 3, 33, 30), (3, 4, 144, 48), (1, 2, 256, 16), (2, 6, 1024, 30), (1, 2, 1024, 64))
_GSTS = ((2, 16, 16, 2, 8), (2, 24, 32, 3, 2), (1, 48, 64, 1, 2), (1, 96, 128, 2, 8))


class Device(Protocol):
    """What holds the arrays: `edgeir.runtime.cuda_driver.CudaDevice`."""

    stream: ctypes.c_void_p

    def holding(self, *arrays: Array) -> AbstractContextManager[tuple[int, ...]]:
        """Addresses of copies."""

    def read(self, address: int, like: Array) -> Array:
        """What is there when all work is done."""


@dataclass(frozen=True, slots=True)
class Case:
    """One call of one launcher.

    Attributes:
        op: the fused op.
        inputs: arrays, in the order of the table.
        sizes: integers behind the addresses.
        wanted: the twin's answer in float64, or the exact key graph.
        attributes: of a node, name to value.
    """

    op: table.FusedOp
    inputs: tuple[Array, ...]
    sizes: tuple[int, ...]
    wanted: Array
    attributes: Mapping[str, int] = field(default_factory=dict)

    @property
    def dtype(self) -> str:
        """Of T."""
        return str(self.inputs[0].dtype.name)

    @property
    def name(self) -> str:
        """``"EdgeirKeyGraph 2x64x20 float16"``."""
        return f"{self.op.name} {'x'.join(map(str, self.inputs[0].shape))} {self.dtype}"

    @property
    def output(self) -> Array:
        """An empty answer, in the type that a kernel gives."""
        return np.zeros(self.wanted.shape, bool if self.op is table.KEY_GRAPH else self.dtype)

    @property
    def tolerance(self) -> float:
        """The largest difference that rounding explains; 0 for a choice."""
        return 0.0 if self.op is table.KEY_GRAPH else _TOLERANCE[self.dtype]


@dataclass(frozen=True, slots=True)
class Verdict:
    """How far one call was from the twin; ``error`` is infinite where a number is none or the launcher refused."""

    case: Case
    error: float
    status: int

    @property
    def passed(self) -> bool:
        """Close enough."""
        return self.status == 0 and self.error <= self.case.tolerance

    def row(self) -> dict[str, object]:
        """For JSON: an error that is no finite number is ``None``."""
        return {
            "case": self.case.name,
            "error": self.error if np.isfinite(self.error) else None,
            "at_most": self.case.tolerance,
            "status": self.status,
            "passed": self.passed,
        }


_FUNCTIONS = {
    table.KEY_GRAPH.name: "edgeir_key_graph",
    table.KEY_GRAPH_ATTENTION.name: "edgeir_key_graph_attention",
    table.GST_ATTENTION.name: "edgeir_gst_attention",
}


def cases(most: int = 1024) -> Iterator[Case]:
    """Small and large sizes of every op in both types.

    Args:
        most: leave out windows of more tokens, and pictures of more than four times as many positions.
    """
    for dtype in ("float16", "float32"):
        for windows, n, c, k in ((2, 64, 20, 9), (1, 256, 48, 64), (2, 1024, 180, 512)):
            if n <= most:
                yield _key_graph(windows, n, c, k, dtype)
        for windows, heads, n, d in _ATTENTIONS:
            if n <= most:
                yield _attention(windows, heads, n, d, dtype)
        for batch, channels, side, heads, stride in _GSTS:
            if side * side <= 4 * most:
                yield _gst(batch, channels, side, heads, stride, dtype)


def _key_graph(windows: int, n: int, c: int, k: int, dtype: str) -> Case:
    """Whole numbers and a power of two of tokens: every sum is exact, so the choice is one."""
    tokens = np.random.default_rng(n).integers(-4, 5, (windows, n, c)).astype(dtype)
    wanted = reference.key_graph(tokens.astype(np.float64), k)
    return Case(table.KEY_GRAPH, (tokens,), (windows, n, c, k), wanted, {"k": k})


def _attention(windows: int, heads: int, n: int, d: int, dtype: str) -> Case:
    rng = np.random.default_rng(n + d)
    query, key, value = (rng.standard_normal((windows, heads, n, d)).astype(dtype) for _ in range(3))
    keep = reference.key_graph(rng.standard_normal((windows, n, 8)), n // 2)
    bias = rng.standard_normal((heads, n, n)).astype(dtype)
    scale = rng.uniform(1, 10, (heads, 1, 1)).astype(dtype)
    inputs: tuple[Array, ...] = (query, key, value, keep, bias, scale)
    wide: list[Any] = [array if array is keep else array.astype(np.float64) for array in inputs]
    wanted = reference.key_graph_attention(*wide)
    return Case(table.KEY_GRAPH_ATTENTION, inputs, (windows, heads, n, d, 1), wanted)


def _gst(batch: int, channels: int, side: int, heads: int, stride: int, dtype: str) -> Case:
    rng = np.random.default_rng(side)
    query, key, value = (rng.standard_normal((batch, channels, side, side)).astype(dtype) for _ in range(3))
    tokens = rng.standard_normal((batch, channels, side // stride, side // stride)).astype(dtype)
    temperature = rng.uniform(1, 3, (heads, 1, 1)).astype(dtype)
    alpha = np.asarray([0.7], dtype)
    inputs: tuple[Array, ...] = (query, key, value, tokens, temperature, alpha)
    wide: list[Any] = [*(array.astype(np.float64) for array in inputs), heads]
    wanted = reference.gst_attention(*wide)
    sizes = (batch, channels, side, side, heads, stride)
    return Case(table.GST_ATTENTION, inputs, sizes, wanted, {"heads": heads, "stride": stride})


def check(library: ctypes.CDLL, case: Case, device: Device) -> Verdict:
    """Run one case on a device.

    Args:
        library: from `edgeir.ops.tensorrt.library.open_library`.
        case: from `cases`.
        device: that holds the arrays; the library's kernels must run there.
    """
    name, kind = _FUNCTIONS[case.op.name], _TYPES[case.dtype]
    output = case.output
    arrays = [*case.inputs, output]
    if case.op is table.GST_ATTENTION:
        asked = getattr(library, f"{name}_workspace")
        asked.restype = ctypes.c_int64
        size = int(asked(*map(ctypes.c_int, case.sizes), ctypes.c_int(kind)))
        if size < 0:
            return Verdict(case, float("inf"), size)
        arrays.append(np.zeros(size, np.uint8))
    with device.holding(*arrays) as addresses:
        status = int(
            getattr(library, name)(
                *map(ctypes.c_void_p, addresses), *map(ctypes.c_int, case.sizes), ctypes.c_int(kind), device.stream
            )
        )
        if status != 0:
            return Verdict(case, float("inf"), status)
        found = device.read(addresses[len(case.inputs)], output)
    return judged(case, found)


def judged(case: Case, found: Array) -> Verdict:
    """What an answer is worth: the share of a key graph that is wrong, else the largest difference."""
    if case.op is table.KEY_GRAPH:
        return Verdict(case, float((found != case.wanted).mean()), 0)
    if not np.isfinite(found.astype(np.float32)).all():
        return Verdict(case, float("inf"), 0)
    return Verdict(case, float(np.abs(found.astype(np.float64) - case.wanted).max()), 0)
