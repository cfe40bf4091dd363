"""Writing: all or nothing, and every refusal is one sentence of the right class."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from edgeir import storage
from edgeir.errors import OutOfSpace, OutputError
from edgeir.storage import alone, atomic_write_bytes, flush_file, sha256_of, writing


@contextlib.contextmanager
def full_disk(where: Path) -> Iterator[Path]:
    """A real file system of 1 MB at ``where``; skips the test where mounting is not allowed."""
    if not sys.platform.startswith("linux"):
        pytest.skip("a small disk is mounted on Linux only")
    where.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(where)], capture_output=True, text=True, check=False
    )
    if mount.returncode:
        pytest.skip(f"no small disk can be mounted here: {mount.stderr.strip()}")
    try:
        yield where
    finally:
        subprocess.run(["umount", str(where)], check=True)


def unwritable_folder(tmp_path: Path) -> Path:
    """A folder that nobody here may write in; root may write everywhere but in /proc."""
    if os.geteuid() == 0:
        return Path("/proc")
    folder = tmp_path / "read-only"
    folder.mkdir()
    folder.chmod(0o555)
    return folder


def test_writes_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    atomic_write_bytes(path, b"one")
    atomic_write_bytes(path, b"two")
    assert path.read_bytes() == b"two"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.bin"]
    assert sha256_of(path) == (3, hashlib.sha256(b"two").hexdigest())


def test_a_full_disk_keeps_the_old_file(tmp_path: Path) -> None:
    with full_disk(tmp_path / "small") as disk:
        path = disk / "a.bin"
        atomic_write_bytes(path, b"old")
        with pytest.raises(OutOfSpace, match=r"a\.bin: the disk has no room left"):
            atomic_write_bytes(path, bytes(2 << 20))
        assert path.read_bytes() == b"old"
        assert [entry.name for entry in disk.iterdir()] == ["a.bin"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_disk_that_fills_while_flushing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    path = tmp_path / "a.bin"
    atomic_write_bytes(path, b"old")

    def full(handle: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(storage.os, "fsync", full)
    with pytest.raises(OutOfSpace) as caught:
        atomic_write_bytes(path, b"new")
    assert caught.value.exit_code == 3
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.bin"]


def test_ctrl_c_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(handle: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(storage.os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        atomic_write_bytes(tmp_path / "a.bin", b"new")
    assert not list(tmp_path.iterdir())


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"x\.bin: the folder does not exist\. Make the folder first"):
        atomic_write_bytes(tmp_path / "none" / "x.bin", b"")


def test_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="is a file, not a folder"):
        atomic_write_bytes(tmp_path / "file" / "x.bin", b"")


def test_unwritable_folder(tmp_path: Path) -> None:
    with pytest.raises(OutputError) as caught:
        atomic_write_bytes(unwritable_folder(tmp_path) / "x.bin", b"")
    assert caught.value.exit_code == 2
    assert "x.bin" in str(caught.value)


def test_a_name_that_is_too_long(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="the name is too long"), writing(tmp_path / "x"):
        (tmp_path / ("x" * 300)).write_bytes(b"")


@pytest.mark.skipif(os.name != "posix", reason="files elsewhere are flushed through a handle that may write")
def test_a_file_that_may_only_be_read_is_flushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may open anything for writing, so that the way it is opened is what is looked at."""
    (tmp_path / "a").write_bytes(b"one")
    modes: list[str] = []
    opened = Path.open

    def noted(self: Path, mode: str = "r") -> IO[Any]:
        modes.append(mode)
        return opened(self, mode)

    monkeypatch.setattr(Path, "open", noted)
    flush_file(tmp_path / "a")
    assert modes == ["rb"]


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such locks")
def test_one_at_a_time(tmp_path: Path) -> None:
    """Many who wait for a file that each holder removes: never two at once, and nothing is left."""
    inside, most = 0, 0

    def work() -> None:
        nonlocal inside, most
        for _ in range(20):
            with alone(tmp_path / "lock"):
                inside += 1
                most = max(most, inside)
                time.sleep(0.0005)
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (inside, most) == (0, 1)
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="ours"), alone(tmp_path / "lock"):
        raise ValueError("ours")
    assert not list(tmp_path.iterdir())
    with pytest.raises(OutputError, match="the folder does not exist"), alone(tmp_path / "none" / "lock"):
        pytest.fail("entered")


def test_an_unknown_reason_is_quoted(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written: Input/output error"), writing(tmp_path / "x"):
        raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_other_errors_pass(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="ours"), writing(tmp_path / "x"):
        raise ValueError("ours")
