"""``edgeir export --io``: the second graph, the engines, and that the report and ``inspect`` show what goes in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgeir.bundle import Bundle
from edgeir.cli.byte_checks import ByteAgreement, byte_checks, byte_tables
from edgeir.cli.engine_builds import profile_of
from edgeir.export.engines.builder import can_build
from edgeir.export.graph import DynamicSize, TraceShape
from edgeir.imaging.byte_formats import ByteFormat
from edgeir.imaging.yuv import Yuv
from edgeir.spec import ModelSpec, SizeRule

SPEC = ModelSpec("m", "exda", {}, SizeRule(8, 8))
NV12 = ByteFormat("nv12", Yuv())


def export(cli: Any, weights_file: Path, out: Path, *options: str, target: str = "ort") -> Any:
    where = ("--checkpoint", weights_file, "--size", "64x64", "--target", target, "--no-tiles", "--out", out)
    return cli("export", *where, *options)


def test_a_graph_of_bytes_beside_the_graph_of_floats(
    cli: Any, weights_file: Path, quick_trace: None, tmp_path: Path, made_static: Path
) -> None:
    out = tmp_path / "a.edgeir"
    options = ("--io", "uint8", "--for", "jetpack-6.0")
    outcome = export(cli, weights_file, out, *options, target="rtx" if can_build("rtx") else "ort").done()
    assert "model.uint8.onnx, model.tensorrt-8.6.uint8.onnx: pictures as bytes, HWC uint8, RGB" in outcome.err
    bundle = Bundle.open(out)
    listed = {item.path: item for item in bundle.manifest.artifacts}
    assert (listed["model.uint8.onnx"].role, listed["model.uint8.onnx"].parents) == ("bytes", ("model.onnx",))
    assert listed["model.tensorrt-8.6.uint8.onnx"].parents == ("model.tensorrt-8.6.onnx",)
    assert (out / "model.onnx").read_bytes() == (made_static / "model.onnx").read_bytes()
    assert bundle.manifest.input.dtype == "float32"  # model.onnx stays what it was

    for note in bundle.manifest.engines:  # one of TensorRT-RTX, where that is installed
        assert note.path is not None
        assert note.path.endswith("-sm86-sm89-sm120-uint8.plan")
        assert "Takes and gives bytes, HWC uint8, RGB." in note.note
        assert listed[note.path].parents == ("model.uint8.onnx",)

    report = json.loads((out / "report.json").read_text())
    (table,) = [table for table in report["tables"] if table["title"] == "Bytes in, bytes out"]
    assert [row[:2] + row[3:4] for row in table["rows"]] == [
        ["model.uint8.onnx", "64x64", 0],
        ["model.tensorrt-8.6.uint8.onnx", "64x64", 0],
    ]
    facts = {fact["label"]: fact["value"] for fact in report["facts"]}
    assert facts["bytes"] == "model.uint8.onnx, HWC uint8, RGB"
    (check,) = [check for check in report["checks"] if check["name"].startswith("bytes beside floats")]
    assert (check["value"], check["limit"]) == (0, 1)

    shown = cli("inspect", out).done().out
    assert "model.uint8.onnx, HWC uint8, RGB" in shown
    graph = cli("inspect", out / "model.uint8.onnx").done().out
    assert "image 1x64x64x3 uint8" in graph
    assert "restored 1x64x64x3 uint8, restored_mean 1 float" in graph
    value = json.loads(cli("inspect", out / "model.uint8.onnx", "--json").done().out)
    assert value["dtypes"] == {"image": "uint8", "restored": "uint8", "restored_mean": "float"}
    assert value["io"] == "uint8"
    assert json.loads(cli("inspect", out / "model.onnx", "--json").done().out)["io"] is None
    cli("lint", out / "model.tensorrt-8.6.uint8.onnx", "--for", "jetpack-6.0").done()
    cli("lint", out / "model.uint8.onnx", "--for", "tensorrt-rtx-1.7").done()


def test_nv12_of_a_camera(cli: Any, weights_file: Path, quick_trace: None, tmp_path: Path) -> None:
    out = tmp_path / "a.edgeir"
    export(cli, weights_file, out, "--io", "nv12", "--yuv", "bt601-full").done()
    name = "model.nv12-bt601-full.onnx"
    assert [path.name for path in Bundle.open(out).files("bytes")] == [name]
    report = json.loads((out / "report.json").read_text())
    (table,) = [table for table in report["tables"] if table["title"] == "Bytes in, bytes out"]
    ((_, _, off, differing, _, _),) = table["rows"]
    assert 0 < off < 1e-3  # FP32 beside float64
    assert differing == 0  # given the same pixels
    shown = cli("inspect", out / name).done().out
    assert "image 1x96x64x1 uint8" in shown
    assert "NV12 uint8 (BT.601, full range) to HWC RGB" in shown


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--io", "unit8"), ("--io", "unknown pictures 'unit8'", "float, uint8, bgr, nv12", "Did you mean 'uint8'")),
        (("--io", "uint8", "--yuv", "bt709-full"), ("--yuv goes with --io nv12", "got --io uint8")),
        (("--yuv", "bt709-full"), ("--yuv goes with --io nv12",)),
        (("--io", "nv12", "--yuv", "bt2020"), ("unknown colours 'bt2020'", "bt709-limited")),
    ],
)
def test_refusals(
    cli: Any, weights_file: Path, tmp_path: Path, options: tuple[str, ...], words: tuple[str, ...]
) -> None:
    export(cli, weights_file, tmp_path / "a.edgeir", *options).sentence(2, *words)
    assert list(tmp_path.iterdir()) == []


def test_the_range_that_an_engine_is_built_for() -> None:
    shape = TraceShape(2, 32, 48, dynamic=DynamicSize((16, 16), (32, 48), (64, 96)))
    assert profile_of(TraceShape(2, 32, 48), SPEC, NV12) is None
    in_floats, in_bytes = profile_of(shape, SPEC, None), profile_of(shape, SPEC, NV12)
    assert in_floats is not None
    assert in_bytes is not None
    assert (in_floats.minimum, in_floats.maximum) == ((2, 3, 16, 16), (2, 3, 64, 96))
    assert (in_bytes.minimum, in_bytes.optimum, in_bytes.maximum) == ((2, 24, 16, 1), (2, 48, 48, 1), (2, 96, 96, 1))


def test_what_fails_an_export() -> None:
    good = ByteAgreement("model.uint8.onnx", 8, 8, 1e-4, 1, 192, 1)
    bad = ByteAgreement("model.x.uint8.onnx", 8, 8, 0.002, 9, 192, 2)
    assert [check.passed for check in byte_checks([good], SPEC)] == [True, True]
    checks = byte_checks([good, bad], SPEC)
    names = ["input beside float64, model.x.uint8.onnx", "bytes beside floats, model.x.uint8.onnx"]
    assert [(check.name, check.passed) for check in checks] == [(name, False) for name in names]
    choosing = ModelSpec("k", "kgt", {"k": 8}, SizeRule(8, 8))
    assert byte_checks([good, bad], choosing) == checks[:1]  # a choice of neighbours may turn on the last place
    assert byte_checks([], SPEC) == []
    (table,) = byte_tables([good, bad])
    assert table.rows[1] == ("model.x.uint8.onnx", "8x8", 0.002, 9, 192, 2)
    assert byte_tables([]) == ()
