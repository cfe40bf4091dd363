"""Bundles to a device and back: only files that are not there, each resumed where it broke off and proven by its hash.

A push ends with the board putting the new bundle in the place of the old one in one step; a pull does the same here.
"""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeir.bundle import Bundle
from edgeir.bundle_change import Change, commit_change
from edgeir.bundle_writer import BundleWriter
from edgeir.errors import BundleError, MissingDependency, OutOfSpace
from edgeir.manifest import MANIFEST_NAME, Artifact, Manifest
from edgeir.remote.additions import brought_back, for_device, machines_matter, sound_part
from edgeir.remote.connection import Connection, RemoteFailed, quoted, stand_in
from edgeir.remote.refusals import Unreachable
from edgeir.remote.transfers import SPARE_BYTES, disk_full, not_transferred
from edgeir.storage import sha256_of

RETRIES = 4
# All others are what an engine there is built from and a picture there restored with.
IDLE_ROLES = frozenset({"reference", "plan", "ranges", "engine", "timing-cache", "report-html", "report-json", "bench"})


@dataclass(frozen=True, slots=True)
class Pushed:
    """What a push did: files and bytes sent, files made there that stay, and those that were damaged and went."""

    files: int
    bytes: int
    kept: tuple[str, ...]
    dropped: tuple[str, ...] = ()


def board_name(folder: Path) -> str:
    """What the bundle in ``folder`` is called on a device.

    >>> board_name(Path("my bundles/exda tiny.edgeir"))
    'exda-tiny.edgeir'
    """
    name = re.sub(r"[^A-Za-z0-9._+-]+", "-", folder.resolve().name).lstrip(".-") or "bundle"
    return name if name.endswith(".edgeir") else f"{name}.edgeir"


def there(connection: Connection, bundle: Bundle) -> Manifest | None:
    """The manifest of a device's copy of ``bundle``, ``None`` where it has none."""
    return _manifest(connection.ask("inventory", name=board_name(bundle.path))["manifest"], connection)


def require_pushed(connection: Connection, bundle: Bundle) -> Manifest:
    """The manifest there, if the graphs there are those here.

    Raises:
        MissingDependency: the device has another copy, or none.
    """
    manifest = there(connection, bundle)
    name = connection.device.name
    fix = f"Push it: edgeir device push {name} {shlex.quote(str(bundle.path))}"
    if manifest is None:
        raise MissingDependency("the bundle is not on the device", where=name, fix=fix)
    listed = {artifact.path: artifact.sha256 for artifact in manifest.artifacts}
    ours = [one for one in bundle.manifest.artifacts if one.role not in IDLE_ROLES]
    if any(listed.get(one.path) != one.sha256 for one in ours):
        raise MissingDependency("the device has another version of the bundle", where=name, fix=fix)
    return manifest


def push(connection: Connection, bundle: Bundle, say: Callable[[str], None] = lambda text: None) -> Pushed:
    """Bring a device's copy of a bundle up to date, but for what is of no use there (`edgeir.remote.additions`).

    Args:
        connection: to the device.
        bundle: an opened one.
        say: told what is sent.

    Raises:
        Unreachable: see `Connection.run`; what came stays there, and the next push goes on with it.
        OutOfSpace: the device's disk is full; its old copy is whole, and what came is removed.
    """
    name = board_name(bundle.path)
    machines = connection.ask("architectures")["architectures"] if machines_matter(bundle.manifest) else None
    sent = sent_bytes = 0
    for _ in range(2):  # a file that came damaged is sent once more, whole
        answer = connection.ask("inventory", name=name, hash_files=True)
        sound = set(answer["sound"])
        board = _manifest(answer["manifest"], connection)
        manifest = for_device(bundle.manifest, None if board is None else sound_part(board, sound), machines)
        missing = {one.sha256: one for one in manifest.artifacts if one.sha256 not in sound}
        if not missing and answer["whole"] and board is not None and _holds_all(board, manifest):
            return Pushed(0, 0, ())
        incoming = {digest: int(size) for digest, size in answer["incoming"].items()}
        wanted = tuple(one for one in missing.values() if incoming.get(one.sha256) != one.bytes)
        needed = sum(max(one.bytes - incoming.get(one.sha256, 0), 0) for one in wanted)
        if int(answer["free_bytes"]) < needed + (SPARE_BYTES if needed else 0):
            _discard(connection, name)
            raise _full(connection, needed, int(answer["free_bytes"]))
        if wanted:
            say(f"sending {len(wanted)} of {len(manifest.artifacts)} files, {needed / 1e6:.1f} MB")
            _send(connection, bundle, wanted, incoming, name)
        sent, sent_bytes = sent + len(wanted), sent_bytes + needed
        try:
            made = connection.ask("assemble", name=name, manifest=manifest.to_json())
        except OutOfSpace:
            _discard(connection, name)
            raise
        if not made["damaged"]:
            return Pushed(sent, sent_bytes, tuple(made["kept"]), tuple(made["dropped"]))
        say(f"files that came damaged and are sent again: {len(made['damaged'])}")
    raise BundleError("files come damaged every time", where=connection.device.name, fix="Check its disk and memory.")


def pull(
    connection: Connection,
    bundle: Bundle,
    results: Callable[[Manifest, Change, BundleWriter], Change] | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> tuple[str, ...]:
    """Bring engines, timing caches and results that were made on a device back into the bundle here.

    Args:
        connection: to the device.
        bundle: an opened one.
        results: adds files of its own to the writer, given the manifest there and what is brought from there.
        say: told what is fetched.

    Returns:
        Paths of the files that are new here.

    Raises:
        Unreachable, MissingDependency: see `require_pushed`.
        BundleError: a file came damaged, the bundle here was exported again in the meantime, or see `brought_back`.
        OutOfSpace, OutputError: the bundle here cannot be written; it is as it was.
    """
    board = require_pushed(connection, bundle)
    change = brought_back(board, bundle.manifest, device=connection.device.name)
    listed = {one.path: one for one in board.artifacts}
    with BundleWriter(bundle.path, force=True) as writer:
        wanted = [listed[one.path] for one in change.files]
        if wanted:
            say(f"fetching {len(wanted)} files, {sum(one.bytes for one in wanted) / 1e6:.1f} MB")
            _fetch(connection, board_name(bundle.path), wanted, writer)
        more = results(board, change, writer) if results is not None else Change(())
        whole = Change(
            (*change.files, *more.files),
            (*change.engines, *more.engines),
            (*change.devices, *more.devices),
        )
        if whole.files:
            commit_change(writer, bundle, whole)
    return tuple(one.path for one in whole.files)


def retrying(action: Callable[[], None], say: Callable[[str], None], sleep: Callable[[float], None]) -> None:
    """Run ``action`` again when its connection broke, a few times and ever later.

    Raises:
        Unreachable: it broke every time, or cannot be made at all.
    """
    for attempt in range(RETRIES + 1):
        try:
            return action()
        except Unreachable as error:
            if not error.lost or attempt == RETRIES:
                raise
            say(f"the connection broke; trying again ({attempt + 1} of {RETRIES})")
            sleep(2.0**attempt / 2)
    return None


def _manifest(text: str | None, connection: Connection) -> Manifest | None:
    return None if text is None else Manifest.from_json(text, where=f"{connection.device.name}:{MANIFEST_NAME}")


def _holds_all(board: Manifest, manifest: Manifest) -> bool:
    """Whether the copy there says all that is pushed."""
    same = dataclasses.replace(
        board,
        artifacts=manifest.artifacts,
        engines=manifest.engines,
        devices=manifest.devices,
        schema_version=manifest.schema_version,
    )
    return same == manifest and set(manifest.artifacts) <= set(board.artifacts)


def _send(
    connection: Connection, bundle: Bundle, artifacts: Sequence[Artifact], incoming: dict[str, int], name: str
) -> None:
    connection.ask("make", folder=f"incoming/{name}")
    place = f"{connection.device.root}/incoming/{name}"
    with tempfile.TemporaryDirectory(prefix="edgeir-") as temporary:
        # Under their hashes, no name needs quotes; a path of the user's own may hold anything.
        batch = []
        for one in artifacts:
            stand_in(Path(temporary) / one.sha256, bundle.path / one.path)
            size = incoming.get(one.sha256)
            target = quoted(f"{place}/{one.sha256}")
            if size is not None and size > one.bytes:
                batch.append(f"rm {target}")
                size = None
            batch.append(f"{'put' if size is None else 'reput'} {one.sha256} {target}")
        try:
            connection.transfer(batch, Path(temporary))
        except RemoteFailed as failed:
            left = connection.ask("names", folder=f"incoming/{name}")
            needed = sum(one.bytes - int(left["files"].get(one.sha256, 0)) for one in artifacts)
            _discard(connection, name)
            if int(left["free_bytes"]) < needed + SPARE_BYTES:
                raise _full(connection, needed, int(left["free_bytes"])) from failed
            raise not_transferred(connection, "the files cannot be written there", failed) from failed


def _fetch(connection: Connection, name: str, artifacts: Sequence[Artifact], writer: BundleWriter) -> None:
    place = f"{connection.device.root}/bundles/{name}"
    with tempfile.TemporaryDirectory(prefix=".edgeir-", dir=writer.destination.absolute().parent) as temporary:
        numbered = [(f"{index:04d}", one) for index, one in enumerate(artifacts)]  # two may have one hash
        batch = [f"get {quoted(f'{place}/{one.path}')} {number}" for number, one in numbered]
        try:
            connection.transfer(batch, Path(temporary))
        except RemoteFailed as failed:
            got = (failed.errors.strip().splitlines() or ["no reason stated"])[-1]
            if "No space left" in failed.errors:
                raise OutOfSpace(
                    "the disk here is full", where=str(writer.destination), fix="Free some space."
                ) from failed
            raise MissingDependency("a file cannot be fetched", where=connection.device.name, got=got) from failed
        for number, one in numbered:
            path = writer.path(one.path)
            os.replace(Path(temporary) / number, path)  # noqa: PTH105
            if sha256_of(path) != (one.bytes, one.sha256):
                raise BundleError("a file came damaged", where=one.path, fix="Pull again.")


def _discard(connection: Connection, name: str) -> None:
    connection.ask("discard", folder=f"incoming/{name}")


def _full(connection: Connection, needed: int, free: int) -> OutOfSpace:
    what = "the bundle; its old copy, if any, is as it was"
    return disk_full(connection, what, needed, free, fix="Free some space there and push again.")
