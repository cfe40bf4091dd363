"""Scale migration: the same bits before and after, and channels that lose less by sharing one scale."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgeir.calibrate.eight_bits import placement_of
from edgeir.calibrate.migration import exponents_for, find_exponents, migrate, seams
from edgeir.calibrate.qdq import INT8, eight_bit_weight
from edgeir.calibrate.ranges import FARTHEST
from edgeir.errors import GraphError
from edgeir.export.rewrites.apply import rewrite
from edgeir.runtime.ort_session import OrtSession

# A gated product as in a feed-forward block: the second half of `both` is not bent.
GATED = """
 both = Conv<group=8>(image, deep, bias8)
 gate, straight = Split<axis=1, num_outputs=2>(both)
 opened = Sigmoid(gate)
 product = Mul(opened, straight)
 y = Conv(product, wide)
"""
GATED_CONSTANTS = (
    "float[8,1,1,1] deep = {1,2,3,4,5,6,7,8}, float[8] bias8 = {1,2,3,4,5,6,7,8}, float[2,4,1,1] wide = "
    + ("{1,2,3,4,5,6,7,8}")
)


def named(model: ir.Model) -> ir.Model:
    """Nodes called after what they make, as modules would."""
    for node in model.graph:
        node.name = f"{node.outputs[0].name}/{node.op_type}"
    model.graph.outputs[0].name = "restored"
    return model


def run(model: ir.Model, picture: np.ndarray) -> np.ndarray:
    return OrtSession(ir.to_proto(model).SerializeToString(), arena=False).run(picture)


@pytest.fixture
def gated(build: Any) -> ir.Model:
    return named(build(GATED, constants=GATED_CONSTANTS, shape="1,8,4,4"))


def test_where_a_factor_can_move(gated: ir.Model) -> None:
    (seam,) = seams(gated.graph).values()
    assert (seam.layer, seam.tensor, seam.maker.name) == ("y", "product", "both/Conv")
    assert (seam.first, seam.channels) == (4, 4)
    assert seams(gated.graph, ["other"]) == {}


def test_both_sides_of_a_gated_product(gated: ir.Model) -> None:
    picture = np.random.default_rng(0).standard_normal((1, 8, 4, 4)).astype(np.float32)
    before = run(gated, picture)
    migrate(gated, {"y": (1, -2, 0, 3)})
    values = {name: value.const_value.numpy() for name, value in gated.graph.initializers.items() if value.const_value}
    assert values["deep"].ravel().tolist() == [1, 2, 3, 4, 10, 1.5, 7, 64]
    assert values["bias8"].tolist() == [1, 2, 3, 4, 10, 1.5, 7, 64]
    assert values["wide"].reshape(2, 4).tolist() == [[0.5, 8, 3, 0.5], [2.5, 24, 7, 1]]
    assert np.array_equal(run(gated, picture), before)


@pytest.mark.parametrize(
    "nodes",
    [
        "made = Conv(image, one)\n bent = Sigmoid(made)\n y = Conv(bent, one)",  # not linear
        "made = Conv(image, one)\n read = Conv(made, one)\n y = Add(read, made)",  # read twice
        "made = Conv(image, one)\n big = Add(made, image)\n y = Conv(big, one)",  # a sum has two makers
        "y = Conv(image, one)",  # nothing makes the picture
        "a = Conv(image, one)\n b = Sigmoid(image)\n p = Mul(a, b)\n q = Relu(p)\n y = Conv(q, one)",
        "a = ReduceMean(image)\n c = Conv(image, one)\n s = Sigmoid(c)\n p = Mul(a, s)\n y = Conv(p, one)",
    ],
)
def test_where_none_can_move(nodes: str, build: Any) -> None:
    weight = ",".join(["1"] * 16)
    assert seams(named(build(nodes, constants=f"float[4,4,1,1] one = {{{weight}}}")).graph) == {}


def test_a_constant_that_others_read_stays(build: Any) -> None:
    weight = ",".join(str(number) for number in range(16))
    model = named(
        build("made = Conv(image, w, b)\n read = Conv(made, w, b)\n y = Conv(read, w, b)",
              constants=f"float[4,4,1,1] w = {{{weight}}}, float[4] b = {{1,2,3,4}}")
    )  # fmt: skip
    picture = np.random.default_rng(1).standard_normal((1, 4, 8, 8)).astype(np.float32)
    before = run(model, picture)
    migrate(model, {"read": (1, 2, 3, -1), "y": (0, 1, -4, 8)})
    assert np.array_equal(run(model, picture), before)


def test_refusals(gated: ir.Model) -> None:
    with pytest.raises(GraphError, match=r"layer x: the scales of channels cannot move here.*got none"):
        migrate(gated, {"x": (1,)})
    with pytest.raises(GraphError, match="expected 4 channels, got 2"):
        migrate(gated, {"y": (1, 2)})


@pytest.mark.parametrize("name", ["exda", "cea", "kgt"])
def test_networks_give_the_same_bits(name: str, micro: Callable[[str], Any]) -> None:
    model = micro(name).graph()
    placed = placement_of(model.graph).quantized
    rewrite(model)
    pictures = [micro(name).picture(seed=seed) for seed in range(2)]
    before = run(model, pictures[0])
    rng = np.random.default_rng(3)
    found = seams(model.graph)
    assert bool(found) == (name != "kgt")  # its layers read windows, norms and bent values
    looked = find_exponents(model, seams(model.graph, placed), lambda: iter(pictures))
    assert set(looked) <= set(found) & set(placed)
    migrate(model, looked)
    migrate(model, {name: rng.integers(-4, 5, seam.channels).tolist() for name, seam in found.items()})
    assert np.array_equal(run(model, pictures[0]), before)


CHANNELS = st.integers(1, 9)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.data(), CHANNELS)
def test_exponents(data: st.DataObject, channels: int) -> None:
    """Bounded, no channel louder than the loudest was; the same for louder pictures and heavier rows."""
    magnitudes = st.one_of(st.just(0.0), st.floats(2**-13, 2**13, width=32))
    loudest = data.draw(arrays(np.float32, channels, elements=magnitudes))
    weight = data.draw(arrays(np.float32, (3, channels), elements=magnitudes))
    found = exponents_for(loudest, weight)
    assert found.shape == loudest.shape
    assert np.abs(found).max() <= FARTHEST
    after = loudest * np.exp2(found)
    assert after.max() <= loudest.max() * (1 + 1e-6)
    assert (exponents_for(4 * loudest, weight) == found).all()
    assert (exponents_for(loudest, weight * np.float32(8)) == found).all()


def test_what_they_are() -> None:
    level = np.ones((2, 3, 1, 1), np.float32)
    assert exponents_for(np.zeros(3, np.float32), level).tolist() == [0, 0, 0]
    assert exponents_for(np.ones(3, np.float32), level).tolist() == [0, 0, 0]
    assert exponents_for(np.array([2, 0, 2], np.float32), level).tolist() == [0, 0, 0]  # a silent one stays
    assert exponents_for(np.array([1, 1e-9, 2**-4], np.float32), level).tolist() == [0, FARTHEST, 2]
    light = np.array([[1, 2**-4, 1]], np.float32)
    assert exponents_for(np.ones(3, np.float32), light).tolist() == [0, -2, 0]  # a light column takes more


def test_eight_bits_lose_less_afterwards() -> None:
    """One loud channel of sixteen: the product of what is left after rounding is nearer to the exact one."""
    rng = np.random.default_rng(7)
    loudness = np.array([64.0] + [1.0] * 15)
    weight = (rng.standard_normal((16, 16)) / loudness).astype(np.float32)
    values = (rng.standard_normal((16, 4096)) * loudness[:, None]).astype(np.float32)

    def lost(factors: np.ndarray) -> float:
        moved = values * factors[:, None]
        stored, scales = eight_bit_weight((weight / factors).astype(np.float32), 0, INT8)
        low = (stored * scales[:, None]) @ INT8.rounded(moved, float(np.abs(moved).max()))
        return float(np.mean((low - weight @ values) ** 2))

    exponents = exponents_for(np.abs(values).max(axis=1), weight)
    assert lost(np.exp2(exponents).astype(np.float32)) < 0.25 * lost(np.ones(16, np.float32))


def test_every_batch_counts(gated: ir.Model) -> None:
    """Exponents are of the loudest of all pictures, in whatever order they come."""
    pictures = np.random.default_rng(5).standard_normal((3, 1, 8, 4, 4)).astype(np.float32)
    pictures[1, :, 5] *= 50

    def ordered(order: list[int]) -> Callable[[], Iterator[np.ndarray]]:
        return lambda: (pictures[one] for one in order)

    found = [find_exponents(gated, seams(gated.graph), ordered(order)) for order in ([0, 1, 2], [2, 1, 0], [0, 2])]
    assert found[0] == found[1] != found[2]
