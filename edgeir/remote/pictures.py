"""Pictures to a device and restored ones back, for ``edgeir device run``: numbered there, so that any name will do."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeir.errors import OutOfSpace
from edgeir.remote.connection import Connection, RemoteFailed, quoted, stand_in
from edgeir.remote.transfers import SPARE_BYTES, disk_full, not_transferred
from edgeir.storage import sha256_of, writing

_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,8}")


@dataclass(frozen=True, slots=True)
class Job:
    """One picture: where it is here, and where the restored one goes."""

    source: Path
    destination: Path


def digest_of(jobs: Sequence[Job], arguments: Sequence[str]) -> str:
    """Hash (12 hex digits) of the pictures' contents, the formats to write and what else was asked for."""
    digest = hashlib.sha256("\0".join(arguments).encode())
    for job in jobs:
        digest.update(f"{sha256_of(job.source)[1]} {job.destination.suffix}\0".encode())
    return digest.hexdigest()[:12]


def numbered(jobs: Sequence[Job], side: str) -> tuple[str, ...]:
    """Names there: ``"0001.png"``; of the sources (``side="in"``) or of the restored pictures (``"out"``)."""
    sent = tuple(f"{index:04d}{_suffix(job.source)}" for index, job in enumerate(jobs, 1))
    if side == "in":
        return sent
    # Where edgeir reads a format and does not write it, "a.gif" becomes "a.gif.png".
    return tuple(
        f"{name}.png" if job.destination.name == f"{job.source.name}.png" else f"{index:04d}{_suffix(job.destination)}"
        for index, (job, name) in enumerate(zip(jobs, sent, strict=True), 1)
    )


def with_own_names(text: str, *, jobs: Sequence[Job], source: Path, output: Path, folder: str) -> str:
    """What a device says of the pictures, with their names and folders here in place of those there.

    Args:
        text: a line of the command there.
        jobs: the pictures.
        source: what the user named as input: a picture or a folder.
        output: what they named as output.
        folder: the absolute folder of the pictures there.
    """
    own = {
        **dict(zip(numbered(jobs, "out"), (job.destination.name for job in jobs), strict=True)),
        **dict(zip(numbered(jobs, "in"), (job.source.name for job in jobs), strict=True)),
    }
    for side, here, one in (("in", source, jobs[0].source), ("out", output, jobs[0].destination)):
        text = text.replace(f"{folder}/{side}", str(here if source.is_dir() else one.parent))
    return re.sub(r"(?<![\w.])\d{4,}(?:\.\w+)*", lambda match: own.get(match[0], match[0]), text)


def _suffix(path: Path) -> str:
    return path.suffix if _SUFFIX.fullmatch(path.suffix) else ""


def send(connection: Connection, jobs: Sequence[Job], folder: str) -> int:
    """Put the pictures into ``folder`` there, but for those that came before; gives the number that was sent.

    Args:
        connection: to the device.
        jobs: the pictures.
        folder: below edgeir's folder there.

    Raises:
        Unreachable: see `Connection.run`.
        OutOfSpace: the device's disk is full; what came is removed, but for pictures of an earlier call.
    """
    connection.ask("make", folder=f"{folder}/in")
    connection.ask("make", folder=f"{folder}/out")
    answer = connection.ask("names", folder=f"{folder}/in")
    batch = []
    needed = 0
    with tempfile.TemporaryDirectory(prefix="edgeir-") as temporary:
        for job, name in zip(jobs, numbered(jobs, "in"), strict=True):
            size = job.source.stat().st_size
            if answer["files"].get(name) == size:
                continue
            stand_in(Path(temporary) / name, job.source)
            batch.append(f"put {name} {quoted(f'{connection.device.root}/{folder}/in/{name}')}")
            needed += size
        if not batch:
            return 0
        if int(answer["free_bytes"]) < needed + SPARE_BYTES:
            _discard(connection, folder, answer["files"])
            raise _full(connection, needed, int(answer["free_bytes"]))
        try:
            connection.transfer(batch, Path(temporary))
        except RemoteFailed as failed:
            free = int(connection.ask("names", folder=folder)["free_bytes"])
            _discard(connection, folder, answer["files"])
            if free < needed + SPARE_BYTES:
                raise _full(connection, needed, free) from failed
            raise not_transferred(connection, "a picture cannot be written there", failed) from failed
    return len(batch)


def fetch(connection: Connection, jobs: Sequence[Job], folder: str) -> tuple[Job, ...]:
    """Bring the restored pictures of ``folder`` there to their destinations; gives those that were there.

    Raises:
        Unreachable: see `Connection.run`.
        OutputError, OutOfSpace: a destination cannot be written.
    """
    present = connection.ask("names", folder=f"{folder}/out")["files"]
    done = []
    names = numbered(jobs, "out")
    wanted = [(job, name) for job, name in zip(jobs, names, strict=True) if name in present]
    for parent in {job.destination.absolute().parent for job, _ in wanted}:
        with writing(parent):
            parent.mkdir(parents=True, exist_ok=True)
        with writing(parent), tempfile.TemporaryDirectory(prefix=".edgeir-", dir=parent) as temporary:
            here = [(job, name) for job, name in wanted if job.destination.absolute().parent == parent]
            batch = [f"get {quoted(f'{connection.device.root}/{folder}/out/{name}')} {name}" for _, name in here]
            try:
                connection.transfer(batch, Path(temporary))
            except RemoteFailed as failed:
                if "No space left" in failed.errors:
                    raise OutOfSpace("the disk here is full", where=str(parent), fix="Free some space.") from failed
                raise not_transferred(connection, "a restored picture cannot be fetched", failed) from failed
            for job, name in here:
                os.replace(Path(temporary) / name, job.destination)  # noqa: PTH105
                done.append(job)
    return tuple(done)


def _discard(connection: Connection, folder: str, before: Mapping[str, int]) -> None:
    """Remove what was made there, unless files of an earlier call lie there: it may be at work on them."""
    if not before:
        connection.ask("discard", folder=folder)


def _full(connection: Connection, needed: int, free: int) -> OutOfSpace:
    return disk_full(connection, "the pictures", needed, free, fix="Free some space there.")
