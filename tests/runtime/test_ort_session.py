"""ONNX Runtime behind the session: what it runs, and how it refuses."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from edgeir.errors import GraphError, MissingDependency
from edgeir.runtime.ort_session import OrtSession

Micro = Callable[..., Any]


def test_runs_batches_of_any_memory_order(micro: Micro) -> None:
    network = micro("exda")
    session = OrtSession(network.path, threads=1)
    picture = network.picture()
    output = session.run(picture)
    assert output.dtype == np.float32
    assert output.shape == picture.shape
    assert np.array_equal(session.run(np.asfortranarray(picture)), output)
    assert np.array_equal(session.run(picture.astype(np.float64)), output)


def test_name_does_not_ask_which_distribution_it_is(micro: Micro, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a Jetson the distribution is called onnxruntime-gpu, the module is the same."""
    monkeypatch.setattr("importlib.metadata.version", lambda name: pytest.fail(f"asked for {name}"))
    assert OrtSession(micro("exda").path).name == f"onnxruntime {onnxruntime.__version__} CPU"


def test_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingDependency, match=r"not installed\. Run: pip install onnxruntime"):
        OrtSession(Path("model.onnx"))


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x08\x0a" * 40])
def test_garbage_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(GraphError, match=r"^model\.onnx: (this is not an ONNX file|ONNX Runtime refuses the graph)"):
        OrtSession(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(GraphError, match=r"gone\.onnx: the graph cannot be read"):
        OrtSession(tmp_path / "gone.onnx")
