"""The wheel for a device: from sources or from an installed copy, the same modules, and what is no wheel of edgeir."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgeir.errors import MissingDependency, UsageError
from edgeir.remote import wheel
from edgeir.remote.install import Installation, _environment_name, check_requirements


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of these sources."""
    return wheel.make_wheel(tmp_path_factory.mktemp("wheel"))


def test_from_the_sources(built: Path) -> None:
    names = zipfile.ZipFile(built).namelist()
    assert wheel.check_wheel(built) == built
    assert {"edgeir/remote/board.py", "edgeir/export/engines/worker.py"} <= set(names)
    assert {name.split("/")[0] for name in names} == {"edgeir", f"edgeir-{built.name.split('-')[1]}.dist-info"}


def test_from_an_installed_copy(built: Path, tmp_path: Path) -> None:
    """Installed by pip and packed again, it holds the same files, and pip takes it."""
    installed, packed = tmp_path / "installed", tmp_path / "packed"
    packed.mkdir()
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-compile", "--target"]
    subprocess.run([*pip, str(installed), str(built)], check=True, capture_output=True)
    distribution = next(iter(metadata.distributions(name="edgeir", path=[str(installed)])))
    again = wheel._pack(distribution, packed)
    assert again.name == built.name

    def files(path: Path) -> dict[str, bytes]:
        with zipfile.ZipFile(path) as archive:
            return {name: archive.read(name) for name in archive.namelist() if not name.endswith("RECORD")}

    assert files(again) == files(built)
    subprocess.run([*pip, str(tmp_path / "once more"), str(again)], check=True, capture_output=True)
    (installed / "edgeir" / "bundle.py").unlink()
    with pytest.raises(MissingDependency, match="files of the installed edgeir are missing"):
        wheel._pack(distribution, packed)


def test_the_digest_is_of_the_contents(tmp_path: Path) -> None:
    def archive(name: str, files: dict[str, str], date: tuple[int, ...]) -> Path:
        path = tmp_path / name
        with zipfile.ZipFile(path, "w") as out:
            for file, text in files.items():
                out.writestr(zipfile.ZipInfo(file, date), text)  # type: ignore[arg-type]
        return path

    first = archive("a", {"x": "1", "y": "2"}, (2020, 1, 1, 0, 0, 0))
    same = archive("b", {"y": "2", "x": "1"}, (2021, 1, 1, 0, 0, 0))
    other = archive("c", {"x": "2", "y": "1"}, (2020, 1, 1, 0, 0, 0))
    assert wheel.content_digest(first) == wheel.content_digest(same) != wheel.content_digest(other)


@pytest.mark.parametrize(("version", "isolated"), [(None, True), ("68.0.0", True), ("77.0.1", False)])
def test_where_setuptools_is_missing_or_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str | None, isolated: bool
) -> None:
    """Pip then makes an environment of its own to build in, which it needs no option for."""
    if version is None:
        monkeypatch.setattr(wheel.importlib.util, "find_spec", lambda name: None)
    else:
        monkeypatch.setattr(wheel.metadata, "version", lambda name: version)
    called: list[list[str]] = []

    def pip(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        called.append(command)
        (tmp_path / "edgeir-1.0-py3-none-any.whl").touch()
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(wheel.subprocess, "run", pip)
    wheel.make_wheel(tmp_path)
    assert ("--no-build-isolation" not in called[0]) == isolated
    assert "--build-isolation" not in called[0]
    monkeypatch.undo()
    options = [word for word in called[0] if word.startswith("--")]
    known = subprocess.run([sys.executable, "-m", "pip", "wheel", "--help"], capture_output=True, text=True, check=True)
    assert all(option in known.stdout for option in options)


def test_extras(built: Path) -> None:
    assert wheel.check_extras(built, ["nvml", "gpu"]) == ("nvml", "gpu")
    assert wheel.check_extras(built, []) == ()
    with pytest.raises(UsageError, match=r"--extra: edgeir has no extra 'gqu'\. Did you mean 'gpu'\?"):
        wheel.check_extras(built, ["nvml", "gqu"])


def test_what_makes_two_installations_the_same(built: Path, tmp_path: Path) -> None:
    """The same wheel, requirements and extras; and the wheels that were named to take them from."""
    found = SimpleNamespace(python="/p", python_version="3.10.12")

    def name(wheels: Path | None = None, **more: Any) -> str:
        return _environment_name(found, Installation(built, ("onnxruntime",), wheels=wheels, **more))  # type: ignore[arg-type]

    folder = tmp_path / "wheels"
    folder.mkdir()
    names = {name(), name(extras=("nvml",))}
    (folder / "a-1.0-py3-none-any.whl").write_bytes(b"one")
    names.add(name(folder))
    (folder / "a-1.0-py3-none-any.whl").write_bytes(b"longer")
    names.add(name(folder))
    (folder / "a-1.0-py3-none-any.whl").rename(folder / "a-1.1-py3-none-any.whl")
    names.add(name(folder))
    assert len(names) == 5
    assert name() == name(again=True)


@pytest.mark.parametrize("name", ["edgeir-1.0-cp311-cp311-linux_x86_64.whl", "other-1.0-py3-none-any.whl", "gone.whl"])
def test_what_is_no_wheel_of_edgeir(tmp_path: Path, name: str) -> None:
    if not name.startswith("gone"):
        (tmp_path / name).touch()
    with pytest.raises(UsageError, match="no wheel of edgeir"):
        wheel.check_wheel(tmp_path / name)


@pytest.mark.parametrize(
    "word", ["--index-url=http://x", "-e .", "git+https://x", "a;b", "/tmp/x.whl", "", "a @ file:///x"]
)
def test_what_is_no_requirement(word: str) -> None:
    with pytest.raises(UsageError, match="no requirement of pip"):
        check_requirements([word])


def test_requirements() -> None:
    words = ("onnxruntime", "onnxruntime==1.23.0", "tensorrt-rtx-cu13>=1.7,<1.8", "a[b,c] ~= 2")
    assert check_requirements(words) == words
