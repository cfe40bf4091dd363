"""Tiles that know their picture: what is cut out of a graph, that it changes nothing by itself, and what it is for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from edgeir.errors import GraphError
from edgeir.export.tile_statistics import statistics_of, with_tile_statistics
from edgeir.imaging.metrics import fidelity_db
from edgeir.runtime.ort_session import OrtSession
from edgeir.runtime.tile_statistics import StatisticsSession

Micro = Callable[..., Any]


def parsed(body: str, *, batch: int = 2) -> ir.Model:
    side = f"float[{batch},3,8,8]"
    head = f'<ir_version: 9, opset_import: ["" : 20]> g ({side} image) => ({side} restored)'
    return ir.from_proto(onnx.parser.parse_model(f"{head} {{ {body} }}"))


def opened(model: ir.Model) -> StatisticsSession:
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    return StatisticsSession(OrtSession(proto.SerializeToString()))


@pytest.mark.parametrize("architecture", ["exda", "cea"])
def test_its_own_statistics_change_nothing(micro: Micro, architecture: str) -> None:
    made = micro(architecture)
    graph = with_tile_statistics(made.graph())
    assert graph is not None
    session, plain = opened(graph), OrtSession(made.path)
    picture = made.picture()
    own = session.own(picture)
    np.testing.assert_allclose(session.run(picture), plain.run(picture), atol=2e-6)  # fused otherwise, rounded alike
    with session.sharing(own):
        shared = session.run(picture)
    np.testing.assert_allclose(shared, session.run(picture), atol=2e-6)  # scaled there and back


@pytest.mark.parametrize("architecture", ["exda", "cea"])
def test_what_others_found_reaches_the_output(micro: Micro, architecture: str) -> None:
    """The same tile is another one beside other statistics, and only as long as they are given."""
    made = micro(architecture)
    graph = with_tile_statistics(made.graph())
    assert graph is not None
    session = opened(graph)
    picture, other = made.picture(), made.picture(seed=7) ** 4
    alone = session.run(picture)
    with session.sharing(session.own(other)):
        assert np.abs(session.run(picture) - alone).max() > 1e-4
    np.testing.assert_array_equal(session.run(picture), alone)


def test_a_tile_with_the_statistics_of_its_picture_is_a_part_of_it() -> None:
    """A network of one attention between channels and no convolution: with the right matrix nothing is lost at all."""
    body = """
        s = Constant<value_ints = [2, 3, 64]>() rows = Reshape(image, s)
        columns = Transpose<perm = [0, 2, 1]>(rows) gram = MatMul(rows, columns)
        weights = Softmax<axis = -1>(gram) mixed = MatMul(weights, rows)
        t = Constant<value_ints = [2, 3, 8, 8]>() restored = Reshape(mixed, t)
    """
    model = parsed(body)
    (statistic,) = statistics_of(_lifted(model))
    assert statistic.name == "gram"
    session = opened(_some(model))
    rng = np.random.default_rng(0)
    whole = rng.random((1, 3, 8, 16), dtype=np.float32)
    gram = np.einsum("nchw,ndhw->cd", whole, whole)
    weights = np.exp(gram - gram.max(-1, keepdims=True))
    expected = np.einsum("cd,ndhw->nchw", weights / weights.sum(-1, keepdims=True), whole)
    halves = np.concatenate([whole[..., :8], whole[..., 8:]])
    with session.sharing(gram.reshape(-1).astype(np.float32)):
        given = session.run(halves)
    np.testing.assert_allclose(np.concatenate(list(given), axis=-1)[None], expected, atol=1e-6)
    assert fidelity_db(np.concatenate(list(session.run(halves)), axis=-1)[None], expected) < 60


UNIT_ATTENTION = """
    s = Constant<value_ints = [1, 3, 64]>() p = Constant<value_ints = [2]>() rows = Reshape(image, s)
    squares = ReduceSumSquare(rows, p) norm = Sqrt(squares) inverse = Reciprocal(norm) unit = Mul(rows, inverse)
    columns = Transpose<perm = [0, 2, 1]>(unit) gram = MatMul(unit, columns) weights = Softmax<axis = -1>(gram)
    mixed = MatMul(weights, rows) t = Constant<value_ints = [1, 3, 8, 8]>() restored = Reshape(mixed, t)
"""
POSITION_SOFTMAX = """
    s = Constant<value_ints = [1, 3, 64]>() rows = Reshape(image, s) five = Constant<value = float {5.0}>()
    logits = Mul(rows, five) weights = Softmax<axis = -1>(logits) columns = Transpose<perm = [0, 2, 1]>(rows)
    seen = MatMul(weights, columns) mixed = MatMul(seen, rows)
    t = Constant<value_ints = [1, 3, 8, 8]>() restored = Reshape(mixed, t)
"""


def unit_attention(whole: np.ndarray) -> np.ndarray:
    rows = whole.reshape(3, -1).astype(np.float64)
    unit = rows / np.linalg.norm(rows, axis=-1, keepdims=True)
    weights = np.exp(unit @ unit.T)
    return ((weights / weights.sum(-1, keepdims=True)) @ rows).reshape(whole.shape)


def position_softmax(whole: np.ndarray) -> np.ndarray:
    rows = whole.reshape(3, -1).astype(np.float64)
    weights = np.exp(5 * rows)
    return (((weights / weights.sum(-1, keepdims=True)) @ rows.T) @ rows).reshape(whole.shape)


@pytest.mark.parametrize(("body", "of_whole"), [(UNIT_ATTENTION, unit_attention), (POSITION_SOFTMAX, position_softmax)])
@pytest.mark.parametrize("seed", range(3))
def test_means_over_tiles_are_the_pictures_own(
    body: str, of_whole: Callable[[np.ndarray], np.ndarray], seed: int
) -> None:
    """Tiles of other colours and brightness: means of cosines, or of means over weights, would not do."""
    rng = np.random.default_rng(seed)
    whole = rng.random((1, 3, 8, 16), dtype=np.float32)
    whole[:, 1, :, :8] = 1 - whole[:, 0, :, :8]
    whole[..., :8] *= np.float32((0.2, 0.7, 3)[seed])
    expected = of_whole(whole)
    session = opened(_some(parsed(body, batch=1)))
    halves = [np.ascontiguousarray(whole[..., :8]), np.ascontiguousarray(whole[..., 8:])]
    own = np.concatenate([session.run(half) for half in halves], axis=-1)
    assert np.abs(own - expected).max() > 1e-3
    with session.sharing(np.mean([session.own(half) for half in halves], axis=0)):
        shared = np.concatenate([session.run(half) for half in halves], axis=-1)
    np.testing.assert_allclose(shared, expected, atol=3e-6)


def test_what_follows_is_computed_anew() -> None:
    """Positions end at the mean colour; the prompt that is made of it is no statistic of its own."""
    numbers = ", ".join(["0.5"] * 576)
    body = f"""
        a = Constant<value_ints = [2, 3]>() mean = ReduceMean<keepdims = 0>(image, a)
        p = Constant<value = float[3, 192] {{{numbers}}}>() prompt = MatMul(mean, p)
        t = Constant<value_ints = [2, 3, 8, 8]>() shaped = Reshape(prompt, t) restored = Add(image, shaped)
    """
    (statistic,) = statistics_of(_lifted(parsed(body)))
    assert statistic.name == "mean"


def test_a_statistic_without_an_axis_for_the_batch() -> None:
    with pytest.raises(GraphError, match="no axis for the batch"):
        with_tile_statistics(parsed("mean = ReduceMean<keepdims = 0>(image) restored = Sub(image, mean)"))


def test_a_batch_gives_its_mean() -> None:
    body = """
        a = Constant<value_ints = [2, 3]>() mean = ReduceMean(image, a) restored = Sub(image, mean)
    """
    session = opened(_some(parsed(body)))
    pictures = np.random.default_rng(0).random((2, 3, 8, 8), dtype=np.float32)
    np.testing.assert_allclose(session.own(pictures), pictures.mean((0, 2, 3)), atol=1e-6)
    with session.sharing(np.full(3, 0.25, np.float32)):
        np.testing.assert_allclose(session.run(pictures), pictures - 0.25, atol=1e-6)


def test_a_network_without_any() -> None:
    assert with_tile_statistics(parsed("restored = Relu(image)")) is None
    with pytest.raises(GraphError, match="the graph takes no statistics"):
        StatisticsSession(OrtSession(ir.to_proto(parsed("restored = Relu(image)")).SerializeToString()))


def test_tensorrt_rtx_builds_it(micro: Micro, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed: no engine can be built here")
    from edgeir.export.engines.builder import build_engine, target_for
    from edgeir.export.graph import save_graph

    save_graph(_some(micro("cea").graph()), tmp_path / "tiles.onnx")
    result = build_engine(target_for("rtx"), tmp_path / "tiles.onnx", tmp_path / "tiles.plan")
    assert result.bytes == (tmp_path / "tiles.plan").stat().st_size > 0


def test_a_graph_that_cannot_be_followed(micro: Micro) -> None:
    with pytest.raises(GraphError, match="no rule says where positions go"):
        with_tile_statistics(micro("kgt").graph())
    with pytest.raises(GraphError, match="the shape of a value is not known"):
        with_tile_statistics(micro("cea", dynamic=True).graph())


def _some(model: ir.Model) -> ir.Model:
    graph = with_tile_statistics(model)
    assert graph is not None
    return graph


def _lifted(model: ir.Model) -> ir.Model:
    from onnx_ir.passes.common import LiftConstantsToInitializersPass

    inferred = ir.from_proto(onnx.shape_inference.infer_shapes(ir.to_proto(model), strict_mode=True, data_prop=True))
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(inferred)
    return inferred
