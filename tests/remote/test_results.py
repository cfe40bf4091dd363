"""What a device measured, as a file of the bundle here: named after the kind of device, checked before it counts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeir.bundle import Bundle
from edgeir.bundle_change import commit_change
from edgeir.bundle_writer import BundleWriter
from edgeir.errors import UsageError
from edgeir.manifest import Board
from edgeir.provenance import collect
from edgeir.remote.addresses import Device
from edgeir.remote.results import bench_key, board_from, last_bench
from edgeir.report.formats import emit
from edgeir.report.value import Report

MACHINE = {
    "l4t": "36.4.3", "jetpack": "6.2", "power_mode": "MAXN_SUPER", "clocks_pinned": True, "driver": "540.4.0",
    "cpus": 8, "temperatures_c": {"cpu-thermal": 45.0},
}  # fmt: skip


def report(processor: str = "NVIDIA Jetson Orin NX", machine: Any = None) -> str:
    """A report as bench of such a board writes it."""
    provenance = collect(seconds=12, argv=["edgeir", "bench"]).to_dict()
    provenance["device"]["processor"] = processor
    provenance["machine"] = MACHINE if machine is None else machine
    return emit(Report(title="edgeir bench", summary="fast", provenance=provenance), "json")


class Orin:
    """A device that gives ``text`` as its last result."""

    device = Device("orin", "ubuntu@orin")

    def __init__(self, text: str | None) -> None:
        self.text = text
        self.prefix = ""

    def ask(self, question: str, *, prefix: str) -> dict[str, Any]:
        assert question == "results"
        self.prefix = prefix
        return {"output": self.text}


def pulled(path: Path, text: str | None) -> Bundle:
    bundle = Bundle.open(path)
    orin = Orin(text)
    with BundleWriter(path, force=True) as writer:
        change = last_bench(orin, bundle, writer)  # type: ignore[arg-type]
        if change.files:
            commit_change(writer, bundle, change)
    assert orin.prefix == bench_key(bundle)
    return Bundle.open(path)


def test_a_result_and_where_it_comes_from(bundle: Path) -> None:
    manifest = pulled(bundle, report()).manifest
    (record,) = manifest.devices
    assert record.files == ("results/bench-nvidia-jetson-orin-nx-jetpack-6.2-maxn-super.json",)
    assert record.board == Board("36.4.3", "6.2", "MAXN_SUPER", clocks_pinned=True, driver="540.4.0")
    assert record.provenance.device.processor == "NVIDIA Jetson Orin NX"
    assert manifest.artifacts[-1].role == "bench"
    assert manifest.artifacts[-1].parents == ("model.onnx",)
    assert json.loads((bundle / record.files[0]).read_text())["summary"] == "fast"
    assert len(pulled(bundle, report()).manifest.devices) == 1
    assert len(pulled(bundle, report("NVIDIA Jetson AGX Thor", {})).manifest.devices) == 2


def test_nothing_was_measured(bundle: Path) -> None:
    assert pulled(bundle, None).manifest.devices == ()


@pytest.mark.parametrize("processor", ["../../etc/passwd", "..", "/", "a\nb:c\\d", "x" * 500])
def test_a_device_chooses_no_path(bundle: Path, processor: str) -> None:
    (record,) = pulled(bundle, report(processor, {})).manifest.devices
    assert record.files[0].startswith("results/bench-")
    assert Path(record.files[0]).parent == Path("results")
    assert len(record.files[0]) < 120


@pytest.mark.parametrize("text", ["", "no JSON", "[]", '{"schema_version": 1}'])
def test_what_is_no_report(bundle: Path, text: str) -> None:
    before = Bundle.open(bundle).manifest
    with pytest.raises(UsageError):
        pulled(bundle, text)
    assert Bundle.open(bundle).manifest == before


def test_results_of_another_graph_are_not_asked_for(make_bundle: Callable[..., Path], tmp_path: Path) -> None:
    first = Bundle.open(make_bundle(tmp_path / "a.edgeir"))
    second = Bundle.open(make_bundle(tmp_path / "a.edgeir", gain=0.25))
    assert bench_key(first) != bench_key(second)


def test_settings_that_are_not_told() -> None:
    assert board_from({}) == Board()
    assert board_from({"clocks_pinned": "yes", "driver": 5}) == Board(driver="5")
