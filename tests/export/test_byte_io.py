"""Bytes at both ends: exactly what rounding outside gives, on every size, batch, opset and precision; and in RTX."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeir.calibrate.fp16 import plan_fp16
from edgeir.calibrate.typed import apply_plan
from edgeir.errors import GraphError, PictureError, UsageError
from edgeir.export.byte_io import front_of, with_bytes
from edgeir.export.engines.builder import build_engine, can_build
from edgeir.export.engines.target import EngineTarget, Profile
from edgeir.export.graph import save_graph
from edgeir.export.lint import lint
from edgeir.export.portability import prepare
from edgeir.export.runtimes import RUNTIMES, runtime_named
from edgeir.imaging.byte_formats import BYTE_FORMATS, IO_KEY, ByteFormat
from edgeir.imaging.colour import to_uint8
from edgeir.imaging.yuv import Yuv, rgb_from_nv12
from edgeir.runtime.byte_session import ByteGraph
from edgeir.runtime.ort_session import OrtSession
from edgeir.spec import SPEC_KEY

Micro = Callable[..., Any]
ADA = EngineTarget("rtx", ("sm89",))
UINT8, BGR, NV12 = ByteFormat("uint8"), ByteFormat("bgr"), ByteFormat("nv12", Yuv())
rtx = pytest.mark.skipif(not can_build("rtx"), reason="tensorrt_rtx is not installed: no engine can be built here")
by_name = pytest.mark.parametrize("form", BYTE_FORMATS, ids=lambda form: form.name)
three = pytest.mark.parametrize("form", [UINT8, BGR, NV12], ids=lambda form: form.name)


def toy(shape: str, body: str, out: str = "", opset: int = 20) -> ir.Model:
    return ir.from_proto(
        onnx.parser.parse_model(
            f'<ir_version: 10, opset_import: ["": {opset}]> '
            f"g (float[{shape}] image) => (float[{out or shape}] restored) {{ {body} }}"
        )
    )


def affine(shape: str, gain: float = 1.0, shift: float = 0.0, opset: int = 20) -> ir.Model:
    """``gain * x + shift``: a network that also leaves [0, 1]."""
    constants = f"k = Constant<value_float = {gain!r}>() b = Constant<value_float = {shift!r}>()"
    return toy(shape, f'{constants} ["m/Mul"] a = Mul(image, k) ["m/Add"] restored = Add(a, b)', opset=opset)


def opened(model: ir.Model, form: ByteFormat) -> ByteGraph:
    proto = ir.to_proto(with_bytes(model, form))
    onnx.checker.check_model(proto, full_check=True)
    return ByteGraph(OrtSession(proto.SerializeToString(), threads=1, arena=False), form)


def floats(model: ir.Model) -> OrtSession:
    return OrtSession(ir.to_proto(model).SerializeToString(), threads=1, arena=False)


def some_bytes(form: ByteFormat, batch: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, form.input_shape(batch, height, width), dtype=np.uint8)


def as_floats(given: np.ndarray, form: ByteFormat) -> np.ndarray:
    """What a host would have made of them: ``(N, 3, H, W) float32``."""
    if form.yuv is not None:
        pixels = np.stack([rgb_from_nv12(frame[..., 0], form.yuv) for frame in given]).astype(np.float32)
    else:
        pixels = (given[..., ::-1] if form.kind == "bgr" else given).astype(np.float32) / np.float32(255)
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))


def as_bytes(restored: np.ndarray, form: ByteFormat) -> np.ndarray:
    pixels = to_uint8(restored).transpose(0, 2, 3, 1)
    return pixels[..., ::-1] if form.kind == "bgr" else pixels


@functools.cache
def _toys(form: ByteFormat, gain: float, shift: float) -> tuple[ByteGraph, OrtSession]:
    model = affine("N, 3, H, W", gain, shift)
    return opened(model, form), floats(model)


AFFINE = st.sampled_from([(1.0, 0.0), (1.7, -0.3), (0.31, 0.002), (-1.0, 1.0)])


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    st.integers(1, 3), st.integers(1, 9), st.integers(1, 9), AFFINE, st.sampled_from([UINT8, BGR]), st.integers(0, 99)
)
def test_bytes_are_what_rounding_outside_gives(
    batch: int, height: int, width: int, network: tuple[float, float], form: ByteFormat, seed: int
) -> None:
    in_bytes, in_floats = _toys(form, *network)
    given = some_bytes(form, batch, height, width, seed)
    expected = as_bytes(in_floats.run(as_floats(given, form)), form)
    np.testing.assert_array_equal(in_bytes.run_bytes(given), expected)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    st.integers(1, 2),
    st.integers(1, 5),
    st.integers(1, 5),
    AFFINE,
    st.sampled_from(BYTE_FORMATS[2:]),
    st.integers(0, 99),
)
def test_nv12_is_the_formula_to_a_step(
    batch: int, rows: int, columns: int, network: tuple[float, float], form: ByteFormat, seed: int
) -> None:
    """The twin converts in float64; FP32 carries a value over the middle between two bytes at most."""
    in_bytes, in_floats = _toys(form, *network)
    given = some_bytes(form, batch, 2 * rows, 2 * columns, seed)
    expected = as_bytes(in_floats.run(as_floats(given, form)), form).astype(np.int16)
    found = in_bytes.run_bytes(given)
    assert found.shape == (batch, 2 * rows, 2 * columns, 3)
    assert int(np.abs(found - expected).max()) <= 1


@by_name
def test_the_front_alone(form: ByteFormat) -> None:
    """What reaches the network, beside the formula in float64: a few roundings of numbers below 2.2."""
    front = front_of(with_bytes(affine("2, 3, 8, 6", 1.7), form))
    assert [value.name for value in front.graph.outputs] == ["image.pixels"]
    assert all((node.name or "").startswith("bytes_in/") for node in front.graph)
    given = some_bytes(form, 2, 8, 6)
    (pixels,) = floats(front).run_values({"image": given}).values()
    if form.yuv is not None:
        expected = np.stack([rgb_from_nv12(frame[..., 0], form.yuv) for frame in given])
    else:
        expected = (given[..., ::-1] if form.kind == "bgr" else given) / 255
    assert np.abs(pixels.transpose(0, 2, 3, 1) - expected).max() < 1e-6


def test_every_byte_comes_through_the_identity() -> None:
    ramp = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=3)
    model = toy("1, 3, 16, 16", '["m/Identity"] restored = Identity(image)')
    for form in (UINT8, BGR):
        np.testing.assert_array_equal(opened(model, form).run_bytes(ramp), ramp)


def test_rounding_is_half_to_even() -> None:
    """Ties: 255 times 0.5/255, 1.5/255, ... as exactly as FP32 has them."""
    ties = np.float32(np.arange(0.5, 255, 1.0)) / np.float32(255)
    exact = ties[ties * np.float32(255) == np.arange(0.5, 255, 1.0, dtype=np.float32)]
    assert exact.size > 50
    numbers = ", ".join(repr(float(number)) for number in exact)
    body = f'k = Constant<value = float[1, 1, 1, {exact.size}] {{{numbers}}}>() ["m/Mul"] restored = Mul(image, k)'
    session = opened(toy(f"1, 3, 1, {exact.size}", body), UINT8)
    white = np.full((1, 1, exact.size, 3), 255, np.uint8)
    found = session.run_bytes(white)[0, 0, :, 0]
    np.testing.assert_array_equal(found, np.rint(exact * np.float32(255)).astype(np.uint8))
    assert (found % 2 == 0).all()


@three
@pytest.mark.parametrize("half", [False, True])
def test_a_network_bit_for_bit(micro: Micro, form: ByteFormat, half: bool) -> None:
    model = micro("exda", dynamic=True).graph()
    if half:
        apply_plan(model, plan_fp16(model))
    in_bytes, in_floats = opened(model, form), floats(model)
    for seed, size in enumerate([(32, 48), (96, 32), (64, 64)]):
        given = some_bytes(form, 1, *size, seed=seed)
        expected = as_bytes(in_floats.run(as_floats(given, form)), form).astype(np.int16)
        steps = np.abs(in_bytes.run_bytes(given) - expected)
        assert int(steps.max()) <= (0 if form.yuv is None else 1)
        assert expected.std() > 1, "the network gave one flat colour: nothing was compared"


@by_name
@pytest.mark.parametrize("half", [False, True])
def test_the_conversion_is_fp32_and_the_casts_stand_outermost(micro: Micro, form: ByteFormat, half: bool) -> None:
    """Half precision would round 1/255 steps above 0.5 by up to 1/16 of one; TensorRT casts bytes at the ends only."""
    model = micro("exda", dynamic=True).graph()
    if half:
        apply_plan(model, plan_fp16(model))
    wrapped = with_bytes(model, form)
    for node in wrapped.graph:
        ours = (node.name or "").startswith(("bytes_in/", "bytes_out/"))
        types = {value.dtype for value in (*node.inputs, *node.outputs) if value is not None}
        if ir.DataType.UINT8 in types:
            assert ours
            assert node.op_type == "Cast"
            assert types == {ir.DataType.UINT8, ir.DataType.FLOAT}
        elif ours:
            assert types <= {ir.DataType.FLOAT, ir.DataType.INT64}
    assert wrapped.graph.inputs[0].uses()[0].node.op_type == "Cast"
    assert len(wrapped.graph.inputs[0].uses()) == 1
    names = [node.name for node in wrapped.graph]
    assert len(set(names)) == len(names)


@by_name
def test_the_graph_says_what_it_takes_and_the_original_stays(micro: Micro, form: ByteFormat) -> None:
    model = micro("exda", dynamic=True).graph()
    before = ir.to_proto(model).SerializeToString()
    wrapped = with_bytes(model, form)
    assert ir.to_proto(model).SerializeToString() == before
    assert wrapped.metadata_props[IO_KEY] == form.name
    assert wrapped.metadata_props[SPEC_KEY] == model.metadata_props[SPEC_KEY]
    rows, last = ("3*H/2", 1) if form.yuv else ("H", 3)
    (picture,) = wrapped.graph.inputs
    assert (picture.name, picture.dtype, str(picture.shape)) == ("image", ir.DataType.UINT8, f"[1,{rows},W,{last}]")
    ends = [(value.name, value.dtype, str(value.shape)) for value in wrapped.graph.outputs]
    assert ends == [
        ("restored", ir.DataType.UINT8, "[1,H,W,3]"),
        ("restored_mean", ir.DataType.FLOAT, "[1]"),
    ]


def test_a_scale() -> None:
    body = '["m/DepthToSpace"] restored = DepthToSpace<blocksize = 2>(f)'
    widened = '["m/Concat"] f = Concat<axis = 1>(image, image, image, image)'
    model = toy("2, 3, H, W", f"{widened} {body}", out="2, 3, P, Q")
    for form in (UINT8, NV12):
        given = some_bytes(form, 2, 4, 6)
        found = opened(model, form).run_bytes(given)
        assert found.shape == (2, 8, 12, 3)
        steps = np.abs(found - as_bytes(floats(model).run(as_floats(given, form)), form).astype(np.int16))
        assert int(steps.max()) <= (form.yuv is not None)


@pytest.mark.parametrize("body", ["restored = Div(image, image)", "z = Sub(image, image) restored = Div(image, z)"])
def test_what_is_no_number_is_said(body: str) -> None:
    """0/0 and 1/0: bytes would say nothing of it."""
    session = opened(toy("2, 3, 4, 4", body), UINT8)
    picture = np.full((2, 4, 4, 3), 200, np.uint8)
    picture[1, 2, 2] = 0
    with pytest.raises(PictureError, match=r"not finite numbers.*higher precision"):
        session.run_bytes(picture)


def test_wrong_bytes_are_refused() -> None:
    session = opened(affine("1, 3, 4, 4"), UINT8)
    with pytest.raises(UsageError, match=r"takes bytes .expected uint8, got float32"):
        session.run_bytes(np.zeros((1, 4, 4, 3), np.float32))  # type: ignore[arg-type]


@pytest.mark.parametrize("runtime", RUNTIMES, ids=lambda runtime: runtime.name)
@three
def test_every_runtime_reads_it(runtime: Any, form: ByteFormat, tmp_path: Path) -> None:
    """Prepared for one runtime and then wrapped: its opset, nothing that lint knows against it, the same bytes."""
    prepared = prepare(affine("1, 3, 32, 48", 1.7, -0.3), runtime)
    wrapped = with_bytes(prepared, form)
    save_graph(wrapped, tmp_path / "model.onnx")
    errors = [finding for finding in lint(onnx.load(tmp_path / "model.onnx"), runtime) if finding.level == "error"]
    assert errors == []
    given = some_bytes(form, 1, 32, 48)
    expected = as_bytes(floats(prepared).run(as_floats(given, form)), form).astype(np.int16)
    session = ByteGraph(OrtSession(tmp_path / "model.onnx", threads=1, arena=False), form)
    assert int(np.abs(session.run_bytes(given) - expected).max()) <= (form.yuv is not None)


def build(model: ir.Model, form: ByteFormat, folder: Path, *, dynamic: bool) -> int:
    """Bytes of the engine that TensorRT-RTX builds."""
    save_graph(with_bytes(model, form), folder / "model.onnx")
    sizes = ((32, 32), (32, 48), (96, 96))
    profile = Profile("image", *(form.input_shape(1, *size) for size in sizes)) if dynamic else None
    result = build_engine(ADA, folder / "model.onnx", folder / "engine.plan", profile=profile)
    assert (folder / "engine.plan").stat().st_size == result.bytes
    return result.bytes


@rtx
@by_name
@pytest.mark.parametrize("dynamic", [False, True])
def test_nvidias_compiler_takes_every_format(form: ByteFormat, dynamic: bool, tmp_path: Path) -> None:
    assert build(affine("1, 3, H, W" if dynamic else "1, 3, 32, 48"), form, tmp_path, dynamic=dynamic) > 10_000


@rtx
def test_an_rtx_engine_of_a_network_in_fp16(micro: Micro, tmp_path: Path) -> None:
    """The format with most operators, dynamic, around casts of the network's own."""
    model = micro("exda", dynamic=True).graph()
    apply_plan(model, plan_fp16(model))
    assert build(model, NV12, tmp_path, dynamic=True) > 100_000


BYTES = (
    '<ir_version: 10, opset_import: ["": 20]> g (uint8[1, 8, 8, 3] image) => ({out}[1, {shape}] restored) {{ {body} }}'
)


@pytest.mark.parametrize(
    ("body", "refused"),
    [
        ("t = Transpose<perm = [0, 3, 1, 2]>(image) restored = Cast<to = 1>(t)", "knows no Transpose of UINT8"),
        ("a = Cast<to = 1>(image) b = Cast<to = 2>(a) restored = Cast<to = 1>(b)", "not between nodes"),
    ],
)
def test_bytes_elsewhere_are_found_by_lint_and_refused_by_the_parser(body: str, refused: str, tmp_path: Path) -> None:
    shape = "3, 8, 8" if "perm" in body else "8, 8, 3"
    model = onnx.parser.parse_model(BYTES.format(out="float", shape=shape, body=body))
    (finding,) = [one for one in lint(model, runtime_named("tensorrt-8.5")) if one.rule == "uint8"]
    assert (finding.level, refused in finding.message) == ("error", True)
    assert [one for one in lint(model, runtime_named("onnxruntime")) if one.rule == "uint8"] == []
    if can_build("rtx"):
        from edgeir.errors import BuildFailed

        (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
        with pytest.raises(BuildFailed, match="the parser refuses the graph"):
            build_engine(ADA, tmp_path / "model.onnx", tmp_path / "engine.plan")


def test_a_cast_of_bytes_to_integers_is_warned_of() -> None:
    body = "a = Cast<to = 6>(image) restored = Cast<to = 1>(a)"
    model = onnx.parser.parse_model(BYTES.format(out="float", shape="8, 8, 3", body=body))
    (finding,) = [one for one in lint(model, runtime_named("tensorrt-10.3")) if one.rule == "uint8"]
    assert finding.level == "warning"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("g (float[1, 3, 4, 4] picture) => (float[1, 3, 4, 4] restored) { restored = Identity(picture) }", "one image"),
        (
            "g (float16[1, 3, 4, 4] image) => (float16[1, 3, 4, 4] restored) { restored = Identity(image) }",
            "type FLOAT",
        ),
        (
            "g (float[1, 1, 4, 4] image) => (float[1, 1, 4, 4] restored) { restored = Identity(image) }",
            "three channels",
        ),
        ("g (float[3, 4, 4] image) => (float[3, 4, 4] restored) { restored = Identity(image) }", "shape"),
        (
            "g (float[1, 3, 4, 4] image, float[1] k) => (float[1, 3, 4, 4] restored) { restored = Mul(image, k) }",
            "image FLOAT.*k FLOAT",
        ),
    ],
)
def test_graphs_that_are_refused(text: str, says: str) -> None:
    model = ir.from_proto(onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 20]> {text}'))
    with pytest.raises(GraphError, match=says):
        with_bytes(model, UINT8)


def test_bytes_around_bytes_are_refused() -> None:
    with pytest.raises(GraphError, match="float pictures only"):
        with_bytes(with_bytes(affine("1, 3, 4, 4"), UINT8), UINT8)


def test_nv12_of_odd_sides_is_refused() -> None:
    with pytest.raises(UsageError, match=r"NV12 needs even sides \(got 4x5\)"):
        with_bytes(affine("1, 3, 4, 5"), NV12)
