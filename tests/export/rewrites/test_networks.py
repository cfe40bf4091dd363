"""The rules on whole networks: they fire, the network stays the same, and FP16 survives them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from edgeir.calibrate.fp16 import plan_fp16
from edgeir.calibrate.rounded import rounded
from edgeir.calibrate.typed import apply_plan
from edgeir.errors import UsageError
from edgeir.export.graph import TraceShape, save_graph
from edgeir.export.rewrites.apply import RULE_KEY, rewrite
from edgeir.export.rewrites.catalogue import ON_REQUEST, RULES, require_rules
from edgeir.export.trace import trace
from edgeir.imaging.metrics import fidelity_db
from edgeir.models.build import LoadedModel
from edgeir.runtime.ort_session import OrtSession

SIDE = 32


@pytest.fixture(scope="module", params=["exda-tiny", "cea-tiny", "restormer-biasfree"])
def traced(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, micro: Callable[[str], LoadedModel]
) -> Path:
    """A micro network whose norms scale and shift by something, so that a wrong fold shows."""
    loaded = micro(request.param)
    rng = np.random.default_rng(0)
    for name, parameter in loaded.module.named_parameters():
        if ".norm" in name:
            scale = name.endswith("weight")
            drawn = rng.uniform(0.5, 1.5, parameter.shape) if scale else rng.normal(0, 0.2, parameter.shape)
            parameter.data = parameter.new_tensor(drawn)
    path = tmp_path_factory.mktemp("traced") / f"{request.param}.onnx"
    save_graph(trace(loaded, TraceShape(1, SIDE, SIDE)), path)
    return path


def run(model: ir.Model) -> np.ndarray:
    picture = np.random.default_rng(1).random((1, 3, SIDE, SIDE), dtype=np.float32)
    return OrtSession(rounded(ir.to_proto(model).SerializeToString()), threads=1).run(picture)


def test_the_network_stays_the_same(traced: Path, tmp_path: Path) -> None:
    before, after = ir.load(traced), ir.load(traced)
    steps = rewrite(after, also=ON_REQUEST)
    assert [step.rule for step in steps] == ["", *RULES]
    fired = {step.rule: step.applied for step in steps}
    assert fired["affine-into-conv"] > 0
    assert fired["split-convs"] > 0
    assert fired["channel-mean-as-product"] > 0
    assert (fired["gst-projected"] > 0) is traced.name.startswith("exda")
    assert (fired["pool-before-affine"] > 0) is traced.name.startswith("exda")
    assert (fired["pad-gated-width"] > 0) is not traced.name.startswith("exda")  # widths 21 and 16
    save_graph(after, tmp_path / "after.onnx")
    assert fidelity_db(run(after), run(before)) >= 115  # roundings of float32
    first, last = steps[0].cost, steps[-1].cost
    before_padding = next(step for step in steps if step.rule == "affine-into-conv").cost
    assert first.gmac == pytest.approx(before_padding.gmac)
    assert first.moved_mb is not None
    assert last.moved_mb is not None
    assert last.moved_mb < first.moved_mb
    names = [node.name for node in after.graph]
    assert len(set(names)) == len(names)
    assert any(RULE_KEY in node.metadata_props for node in after.graph)


def test_fp16_survives(traced: Path) -> None:
    reference, typed = ir.load(traced), ir.load(traced)
    rewrite(typed)
    apply_plan(typed, plan_fp16(typed))
    assert fidelity_db(run(typed), run(reference)) >= 55


def test_rules_on_request_wait_for_it(traced: Path) -> None:
    steps = rewrite(ir.load(traced))
    assert [step.rule for step in steps] == ["", *(name for name in RULES if name not in ON_REQUEST)]


def test_every_rule_can_be_left_out(traced: Path) -> None:
    model = ir.load(traced)
    before = len(model.graph)
    steps = rewrite(model, without=tuple(RULES))
    assert (len(steps), len(model.graph)) == (1, before)
    with pytest.raises(UsageError, match="affine-into-conv"):
        require_rules(["affine-into-con"])
