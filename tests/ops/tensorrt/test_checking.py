"""The check of a library against the twins: run on the emulated kernels, and on ones that are wrong."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeir.ops import table
from edgeir.ops.tensorrt import checking, library


class Host:
    """A device whose memory is this process's."""

    stream = ctypes.c_void_p()

    @contextlib.contextmanager
    def holding(self, *arrays: np.ndarray) -> Iterator[tuple[int, ...]]:
        self._spaces = []
        for array in arrays:
            space = np.zeros(array.nbytes + 256, np.uint8)
            start = -space.ctypes.data % 256
            space[start : start + array.nbytes] = np.ascontiguousarray(array).view(np.uint8).ravel()
            self._spaces.append((space, space.ctypes.data + start))
        yield tuple(address for _, address in self._spaces)

    def read(self, address: int, like: np.ndarray) -> np.ndarray:
        content = (ctypes.c_char * like.nbytes).from_address(address)
        return np.frombuffer(bytes(content), like.dtype).reshape(like.shape)


def test_every_op_in_both_types_and_large_windows() -> None:
    found = list(checking.cases(64))
    assert {(case.op.name, case.dtype) for case in found} == {
        (op.name, dtype) for op in table.FUSED_OPS for dtype in ("float16", "float32")
    }
    assert all(len(case.inputs) == len(case.op.inputs) for case in found)
    assert all(case.inputs[0].shape[-2] <= 64 for case in found)


@pytest.mark.slow
def test_right_kernels_pass(headers: Path, plugin_library: Callable[[Path], Path]) -> None:
    opened = library.open_library(plugin_library(headers))
    verdicts = [checking.check(opened, case, Host()) for case in checking.cases(256)]
    assert [verdict.case.name for verdict in verdicts if not verdict.passed] == []
    assert all(verdict.error > 0 for verdict in verdicts if verdict.case.op is not table.KEY_GRAPH)


class Wrong:
    """A library whose launchers do what a test wants."""

    def __init__(self, launcher: Callable[..., int]) -> None:
        self._launcher = launcher

    def __getattr__(self, name: str) -> Callable[..., int]:
        if name.endswith("_workspace"):
            return workspace
        return self._launcher


def workspace(*_: Any) -> int:
    return 1024


def test_wrong_kernels_do_not() -> None:
    for case in checking.cases(64):
        nothing = checking.check(Wrong(lambda *_: 0), case, Host())  # type: ignore[arg-type]
        assert not nothing.passed
        assert 0 < nothing.error < np.inf
        refused = checking.check(Wrong(lambda *_: -1), case, Host())  # type: ignore[arg-type]
        assert (refused.passed, refused.status) == (False, -1)
    attention = next(case for case in checking.cases(64) if case.op is table.KEY_GRAPH_ATTENTION)

    def not_a_number(*arguments: Any) -> int:
        ctypes.memset(arguments[len(attention.inputs)], 0xFF, attention.wanted.size * 2)
        return 0

    assert checking.check(Wrong(not_a_number), attention, Host()).error == np.inf  # type: ignore[arg-type]
