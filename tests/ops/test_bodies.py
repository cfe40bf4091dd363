"""Bodies against twins, in two runtimes and both types, at the sizes and values where they could break."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx.inliner
import pytest
from onnx.reference import ReferenceEvaluator

from edgeir.ops import table

Case = Callable[..., tuple[dict[str, np.ndarray], dict[str, int]]]
Model = Callable[..., onnx.ModelProto]
Run = Callable[..., np.ndarray]

OPS = pytest.mark.parametrize("op", [op.name for op in table.FUSED_OPS])
# Float32 sums of up to 144 terms of order 1 round by 144 * 6e-8 at most; outputs are of order 1.
FP32_ABS = 1e-5
# A few roundings of 2**-11 relative (rows, weights, products) on outputs of order 1 to 3.
FP16_ABS = 4e-3

GST_SIZES: list[dict[str, Any]] = [
    {"heads": 1, "stride": 1, "size": (4, 6)},
    {"heads": 3, "stride": 2, "size": (8, 12)},
    {"heads": 2, "stride": 4, "size": (16, 8)},
    {"heads": 3, "stride": 1, "size": (2, 2)},
    {"heads": 6, "stride": 2, "size": (2, 2)},
    {"heads": 5, "stride": 2, "size": (4, 2), "channels": 10, "batch": 1},
]


def assert_close(got: np.ndarray, wanted: np.ndarray, tolerance: float) -> None:
    assert got.shape == wanted.shape
    if got.dtype == bool:
        assert np.array_equal(got, wanted)
    else:
        assert np.isfinite(got).all()
        assert float(np.abs(got.astype(np.float64) - wanted).max()) <= tolerance


@OPS
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_onnxruntime(op: str, dtype: Any, case: Case, model: Model, run_ort: Run, twin: Run) -> None:
    inputs, attributes = case(op, dtype)
    got = run_ort(model(op, inputs, attributes), inputs)
    assert got.dtype in (dtype, bool)
    assert_close(got, twin(op, inputs, attributes), FP32_ABS if dtype is np.float32 else FP16_ABS)


@OPS
def test_plain_onnx_evaluator(op: str, case: Case, model: Model, twin: Run) -> None:
    inputs, attributes = case(op)
    (got,) = ReferenceEvaluator(model(op, inputs, attributes)).run(None, inputs)
    assert_close(got, twin(op, inputs, attributes), FP32_ABS)


@OPS
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_checker_accepts_and_inlining_changes_nothing(
    op: str, dtype: Any, case: Case, model: Model, run_ort: Run
) -> None:
    inputs, attributes = case(op, dtype)
    whole = model(op, inputs, attributes)
    onnx.checker.check_model(whole, full_check=True)
    inlined = onnx.inliner.inline_local_functions(whole)
    assert not inlined.functions
    assert {node.domain for node in inlined.graph.node} == {""}
    onnx.checker.check_model(inlined, full_check=True)
    assert np.array_equal(run_ort(inlined, inputs), run_ort(whole, inputs))


@pytest.mark.parametrize("sizes", GST_SIZES, ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_gst_sizes(sizes: dict[str, Any], dtype: Any, case: Case, model: Model, run_ort: Run, twin: Run) -> None:
    inputs, attributes = case("EdgeirGstAttention", dtype, seed=1, **sizes)
    got = run_ort(model("EdgeirGstAttention", inputs, attributes), inputs)
    assert_close(got, twin("EdgeirGstAttention", inputs, attributes), FP32_ABS if dtype is np.float32 else FP16_ABS)


@pytest.mark.parametrize(("k", "n"), [(1, 16), (16, 16), (7, 16), (1, 1)])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_key_graph_counts(k: int, n: int, dtype: Any, case: Case, model: Model, run_ort: Run, twin: Run) -> None:
    inputs, attributes = case("EdgeirKeyGraph", dtype, k=k, n=n)
    keep = run_ort(model("EdgeirKeyGraph", inputs, attributes), inputs)
    assert np.array_equal(keep, twin("EdgeirKeyGraph", inputs, attributes))
    assert keep.sum(-1).min() >= k
    assert k < n or keep.all()


def test_key_graph_keeps_all_ties(model: Model, run_ort: Run, twin: Run) -> None:
    tokens = np.tile(np.eye(2, dtype=np.float32), (1, 3, 1))  # rows 0, 2, 4 are equal, and 1, 3, 5
    keep = run_ort(model("EdgeirKeyGraph", {"tokens": tokens}, {"k": 2}), {"tokens": tokens})
    same = np.equal.outer(np.arange(6) % 2, np.arange(6) % 2)
    assert np.array_equal(keep[0], same)
    assert np.array_equal(keep, twin("EdgeirKeyGraph", {"tokens": tokens}, {"k": 2}))


def test_key_graph_compares_in_float32(model: Model, run_ort: Run) -> None:
    """Sums that overflow FP16 and differ by less than its step must not become ties."""
    tokens = np.asarray([[[200.0, 200.0], [200.0, 200.25], [200.0, 200.5]]], np.float16)  # products near 80000
    keep = run_ort(model("EdgeirKeyGraph", {"tokens": tokens}, {"k": 1}), {"tokens": tokens})
    assert np.array_equal(keep[0], np.asarray([[False, False, True]] * 3))


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_zero_rows_attend_by_bias_alone(dtype: Any, case: Case, model: Model, run_ort: Run, twin: Run) -> None:
    inputs, _ = case("EdgeirKeyGraphAttention", dtype)
    inputs["query"][:, :, 3] = 0
    inputs["key"][:, :, 5] = 0
    got = run_ort(model("EdgeirKeyGraphAttention", inputs, {}), inputs)
    assert_close(got, twin("EdgeirKeyGraphAttention", inputs, {}), FP32_ABS if dtype is np.float32 else FP16_ABS)


def test_masked_tokens_have_no_weight_at_all(case: Case, model: Model, run_ort: Run) -> None:
    inputs, _ = case("EdgeirKeyGraphAttention", np.float16)
    proto = model("EdgeirKeyGraphAttention", inputs, {})
    before = run_ort(proto, inputs)
    inputs["keep"][:, :, 2] = False
    inputs["keep"][:, 2, 2] = True
    without = run_ort(proto, inputs)
    inputs["value"][:, :, 2] = 6e4  # only row 2 looks at it
    others = np.arange(16) != 2
    assert np.array_equal(run_ort(proto, inputs)[:, :, others], without[:, :, others])
    assert not np.array_equal(before, without)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_gst_with_zero_rows_and_peaked_tokens(dtype: Any, case: Case, model: Model, run_ort: Run, twin: Run) -> None:
    inputs, attributes = case("EdgeirGstAttention", dtype, size=(32, 32))
    inputs["query"][:, 1] = 0
    inputs["key"][:, 2] = 0
    inputs["tokens"][:, 0] = 0  # every weight 1/256
    inputs["tokens"][:, 3, 4, 5] = 300  # softmax one-hot: the token is one cell
    got = run_ort(model("EdgeirGstAttention", inputs, attributes), inputs)
    assert_close(got, twin("EdgeirGstAttention", inputs, attributes), FP32_ABS if dtype is np.float32 else FP16_ABS)


@pytest.mark.parametrize("magnitude", [1e-3, 1.0, 100.0])
def test_gst_on_a_large_map_in_fp16(magnitude: float, case: Case, model: Model, run_ort: Run) -> None:
    """A sum of squares over 1024x1024 is 1e6 to 1e10, a softmax weight 4e-6: both leave FP16 outside the body."""
    inputs, attributes = case("EdgeirGstAttention", np.float16, heads=2, size=(1024, 1024), channels=4, batch=1)
    for name in ("query", "key", "value"):
        inputs[name] *= np.float16(magnitude)
    got = run_ort(model("EdgeirGstAttention", inputs, attributes), inputs)
    assert np.isfinite(got).all()
    assert float(np.abs(got.astype(np.float32)).max()) > 0.1 * magnitude
