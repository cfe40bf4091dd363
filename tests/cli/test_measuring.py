"""What export and validate measure: parity, the key graph's part in it, and the verdicts."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from edgeir.cli.measuring import parity_sizes
from edgeir.cli.verdicts import drift_checks, parity_checks, require_passed
from edgeir.compare.drift import PictureDrift
from edgeir.compare.parity import Parity
from edgeir.errors import CheckFailed
from edgeir.imaging.look import Look
from edgeir.imaging.measuring import measuring_crop
from edgeir.precision import Precision
from edgeir.report.value import Report
from edgeir.runtime.restore import GraphInput
from edgeir.spec import SizeRule


def test_sizes_of_a_dynamic_graph() -> None:
    graph = GraphInput(1, (128, 128), (256, 256), (512, 512), SizeRule(16, 16))
    assert parity_sizes(graph) == [(128, 128), (192, 384), (512, 320)]
    # Never beyond the area that fits into memory, but never below the smallest width either.
    assert parity_sizes(dataclasses.replace(graph, maximum=(2048, 2048)))[-1] == (2048, 128)
    assert parity_sizes(dataclasses.replace(graph, maximum=(320, 320)))[-1] == (320, 320)
    assert parity_sizes(dataclasses.replace(graph, minimum=(256, 256), maximum=(256, 256))) == [(256, 256)]


def test_crops_larger_than_the_picture_are_mirrored() -> None:
    crop = measuring_crop("chelsea", 400, 336)
    assert crop.shape == (400, 336, 3)
    np.testing.assert_array_equal(crop[300:, :300], crop[298:198:-1, :300])


def row(engine: str = "model.onnx", **changes: Any) -> Parity:
    return dataclasses.replace(Parity(engine, 256, 256, 1e-6, 120.0, 0), **changes)


@pytest.mark.parametrize(
    ("measured", "precision", "failed"),
    [
        (row(), Precision.FP32, []),
        (row(max_abs=2e-4), Precision.FP32, ["largest difference"]),
        (row(fidelity_db=89.9), Precision.FP32, ["fidelity"]),
        (row(fidelity_db=55.1, max_abs=0.1), Precision.FP16, []),
        (row(fidelity_db=54.9, max_abs=0.1), Precision.FP16, ["fidelity"]),
        (row("reference.onnx", fidelity_db=60.0), Precision.FP16, ["fidelity"]),
        (row(fidelity_db=float("-inf"), max_abs=float("inf"), nonfinite=3), Precision.FP16, ["fidelity", "NaN or Inf"]),
        (row(fidelity_db=60.0, key_graph_overlap=0.97), Precision.FP16, ["key graph overlap"]),
        (row(key_graph_overlap=0.9999), Precision.FP32, []),
    ],
)
def test_parity_gates(measured: Parity, precision: Precision, failed: list[str]) -> None:
    names = [check.name.partition(",")[0] for check in parity_checks([measured], precision) if not check.passed]
    assert names == failed


def drift(loss_db: float, fidelity_db: float = 70.0, nonfinite: int = 0) -> PictureDrift:
    look = Look(0, 0, 0, 0)
    return PictureDrift("astronaut", "rain", 20.0, 30.0, 30.0 - loss_db, fidelity_db, 0.0, nonfinite, look, 1.0, False)


def failures(rows: list[PictureDrift], *, trained: bool = True, chooses: bool = False) -> list[str]:
    checks = drift_checks(rows, Precision.FP16, trained=trained, chooses_neighbours=chooses)
    return [check.name for check in checks if not check.passed]


def test_drift_gates() -> None:
    assert failures([drift(0.01), drift(0.02)]) == []
    assert failures([drift(0.03), drift(0.03)]) == ["mean drift"]
    assert failures([drift(0.11), *[drift(0.0)] * 9]) == ["worst drift of one picture"]
    assert failures([drift(0.0, fidelity_db=50.0)]) == ["worst fidelity over all degradations"]
    assert failures([drift(0.0, fidelity_db=50.0)], chooses=True) == []
    assert failures([drift(9.0)], trained=False) == []
    assert failures([drift(0.0, nonfinite=1)], trained=False, chooses=True) == ["NaN or Inf over all degradations"]


def test_a_failed_check_becomes_one_sentence() -> None:
    checks = tuple(parity_checks([row(fidelity_db=42.0)], Precision.FP16))
    with pytest.raises(CheckFailed, match=r"1 of 2 checks failed.*at least 55 dB, got 42 dB.*--fp32") as caught:
        require_passed(Report("title", "summary", checks=checks), where="bundle")
    assert caught.value.exit_code == 1
    require_passed(Report("title", "summary", checks=checks[1:]), where="bundle")
