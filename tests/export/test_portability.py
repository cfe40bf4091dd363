"""Every row of the table: the prepared file is valid, means the same, and holds only what that runtime reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from edgeir.calibrate.fp16 import plan_fp16
from edgeir.calibrate.typed import apply_plan
from edgeir.errors import GraphError, UsageError
from edgeir.export.engines.builder import build_engine, can_build
from edgeir.export.engines.target import EngineTarget
from edgeir.export.graph import TraceShape, save_graph
from edgeir.export.lint import lint
from edgeir.export.lowering import lowered
from edgeir.export.portability import prepare
from edgeir.export.runtimes import RUNTIMES, Functions, Runtime, runtime_named
from edgeir.export.trace import trace
from edgeir.imaging.metrics import fidelity_db
from edgeir.models.loading import load_named
from edgeir.ops import table
from edgeir.runtime.ort_session import OrtSession
from edgeir.spec import SPEC_KEY

MICRO = {
    "exda-tiny": {"dim": 8, "blocks": [1, 1, 1, 1], "refine": 1, "heads": [1, 2, 1, 2]},
    "cea-tiny": {
        "dim": 8,
        "blocks": [1, 1, 1, 1],
        "refine": 1,
        "heads": [1, 2, 1, 2],
        "rank": 4,
        "adapter_width": 8,
    },
    "kgt-tiny": {"dim": 8, "layers": [1, 1, 1, 1, 1, 1]},
}
SIDE = 64
PICTURE = np.random.default_rng(0).random((1, 3, SIDE, SIDE), dtype=np.float32)
NAMES = [runtime.name for runtime in RUNTIMES]


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Micro networks, FP32 and FP16, by ``NAME-PRECISION``."""
    folder = tmp_path_factory.mktemp("graphs")
    found = {}
    for name, overrides in MICRO.items():
        model = trace(load_named(name, overrides=overrides), TraceShape(1, SIDE, SIDE))
        found[f"{name}-fp32"] = folder / f"{name}-fp32.onnx"
        save_graph(model, found[f"{name}-fp32"])
        apply_plan(model, plan_fp16(model))
        found[f"{name}-fp16"] = folder / f"{name}-fp16.onnx"
        save_graph(model, found[f"{name}-fp16"])
    return found


def run(model: ir.Model) -> np.ndarray:
    return OrtSession(ir.to_proto(model).SerializeToString(), threads=1).run(PICTURE)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("graph", ["exda-tiny-fp32", "exda-tiny-fp16", "cea-tiny-fp32", "cea-tiny-fp16"])
def test_the_prepared_file_means_the_same(name: str, graph: str, graphs: dict[str, Path]) -> None:
    runtime, model = runtime_named(name), ir.load(graphs[graph])
    prepared = prepare(model, runtime)
    onnx.checker.check_model(ir.to_proto(prepared), full_check=True)
    assert prepared.opset_imports[""] <= runtime.opsets[1]
    assert not {node.op_type for node in prepared.graph if node.domain == ""} & runtime.missing
    assert prepared.metadata_props[SPEC_KEY] == model.metadata_props[SPEC_KEY]
    # Gelu by Erf rounds otherwise than ONNX Runtime's own: 1e-7 in FP32, single steps of FP16 in FP16.
    least_db = 120 if graph.endswith("fp32") else 65
    assert fidelity_db(run(prepared), run(model)) >= least_db


@pytest.mark.skipif(not can_build("rtx"), reason="tensorrt_rtx is not installed: no engine can be built here")
@pytest.mark.parametrize("graph", ["exda-tiny-fp16", "cea-tiny-fp16", "kgt-tiny-fp16"])
def test_the_file_for_tensorrt_rtx_builds(graph: str, graphs: dict[str, Path], tmp_path: Path) -> None:
    """The one runtime of the table whose parser and builder are at hand, on the file that is prepared for it."""
    path = tmp_path / "prepared.onnx"
    save_graph(prepare(ir.load(graphs[graph]), runtime_named("tensorrt-rtx-1.7")), path)
    built = build_engine(EngineTarget("rtx", ("sm89",)), path, tmp_path / "engine.plan")
    assert built.bytes == (tmp_path / "engine.plan").stat().st_size > 100_000


@pytest.mark.parametrize("name", NAMES)
def test_a_key_graph_is_prepared_too(name: str, graphs: dict[str, Path]) -> None:
    """FP32 only: in FP16 another rounding chooses other neighbours, and the outputs differ by more than rounding."""
    model = ir.load(graphs["kgt-tiny-fp32"])
    prepared = prepare(model, runtime_named(name))
    onnx.checker.check_model(ir.to_proto(prepared), full_check=True)
    assert fidelity_db(run(prepared), run(model)) >= 100


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("graph", ["exda-tiny-fp16", "kgt-tiny-fp16", "cea-tiny-fp16"])
def test_nothing_is_left_for_lint(name: str, graph: str, graphs: dict[str, Path]) -> None:
    runtime = runtime_named(name)
    for plugins in (False, True) if runtime.has_plugins else (False,):
        prepared = prepare(ir.load(graphs[graph]), runtime, plugins=plugins)
        errors = [entry for entry in lint(ir.to_proto(prepared), runtime, plugins=plugins) if entry.level == "error"]
        assert errors == []


@pytest.mark.parametrize("runtime", [runtime for runtime in RUNTIMES if runtime.has_plugins], ids=lambda r: r.name)
def test_what_becomes_of_the_functions_with_plugins(runtime: Runtime, graphs: dict[str, Path]) -> None:
    prepared = prepare(ir.load(graphs["exda-tiny-fp16"]), runtime, plugins=True)
    fused = [node for node in prepared.graph if node.domain == table.DOMAIN]
    assert fused
    assert all(node.attributes.get_string("plugin_namespace", "") == table.DOMAIN for node in fused)
    stripped = runtime.functions in (Functions.UNKNOWN, Functions.BODY_FIRST)
    assert bool(prepared.functions) is not stripped


def test_what_becomes_of_the_functions_without(graphs: dict[str, Path]) -> None:
    for runtime in RUNTIMES:
        prepared = prepare(ir.load(graphs["exda-tiny-fp16"]), runtime)
        assert bool(prepared.functions) is (runtime.functions is not Functions.UNKNOWN)
        inlined = all(node.domain != table.DOMAIN for node in prepared.graph)
        assert inlined is (runtime.functions is Functions.UNKNOWN)


def test_the_graph_that_was_given_stays_as_it_is(graphs: dict[str, Path]) -> None:
    model = ir.load(graphs["exda-tiny-fp16"])
    before = ir.to_proto(model).SerializeToString(deterministic=True)
    prepare(model, runtime_named("tensorrt-8.5"))
    assert ir.to_proto(model).SerializeToString(deterministic=True) == before


def test_plugins_where_there_are_none_are_refused(graphs: dict[str, Path]) -> None:
    with pytest.raises(UsageError, match="has no plugins"):
        prepare(ir.load(graphs["exda-tiny-fp16"]), runtime_named("tensorrt-rtx-1.7"), plugins=True)


def small(body: str, opset: int = 20) -> ir.Model:
    text = f'<ir_version: 10, opset_import: ["" : {opset}]>\nagraph (float[1, 4, 6] x) => (float[1, 4, 6] y) {{{body}}}'
    return ir.from_proto(onnx.parser.parse_model(text))


@pytest.mark.parametrize(
    "body",
    [
        "y = Gelu(x)",
        "a, b = Split<axis = 2, num_outputs = 2>(x)\n y = Concat<axis = 2>(b, a)",
        "axes = Constant<value_ints = [1, 2]>()\n m = ReduceMean(x, axes)\n y = Sub(x, m)",
        "axes = Constant<value_ints = [-1]>()\n m = ReduceMax<keepdims = 1>(x, axes)\n y = Div(x, m)",
        "m = ReduceProd(x)\n y = Mul(x, m)",
        "h = Cast<to = 10>(x)\n c = CastLike(h, x)\n y = Mul(c, x)",
        "s = Constant<value_floats = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]>()\n"
        " b = Constant<value_floats = [0.5, 0.0, 0.0, 0.0, 0.0, 1.0]>()\n"
        " y = LayerNormalization<axis = -1, epsilon = 0.001>(x, s, b)",
    ],
)
def test_lowering_is_an_identity(body: str) -> None:
    x = np.random.default_rng(1).random((1, 4, 6), dtype=np.float32) + 0.1
    model = small(body)
    low = lowered(model, opset=17, missing=runtime_named("tensorrt-8.5").missing)
    onnx.checker.check_model(ir.to_proto(low), full_check=True)
    assert low.opset_imports[""] == 17

    def output(graph: ir.Model) -> np.ndarray:
        return np.asarray(onnx.reference.ReferenceEvaluator(ir.to_proto(graph)).run(None, {"x": x})[0])

    np.testing.assert_allclose(output(low), output(model), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("y = HardSwish(x)", "cannot be lowered"),
        ('y = Gelu<approximate = "tanh">(x)', "by tanh is not decomposed"),
        ("y = Mish(x)", "Mish cannot be decomposed"),
        (
            's = Constant<value_floats = [1.0, 1.0, 1.0]>()\n y = Resize<mode = "linear", antialias = 1>(x, , s)',
            "Resize of opset 18",
        ),
    ],
)
def test_what_cannot_be_lowered_is_refused(body: str, message: str) -> None:
    with pytest.raises(GraphError, match=message):
        lowered(small(body), opset=17, missing=runtime_named("tensorrt-8.5").missing)


def test_a_runtime_is_found_by_its_jetpack() -> None:
    assert runtime_named("jetpack-6.2") is runtime_named("tensorrt-10.3")
    assert runtime_named("jetpack-7.2").architectures == ("sm87", "sm110")
    with pytest.raises(UsageError, match=r"tensorrt-10\.3"):
        runtime_named("tensorrt-10.4")
