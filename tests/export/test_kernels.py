"""Which kernels an exported graph asks for, and that the builder gets them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx_ir as ir
import pytest

from edgeir.calibrate.fp16 import plan_fp16
from edgeir.calibrate.typed import apply_plan
from edgeir.export.engines import worker
from edgeir.export.engines.target import BuildRequest, EngineTarget
from edgeir.export.kernels import kernels_wanted
from edgeir.ops.tensorrt import quick
from edgeir.ops.tensorrt.ahead import AheadKernel, Baked, to_json

Micro = Callable[..., Any]


def test_each_kernel_once_with_what_is_compiled_in(micro: Micro) -> None:
    model = ir.load(micro("kgt").path)
    nodes = [node for node in model.graph if node.op_type.startswith("EdgeirKeyGraph")]
    found = kernels_wanted(model)
    assert 0 < len(found) < len(nodes)
    assert {of.dtype for of in found} == {"float32"}
    graphs = [dict(of.sizes) for of in found if of.op == "EdgeirKeyGraph"]
    shapes = {tuple(node.inputs[0].shape) for node in nodes if node.op_type == "EdgeirKeyGraph"}
    assert {(sizes["N"], sizes["C"]) for sizes in graphs} == {(n, c) for _, n, c in shapes}
    apply_plan(model, plan_fp16(model), None)
    typed = {(of.op, of.dtype) for of in kernels_wanted(model)}
    # The tokens of a key graph stay FP32 in the FP16 plan: ties decide which neighbours are kept.
    assert typed == {("EdgeirKeyGraph", "float32"), ("EdgeirKeyGraphAttention", "float16")}


@pytest.mark.parametrize("architecture", ["exda", "cea"])
def test_networks_without_key_graph_ask_for_none(architecture: str, micro: Micro) -> None:
    assert kernels_wanted(ir.load(micro(architecture).path)) == ()


def test_windows_need_not_be_fixed_and_all_else_must_be(micro: Micro) -> None:
    fixed, dynamic = (ir.load(micro("kgt", dynamic=one).path) for one in (False, True))
    assert not any(dynamic.graph.inputs[0].shape.is_static(axis) for axis in (2, 3))
    assert set(kernels_wanted(dynamic)) == set(kernels_wanted(fixed))
    for shape in (None, ir.Shape([4, "n", 8]), ir.Shape([4, 16, 8])):
        tokens = ir.Value(name="tokens", type=ir.TensorType(ir.DataType.FLOAT), shape=shape)
        node = ir.Node("edgeir", "EdgeirKeyGraph", [tokens], [ir.AttrInt64("k", 3)])
        model = ir.Model(
            ir.Graph([tokens], node.outputs, nodes=[node], opset_imports={"": 20, "edgeir": 1}), ir_version=10
        )
        known = shape is not None and shape.is_static()
        assert [of.name for of in kernels_wanted(model)] == ["edgeir_keygraph_n16_c8_k3_float32"] * known


@pytest.mark.parametrize(
    ("runtime", "supported", "taken"), [("tensorrt", True, True), ("tensorrt", False, False), ("rtx", True, False)]
)
def test_the_builder_takes_them_where_it_can(
    runtime: str, supported: bool, taken: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = AheadKernel(Baked("EdgeirKeyGraph", "float16", (("N", 4), ("C", 4), ("K", 1))), 1, 1, 32, 0, "PTX")
    file = tmp_path / "kernels.json"
    file.write_text(to_json([kernel]), encoding="utf-8")
    seen: list[AheadKernel] = []

    def register(kernels: tuple[AheadKernel, ...]) -> tuple[str, ...]:
        seen.extend(kernels)
        return ("edgeir::EdgeirKeyGraph",)

    monkeypatch.setattr(quick, "is_supported", lambda: supported)
    monkeypatch.setattr(quick, "register", register)
    request = BuildRequest(EngineTarget(runtime, ("native",)), "model.onnx", "engine", None, str(file))
    request = BuildRequest.from_dict(request.to_dict())
    assert worker._register_kernels(request) == (("edgeir::EdgeirKeyGraph",) if taken else ())
    assert seen == ([kernel] if taken else [])
