"""Opening bundles: one that was written opens, and one with any byte, file or link out of place does not."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from edgeir.bundle import Bundle, BundleWriter, bundle_name, prepared_name
from edgeir.errors import BundleError
from edgeir.manifest import EngineNote, Manifest
from edgeir.provenance import collect
from edgeir.spec import ModelSpec, SizeRule, TensorSpec

MANIFEST = Manifest(
    name="exda-tiny",
    precision="fp16",
    input=TensorSpec("input", (1, 3, 64, 64)),
    batch=1,
    model=ModelSpec("exda-tiny", "exda", {"dim": 16}, SizeRule(8, 16)),
    provenance=collect(seconds=1.5, argv=["edgeir", "export"]),
    engines=(EngineNote("tensorrt", "", "", None, "TensorRT is not installed here."),),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A good bundle of four files."""
    with BundleWriter(tmp_path / "exda-tiny-fp16-64x64.edgeir") as writer:
        writer.path("reference.onnx").write_bytes(b"reference")
        writer.add("reference.onnx", "reference")
        writer.path("model.onnx").write_bytes(bytes(range(256)))
        writer.add("model.onnx", "model", parents=("reference.onnx",))
        for name in ("engines/rtx-1.7-any.plan", "engines/ort.plan"):
            writer.path(name).write_bytes(name.encode())
            writer.add(name, "engine", parents=("model.onnx",))
        return writer.commit(MANIFEST)


def test_what_was_written_opens(folder: Path) -> None:
    bundle = Bundle.open(folder)
    assert bundle.path == folder
    assert dataclasses.replace(bundle.manifest, artifacts=()) == MANIFEST
    assert bundle.file("model") == folder / "model.onnx"
    assert [path.name for path in bundle.files("engine")] == ["rtx-1.7-any.plan", "ort.plan"]
    assert bundle.files("report") == ()
    assert bundle.read(bundle.file("model")) == bundle.read("model.onnx") == bytes(range(256))
    assert [artifact.bytes for artifact in bundle.manifest.artifacts] == [9, 256, 24, 16]
    assert Bundle.open(str(folder)) == bundle


def test_it_can_be_moved(folder: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere" / "renamed"
    shutil.copytree(folder, moved)
    assert Bundle.open(moved).manifest == Bundle.open(folder).manifest
    assert str(tmp_path) not in (moved / "manifest.json").read_text(encoding="utf-8")


def test_roles(folder: Path) -> None:
    bundle = Bundle.open(folder)
    with pytest.raises(BundleError, match=r"no files of role 'modle' \(expected one\)\. Did you mean 'model'\?"):
        bundle.file("modle")
    with pytest.raises(BundleError, match=r"has 2 files of role 'engine' \(expected one\)"):
        bundle.file("engine")


def test_the_graph_for_a_runtime(tmp_path: Path) -> None:
    with BundleWriter(tmp_path / "b.edgeir") as writer:
        for name, role in (("model.onnx", "model"), ("model.onnxruntime.onnx", "prepared")):
            writer.path(name).write_bytes(name.encode())
            writer.add(name, role)
        bundle = Bundle.open(writer.commit(MANIFEST))
    assert bundle.graph_for("onnxruntime").name == prepared_name("onnxruntime") == "model.onnxruntime.onnx"
    assert bundle.graph_for("tensorrt-8.6").name == "model.onnx"


def flip(folder: Path) -> None:
    path = folder / "model.onnx"
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)


def relink(folder: Path) -> None:
    (folder / "model.onnx").rename(folder.parent / "away.onnx")
    (folder / "model.onnx").symlink_to(folder.parent / "away.onnx")


def relink_folder(folder: Path) -> None:
    (folder / "engines").rename(folder.parent / "engines")
    (folder / "engines").symlink_to(folder.parent / "engines")


def relink_manifest(folder: Path) -> None:
    (folder / "manifest.json").rename(folder.parent / "manifest.json")
    (folder / "manifest.json").symlink_to(folder.parent / "manifest.json")


def edit(change: Callable[[dict], object]) -> Callable[[Path], None]:  # type: ignore[type-arg]
    def apply(folder: Path) -> None:
        path = folder / "manifest.json"
        data = json.loads(path.read_text(encoding="utf-8"))
        change(data)
        path.write_text(json.dumps(data), encoding="utf-8")

    return apply


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (flip, r"model\.onnx: the content is not what the manifest vouches for"),
        (lambda f: (f / "model.onnx").write_bytes(b"x"), r"model\.onnx: .* size \(expected 256 bytes, got 1 bytes\)"),
        (lambda f: (f / "model.onnx").unlink(), r"model\.onnx: a file of the bundle is missing"),
        (lambda f: (f / "extra.py").write_bytes(b""), r"extra\.py: the manifest does not list this file\. Remove it"),
        (lambda f: (f / "engines/x.plan").write_bytes(b""), r"engines/x\.plan: the manifest does not list this file"),
        (relink, r"model\.onnx: a bundle may not contain links"),
        (relink_folder, r"engines: a bundle may not contain links"),
        (relink_manifest, r"manifest\.json: a bundle may not contain links"),
        (lambda f: os.mkfifo(f / "pipe"), r"pipe: a bundle may not contain links or special files"),
        (lambda f: (f / "manifest.json").unlink(), r"has no manifest\.json, so it is not a bundle"),
        (lambda f: (f / "manifest.json").write_text("{"), r"manifest\.json: the manifest is not JSON"),
        (edit(lambda d: d.update(schema_version=99)), r"comes from a newer edgeir"),
        (edit(lambda d: d["artifacts"][0].update(path="../model.onnx")), r"it contains '\.\.'"),
        (edit(lambda d: d["artifacts"][0].update(path="/etc/passwd")), r"it is absolute"),
        (edit(lambda d: d["artifacts"].pop()), r"engines/ort\.plan: the manifest does not list this file"),
        (edit(lambda d: d.update(extra=1)), r"unknown key 'extra'"),
    ],
)
def test_damage(folder: Path, damage: Callable[[Path], object], says: str) -> None:
    damage(folder)
    with pytest.raises(BundleError, match=says) as caught:
        Bundle.open(folder)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


def test_without_verifying_only_hashes_are_skipped(folder: Path) -> None:
    flip(folder)
    bundle = Bundle.open(folder, verify=False)
    with pytest.raises(BundleError, match="is not what the manifest vouches for"):
        bundle.read("model.onnx")
    (folder / "model.onnx").write_bytes(b"short")
    with pytest.raises(BundleError, match="size"):
        Bundle.open(folder, verify=False)


def test_reading_what_is_not_listed(folder: Path) -> None:
    bundle = Bundle.open(folder)
    for path in ("manifest.json", "../x", "/etc/passwd"):
        with pytest.raises(BundleError, match="the manifest does not list this file"):
            bundle.read(path)
    (folder / "model.onnx").unlink()
    with pytest.raises(BundleError, match=r"model\.onnx: cannot be read: No such file"):
        bundle.read("model.onnx")


def test_not_a_bundle(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="there is no such bundle"):
        Bundle.open(tmp_path / "none")
    with pytest.raises(BundleError, match=r"this is a file \(expected the folder of a bundle\)"):
        Bundle.open(folder / "model.onnx")


def test_names() -> None:
    assert bundle_name("kgt", "int8", 720, 1280) == "kgt-int8-720x1280.edgeir"
    assert bundle_name("kgt", "fp16", 256, 256, dynamic=True) == "kgt-fp16-256x256-dynamic.edgeir"
    assert bundle_name("../my model", "fp32", 8, 8) == "my-model-fp32-8x8.edgeir"
    assert bundle_name("...", "fp32", 8, 8) == "model-fp32-8x8.edgeir"
