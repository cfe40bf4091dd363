"""What a device measured, as a file of the bundle here: named after the kind of device, checked before it counts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeir.bundle import Bundle
from edgeir.bundle_change import Addition, Change, commit_change
from edgeir.bundle_writer import BundleWriter
from edgeir.errors import BundleError, UsageError
from edgeir.manifest import Board, DeviceRecord, EngineNote, Manifest
from edgeir.provenance import collect
from edgeir.remote.addresses import Device
from edgeir.remote.results import bench_key, board_from, graph_digest, last_bench, work_digest
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

    def __init__(self, text: str | None, *options: str, identity: str = "0123456789abcdef") -> None:
        self.text = text
        self.options = options
        self.identity = identity
        self.prefix = ""

    def ask(self, question: str, *, prefix: str) -> dict[str, Any]:
        assert question == "results"
        self.prefix = prefix
        key = hashlib.sha256(" ".join(self.options).encode()).hexdigest()[:8]
        command = ["edgeir", "bench", "b.edgeir", "--json", *self.options]
        return {"output": self.text, "key": prefix + key, "id": self.identity, "command": command}


def pulled(path: Path, orin: Orin | str | None, there: Manifest | None = None) -> Bundle:
    bundle = Bundle.open(path)
    device = orin if isinstance(orin, Orin) else Orin(orin)
    board = bundle.manifest if there is None else there
    with BundleWriter(path, force=True) as writer:
        change = last_bench(device, bundle, writer, board, Change(()))  # type: ignore[arg-type]
        if change.files:
            commit_change(writer, bundle, change)
    assert device.prefix == bench_key(bundle, board)
    return Bundle.open(path)


def test_a_result_and_where_it_comes_from(bundle: Path) -> None:
    manifest = pulled(bundle, report()).manifest
    (record,) = manifest.devices
    assert record.files == ("results/bench-nvidia-jetson-orin-nx-jetpack-6.2-maxn-super-012345-e3b0c442.json",)
    assert record.board == Board("36.4.3", "6.2", "MAXN_SUPER", clocks_pinned=True, driver="540.4.0")
    assert record.provenance.device.processor == "NVIDIA Jetson Orin NX"
    assert manifest.artifacts[-1].role == "bench"
    assert manifest.artifacts[-1].parents == ("model.onnx",)
    assert json.loads((bundle / record.files[0]).read_text())["summary"] == "fast"
    assert len(pulled(bundle, report()).manifest.devices) == 1
    assert len(pulled(bundle, report("NVIDIA Jetson AGX Thor", {})).manifest.devices) == 2


def test_results_that_stand_beside_each_other(bundle: Path) -> None:
    """Of another board of the same kind, with other options, and of a machine with another GPU."""
    pulled(bundle, report())
    pulled(bundle, Orin(report(), identity="fedcba9876543210"))
    pulled(bundle, Orin(report(), "--threads", "1"))
    for gpu in ("NVIDIA GeForce RTX 4090", "NVIDIA GeForce RTX 3060"):
        pulled(bundle, report("AMD Ryzen 9", {"gpus": [{"name": gpu}]}))
    files = [record.files[0] for record in Bundle.open(bundle).manifest.devices]
    assert len(set(files)) == 5
    assert "rtx-4090" in files[3]
    pulled(bundle, Orin(report().replace("fast", "slow"), "--threads", "1"))  # measured once more
    assert len(Bundle.open(bundle).manifest.devices) == 5


def test_a_result_goes_with_the_engine_it_is_of(bundle: Path) -> None:
    plans = {name: f"engines/{name}.plan" for name in ("rtx", "tensorrt")}
    build(bundle, plans["rtx"], b"rtx", runtime="rtx")
    build(bundle, plans["tensorrt"], b"tensorrt", runtime="tensorrt")
    manifest = pulled(bundle, Orin(report(), "--backend", "rtx", "--backend=tensorrt")).manifest
    assert manifest.artifacts[-1].parents == ("model.onnx", plans["tensorrt"])
    assert pulled(bundle, Orin(report())).manifest.artifacts[-1].parents == ("model.onnx",)  # ONNX Runtime, no engine
    build(bundle, plans["tensorrt"], b"another", runtime="tensorrt")
    left = [one.path for one in Bundle.open(bundle).manifest.artifacts if one.role == "bench"]
    assert left == [manifest.artifacts[-1].path[:-13] + "e3b0c442.json"]


def test_what_a_latency_depends_on(bundle: Path, make_bundle: Callable[..., Path], tmp_path: Path) -> None:
    plain = Bundle.open(bundle)
    digests = {work_digest(plain.manifest)}
    same = graph_digest(plain.manifest)
    build(bundle, "engines/a.plan", b"a")
    assert graph_digest(Bundle.open(bundle).manifest) == same
    digests.add(work_digest(Bundle.open(bundle).manifest))
    build(bundle, "engines/a.plan", b"b")
    digests.add(work_digest(Bundle.open(bundle).manifest))
    build(bundle, "engines/a.timing", b"b", role="timing-cache")
    digests.add(work_digest(Bundle.open(bundle).manifest))  # no other latency
    assert len(digests) == 3
    build(bundle, "model.onnxruntime.onnx", b"prepared", role="prepared")
    assert graph_digest(Bundle.open(bundle).manifest) != same
    with_report = Bundle.open(make_bundle(tmp_path / "gain.edgeir", megabytes=0.01))
    assert graph_digest(with_report.manifest) == same


def build(path: Path, file: str, data: bytes, *, runtime: str = "rtx", role: str = "engine") -> None:
    """What a build does at its end."""
    bundle = Bundle.open(path)
    notes = (EngineNote(runtime, "1", "any", file, "x"),) if role == "engine" else ()
    record = DeviceRecord((file,), Board(), collect(seconds=1, argv=["edgeir", "build"]))
    with BundleWriter(path, force=True) as writer:
        writer.path(file).write_bytes(data)
        commit_change(writer, bundle, Change((Addition(file, role, ("model.onnx",)),), notes, (record,)))


@pytest.mark.parametrize("word", ["", "../../x", "0123", "0123456789abcdeg"])
def test_words_of_a_device_that_are_none(bundle: Path, word: str) -> None:
    with pytest.raises(BundleError, match="does not say where it comes from"):
        pulled(bundle, Orin(report(), identity=word))


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
    assert bench_key(first, first.manifest) != bench_key(second, second.manifest)


def test_settings_that_are_not_told() -> None:
    assert board_from({}) == Board()
    assert board_from({"clocks_pinned": "yes", "driver": 5}) == Board(driver="5")
