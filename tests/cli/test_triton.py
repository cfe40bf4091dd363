"""edgeir triton, and export --triton."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Cli = Callable[..., Any]


def test_a_bundle_becomes_a_model(
    cli: Cli, made_dynamic: Path, tmp_path: Path, tree: Callable[[Path], list[str]]
) -> None:
    first = cli("triton", made_dynamic, tmp_path / "models").done()
    (folder,) = (tmp_path / "models").iterdir()
    assert tree(folder) == ["1", "1/edgeir.json", "1/model.onnx", "config.pbtxt"]
    assert (folder / "1" / "model.onnx").read_bytes() == (made_dynamic / "model.onnx").read_bytes()
    assert "dims: [ 1, 3, -1, -1 ]" in (folder / "config.pbtxt").read_text()
    assert "1 of 1 models got a new version" in first.out
    assert f"{tmp_path / 'models'}:/models nvcr.io/nvidia/tritonserver" in first.out
    assert f"--model-control-mode=explicit --load-model={folder.name}\n" in first.out
    assert "--exit-on-error" not in first.out  # graphs load everywhere
    assert "no Triton server has run it yet" in " ".join(first.out.split())

    value = json.loads(cli("triton", made_dynamic, tmp_path / "models", "--json").done().out)
    (model,) = value["models"]
    assert (model["version"], model["new"], model["config"], model["gpu"]) == (1, False, "kept", None)
    assert tree(folder) == ["1", "1/edgeir.json", "1/model.onnx", "config.pbtxt"]


def test_engines_are_loaded_where_their_gpu_is(cli: Cli, tmp_path: Path) -> None:
    """One that does not load stops the whole server: the command names the graph alone, engines stand below by GPU."""
    from edgeir.bundle import BundleWriter
    from edgeir.manifest import EngineNote, Manifest
    from edgeir.provenance import collect
    from edgeir.spec import ModelSpec, SizeRule, TensorSpec

    notes = tuple(
        EngineNote("tensorrt", version, gpu, f"engines/tensorrt-{version}-{gpu}.plan", "Built somewhere.")
        for version, gpu in (("10.3.0", "sm87"), ("10.16.1", "sm120"))
    )
    with BundleWriter(tmp_path / "two.edgeir") as writer:
        writer.path("model.onnx").write_bytes(b"a graph")
        writer.add("model.onnx", "model")
        for note in notes:
            writer.path(str(note.path)).write_bytes(b"an engine")
            writer.add(str(note.path), "engine", parents=("model.onnx",))
        path = writer.commit(
            Manifest(
                name="two",
                precision="fp16",
                input=TensorSpec("image", (1, 3, 64, 64)),
                batch=1,
                model=ModelSpec("two", "exda", {}, SizeRule(8, 16)),
                provenance=collect(seconds=0.0),
                engines=notes,
            )
        )
    said = cli("triton", path, tmp_path / "models").done().out
    assert "--model-control-mode=explicit --load-model=two-fp16-64x64\n" in said
    assert "one that does not load stops the whole server, unless that is given --exit-on-error=false" in said
    assert "  sm87 (Jetson Orin, image YY.MM-py3-igpu): --load-model=two-fp16-64x64-tensorrt-sm87\n" in said
    assert "  sm120: --load-model=two-fp16-64x64-tensorrt-sm120\n" in said
    value = json.loads(cli("triton", path, tmp_path / "models", "--json").done().out)
    assert [model["gpu"] for model in value["models"]] == [None, "sm87", "sm120"]


def test_engines_of_rtx_are_named(cli: Cli, made_rtx: Path, tmp_path: Path) -> None:
    said = " ".join(cli("triton", made_rtx, tmp_path / "models").done().out.split())
    assert "does not run engines of TensorRT-RTX" in said


def test_refusals(cli: Cli, static: Path, tmp_path: Path, unchanged: Callable[[Path], Any]) -> None:
    with unchanged(tmp_path):
        cli("triton", static, static).sentence(2, "this is a bundle")
        cli("triton", static, tmp_path / "no" / "where").sentence(2, "no such folder")
        cli("triton", tmp_path / "absent.edgeir", tmp_path / "models").sentence(2, "no such bundle")
    config = tmp_path / "models" / "exda-custom-fp16-64x64" / "config.pbtxt"
    config.parent.mkdir(parents=True)
    config.write_text("name: 'theirs'\n")
    with unchanged(tmp_path):
        cli("triton", static, tmp_path / "models").sentence(2, "edgeir did not write this configuration", "--force")
    cli("triton", static, tmp_path / "models", "--force").done()
    assert "exda-custom-fp16-64x64" in config.read_text()


@pytest.mark.usefixtures("quick_trace")
def test_export_writes_the_repository_as_well(cli: Cli, weights_file: Path, tmp_path: Path) -> None:
    arguments = ("export", "--checkpoint", weights_file, "--size", "64x64", "--target", "ort", "--no-tiles")
    bundle, models = tmp_path / "new.edgeir", tmp_path / "models"
    done = cli(*arguments, "--out", bundle, "--triton", models, "--json").done()
    assert json.loads(done.out)["bundle"] == str(bundle)
    assert "1 of 1 models got a new version" in done.err
    served = models / "exda-custom-fp16-64x64" / "1" / "model.onnx"
    assert served.read_bytes() == (bundle / "model.onnx").read_bytes()


def test_export_looks_at_the_repository_first(cli: Cli, weights_file: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    said = cli("export", "--checkpoint", weights_file, "--triton", tmp_path / "file", "--out", tmp_path)
    said.sentence(2, "it is a file")
    assert said.err.count("\n") == 1  # before the first stage
