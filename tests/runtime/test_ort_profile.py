"""ONNX Runtime's profiler, node by node."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from edgeir.bundle import Bundle
from edgeir.errors import MissingDependency
from edgeir.runtime.ort_profile import node_times


def test_every_node_has_its_time(bundle: Bundle) -> None:
    pictures = np.random.default_rng(0).random((1, 3, 64, 32), dtype=np.float32)
    nodes = node_times(bundle.file("model"), pictures, threads=1, runs=2)
    assert len(nodes) > 1
    assert [node.ms for node in nodes] == sorted((node.ms for node in nodes), reverse=True)
    assert nodes[0].ms > 0
    assert all(node.op and not node.name.endswith("_kernel_time") for node in nodes)


def test_without_onnxruntime(monkeypatch: pytest.MonkeyPatch, bundle: Bundle) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingDependency, match="onnxruntime is not installed"):
        node_times(b"", np.zeros((1, 3, 8, 8), np.float32))
