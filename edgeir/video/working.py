"""The folder that a run works in, so that one that was stopped or killed goes on where it was.

It lies beside the output, hidden: ``.OUTPUT.edgeir-work``. ``job.json`` says what is being done, by the hashes of all
that the result depends on; every finished segment is two files, its packets and its times, the second written last.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgeir.errors import OutputError
from edgeir.storage import atomic_write_bytes, flush_file, sha256_of, storage_error, writing
from edgeir.video.encoder import Written

RECORDING = "recording"  # a name in the job of a camera: what is lost cannot be restored again from its input
_JOB = "job.json"
_SUFFIX = ".edgeir-work"


@dataclass(frozen=True, slots=True)
class Segment:
    """A finished segment.

    Attributes:
        path: its packets.
        times: (presentation time, duration) of each frame, in ticks.
        header: the codec's parameter sets.
    """

    path: Path
    times: tuple[tuple[int, int], ...]
    header: bytes


def working_folder(output: Path) -> Path:
    """The folder that belongs to ``output``, on its disk also where ``output`` is a link."""
    target = Path(os.path.realpath(output))
    return target.with_name(f".{target.name}{_SUFFIX}")


def unfinished_job(output: Path) -> dict[str, object] | None:
    """What an earlier run that did not finish ``output`` was doing, ``None`` without one."""
    try:
        before = json.loads((working_folder(output) / _JOB).read_bytes())
    except (OSError, ValueError):
        return None
    return before if isinstance(before, dict) else {}


class WorkingFolder:
    """The folder of one output, held by one process.

    Args:
        output: the file that is to come.
        job: everything the result depends on, as JSON values.

    Attributes:
        segments: those that are finished.
        started_anew: what an older run had left was for something else: the names in ``job`` that changed.

    Raises:
        OutputError: another process works on the same output, the folder cannot be written, or it holds a recording
            of a camera that has to be finished first.
    """

    def __init__(self, output: Path, job: Mapping[str, object]) -> None:
        self.path = working_folder(output)
        self.segments: list[Segment] = []
        self.started_anew: tuple[str, ...] = ()
        with writing(self.path):
            self.path.mkdir(exist_ok=True)
            self._lock = _hold(self.path)
        try:
            before = unfinished_job(output)
            now = json.loads(json.dumps(job))
            if before != now:
                if before is not None:
                    self._require_no_recording(before)
                    names = sorted(before.keys() | now.keys())
                    self.started_anew = tuple(name for name in names if before.get(name) != now.get(name))
                self._clear()
                atomic_write_bytes(self.path / _JOB, json.dumps(now, indent=2).encode())
            self._find_segments()
        except BaseException:
            with contextlib.suppress(OSError):
                self.path.rmdir()  # if it is empty
            self._unlock()
            raise

    @property
    def frames(self) -> int:
        """How many frames are finished."""
        return sum(len(segment.times) for segment in self.segments)

    def unfinished(self) -> Path:
        """Where the next segment is written until it is finished."""
        return self.path / f"{len(self.segments):06}.part"

    def finish(self, written: Written) -> None:
        """The file `unfinished` holds a whole segment: keep it.

        Raises:
            OutOfSpace, OutputError: it cannot be kept.
        """
        packets = self.path / f"{len(self.segments):06}.nut"
        part = self.unfinished()
        with writing(packets):
            flush_file(part)
            size, sha256 = sha256_of(part)
            part.replace(packets)
        record = {
            "bytes": size,
            "sha256": sha256,
            "header": written.header.hex(),
            "times": [list(time) for time in written.times],
        }
        atomic_write_bytes(packets.with_suffix(".json"), json.dumps(record).encode())
        self.segments.append(Segment(packets, written.times, written.header))

    def remove(self) -> None:
        """All is done: remove the folder."""
        shutil.rmtree(self.path, ignore_errors=True)
        self.release()

    def release(self) -> None:
        """Let another process have it; an empty folder goes."""
        if not self.segments:
            with contextlib.suppress(OSError):
                (self.path / _JOB).unlink(missing_ok=True)
                self.path.rmdir()
        self._unlock()

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _require_no_recording(self, before: Mapping[str, object]) -> None:
        if RECORDING in before and any(self.path.glob("*.nut")):
            raise OutputError(
                "a camera's recording that was not finished lies here",
                where=str(self.path),
                fix="Record to the same output again: that writes it to a file of its own first. Or remove the folder.",
            )

    def _clear(self) -> None:
        with writing(self.path):
            for file in self.path.iterdir():
                if file.is_file() or file.is_symlink():
                    file.unlink()

    def _find_segments(self) -> None:
        """Finished segments from the first on, up to the first that is not what its record says."""
        for number in range(sum(1 for _ in self.path.glob("*.json"))):
            packets = self.path / f"{number:06}.nut"
            try:
                record = json.loads(packets.with_suffix(".json").read_bytes())
                times = tuple((int(pts), int(duration)) for pts, duration in record["times"])
                header = bytes.fromhex(record["header"])
                if sha256_of(packets) != (record["bytes"], record["sha256"]):
                    break
            except (OSError, ValueError, LookupError, TypeError):
                break
            if self.segments and header != self.segments[0].header:
                break
            self.segments.append(Segment(packets, times, header))


def identity_of(path: Path) -> str:
    """What makes a file the same file: the hash of its content; raises the reading error as a sentence."""
    try:
        return sha256_of(path)[1]
    except OSError as error:
        raise storage_error(error, path) from error


def hash_of(data: bytes) -> str:
    """sha256 in hex."""
    return hashlib.sha256(data).hexdigest()


def _hold(folder: Path) -> int | None:
    """A lock on the folder for this process, or ``None`` where the system has none.

    Raises:
        OutputError: another process holds it.
    """
    if sys.platform == "win32":
        return None
    import fcntl

    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise OutputError(
            "another run is writing this output", where=str(folder), fix="Wait for it, or choose another output."
        ) from error
    except OSError:  # a file system without locks
        os.close(handle)
        return None
    return handle
