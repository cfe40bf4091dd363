"""Lint: every limit of the table is found on a graph that breaks it, and not on one that does not."""

from __future__ import annotations

import onnx
import pytest

from edgeir.export.lint import Finding, lint
from edgeir.export.runtimes import RUNTIMES, runtime_named

RTX = runtime_named("tensorrt-rtx-1.7")
FIXED = "float16[1, 4, 8, 8] x"


def graph(
    body: str, *, inputs: str = FIXED, outputs: str = "y", opset: int = 20, functions: str = ""
) -> onnx.ModelProto:
    domain = ', "edgeir" : 1, "other" : 1'
    text = f"""<ir_version: 10, opset_import: ["" : {opset}{domain}]>
    agraph ({inputs}) => ({outputs}) {{ {body} }} {functions}"""
    model = onnx.parser.parse_model(text)
    for index, node in enumerate(model.graph.node):
        node.name = f"latent.3.attn/{node.op_type}_{index}"
    return model


def rules(model: onnx.ModelProto, name: str = "tensorrt-rtx-1.7", *, plugins: bool = False) -> list[str]:
    return [f.rule for f in lint(model, runtime_named(name), plugins=plugins) if f.level == "error"]


BODY = '<domain: "edgeir", opset_import: ["" : 20]> EdgeirThing (a) => (b) { b = Relu(a) }'


@pytest.mark.parametrize(
    ("body", "inputs", "rule"),
    [
        ("y = Mul(x, z)", "float16[1, 4] x, float[1, 4] z", "mixed-types"),
        ("y = Concat<axis = 0>(x, z)", "float16[1, 4] x, float[1, 4] z", "mixed-types"),
        ("k = Constant<value_ints = [3841]>()\n y, i = TopK(x, k)", "float[4, 5000] x", "top-k"),
        ('y = Resize<antialias = 1, mode = "linear">(x, , s)', "float[1, 1, 4, 4] x, float[4] s", "resize"),
        (
            'y = Resize<keep_aspect_ratio_policy = "not_larger">(x, , , s)',
            "float[1, 1, 4, 4] x, int64[4] s",
            "resize",
        ),
        ('y = ScatterElements<reduction = "add">(x, i, u)', "float[4] x, int64[2] i, float[2] u", "scatter"),
        ('y = ScatterND<reduction = "max">(x, i, u)', "float[4] x, int64[2, 1] i, float[2] u", "scatter"),
        ("y = EyeLike(x)", "float[n, n] x", "eye-like"),
        ("y = LayerNormalization(x, s, b)", "float16[2, 4] x, float[4] s, float[4] b", "layer-norm"),
        ("y, m = LayerNormalization(x, s)\n z = Relu(m)", "float[2, 4] x, float[4] s", "layer-norm"),
        ("y = Unique(x)", "float[4] x", "unsupported-op"),
        (
            "s = Constant<value_float = 0.1>()\n z = Constant<value = int8 {3}>()\n q = QuantizeLinear(x, s, z)"
            "\n y = DequantizeLinear(q, s, z)",
            "float[4] x",
            "zero-point",
        ),
        (
            "s = Constant<value_float = 0.1>()\n z = Constant<value = uint8 {0}>()\n q = QuantizeLinear(x, s, z)"
            "\n y = DequantizeLinear(q, s, z)",
            "float[4] x",
            "uint8",
        ),
        (
            "s = Constant<value_float = -0.1>()\n q = QuantizeLinear(x, s)\n y = DequantizeLinear(q, s)",
            "float[4] x",
            "scale",
        ),
    ],
)
def test_each_limit_is_found(body: str, inputs: str, rule: str) -> None:
    found = lint(graph(body, inputs=inputs), RTX)
    errors = [finding for finding in found if finding.level == "error"]
    assert rule in {finding.rule for finding in errors}
    broken = next(finding for finding in errors if finding.rule == rule)
    assert broken.module == "latent.3.attn"
    assert broken.node.startswith("latent.3.attn/")
    assert broken.fix.endswith(".")


@pytest.mark.parametrize(
    ("body", "inputs"),
    [
        ("y = Mul(x, z)", "float16[1, 4] x, float16[1, 4] z"),
        ("k = Constant<value_ints = [3840]>()\n y, i = TopK(x, k)", "float[4, 5000] x"),
        ('y = Resize<mode = "cubic">(x, , s)', "float[1, 1, 4, 4] x, float[4] s"),
        ("y = ScatterElements(x, i, u)", "float[4] x, int64[2] i, float[2] u"),
        ("y = EyeLike(x)", "float[4, 4] x"),
        ("y = LayerNormalization(x, s, b)", "float16[2, 4] x, float16[4] s, float16[4] b"),
        (
            "s = Constant<value_float = 0.1>()\n z = Constant<value = int8 {0}>()\n q = QuantizeLinear(x, s, z)"
            "\n y = DequantizeLinear(q, s, z)",
            "float[4] x",
        ),
    ],
)
def test_what_is_within_the_limits_is_not(body: str, inputs: str) -> None:
    assert rules(graph(body, inputs=inputs)) == []


@pytest.mark.parametrize(
    ("width", "dtype", "attributes", "broken"),
    [
        (32, "float16", "", False),
        (32, "float", "", True),
        (4096, "float16", "", True),
        (32, "float", "<TRT_decomposable = 1>", False),
    ],
)
def test_attention_needs_a_kernel(width: int, dtype: str, attributes: str, broken: bool) -> None:
    one = f"{dtype}[1, 2, 16, {width}]"
    model = graph(f"y = Attention{attributes}(q, k, v)", inputs=f"{one} q, {one} k, {one} v", opset=23)
    assert ("attention" in rules(model)) is broken


def test_limits_of_tensorrt_are_not_held_against_onnx_runtime() -> None:
    model = graph("k = Constant<value_ints = [3841]>()\n y, i = TopK(x, k)", inputs="float[4, 5000] x")
    assert rules(model, "onnxruntime") == []


@pytest.mark.parametrize(
    ("name", "plugins", "expected"),
    [
        ("tensorrt-8.6", False, ["opset", "function"]),
        ("tensorrt-8.6", True, ["opset"]),
        ("tensorrt-10.3", False, []),
        ("tensorrt-10.3", True, ["plugin-ignored"]),
        ("tensorrt-10.7", True, []),
        ("tensorrt-10.16", True, ["plugin-ignored"]),  # this node does not name its plugin
        ("tensorrt-11.4", False, []),
        ("onnxruntime", False, []),
    ],
)
def test_functions_by_version(name: str, plugins: bool, expected: list[str]) -> None:
    assert rules(graph("y = edgeir.EdgeirThing(x)", functions=BODY), name, plugins=plugins) == expected


def test_a_node_that_names_its_plugin_is_found_by_it() -> None:
    model = graph('y = edgeir.EdgeirThing<plugin_namespace = "edgeir">(x)', functions=BODY)
    assert rules(model, "tensorrt-10.16", plugins=True) == []


@pytest.mark.parametrize("runtime", RUNTIMES, ids=lambda runtime: runtime.name)
def test_a_node_without_a_body_is_refused_everywhere(runtime: object) -> None:
    model = graph("y = edgeir.EdgeirThing(x)")
    name = runtime.name  # type: ignore[attr-defined]
    assert {"no-body", "function"} & set(rules(model, name))
    assert {"no-body", "function"} & set(rules(graph("y = other.Thing(x)"), name, plugins=True))


def test_a_body_that_the_parser_would_not_take() -> None:
    shadowed = '<domain: "edgeir", opset_import: ["" : 20]> Sigmoid (a) => (b) { b = Relu(a) }'
    assert "function-name" in rules(graph("y = edgeir.Sigmoid(x)", functions=shadowed))
    twice = BODY + '\n<domain: "other", opset_import: ["" : 20]> EdgeirThing (a) => (b) { b = Sigmoid(a) }'
    assert "function-name" in rules(graph("z = edgeir.EdgeirThing(x)\n y = other.EdgeirThing(z)", functions=twice))


def test_what_stands_in_a_body_is_seen() -> None:
    body = '<domain: "edgeir", opset_import: ["" : 20]> EdgeirThing (a) => (b) { h = Cast<to = 1>(a)\n b = Add(a, h) }'
    assert rules(graph("y = edgeir.EdgeirThing(x)", functions=body)) == ["mixed-types"]


def warnings(model: onnx.ModelProto, name: str) -> list[Finding]:
    return [finding for finding in lint(model, runtime_named(name)) if finding.level == "warning"]


def test_warnings() -> None:
    half = graph("y = Mul(x, w)", inputs=FIXED)
    half.graph.initializer.append(onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT16, [1], [1.0]))
    assert [w.rule for w in warnings(half, "tensorrt-8.6")] == ["weak-typing"]
    assert [w.rule for w in warnings(half, "tensorrt-10.3")] == ["strong-typing"]
    assert warnings(half, "tensorrt-11.1") == []
    tiny = graph("e = Constant<value_float = 1e-12>()\n h = Cast<to = 10>(e)\n y = Max(x, h)")
    assert [w.rule for w in warnings(tiny, "tensorrt-rtx-1.7")] == ["underflow"]
    tiny.graph.node[0].name = ""
    assert "unnamed" in [w.rule for w in warnings(tiny, "tensorrt-rtx-1.7")]


def test_eight_bit_floats_before_they_existed() -> None:
    model = graph(
        "s = Constant<value_float = 0.5>()\n z = Cast<to = 17>(s)\n y = QuantizeLinear(x, s, z)", inputs="float[4] x"
    )
    assert "fp8" in rules(model, "tensorrt-8.6")
    assert "fp8" not in rules(model, "tensorrt-10.3")
