"""Small graphs in double precision, and the two questions every rule is asked: is it exact, and what is left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator

from edgeir.export.rewrites.apply import rewrite
from edgeir.export.rewrites.catalogue import ON_REQUEST
from edgeir.models.build import LoadedModel
from edgeir.models.loading import load_seeded

Graph = Callable[..., onnx.ModelProto]
GATE = {np.dtype(np.float64): 1e-12, np.dtype(np.float32): 1e-5}
"""Relative to the largest output: design section 5 in float64; float32 sums of some dozen products."""

ENCODER_DECODER = {"dim": 8, "blocks": [1, 1, 1, 1], "refine": 1, "heads": [1, 2, 1, 2]}
OVERRIDES = {"cea-tiny": {"rank": 4, "adapter_width": 8}}


@pytest.fixture(scope="session")
def micro() -> Callable[[str], LoadedModel]:
    """``micro("exda-tiny")``: the network with few channels and one block per level, seeded."""
    return lambda name: load_seeded(name, seed=0, overrides={**ENCODER_DECODER, **OVERRIDES.get(name, {})})


@pytest.fixture(params=[np.float64, np.float32], ids=["float64", "float32"])
def dtype(request: pytest.FixtureRequest) -> np.dtype:
    return np.dtype(request.param)


@pytest.fixture
def graph(dtype: np.dtype) -> Graph:
    """``graph("y = Mul(x, s)", x=(1, 4, 6, 6), constants={"s": array})``: random numbers for shapes."""

    def make(
        body: str,
        *,
        x: tuple[int, ...],
        constants: dict[str, tuple[int, ...]],
        outputs: tuple[str, ...] = ("y",),
        opset: int = 20,
    ) -> onnx.ModelProto:
        kind = "double" if dtype == np.float64 else "float"
        sides = ", ".join(map(str, x))
        results = ", ".join(f"{kind}[{name}0, {name}1, {name}2, {name}3] {name}" for name in outputs)
        text = f"""<ir_version: 10, opset_import: ["" : {opset}]>
        agraph ({kind}[{sides}] x) => ({results}) {{ {body} }}"""
        model = onnx.parser.parse_model(text)
        rng = np.random.default_rng(0)
        for name, shape in constants.items():
            numbers = np.asarray(rng.standard_normal(shape), dtype)
            model.graph.initializer.append(onnx.numpy_helper.from_array(numbers, name))
        for index, node in enumerate(model.graph.node):
            node.name = f"block.{index}/{node.op_type}"
        return model

    return make


@pytest.fixture
def after(dtype: np.dtype) -> Callable[..., Counter[str]]:
    """Apply every rule, compare the outputs, and give the op types that are left."""

    def check(model: onnx.ModelProto, *, without: tuple[str, ...] = ()) -> Counter[str]:
        before = ir.from_proto(model)
        changed = ir.from_proto(model)
        rewrite(changed, without=without, also=ON_REQUEST)
        proto = ir.to_proto(changed)
        onnx.checker.check_model(proto, full_check=True)
        shape = [side.dim_value for side in model.graph.input[0].type.tensor_type.shape.dim]
        picture = np.asarray(np.random.default_rng(1).standard_normal(shape), dtype)
        wanted = ReferenceEvaluator(ir.to_proto(before)).run(None, {"x": picture})
        got = ReferenceEvaluator(proto).run(None, {"x": picture})
        for one, other in zip(got, wanted, strict=True):
            assert np.abs(one - other).max() <= GATE[dtype] * np.abs(other).max()
        return Counter(node.op_type for node in changed.graph)

    return check
