"""The plugin library's build: real where TensorRT's headers and nvcc are here, its book-keeping everywhere."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from edgeir.errors import BuildFailed, MissingDependency, UsageError
from edgeir.ops import toolchain
from edgeir.ops.tensorrt import library

NVCC = """#!/bin/sh
echo "nvcc: NVIDIA (R) Cuda compiler driver"
echo "Cuda compilation tools, release 13.0, V13.0.88"
"""
# Configures and builds nothing: writes what it was told where the library would be.
CMAKE = """#!/bin/sh
if [ -n "$BREAK" ]; then echo "noise"; echo "plugins.cpp:7: error: no such thing" >&2; exit 2; fi
case "$1" in
  -S) mkdir -p "$4"; echo "$@" > "$4/arguments" ;;
  --build) if [ -z "$EMPTY" ]; then cp "$2/arguments" "$2/libedgeir_plugins.so"; fi ;;
esac
"""


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand-ins for nvcc and CMake in front of the PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in (("nvcc", NVCC), ("cmake", CMAKE)):
        (folder / name).write_text(text, encoding="utf-8")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


@pytest.fixture
def fake_headers(tmp_path: Path) -> Path:
    return headers_of(tmp_path / "include", "10", "3", "0")


def headers_of(folder: Path, *numbers: str, prefix: str = "NV_TENSORRT_", suffix: str = "") -> Path:
    folder.mkdir()
    (folder / "NvInfer.h").touch()
    names = ("MAJOR", "MINOR", "PATCH")
    lines = [
        f"#define {prefix}{name}{suffix} {number} //!< a part" for name, number in zip(names, numbers, strict=True)
    ]
    (folder / "NvInferVersion.h").write_text("\n".join(lines), encoding="utf-8")
    return folder


def test_a_build_is_made_once(tools: Path, fake_headers: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "plugins"
    made, now = library.build(fake_headers, ("87", "110"), folder)
    assert now
    assert made.is_current
    assert made.key.name.startswith("libedgeir_plugins-tensorrt10.3.0-sm87-sm110-")
    told = made.path.read_text(encoding="utf-8")
    assert "-DCMAKE_CUDA_ARCHITECTURES=87-real;110-real" in told
    assert f"-DEDGEIR_TENSORRT_INCLUDE={fake_headers}" in told
    assert sorted(file.name for file in made.path.parent.iterdir()) == ["build.json", "libedgeir_plugins.so"]
    assert [file.name for file in folder.iterdir()] == [made.key.name]
    again, now = library.build(fake_headers, ("87", "110"), folder)
    assert (again, now) == (made, False)
    assert library.build(fake_headers, ("87", "110"), folder, force=True) == (made, True)
    assert library.built_libraries(folder) == (made,)
    assert library.built_libraries(tmp_path / "nothing") == ()


def test_whatever_changes_it_is_another_build(
    tools: Path, fake_headers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "plugins"
    first, _ = library.build(fake_headers, ("87",), folder)
    other, _ = library.build(fake_headers, ("89",), folder)
    newer, _ = library.build(headers_of(tmp_path / "include11", "11", "1", "0"), ("87",), folder)
    (tools / "nvcc").write_text(NVCC.replace("13.0.88", "12.6.68"), encoding="utf-8")
    older, _ = library.build(fake_headers, ("87",), folder)
    monkeypatch.setattr(library, "sources_digest", lambda: "0" * 64)
    edited, _ = library.build(fake_headers, ("87",), folder)
    assert len({one.path for one in (first, other, newer, older, edited)}) == 5
    assert [one.is_current for one in (first, edited)] == [False, True]
    assert len(library.built_libraries(folder)) == 5


def test_what_is_no_whole_build_is_built_again(tools: Path, fake_headers: Path, tmp_path: Path) -> None:
    folder = tmp_path / "plugins"
    made, _ = library.build(fake_headers, ("87",), folder)
    record = made.path.parent / library.RECORD
    for damage in ("", "{}", json.dumps({"sources": 1, "architectures": ["87"], "cuda": "", "tensorrt": ""})):
        record.write_text(damage, encoding="utf-8")
        assert library.built_libraries(folder) == ()
        assert library.build(fake_headers, ("87",), folder) == (made, True)
    made.path.unlink()
    assert library.build(fake_headers, ("87",), folder)[1]


def test_a_failed_build_leaves_nothing(
    tools: Path, fake_headers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "plugins"
    kept, _ = library.build(fake_headers, ("87",), folder)
    monkeypatch.setenv("BREAK", "1")
    with pytest.raises(BuildFailed, match=r"cmake ended with exit status 2 .got plugins.cpp:7: error: no such thing"):
        library.build(fake_headers, ("89",), folder)
    monkeypatch.delenv("BREAK")
    monkeypatch.setenv("EMPTY", "1")
    with pytest.raises(BuildFailed, match=r"CMake made no library"):
        library.build(fake_headers, ("87",), folder, force=True)
    assert [file.name for file in folder.iterdir()] == [kept.key.name]
    assert library.built_libraries(folder) == (kept,)


def test_headers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    enterprise = headers_of(tmp_path / "eleven", "11", "1", "0", prefix="TRT_", suffix="_ENTERPRISE")
    assert library.headers_version(enterprise) == "11.1.0"
    assert library.find_headers(enterprise) == enterprise
    old = headers_of(tmp_path / "old", "8", "6", "1")
    with pytest.raises(UsageError, match=r"know no IPluginV3 .expected TensorRT 10.0 or later, got 8.6.1"):
        library.headers_version(old)
    (old / "NvInferVersion.h").write_text("", encoding="utf-8")
    with pytest.raises(UsageError, match=r"does not say which version it is"):
        library.headers_version(old)
    with pytest.raises(UsageError, match=r"NvInfer.h is not there.*--headers"):
        library.find_headers(tmp_path)
    monkeypatch.setattr(library, "_USUAL_FOLDERS", (str(tmp_path),))
    with pytest.raises(MissingDependency, match=r"TensorRT's headers are not on this machine.*--headers FOLDER"):
        library.find_headers(None)
    monkeypatch.setattr(library, "_USUAL_FOLDERS", (str(tmp_path), str(enterprise)))
    assert library.find_headers(None) == enterprise


@pytest.mark.parametrize(("text", "names"), [("87", ("87",)), ("sm110, SM_87,87", ("87", "110"))])
def test_architectures(text: str, names: tuple[str, ...]) -> None:
    assert library.parse_architectures(text) == names


@pytest.mark.parametrize("text", ["", "75", "orin", "87,", "8.7", "99999"])
def test_architectures_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match=r"--sm: is no list of compute capabilities from 8.0 on"):
        library.parse_architectures(text)


def test_the_folder_is_in_the_users_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert library.default_folder() == tmp_path / "edgeir" / "plugins"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert library.default_folder() == tmp_path / "home" / ".cache" / "edgeir" / "plugins"


def test_files_that_are_no_library(tmp_path: Path) -> None:
    file = tmp_path / library.LIBRARY
    file.write_bytes(b"no ELF")
    with pytest.raises(MissingDependency, match=r"cannot be loaded .*edgeir plugins build"):
        library.open_library(file)


@pytest.mark.slow
def test_the_real_build(headers: Path, tmp_path: Path) -> None:
    """Nvcc and CMake make a library against these headers that loads without TensorRT and says what it is."""
    if shutil.which("nvcc") is None or shutil.which("cmake") is None:
        pytest.skip("nvcc or CMake is not on this machine: the plugin library is not built")
    made, now = library.build(headers, ("87",), tmp_path)
    assert now
    opened = library.open_library(made.path)
    assert library.differences(opened) == []
    assert opened.edgeir_key_graph_fits(1, 1024, 180, 512, 1) == 1


def test_compilers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tools: Path) -> None:
    assert toolchain.nvcc_version(toolchain.find("nvcc")) == "13.0.88"
    (tools / "nvcc").write_text("#!/bin/sh\necho hello\n", encoding="utf-8")
    with pytest.raises(MissingDependency, match=r"does not say its version .got hello"):
        toolchain.nvcc_version(toolchain.find("nvcc"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))  # whose bin folder has both
    assert toolchain.find("nvcc") == tools / "nvcc"
    for name in ("CUDA_HOME", "CUDA_PATH"):
        monkeypatch.delenv(name, raising=False)
    real: Callable[..., str | None] = shutil.which
    monkeypatch.setattr(toolchain.shutil, "which", lambda name, path=None: None if path else real(name))
    with pytest.raises(MissingDependency, match=r"cmake is not on this machine. Install CMake 3.18 or later"):
        toolchain.find("cmake")
