"""``edgeir export``: what it makes, and that the bundle says the truth about itself."""

from __future__ import annotations

import dataclasses
import getpass
import hashlib
import json
import platform
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeir.bundle import Bundle
from edgeir.spec import ModelSpec

FILES_OF_DYNAMIC = ["manifest.json", "model.onnx", "plan.yaml", "reference.onnx", "report.html", "report.json"]
FILES = sorted([*FILES_OF_DYNAMIC, "model.tiles.onnx"])


def test_the_folder(made_static: Path, made_dynamic: Path, tree: Any) -> None:
    for bundle, files in ((made_static, FILES), (made_dynamic, FILES_OF_DYNAMIC)):
        assert tree(bundle) == files
        assert [path.name for path in bundle.parent.iterdir()] == [bundle.name]


def test_the_engine(made_rtx: Path, tree: Any) -> None:
    names = tree(made_rtx)
    (engine,) = [name for name in names if name.endswith(".plan")]
    assert re.fullmatch(r"engines/rtx-[\d.]+-sm86-sm89-sm120\.plan", engine)
    assert sorted(set(names) - {engine, "engines"}) == FILES
    manifest = Bundle.open(made_rtx).manifest
    (note,) = manifest.engines
    assert (note.path, note.runtime) == (engine, "rtx")
    assert next(item for item in manifest.artifacts if item.path == engine).parents == ("model.onnx",)


def test_every_hash_and_size_is_right(made_static: Path, made_dynamic: Path) -> None:
    for bundle, files in ((made_static, FILES), (made_dynamic, FILES_OF_DYNAMIC)):
        manifest = json.loads((bundle / "manifest.json").read_text())
        listed = {item["path"]: item for item in manifest["artifacts"]}
        assert sorted([*listed, "manifest.json"]) == files
        for path, item in listed.items():
            data = (bundle / path).read_bytes()
            assert (item["bytes"], item["sha256"]) == (len(data), hashlib.sha256(data).hexdigest()), path
        assert listed["model.onnx"]["parents"] == ["reference.onnx", "plan.yaml"]


def test_nothing_names_the_machine_or_the_user(made_static: Path, made_dynamic: Path, weights_file: Path) -> None:
    words = {platform.node(), getpass.getuser(), str(Path.home()), str(weights_file.parent), str(made_static.parent)}
    words |= {str(Path(__file__).parents[2]), str(Path.cwd()), "/tmp", "/home/", "site-packages"}
    words.discard("root")  # names nobody, and CSS has a :root
    for bundle, files in ((made_static, FILES), (made_dynamic, FILES_OF_DYNAMIC)):
        for name in files:
            data = (bundle / name).read_bytes()
            for word in words:
                if len(word) < 5 and name.endswith(".onnx"):
                    continue  # weights are random bytes: a short word turns up in them
                whole = rb"(?<![A-Za-z0-9])" + re.escape(word.encode()) + rb"(?![A-Za-z0-9])"
                assert not re.search(whole, data), f"{name} holds {word!r}"
        text = (bundle / "manifest.json").read_text()
        assert not re.search(r'"[^"]*(?:^|[\s"=])(?:/|[A-Za-z]:\\)[\w.]', text), "an absolute path"


def test_the_command_is_kept_without_folders(made_static: Path) -> None:
    command = Bundle.open(made_static).manifest.provenance.command
    assert command[:6] == ("edgeir", "export", "--checkpoint", "micro.safetensors", "--size", "64x64")


def test_the_onnx_file_alone_says_what_it_is(made_static: Path, made_dynamic: Path) -> None:
    import onnxruntime as ort

    for bundle in (made_static, made_dynamic):
        wanted = Bundle.open(bundle).manifest.model
        for name in ("model.onnx", "reference.onnx"):
            session = ort.InferenceSession(str(bundle / name), providers=["CPUExecutionProvider"])
            text = session.get_modelmeta().custom_metadata_map["edgeir_spec"]
            assert ModelSpec.from_json(text, where=name) == wanted


def test_an_untrained_network_says_so_everywhere(
    cli: Any, weights_file: Path, quick_trace: None, tmp_path: Path
) -> None:
    outcome = cli(
        "export", "--checkpoint", weights_file, "--size", "64x64", "--target", "ort", "--out", tmp_path
    ).done()
    bundle = tmp_path / "exda-custom-fp16-64x64.edgeir"
    assert "UNTRAINED" in outcome.out
    assert "is UNTRAINED" in outcome.err
    weights = Bundle.open(bundle).manifest.model.weights
    assert weights is not None
    assert (weights.trained, weights.seed) == (False, 7)
    assert "UNTRAINED" in (bundle / "report.html").read_text()
    report = json.loads((bundle / "report.json").read_text())
    assert "UNTRAINED" in report["summary"]
    assert report["notes"][0].startswith("UNTRAINED")
    assert not any("drift" in check["name"] for check in report["checks"]), "drift of an untrained network was judged"


def test_the_reports(made_static: Path) -> None:
    report = json.loads((made_static / "report.json").read_text())
    assert report["passed"] is True
    assert {check["limit"] for check in report["checks"] if check["name"].startswith("fidelity")} == {90, 55}
    tables = {table["title"]: table for table in report["tables"]}
    assert len(next(table for title, table in tables.items() if title.startswith("Drift"))["rows"]) == 11
    page = (made_static / "report.html").read_text()
    assert page.lstrip().lower().startswith("<!doctype html>")
    patterns = (r"""(?:src|href|action|data|poster)\s*=\s*["']?([^"'\s>]+)""", r"url\(([^)]*)\)", r"@import\s+(\S+)")
    links = [link for pattern in patterns for link in re.findall(pattern, page)]
    assert [link for link in links if not link.startswith(("#", "data:"))] == []
    assert page.count("<script") == 1  # of the pictures that are laid over each other: no charts, so no Plotly
    assert len(page) < 1_000_000


def test_json_on_stdout_and_progress_on_stderr(cli: Any, weights_file: Path, quick_trace: None, tmp_path: Path) -> None:
    out = tmp_path / "a.edgeir"
    arguments = ("--checkpoint", weights_file, "--size", "64x64", "--target", "ort", "--out", out)
    outcome = cli("export", *arguments, "--json").done()
    value = json.loads(outcome.out)
    assert value["bundle"] == str(out)
    assert value["report"] == json.loads((out / "report.json").read_text())
    assert re.match(r"\[1/\d\] .*loading ", outcome.err)


def test_fp32(cli: Any, weights_file: Path, quick_trace: None, tmp_path: Path) -> None:
    cli(
        "export", "--checkpoint", weights_file, "--size", "64x64", "--fp32", "--target", "ort", "--out", tmp_path
    ).done()
    bundle = Bundle.open(tmp_path / "exda-custom-fp32-64x64.edgeir")
    assert bundle.manifest.precision == "fp32"
    import onnx

    model = onnx.load(bundle.file("model"))
    assert {tensor.data_type for tensor in model.graph.initializer} <= {onnx.TensorProto.FLOAT, onnx.TensorProto.INT64}


def test_a_plan_is_followed(cli: Any, weights_file: Path, quick_trace: None, made_static: Path, tmp_path: Path) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text((made_static / "plan.yaml").read_text().replace("default: fp16", "default: fp32"))
    arguments = ("--checkpoint", weights_file, "--size", "64x64", "--target", "ort", "--plan", plan)
    outcome = cli("export", *arguments, "--out", tmp_path / "a.edgeir").done()
    assert "0 nodes FP16" in outcome.err


def test_force_replaces(cli: Any, weights_file: Path, quick_trace: None, static: Path, tmp_path: Path) -> None:
    path = static.rename(tmp_path / "two words.edgeir")
    (path / "model.onnx").write_bytes(b"broken")
    arguments = ("--checkpoint", weights_file, "--size", "64x64", "--target", "ort", "--out", path)
    outcome = cli("export", *arguments, "--force").done()
    Bundle.open(path)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    assert outcome.out.endswith(f"open '{path}/report.html'\n"), "a path that a shell would take apart"


def test_a_failed_check_keeps_the_bundle(
    cli: Any, weights_file: Path, quick_trace: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgeir.compare import gates
    from edgeir.precision import Precision

    strict = dataclasses.replace(gates.GATES[Precision.FP16], fidelity_db=300.0)
    monkeypatch.setitem(gates.GATES, Precision.FP16, strict)
    outcome = cli("export", "--checkpoint", weights_file, "--size", "64x64", "--target", "ort", "--out", tmp_path)
    outcome.sentence(1, "checks failed", "fidelity", "exda-custom-fp16-64x64.edgeir", "expected at least 300 dB")
    bundle = Bundle.open(tmp_path / "exda-custom-fp16-64x64.edgeir")
    assert json.loads((bundle.path / "report.json").read_text())["passed"] is False
    assert "FAILED" in outcome.out
    assert [path.name for path in tmp_path.iterdir()] == [bundle.path.name]


def test_the_waterfall_of_the_rewrites(made_static: Path) -> None:
    tables = {table["title"]: table for table in json.loads((made_static / "report.json").read_text())["tables"]}
    rows = {row[0]: row for row in tables["Rewrites"]["rows"]}
    assert list(rows) == ["tracing", "pool-before-affine", "affine-into-conv", "pad-gated-width"]
    assert [row[1] > 0 for row in list(rows.values())[1:]] == [True, True, False]  # its widths are even
    assert all(row[-1] > 0 for row in rows.values())
    assert rows["pad-gated-width"][-1] == rows["affine-into-conv"][-1]  # the same graph, timed once
    assert rows["affine-into-conv"][2] < rows["tracing"][2]


def test_rewrites_are_chosen(cli: Any, weights_file: Path, quick_trace: None, tmp_path: Path) -> None:
    import onnx

    arguments = ("--checkpoint", weights_file, "--size", "64x64", "--target", "ort", "--out", tmp_path / "a.edgeir")
    cli("export", *arguments, "--rewrite", "split-convs", "--no-rewrite", "affine-into-conv").done()
    left = {node.name for node in onnx.load(tmp_path / "a.edgeir" / "model.onnx").graph.node}
    assert "encoder_level1.0.attn.qkv/Conv.part1" in left
    assert "encoder_level1.0.norm2.body/Add_2" in left
    for option in ("--rewrite", "--no-rewrite"):
        cli("export", *arguments, "--force", option, "split-conv").sentence(2, "unknown rule", "Did you mean")


def test_the_file_for_a_tensorrt_with_plugins(cli: Any, weights_file: Path, quick_trace: None, tmp_path: Path) -> None:
    """10.3 prefers bodies to plugins: they go, and nothing here can run the file; from 10.7 on they stay."""
    import onnx

    where = ("--checkpoint", weights_file, "--size", "64x64", "--target", "ort", "--out", tmp_path / "a.edgeir")
    outcome = cli("export", *where, "--fp32", "--for", "jetpack-6.2", "--for", "tensorrt-11.1", "--plugins").done()
    name = "model.tensorrt-10.3-plugins.onnx"
    assert f"{name} has no bodies any more: only TensorRT 10.3 with the plugins can run it" in outcome.err
    bundle = Bundle.open(tmp_path / "a.edgeir")
    stripped, kept = (onnx.load(bundle.path / f"model.tensorrt-{one}-plugins.onnx") for one in ("10.3", "11.1"))
    assert (len(stripped.functions), len(kept.functions)) == (0, 1)
    assert {node.op_type for node in stripped.graph.node if node.domain == "edgeir"} == {"EdgeirGstAttention"}
    rows = {row[0] for row in json.loads((bundle.path / "report.json").read_text())["tables"][0]["rows"]}
    assert "model.tensorrt-11.1-plugins.onnx" in rows  # compared
    assert name not in rows
    cli("export", *where, "--force", "--plugins").sentence(2, "--plugins goes with --for", "--for jetpack-6.2")
    refused = cli("export", *where, "--force", "--for", "onnxruntime", "--plugins")
    refused.sentence(2, "ONNX Runtime has no plugins", "Leave it out")


def test_the_file_for_a_cpu_is_what_the_backend_opens(
    cli: Any, weights_file: Path, quick_trace: None, tmp_path: Path
) -> None:
    import onnx

    from edgeir.runtime.opening import open_session

    where = ("--checkpoint", weights_file, "--size", "64x64", "--target", "ort", "--out", tmp_path / "a.edgeir")
    cli("export", *where, "--fp32", "--for", "onnxruntime").done()
    bundle = Bundle.open(tmp_path / "a.edgeir")
    assert bundle.graph_for("onnxruntime").name == "model.onnxruntime.onnx"
    rows = json.loads((bundle.path / "report.json").read_text())["tables"][0]["rows"]
    assert "model.onnxruntime.onnx" in {row[0] for row in rows}  # it was compared too
    tiles = bundle.tiles_graph_for("onnxruntime")
    assert tiles is not None and tiles.name == "model.tiles.onnxruntime.onnx"
    assert bundle.tiles_graph_for("tensorrt-10.3") == bundle.path / "model.tiles.onnx"
    parents = {artifact.path: artifact.parents for artifact in bundle.manifest.artifacts}
    assert parents[tiles.name] == ("model.onnxruntime.onnx",)
    assert {"model.tiles.onnx", tiles.name} <= {row[0] for row in rows}
    picture = np.random.default_rng(0).random((1, 3, 64, 64), dtype=np.float32)
    first, second = (open_session(bundle, backend, threads=1).run(picture) for backend in ("ort", "ort-reference"))
    assert np.abs(first - second).max() < 1e-5  # float32 in another order
    cli("export", *where, "--fp32", "--force", "--for", "onnxruntime", "--no-rewrite", "split-convs").done()
    left = {node.name for node in onnx.load(bundle.path / "model.onnxruntime.onnx").graph.node}
    assert "encoder_level1.0.attn.qkv/Conv.part1" not in left
