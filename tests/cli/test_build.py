"""``edgeir build``: an engine into a bundle that is there; refused, the bundle is as it was."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgeir.bundle import Bundle, BundleWriter
from edgeir.bundle_change import Addition, Change, commit_change
from edgeir.cli import build_engine
from edgeir.errors import BuildFailed, OutOfSpace
from edgeir.export.engines.target import BuildResult, Progress
from edgeir.manifest import Manifest
from edgeir.provenance import collect
from edgeir.runtime.engine_choice import shares_statistics
from edgeir.runtime.ort_engine import ort_graph
from edgeir.runtime.ort_session import OrtSession
from edgeir.spec import INPUT_NAME, OUTPUT_NAME, ModelSpec, SizeRule, TensorSpec

Cli = Callable[..., Any]


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A bundle of a graph that ONNX Runtime has something to optimise in."""
    shape = "float[1,3,16,16]"
    model = onnx.parser.parse_model(
        f'<ir_version: 10, opset_import: ["": 20]> g ({shape} {INPUT_NAME}) => ({shape} {OUTPUT_NAME}) '
        "<float[3,3,1,1] w = {1,2,3,4,5,6,7,8,9}, float[3] b = {1,2,3}> "
        f"{{ a = Conv({INPUT_NAME}, w, b) r = Relu(a) {OUTPUT_NAME} = Identity(r) }}"
    )
    manifest = Manifest(
        name="small",
        precision="fp32",
        input=TensorSpec(INPUT_NAME, (1, 3, 16, 16)),
        batch=1,
        model=ModelSpec("small", "exda", {}, SizeRule(8, 16)),
        provenance=collect(seconds=1, argv=["edgeir", "export"]),
    )
    with BundleWriter(tmp_path / "small.edgeir") as writer:
        onnx.save(model, writer.path("model.onnx"))
        writer.add("model.onnx", "model")
        return writer.commit(manifest)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_for_onnx_runtime(small: Path, cli: Cli) -> None:
    built = json.loads(cli("build", small, "--target", "ort", "--json").done().out)
    assert built["built"]
    opened = Bundle.open(small)
    (note,) = opened.manifest.engines
    assert built["engine"] == note.path == f"engines/ort-{note.version}-{note.architecture}.optimised.onnx"
    assert "opens in" in note.note
    assert "instead of" in note.note
    (record,) = opened.manifest.devices
    assert record.files == (note.path,)
    assert record.provenance.command[:2] == ("edgeir", "build")
    # It is what ONNX Runtime opens from now on, and computes the same to the last bit.
    assert ort_graph(opened) == small / note.path
    picture = np.random.default_rng(0).random((1, 3, 16, 16), dtype=np.float32)
    assert np.array_equal(OrtSession(small / "model.onnx").run(picture), OrtSession(ort_graph(opened)).run(picture))
    again = cli("build", small, "--target", "ort").done()
    assert again.out.startswith("Already built: ")
    assert json.loads(cli("build", small, "--target", "ort", "--json", "--force").done().out)["built"]
    assert len(Bundle.open(small).manifest.devices) == 1


def test_an_engine_of_another_version_is_not_used(small: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    cli("build", small, "--target", "ort").done()
    opened = Bundle.open(small)
    monkeypatch.setattr("edgeir.runtime.ort_engine.ort_version", lambda: "1.20.0")
    assert ort_graph(opened) == small / "model.onnx"
    monkeypatch.undo()
    monkeypatch.setattr("edgeir.runtime.ort_engine.architecture", lambda: "aarch64-0f")
    assert ort_graph(opened) == small / "model.onnx"


def test_a_graph_that_onnx_runtime_refuses(small: Path, cli: Cli) -> None:
    manifest = Bundle.open(small).manifest
    with BundleWriter(small, force=True) as writer:
        writer.path("model.onnx").write_bytes(b"no graph")
        writer.add("model.onnx", "model")
        writer.commit(manifest)
    before = content(small)
    cli("build", small, "--target", "ort").sentence(4, "model.onnx: ONNX Runtime refuses the graph")
    assert content(small) == before
    assert [path.name for path in small.parent.iterdir()] == ["small.edgeir"]


@pytest.mark.skipif(importlib.util.find_spec("tensorrt_rtx") is None, reason="tensorrt_rtx is not installed")
def test_for_rtx_without_the_onnx_tools(small: Path, cli: Cli) -> None:
    built = cli("build", small, "--target", "rtx").done()
    assert "Built: " in built.out
    assert "[3/3]" in built.err
    opened = Bundle.open(small)
    (note,) = opened.manifest.engines
    assert note.architecture == "sm86-sm89-sm120"
    assert opened.manifest.artifacts[-1].parents == ("model.onnx",)
    assert cli("build", small, "--target", "rtx").done().out.startswith("Already built")


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("--target", "trt"), 2, ("unknown target 'trt'",)),
        (("--target", "tensorrt"), 3, ("builder 'tensorrt' is not installed", "--system-site-packages")),
        (("--target", "ort", "--timing-cache", "x"), 2, ("has no timing cache",)),
        (("--target", "ort", "--floats"), 2, ("from the graph of floats",)),
        (("--target", "ort", "--plugins"), 2, ("has no plugins",)),
        (("--target", "ort", "--tiles"), 2, ("share statistics without it",)),
    ],
)
def test_refusals(small: Path, cli: Cli, words: tuple[str, ...], code: int, says: tuple[str, ...]) -> None:
    if words[1] == "tensorrt" and importlib.util.find_spec("tensorrt") is not None:
        pytest.skip("TensorRT is installed: it is not refused")
    before = content(small)
    cli("build", small, *words).sentence(code, *says)
    assert content(small) == before


@pytest.fixture
def tensorrt(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """TensorRT 10.3 for Jetson Orin, as far as the command sees it: what it was asked, and what it answers."""
    seen: dict[str, Any] = {"engine": b"engine", "caches": []}

    def build(target: Any, graph: Path, engine: Path, **options: Any) -> BuildResult:
        seen.update(options, graph=graph, target=target)
        cache = options["timing_cache"]
        seen["caches"].append(cache.read_bytes() if cache.is_file() else None)
        if isinstance(seen["engine"], Exception):
            raise seen["engine"]
        engine.write_bytes(seen["engine"])
        cache.write_bytes(b"tactics")
        return BuildResult(target, "10.3.0", 7, 412.0, 6, (), timing_cache="used" if seen["caches"][-1] else "new")

    monkeypatch.setattr("edgeir.export.engines.builder.can_build", lambda runtime: runtime == "tensorrt")
    monkeypatch.setattr("edgeir.export.engines.builder.present_architecture", lambda: "sm87")
    monkeypatch.setattr(build_engine, "builder_version", lambda _: "10.3.0")
    monkeypatch.setattr(build_engine, "build_engine", build)
    return seen


def test_an_engine_whose_tiles_share(small: Path, cli: Cli, tensorrt: dict[str, Any]) -> None:
    words = ("build", small, "--target", "tensorrt", "--tiles")
    cli(*words).sentence(2, "holds no graph whose tiles share statistics", "model.tiles.onnx", "up to 256x256")
    cli(*words, "--plugins").sentence(2, "--tiles and --plugins do not go together")
    opened = Bundle.open(small)
    with BundleWriter(small, force=True) as writer:
        shutil.copyfile(opened.file("model"), writer.path("model.tiles.onnx"))
        commit_change(writer, opened, Change((Addition("model.tiles.onnx", "tiles", ("model.onnx",)),), (), ()))
    cli(*words).done()
    assert tensorrt["graph"].name == "model.tiles.onnx"
    note = Bundle.open(small).manifest.engines[-1]
    assert note.path == "engines/tensorrt-10.3.0-sm87-tiles.plan"
    assert shares_statistics(Bundle.open(small), note)
    cli("build", small, "--target", "tensorrt").done()  # beside the one for pictures alone
    assert [shares_statistics(Bundle.open(small), one) for one in Bundle.open(small).manifest.engines] == [True, False]


def test_the_timing_cache_stays_in_the_bundle(small: Path, cli: Cli, tensorrt: dict[str, Any]) -> None:
    built = json.loads(cli("build", small, "--json").done().out)  # TensorRT comes before the others
    assert (built["runtime"], built["architecture"]) == ("tensorrt", "sm87")
    manifest = Bundle.open(small).manifest
    stem = "engines/tensorrt-10.3.0-sm87"
    roles = {one.path: one.role for one in manifest.artifacts}
    assert roles == {"model.onnx": "model", f"{stem}.plan": "engine", f"{stem}.timing": "timing-cache"}
    assert manifest.devices[0].files == (f"{stem}.plan", f"{stem}.timing")
    assert "For Jetson Orin, from model.onnx with 7 layers" in manifest.engines[0].note
    again = cli("build", small, "--force").done()
    assert tensorrt["caches"] == [None, b"tactics"]
    assert "which took 6:52 the last time" in again.err
    assert "With a timing cache." in again.out
    assert len(Bundle.open(small).manifest.artifacts) == 3


def test_a_timing_cache_beside_the_bundle(small: Path, cli: Cli, tensorrt: dict[str, Any], tmp_path: Path) -> None:
    cache = tmp_path / "orin.timing"
    cli("build", small, "--timing-cache", cache).done()
    assert cache.read_bytes() == b"tactics"
    assert [one.role for one in Bundle.open(small).manifest.artifacts] == ["model", "engine"]
    cli("build", small, "--timing-cache", cache, "--force").done()
    assert tensorrt["caches"] == [None, b"tactics"]


@pytest.mark.parametrize(
    ("name", "says"), [("nowhere/orin.timing", "the folder does not exist"), ("", "it is a folder, not a file")]
)
def test_a_place_for_the_timing_cache_that_cannot_be_written(
    small: Path, cli: Cli, tensorrt: dict[str, Any], tmp_path: Path, name: str, says: str
) -> None:
    before = content(small)
    cli("build", small, "--timing-cache", tmp_path / name).sentence(2, says)
    assert tensorrt["caches"] == [], "nothing was built for nothing"
    assert content(small) == before
    assert not [path for path in tmp_path.iterdir() if path != small]


def test_a_timing_cache_that_cannot_be_kept_costs_no_engine(
    small: Path, cli: Cli, tensorrt: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OutOfSpace("the disk has no room left", where=str(path))

    monkeypatch.setattr(build_engine, "atomic_write_bytes", full)
    done = cli("build", small, "--timing-cache", tmp_path / "orin.timing").done()
    assert "The engine is built, its timing cache could not be kept: " in done.err
    assert "the disk has no room left" in done.err
    assert [one.role for one in Bundle.open(small).manifest.artifacts] == ["model", "engine"]


def test_a_build_that_fails_changes_nothing(small: Path, cli: Cli, tensorrt: dict[str, Any]) -> None:
    tensorrt["engine"] = BuildFailed("the parser refuses the graph", where="model.onnx")
    before = content(small)
    cli("build", small).sentence(4, "the parser refuses the graph")
    assert content(small) == before
    assert [path.name for path in small.parent.iterdir()] == ["small.edgeir"]


def test_a_disk_with_too_little_room(small: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10})())
    cli("build", small, "--target", "ort").sentence(3, "too little room for an engine", "Free some space")


def test_plugins_that_were_not_built(
    small: Path, cli: Cli, tensorrt: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli("build", small, "--plugins").sentence(2, "no graph that TensorRT 10.3 can build with plugins", "--plugins")
    monkeypatch.setattr(build_engine, "builder_version", lambda _: "10.7.0")
    monkeypatch.setattr("edgeir.ops.tensorrt.library.default_folder", lambda: tmp_path / "none")
    cli("build", small, "--plugins").sentence(3, "there is no plugin library", "edgeir plugins build")


def test_progress_with_what_is_left() -> None:
    said: list[str] = []
    now = [0.0]
    console = type("Console", (), {"say": staticmethod(said.append)})()
    tell = build_engine.progress_lines(console, 400.0, clock=lambda: now[0])
    for seconds in (1.0, 6.0, 7.0, 130.0):
        now[0] = seconds
        tell(Progress("Timing graph nodes", int(seconds), 200, seconds))
    assert said == [
        "      0:06  Timing graph nodes: 6 of 200, 3:14 left in this phase; about 6:34 left in all",
        "      2:10  Timing graph nodes: 130 of 200, 1:10 left in this phase; about 4:30 left in all",
    ]
    unknown = build_engine.progress_lines(console, None, clock=lambda: now[0])
    now[0] += 6
    unknown(Progress("Optimizing graph", 0, 30, 1.0))
    assert said[-1] == "      0:06  Optimizing graph: 0 of 30"
