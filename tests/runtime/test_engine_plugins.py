"""Libraries of plugins: loaded from listed paths alone, before the engine that needs them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from edgeir.bundle import Bundle
from edgeir.errors import MissingDependency, UsageError
from edgeir.ops.table import FUSED_OPS
from edgeir.runtime.engine_session import EngineSession
from edgeir.runtime.opening import open_session

SIZE = (1, 3, 8, 8)


@pytest.fixture
def library(tmp_path: Path) -> Path:
    path = tmp_path.resolve() / "libedgeir_plugins.so"
    path.write_text("plugins: " + " ".join(op.name for op in FUSED_OPS))
    return path


@pytest.fixture
def needs(device: Any, tmp_path: Path) -> Bundle:
    files = {"model.tensorrt-10.3-plugins.onnx": ("prepared", device.onnx_bytes())}
    made = device.make_bundle(tmp_path / "bundle", {"tensorrt": device.plan(SIZE)}, parents=tuple(files), files=files)
    assert isinstance(made, Bundle)
    return made


def test_a_missing_plugin(fakes: Any, needs: Bundle) -> None:
    with pytest.raises(MissingDependency, match=r"needs edgeir's plugins.*EdgeirKeyGraph.*edgeir plugins build"):
        EngineSession(needs, "tensorrt")
    assert fakes.deserialized == []


def test_an_engine_that_was_built_with_them(fakes: Any, device: Any, tmp_path: Path) -> None:
    bundle = device.make_bundle(tmp_path / "b", {"tensorrt-plugins": device.plan(SIZE)})
    with pytest.raises(MissingDependency, match=r"needs edgeir's plugins"):
        EngineSession(bundle, "tensorrt")
    assert fakes.deserialized == []


def test_they_are_loaded_from_the_listed_path(fakes: Any, needs: Bundle, library: Path) -> None:
    with EngineSession(needs, "tensorrt", plugins=[library]):
        assert fakes.trt.registry._opened == [str(library)]
        assert fakes.trt.registry._libraries
    assert not fakes.trt.registry._libraries, "taken out again"


def test_some_of_them_are_not_enough(fakes: Any, needs: Bundle, library: Path) -> None:
    library.write_text("plugins: EdgeirKeyGraph")
    with pytest.raises(MissingDependency, match="expected EdgeirKeyGraphAttention, EdgeirGstAttention"):
        EngineSession(needs, "tensorrt", plugins=[library])
    assert fakes.deserialized == []


def test_a_library_without_plugins(fakes: Any, needs: Bundle, library: Path) -> None:
    library.write_text("nothing")
    with pytest.raises(MissingDependency, match=r"cannot load the library \(got no plugins in it"):
        EngineSession(needs, "tensorrt", plugins=[library])


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("relative.so", r"must be absolute \(got relative\.so\)\. Name it as /"),
        ("/nowhere/x.so", r"no such library \(got /nowhere/x\.so: No such file or directory\)"),
        ("link", r"may not be named by a link \(got \S+link\.so\)\. Name \S+libedgeir_plugins\.so"),
        ("through a link", r"may not be named by a link"),
        ("dots", r"may not be named by a link \(got \S+/\.\./\S+\)"),
        ("folder", r"a library is a regular file"),
        ("pipe", r"a library is a regular file"),
    ],
)
def test_paths(fakes: Any, needs: Bundle, library: Path, name: str, says: str) -> None:
    folder = library.parent
    path = {"link": folder / "link.so", "folder": folder / "folder", "pipe": folder / "pipe"}.get(name, Path(name))
    if name == "link":
        path.symlink_to(library)
    elif name == "through a link":
        (folder / "other").symlink_to(folder)
        path = folder / "other" / library.name
    elif name == "dots":
        path = Path(f"{folder}/../{folder.name}/{library.name}")
    elif name == "folder":
        path.mkdir()
    elif name == "pipe":
        os.mkfifo(path)
    with pytest.raises(UsageError, match=f"--plugins: .*{says}"):
        EngineSession(needs, "tensorrt", plugins=[path])
    assert fakes.trt.registry._opened == []
    assert fakes.deserialized == []


@pytest.mark.parametrize("backend", ["rtx", "ort"])
def test_other_backends_take_none(fakes: Any, device: Any, tmp_path: Path, library: Path, backend: str) -> None:
    bundle = device.make_bundle(tmp_path / "b", {"rtx": device.plan(SIZE)})
    with pytest.raises(UsageError, match=r"--plugins: .*takes no .*plugins\. Leave --plugins out"):
        open_session(bundle, backend, plugins=[library])
