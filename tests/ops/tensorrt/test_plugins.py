"""The C++ adaptor, asked everything that TensorRT asks: against each version of the headers that is here."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from edgeir.ops import table
from edgeir.ops.reference import gst_attention, key_graph, key_graph_attention
from edgeir.ops.tensorrt import library

# Of the kernels' own tests: rounded rows, weights and results.
TOLERANCE = {"float32": 3e-5, "float16": 8e-3, "bfloat16": 6e-2}
TYPES = [np.float32, np.float16, ml_dtypes.bfloat16]


def graph_request(
    dtype: Any = np.float16, n: int = 40, k: int = 7
) -> tuple[dict[str, int], list[np.ndarray], np.ndarray]:
    tokens = np.random.default_rng(n).integers(-4, 5, (2, n, 12)).astype(dtype)
    return {"k": k}, [tokens], np.zeros((2, n, n), bool)


def attention_request(dtype: Any) -> tuple[dict[str, int], list[np.ndarray], np.ndarray]:
    rng = np.random.default_rng(2)
    rows = [rng.standard_normal((2, 3, 33, 30)).astype(dtype) for _ in range(3)]
    keep = key_graph(rng.standard_normal((2, 33, 8)), 9)
    bias, scale = rng.standard_normal((3, 33, 33)).astype(dtype), rng.uniform(1, 9, (3, 1, 1)).astype(dtype)
    return {}, [*rows, keep, bias, scale], np.zeros_like(rows[0])


def gst_request(dtype: Any) -> tuple[dict[str, int], list[np.ndarray], np.ndarray]:
    rng = np.random.default_rng(3)
    rows = [rng.standard_normal((2, 16, 16, 24)).astype(dtype) for _ in range(3)]
    tokens = rng.standard_normal((2, 16, 2, 3)).astype(dtype)
    temperature, alpha = rng.uniform(1, 3, (2, 1, 1)).astype(dtype), np.asarray([0.7]).astype(dtype)
    return {"heads": 2, "stride": 8}, [*rows, tokens, temperature, alpha], np.zeros_like(rows[0])


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_key_graph(dtype: Any, harness: Any) -> None:
    attributes, inputs, output = graph_request(dtype)
    assert harness.run(table.KEY_GRAPH.name, attributes, inputs, output) == 0, harness.stderr
    exact = inputs[0].astype(np.float64)  # whole numbers: the mean of the twin would round
    similarity = exact @ exact.swapaxes(-2, -1)
    assert np.array_equal(output, similarity >= np.sort(similarity, axis=-1)[..., -7, None])
    assert harness.stdout == "workspace 0\n"


@pytest.mark.parametrize("dtype", TYPES)
def test_key_graph_attention(dtype: Any, harness: Any) -> None:
    attributes, inputs, output = attention_request(dtype)
    assert harness.run(table.KEY_GRAPH_ATTENTION.name, attributes, inputs, output) == 0, harness.stderr
    wanted = key_graph_attention(*(one if one.dtype == bool else one.astype(np.float64) for one in inputs))
    assert float(np.abs(output.astype(np.float64) - wanted).max()) <= TOLERANCE[output.dtype.name]


@pytest.mark.parametrize("dtype", TYPES)
def test_gst_attention(dtype: Any, harness: Any) -> None:
    attributes, inputs, output = gst_request(dtype)
    assert harness.run(table.GST_ATTENTION.name, attributes, inputs, output) == 0, harness.stderr
    wanted = gst_attention(*(one.astype(np.float64) for one in inputs), heads=2)
    assert float(np.abs(output.astype(np.float64) - wanted).max()) <= TOLERANCE[output.dtype.name]
    assert int(harness.stdout.split()[1]) > 0


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_on_a_gpu(dtype: Any, gpu_harness: Any) -> None:
    """The real library on device buffers gives what the emulated one gives."""
    test_key_graph(dtype, gpu_harness)
    test_key_graph_attention(dtype, gpu_harness)
    test_gst_attention(dtype, gpu_harness)


def test_what_it_refuses(harness: Any) -> None:
    """The number is the question that was refused; TensorRT's own log gets the reason."""
    attributes, inputs, output = graph_request()
    assert harness.run(table.KEY_GRAPH.name, {}, inputs, output) == 2
    assert "logger: edgeir: EdgeirKeyGraph: needs the integer attribute 'k'" in harness.stderr
    assert harness.run(table.KEY_GRAPH.name, {"k": 41}, inputs, output) == 6
    assert "there is no kernel for a first input of 2x40x12, k 41" in harness.stderr
    wide = inputs[0].astype(ml_dtypes.bfloat16)
    assert harness.run(table.KEY_GRAPH.name, attributes, [wide], output) == 5
    assert harness.run(table.KEY_GRAPH.name, attributes, [*inputs, *inputs], output) == 3
    assert "2 inputs and 1 outputs, expected 1 and 1" in harness.stderr
    flat = [inputs[0].reshape(-1, 12)]
    assert harness.run(table.KEY_GRAPH.name, attributes, flat, np.zeros((80, 80), bool)) == 4
    assert "the first input has 2 axes, expected 3" in harness.stderr
    attributes, rows, output = attention_request(np.float16)
    rows[1] = rows[1].astype(np.float32)  # one T for all
    assert harness.run(table.KEY_GRAPH_ATTENTION.name, attributes, rows, output) == 5
    attributes, rows, output = gst_request(np.float16)
    assert harness.run(table.GST_ATTENTION.name, {"heads": 3, "stride": 8}, rows, output) == 6
    assert "a first input of 2x16x16x24, heads 3, stride 8" in harness.stderr
    assert harness.run("EdgeirNothing", {}, inputs, output) == 1
    assert "there is no creator of EdgeirNothing" in harness.stderr


def test_the_library_says_what_the_table_says(
    headers: Path, plugin_library: Callable[[Path], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = plugin_library(headers)
    opened = library.open_library(path)
    assert library.differences(opened) == []
    monkeypatch.setattr(table, "FUSED_OPS", (table.KEY_GRAPH, table.FusedOp("EdgeirNew", "", (), ())))
    assert library.differences(opened) == [
        "it has no EdgeirNew",
        "it has EdgeirKeyGraphAttention, which is no op",
        "it has EdgeirGstAttention, which is no op",
    ]
    exported = subprocess.run(["nm", "-D", "--defined-only", str(path)], capture_output=True, text=True, check=True)
    names = {line.split()[-1] for line in exported.stdout.splitlines()}
    assert {"getCreators", "setLoggerFinder", "edgeir_plugins_describe", "edgeir_key_graph"} <= names
    needed = subprocess.run(["ldd", str(path)], capture_output=True, text=True, check=True).stdout
    assert "nvinfer" not in needed  # its headers are enough
