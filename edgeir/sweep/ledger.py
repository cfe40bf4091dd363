"""The ledger: ``trials.jsonl``, one row per line, appended so that a kill at any moment costs the last line at most."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from edgeir.errors import UsageError
from edgeir.storage import atomic_write_bytes, writing
from edgeir.sweep.outcome import Outcome

LEDGER_NAME = "trials.jsonl"
PICTURES = "pictures"
"""Folder beside it: PNGs that rows name."""


class Ledger:
    """An open ledger; one process at a time holds it.

    Args:
        folder: of the sweep; it is made where it is missing.

    Attributes:
        rows: everything in it, oldest first.
        cut_bytes: length of a last line that a kill left half-written, which was cut off; else 0.

    Raises:
        UsageError: another sweep holds it, or a line in it is not a row.
        OutputError, OutOfSpace: it cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / LEDGER_NAME
        with writing(self._path):
            folder.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("a+b", buffering=0)
        try:
            _hold(self._file, self._path)
            self._file.seek(0)
            content = self._file.read() or b""
            whole, self.cut_bytes = _whole_lines(content)
            self.rows = _parse(whole, self._path)
            if self.cut_bytes:
                with writing(self._path):
                    self._file.truncate(len(whole))
                    os.fsync(self._file.fileno())
        except BaseException:
            self._file.close()
            raise

    def append(self, outcome: Outcome) -> None:
        """Put one row on the disk, in one write; it is there when this returns.

        Raises:
            OutputError, OutOfSpace: it is not; a part of it is cut off by whoever opens the ledger next.
        """
        data = outcome.to_line().encode("utf-8", "replace")
        with writing(self._path):
            while data:
                data = data[self._file.write(data) :]
            os.fsync(self._file.fileno())
        self.rows.append(outcome)

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def read_rows(folder: Path) -> list[Outcome]:
    """The rows of a sweep's folder, oldest first, without changing or holding anything.

    Raises:
        UsageError: there is no ledger, or a line in it is not a row; a half-written last line is left out.
    """
    path = folder / LEDGER_NAME
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(
            "this is not the folder of a sweep", where=str(folder), expected=f"a file {LEDGER_NAME} in it"
        ) from error
    return _parse(_whole_lines(content)[0], path)


def latest(rows: Iterable[Outcome]) -> dict[str, Outcome]:
    """By key: the last row that is ok, or else the last."""
    found: dict[str, Outcome] = {}
    for row in rows:
        if row.ok or not (row.key in found and found[row.key].ok):
            found[row.key] = row
    return found


def write_merged(folders: Iterable[Path], out: Path) -> list[Outcome]:
    """Write one ledger from those of several machines; rows keep their device, doubles of a key become one.

    Raises:
        UsageError: a folder has no ledger, or ``out`` already has one.
    """
    rows = list(latest(row for folder in folders for row in read_rows(folder)).values())
    path = out / LEDGER_NAME
    if path.exists():
        raise UsageError("there is a sweep already", where=str(path), fix="Name another folder with --out.")
    with writing(path):
        out.mkdir(parents=True, exist_ok=True)
    atomic_write_bytes(path, "".join(row.to_line() for row in rows).encode("utf-8", "replace"))
    return rows


def copy_pictures(folders: Iterable[Path], out: Path) -> None:
    """Bring the pictures of several sweeps into one folder; those of a key are the same wherever they lie.

    Raises:
        OutputError, OutOfSpace: they cannot be written.
    """
    for folder in folders:
        if (folder / PICTURES).is_dir():
            with writing(out / PICTURES):
                shutil.copytree(folder / PICTURES, out / PICTURES, dirs_exist_ok=True)


def _whole_lines(content: bytes) -> tuple[bytes, int]:
    """The lines that end in a line break, and how many bytes follow them."""
    length = content.rfind(b"\n") + 1
    return content[:length], len(content) - length


def _parse(content: bytes, path: Path) -> list[Outcome]:
    lines = content.decode("utf-8", "replace").split("\n")[:-1]
    return [Outcome.from_line(line, where=f"{path}:{number}") for number, line in enumerate(lines, 1)]


def _hold(file: BinaryIO, path: Path) -> None:
    """Lock it for this process; the system lets go when the process ends, however it ends."""
    if sys.platform == "win32":
        return
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise UsageError(
            "another sweep is writing there", where=str(path), fix="Wait for it, or name another folder with --out."
        ) from error
