"""Compiled kernels that are kept: found again, and not believed where anybody could have written them."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeir.runtime.engine_session import EngineSession
from edgeir.runtime.runtime_cache import RuntimeCacheFile, cache_folder

KEY = ("0" * 64, "1.7.1", "sm89", "FAKE 40", "13.2")
posix = pytest.mark.skipif(os.name != "posix", reason="owners and modes of files are POSIX's")


@pytest.fixture
def said() -> list[str]:
    return []


def file_in(folder: Path, said: list[str], key: tuple[str, ...] = KEY) -> RuntimeCacheFile:
    return RuntimeCacheFile(key, said.append, folder)


def test_what_is_written_is_read(tmp_path: Path, said: list[str]) -> None:
    file_in(tmp_path, said).write(b"kernels")
    again = file_in(tmp_path, said)
    assert again.read() == b"kernels"
    before = again.path.stat().st_mtime_ns
    again.write(b"kernels")
    assert again.path.stat().st_mtime_ns == before, "nothing new, nothing written"
    assert said == []
    assert [path.name for path in again.path.parent.iterdir()] == [again.path.name], "no half-written file"


@pytest.mark.parametrize("part", range(len(KEY)))
def test_every_part_of_the_key_counts(tmp_path: Path, said: list[str], part: int) -> None:
    file_in(tmp_path, said).write(b"kernels")
    other = tuple("other" if index == part else value for index, value in enumerate(KEY))
    assert file_in(tmp_path, said, other).read() is None
    assert said == []


@pytest.mark.parametrize("how", ["flipped", "cut", "empty", "another file"])
def test_a_damaged_file_is_ignored_and_said(tmp_path: Path, said: list[str], how: str) -> None:
    file = file_in(tmp_path, said)
    file.write(b"kernels")
    data = file.path.read_bytes()
    changed = {"flipped": data[:-1] + b"S", "cut": data[:-2], "empty": b"", "another file": b"x" * len(data)}[how]
    file.path.write_bytes(changed)
    again = file_in(tmp_path, said)
    assert again.read() is None
    assert len(said) == 1
    assert said[0].endswith("are ignored: it is damaged. They are compiled again.")
    again.write(b"kernels")
    assert file_in(tmp_path, said).read() == b"kernels"


@posix
def test_a_file_that_others_could_have_written(tmp_path: Path, said: list[str], monkeypatch: Any) -> None:
    file = file_in(tmp_path, said)
    file.write(b"kernels")
    assert file.path.stat().st_mode & 0o777 == 0o600
    assert file.path.parent.stat().st_mode & 0o777 == 0o700
    file.path.chmod(0o622)
    assert file_in(tmp_path, said).read() is None
    assert "others may write it" in said[-1]
    file.path.chmod(0o600)
    monkeypatch.setattr(os, "getuid", lambda: file.path.stat().st_uid + 1)
    assert file_in(tmp_path, said).read() is None
    assert "belongs to somebody else" in said[-1]


@posix
def test_a_folder_that_others_can_write_into(tmp_path: Path, said: list[str]) -> None:
    file = file_in(tmp_path, said)
    file.write(b"kernels")
    file.path.parent.chmod(0o770)
    assert file_in(tmp_path, said).read() is None
    assert "are ignored: others may write into its folder." in said[-1]


def test_a_link_and_a_folder(tmp_path: Path, said: list[str]) -> None:
    file = file_in(tmp_path, said)
    file.write(b"kernels")
    file.path.rename(tmp_path / "away")
    file.path.symlink_to(tmp_path / "away")
    assert file_in(tmp_path, said).read() is None
    assert "it is a link" in said[-1]
    file.path.unlink()
    file.path.mkdir()
    assert file_in(tmp_path, said).read() is None
    assert "Is a directory" in said[-1]


def test_what_cannot_be_written_is_said_and_no_error(tmp_path: Path, said: list[str]) -> None:
    (tmp_path / "runtime").write_text("a file where the folder would be")
    file_in(tmp_path, said).write(b"kernels")
    assert said[0].startswith("The compiled kernels could not be kept for the next run:")


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="XDG is the convention of other systems")
def test_the_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "edgeir"
    for unusable in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", unusable)
        assert cache_folder() == Path.home() / ".cache" / "edgeir"


class TestInASession:
    def test_a_user_without_a_home(
        self, fakes: Any, device: Any, tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def none() -> Path:
            raise RuntimeError("Could not determine home directory.")

        monkeypatch.setattr(Path, "home", none)
        bundle = device.make_bundle(tmp_path / "b", {"rtx": device.plan((1, 3, 8, 8))})
        self.run(bundle, said)
        assert said == []  # $XDG_CACHE_HOME is elsewhere
        monkeypatch.delenv("XDG_CACHE_HOME")
        self.run(bundle, said)
        assert said == ["There is no home folder to keep compiled kernels in: they are compiled at every start."]

    @staticmethod
    def run(bundle: Any, said: list[str]) -> None:
        with EngineSession(bundle, "rtx", say=said.append) as session:
            session.run(np.zeros((1, 3, 8, 8), np.float32))

    def test_kernels_are_compiled_once(self, fakes: Any, device: Any, tmp_path: Path, said: list[str]) -> None:
        bundle = device.make_bundle(tmp_path / "b", {"rtx": device.plan((1, 3, 8, 8))})
        for _ in range(3):
            self.run(bundle, said)
        assert fakes.rtx.compiled == ["1x3x8x8"]
        assert len(list((tmp_path / "cache" / "edgeir" / "runtime").iterdir())) == 1
        assert said == []

    def test_another_environment(self, fakes: Any, device: Any, tmp_path: Path, said: list[str]) -> None:
        bundle = device.make_bundle(tmp_path / "b", {"rtx": device.plan((1, 3, 8, 8))})
        self.run(bundle, said)
        fakes.rtx.cache_environment = "there"
        self.run(bundle, said)
        assert len(said) == 1
        assert "are ignored: the runtime refuses them. They are compiled again." in said[0]
        self.run(bundle, said)
        assert len(said) == 1
        assert len(fakes.rtx.compiled) == 2

    def test_a_runtime_that_takes_none(self, fakes: Any, device: Any, tmp_path: Path, said: list[str]) -> None:
        bundle = device.make_bundle(tmp_path / "b", {"rtx": device.plan((1, 3, 8, 8))})
        fakes.rtx.refuse["set_runtime_cache"] = "no"
        self.run(bundle, said)
        assert said == ["TensorRT-RTX takes no cache of compiled kernels here: they are compiled at every start."]
