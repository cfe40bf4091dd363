"""Versions beside versions, all or nothing."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeir.bundle import Bundle
from edgeir.errors import BundleError, OutOfSpace, OutputError
from edgeir.manifest import AxisRange, EngineNote
from edgeir.serving import triton_repository
from edgeir.serving.triton_repository import publish, require_repository

MakeBundle = Callable[..., Bundle]
NAME = "made-up-fp16-64x96"
PLAN = EngineNote("tensorrt", "10.3.0", "sm87", "engines/tensorrt-10.3.0-sm87.plan", "")


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return tmp_path / "models"


def test_a_new_repository(make_bundle: MakeBundle, repository: Path, parse: Callable[[str], Any]) -> None:
    published = publish(make_bundle(engines=(PLAN,)), repository)
    assert sorted(files(repository)) == [
        f"{NAME}-tensorrt-sm87/1/edgeir.json",
        f"{NAME}-tensorrt-sm87/1/model.plan",
        f"{NAME}-tensorrt-sm87/config.pbtxt",
        f"{NAME}/1/edgeir.json",
        f"{NAME}/1/model.onnx",
        f"{NAME}/config.pbtxt",
    ]
    assert files(repository)[f"{NAME}-tensorrt-sm87/1/model.plan"] == PLAN.path.encode()  # type: ignore[union-attr]
    for folder in repository.iterdir():
        assert parse((folder / "config.pbtxt").read_text()).name == folder.name
    record = json.loads(files(repository)[f"{NAME}/1/edgeir.json"])
    assert record["file"] == "model.onnx"
    assert [(each.version, each.is_new, each.config) for each in published.models] == [(1, True, "written")] * 2


def test_a_second_export_is_a_second_version(make_bundle: MakeBundle, repository: Path) -> None:
    publish(make_bundle(), repository)
    before = files(repository)
    (published,) = publish(make_bundle(graph=b"another graph"), repository).models
    after = files(repository)
    assert (published.version, published.is_new, published.config) == (2, True, "kept")
    assert before.items() <= after.items()
    assert after[f"{NAME}/2/model.onnx"] == b"another graph"
    again = publish(make_bundle(graph=b"another graph"), repository)
    assert not again.models[0].is_new
    assert files(repository) == after


def test_going_back_is_a_version_too(make_bundle: MakeBundle, repository: Path) -> None:
    for graph in (b"one", b"two", b"one"):
        (published,) = publish(make_bundle(graph=graph), repository).models
    assert published.version == 3


def test_numbers_are_numbers(make_bundle: MakeBundle, repository: Path) -> None:
    for name in ("9", "10", "007", "two"):
        (repository / NAME / name).mkdir(parents=True)
    (published,) = publish(make_bundle(), repository, force=True).models
    assert published.version == 11


def test_a_version_that_appears_under_way_stays(
    make_bundle: MakeBundle, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(make_bundle(), repository)
    real = triton_repository._copy

    def copy(*arguments: Any) -> None:
        (repository / NAME / "2").mkdir()
        (repository / NAME / "2" / "model.onnx").write_bytes(b"theirs")
        real(*arguments)

    monkeypatch.setattr(triton_repository, "_copy", copy)
    with pytest.raises(OutputError):
        publish(make_bundle(graph=b"another"), repository)
    assert (repository / NAME / "2" / "model.onnx").read_bytes() == b"theirs"
    assert sorted(path.name for path in (repository / NAME).iterdir()) == ["1", "2", "config.pbtxt"]


def test_what_somebody_changed_stays(make_bundle: MakeBundle, repository: Path) -> None:
    publish(make_bundle(), repository)
    config = repository / NAME / "config.pbtxt"
    edited = config.read_text().replace("count: 1", "count: 4")
    config.write_text(edited)
    (published,) = publish(make_bundle(graph=b"another"), repository).models
    assert published.config == "kept"
    assert config.read_text() == edited
    (forced,) = publish(make_bundle(graph=b"another"), repository, force=True).models
    assert forced.config == "replaced"
    assert not forced.is_new
    assert "count: 4" not in config.read_text()


def test_other_inputs_are_refused(make_bundle: MakeBundle, repository: Path) -> None:
    publish(make_bundle(), repository)
    before = files(repository)
    other = make_bundle(graph=b"another", batch=2, shape=(2, 3, 64, 96))
    with pytest.raises(OutputError, match=r"config\.pbtxt: the model of this name has other inputs.*--force"):
        publish(other, repository)
    assert files(repository) == before
    (published,) = publish(other, repository, force=True).models
    assert (published.version, published.config) == (2, "replaced")
    assert "[ 2, 3, 64, 96 ]" in (repository / NAME / "config.pbtxt").read_text()


def test_other_sizes_are_refused(make_bundle: MakeBundle, repository: Path) -> None:
    """They stand in the configuration: kept as it was, it would tell clients those of the version before."""
    shape = (1, 3, "H", "W")
    small = {"H": AxisRange(32, 64, 128), "W": AxisRange(32, 64, 128)}
    publish(make_bundle(shape=shape, ranges=small), repository)
    before = files(repository)
    large = make_bundle(graph=b"another", shape=shape, ranges=small | {"H": AxisRange(64, 64, 512)})
    with pytest.raises(OutputError, match=r"config\.pbtxt: the model of this name has other inputs or sizes.*--force"):
        publish(large, repository)
    assert files(repository) == before
    publish(large, repository, force=True)
    assert '"64 64 512"' in (repository / f"{NAME.replace('96', '64')}-dynamic" / "config.pbtxt").read_text()


@pytest.mark.parametrize(
    ("config", "says"),
    [("name: 'theirs'\n", "edgeir did not write this configuration"), (None, "has no configuration")],
)
def test_a_model_that_is_not_ours(make_bundle: MakeBundle, repository: Path, config: str | None, says: str) -> None:
    (repository / NAME / "1").mkdir(parents=True)
    if config:
        (repository / NAME / "config.pbtxt").write_text(config)
    with pytest.raises(OutputError, match=says):
        publish(make_bundle(), repository)
    assert not (repository / NAME / "2").exists()
    assert publish(make_bundle(), repository, force=True).models[0].version == 2


def test_a_full_disk_leaves_nothing(make_bundle: MakeBundle, repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(make_bundle(), repository)
    before = files(repository)
    real = triton_repository.shutil.copyfile

    def full(source: Path, target: Path) -> Path:
        if target.name == "model.plan":
            raise OSError(errno.ENOSPC, "No space left on device", str(target))
        return Path(real(source, target))

    monkeypatch.setattr(triton_repository.shutil, "copyfile", full)
    with pytest.raises(OutOfSpace):
        publish(make_bundle(graph=b"another", engines=(PLAN,)), repository)
    assert files(repository) == before
    assert sorted(path.name for path in repository.iterdir()) == [NAME]


def test_interrupted_at_the_last_step(
    make_bundle: MakeBundle, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(make_bundle(), repository)
    before = files(repository)

    def interrupted(path: Path, data: bytes) -> None:
        if "tensorrt" in str(path):
            raise KeyboardInterrupt
        path.write_bytes(data)

    monkeypatch.setattr(triton_repository, "atomic_write_bytes", interrupted)
    with pytest.raises(KeyboardInterrupt):
        publish(make_bundle(graph=b"another", engines=(PLAN,)), repository, force=True)
    assert files(repository) == before
    assert sorted(path.name for path in repository.iterdir()) == [NAME]


def test_what_a_killed_run_left_is_cleared(make_bundle: MakeBundle, repository: Path) -> None:
    left = repository / NAME / ".edgeir-1-abc.tmp"
    left.mkdir(parents=True)
    (left / "model.onnx").write_bytes(b"half")
    publish(make_bundle(), repository)
    assert sorted(path.name for path in (repository / NAME).iterdir()) == ["1", "config.pbtxt"]


def test_a_file_that_changes_while_it_is_copied(make_bundle: MakeBundle, repository: Path) -> None:
    bundle = make_bundle()
    (bundle.path / "model.onnx").write_bytes(b"changed")
    with pytest.raises(BundleError, match="changed while it was copied"):
        publish(bundle, repository)
    assert not repository.exists()


def test_what_stands_in_the_way(make_bundle: MakeBundle, repository: Path) -> None:
    repository.mkdir()
    (repository / NAME).write_text("theirs")
    for force in (False, True):
        with pytest.raises(OutputError, match=rf"{NAME}: it is a file .*a folder for the model"):
            publish(make_bundle(), repository, force=force)
    assert (repository / NAME).read_text() == "theirs"
    (repository / NAME).unlink()
    (repository / NAME / "config.pbtxt").mkdir(parents=True)
    with pytest.raises(OutputError, match=r"config\.pbtxt: it is a folder"):
        publish(make_bundle(), repository)
    assert sorted(path.name for path in (repository / NAME).iterdir()) == ["config.pbtxt"]


def test_where_it_may_not_lie(make_bundle: MakeBundle, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="it is a file"):
        require_repository(tmp_path / "file")
    with pytest.raises(OutputError, match="this is a bundle"):
        require_repository(make_bundle().path)
    with pytest.raises(OutputError, match="no such folder"):
        require_repository(tmp_path / "not" / "there")
    require_repository(tmp_path / "new")
