"""Adding to a finished bundle: all that stays is shared, what no longer holds goes, and a failure changes nothing."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path

import pytest

from edgeir.bundle import Bundle
from edgeir.bundle_change import Addition, Change, additions_of, commit_change, fitting, require_same, without
from edgeir.bundle_writer import BundleWriter
from edgeir.errors import BundleError
from edgeir.manifest import SCHEMA_VERSION, Board, DeviceRecord, EngineNote, Manifest
from edgeir.provenance import collect
from edgeir.spec import ModelSpec, SizeRule, TensorSpec

PROVENANCE = collect(seconds=1.5, argv=["edgeir", "build"])
MANIFEST = Manifest(
    name="exda-tiny",
    precision="fp16",
    input=TensorSpec("input", (1, 3, 64, 64)),
    batch=1,
    model=ModelSpec("exda-tiny", "exda", {"dim": 16}, SizeRule(8, 16)),
    provenance=PROVENANCE,
    engines=(EngineNote("tensorrt", "", "", None, "TensorRT is not installed here."),),
    schema_version=2,
)
PLAN, CACHE, BENCH = "engines/tensorrt-10.3-sm87.plan", "engines/tensorrt-10.3-sm87.timing", "results/bench-orin.json"
NOTE = EngineNote("tensorrt", "10.3", "sm87", PLAN, "For Jetson Orin.")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A bundle as an export of an older edgeir leaves it."""
    with BundleWriter(tmp_path / "b.edgeir") as writer:
        writer.path("model.onnx").write_bytes(b"model")
        writer.add("model.onnx", "model")
        writer.path("report.html").write_bytes(b"report")
        writer.add("report.html", "report")
        return writer.commit(MANIFEST)


def add(
    path: Path, content: bytes, *files: Addition, note: EngineNote | None = None, board: Board | None = None
) -> None:
    with BundleWriter(path, force=True) as writer:
        for one in files:
            writer.path(one.path).write_bytes(content)
        record = DeviceRecord(tuple(one.path for one in files), board or Board(jetpack="6.2"), PROVENANCE)
        notes = () if note is None else (note,)
        commit_change(writer, Bundle.open(path), Change(tuple(files), notes, (record,)))


ENGINE = Addition(PLAN, "engine", ("model.onnx",))


def test_an_engine_and_its_timing_cache(path: Path) -> None:
    before = (path / "model.onnx").stat().st_ino
    add(path, b"engine", ENGINE, Addition(CACHE, "timing-cache"), note=NOTE)
    manifest = Bundle.open(path).manifest
    assert [one.path for one in manifest.artifacts] == ["model.onnx", "report.html", PLAN, CACHE]
    assert manifest.engines == (NOTE,)  # in the place of the note that there was none
    assert manifest.devices[0].files == (PLAN, CACHE)
    assert manifest.schema_version == SCHEMA_VERSION
    assert (path / "model.onnx").stat().st_ino == before  # not copied
    assert additions_of(manifest) == {PLAN, CACHE}
    assert Bundle.open(path).engine("tensorrt", "10.3", "sm87") == path / PLAN
    assert Bundle.open(path).engine("tensorrt", "10.3.1", "sm87") is None


def test_what_was_measured_of_an_engine_goes_with_it(path: Path) -> None:
    add(path, b"engine", ENGINE, note=NOTE)
    add(path, b"latency", Addition(BENCH, "bench", (PLAN,)))
    add(path, b"cache", Addition(CACHE, "timing-cache"))
    newer = dataclasses.replace(NOTE, note="Again.")
    add(path, b"another", ENGINE, note=newer, board=Board(jetpack="6.2.1"))
    manifest = Bundle.open(path).manifest
    assert [one.path for one in manifest.artifacts] == ["model.onnx", "report.html", CACHE, PLAN]
    assert manifest.engines == (newer,)
    assert [(one.files, one.board.jetpack) for one in manifest.devices] == [((CACHE,), "6.2"), ((PLAN,), "6.2.1")]


def test_a_failure_changes_nothing(path: Path) -> None:
    before = {file.name: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    with pytest.raises(BundleError, match="a parent must be added before its child"):
        add(path, b"engine", Addition(PLAN, "engine", ("gone.onnx",)))
    (path / "report.html").write_bytes(b"rEport")
    opened = Bundle.open(path, verify=False)
    with (
        BundleWriter(path, force=True) as writer,
        pytest.raises(BundleError, match="not what the manifest vouches for"),
    ):
        commit_change(writer, opened, Change(()))
    (path / "report.html").write_bytes(b"report")
    assert {file.name: file.read_bytes() for file in path.rglob("*") if file.is_file()} == before
    assert [one.name for one in path.parent.iterdir()] == ["b.edgeir"]


def test_a_bundle_that_was_exported_again_in_the_meantime(path: Path, tmp_path: Path) -> None:
    before = Bundle.open(path)
    require_same(Bundle.open(path), before, "model.onnx")
    with BundleWriter(path, force=True) as writer:
        writer.path("model.onnx").write_bytes(b"other")
        writer.add("model.onnx", "model")
        writer.commit(MANIFEST)
    with pytest.raises(BundleError, match=r"changed while work on it went on.*Run the command again"):
        require_same(Bundle.open(path), before, "model.onnx")


def test_what_another_copy_has_to_give(path: Path) -> None:
    here = Bundle.open(path).manifest
    add(path, b"engine", ENGINE, Addition(CACHE, "timing-cache"), note=NOTE)
    add(path, b"latency", Addition(BENCH, "bench", (PLAN,)))
    there = Bundle.open(path).manifest
    change = fitting(there, here)
    assert [one.path for one in change.files] == [PLAN, CACHE, BENCH]
    assert change.engines == (NOTE,)
    assert [record.files for record in change.devices] == [(PLAN, CACHE), (BENCH,)]
    assert fitting(there, there) == Change(())
    # Of another graph, neither the engine fits nor what was measured of it; a timing cache is of no graph.
    other = dataclasses.replace(here, artifacts=(dataclasses.replace(here.artifacts[0], sha256="0" * 64),))
    change = fitting(there, other)
    assert [one.path for one in change.files] == [CACHE]
    assert (change.engines, [record.files for record in change.devices]) == ((), [(CACHE,)])


def test_an_addition_goes_with_what_it_was_made_from(path: Path) -> None:
    add(path, b"engine", ENGINE, note=NOTE)
    add(path, b"latency", Addition(BENCH, "bench", (PLAN,)))
    whole = Bundle.open(path).manifest
    left = without(whole, [PLAN])
    assert [one.path for one in left.artifacts] == ["model.onnx", "report.html"]
    assert (left.engines, left.devices) == ((), ())
    assert without(whole, []) == whole
    # A result that is the same in both copies goes with an engine that is not, so that it comes along.
    other = dataclasses.replace(
        whole, artifacts=tuple(dataclasses.replace(one, sha256="0" * 64) if one.path == PLAN else one
                               for one in whole.artifacts)
    )  # fmt: skip
    assert [one.path for one in fitting(whole, other).files] == [PLAN, BENCH]


def test_two_additions_that_end_at_once(path: Path) -> None:
    """Each looked at the bundle before the other was done; neither is lost."""
    names = [f"engines/{index}.plan" for index in range(4)]
    opened = Bundle.open(path)
    meet = threading.Barrier(len(names))
    failed: list[BaseException] = []

    def work(name: str) -> None:
        try:
            with BundleWriter(path, force=True) as writer:
                writer.path(name).write_bytes(name.encode())
                meet.wait(20)
                commit_change(writer, opened, Change((Addition(name, "engine", ("model.onnx",)),)))
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert {one.path for one in Bundle.open(path).manifest.artifacts} == {"model.onnx", "report.html", *names}
    assert [one.name for one in path.parent.iterdir()] == ["b.edgeir"]  # nor is a lock left


def test_an_addition_to_a_bundle_that_was_exported_again(path: Path) -> None:
    opened = Bundle.open(path)
    with BundleWriter(path, force=True) as slow:
        slow.path(PLAN).write_bytes(b"engine")
        with BundleWriter(path, force=True) as quick:
            quick.path("model.onnx").write_bytes(b"other")
            quick.add("model.onnx", "model")
            quick.commit(MANIFEST)
        with pytest.raises(BundleError, match=r"model\.onnx: the bundle was changed while work on it went on"):
            commit_change(slow, opened, Change((ENGINE,), (NOTE,)))
    assert [one.path for one in Bundle.open(path).manifest.artifacts] == ["model.onnx"]


def test_a_file_of_another_disk_is_copied(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    before = (path / "model.onnx").stat().st_ino
    add(path, b"engine", ENGINE, note=NOTE)
    assert (path / "model.onnx").stat().st_ino != before
    assert Bundle.open(path).manifest.engines == (NOTE,)
