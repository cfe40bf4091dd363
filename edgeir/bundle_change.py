"""Adding files to a finished bundle: the same folder again with more in it, in one step, sharing what stays the same.

What was made from a file that is replaced goes with it: a latency of the old engine says nothing about the new one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeir.bundle import Bundle
from edgeir.bundle_writer import BundleWriter
from edgeir.errors import BundleError
from edgeir.manifest import SCHEMA_VERSION, Artifact, DeviceRecord, EngineNote, Manifest


@dataclass(frozen=True, slots=True)
class Addition:
    """A file that lies where `BundleWriter.path` said, to be listed."""

    path: str
    role: str
    parents: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Change:
    """What is added to a bundle.

    Attributes:
        files: new ones, or new contents of old ones; parents come first.
        engines: notes on those that are engines; one takes the place of an old note on the same engine.
        devices: where the files come from.
    """

    files: tuple[Addition, ...]
    engines: tuple[EngineNote, ...] = ()
    devices: tuple[DeviceRecord, ...] = ()


def commit_change(writer: BundleWriter, bundle: Bundle, change: Change) -> Path:
    """Put what the bundle holds by now and stays into ``writer``, list what is new, and commit; returns the folder.

    Others may have added to the bundle since it was opened: nobody else does while this goes on.

    Args:
        writer: of the same folder, opened with ``force``; it holds the new files and nothing else.
        bundle: as it was when what is new was made.
        change: what is new.

    Raises:
        BundleError: a file of the bundle changed under way, or a new one names a parent that is not there, or is by
            now another than the one it was made from.
        OutOfSpace, OutputError: see `BundleWriter.commit`; the bundle is then as it was.
    """
    with writer.alone():
        now = Bundle.open(bundle.path, verify=False)  # every file that stays is hashed below
        manifest = now.manifest
        new = {addition.path for addition in change.files}
        for addition in change.files:
            for parent in addition.parents:
                if parent not in new:
                    require_same(now, bundle, parent)
        gone = with_children(new, manifest.artifacts)
        for artifact in manifest.artifacts:
            if artifact.path not in gone:
                writer.adopt(now.path / artifact.path, artifact)
        for addition in change.files:
            writer.add(addition.path, addition.role, addition.parents)
        return writer.commit(merged(manifest, change))


def merged(manifest: Manifest, change: Change) -> Manifest:
    """What ``manifest`` says with ``change``, but for the list of files, which `BundleWriter.commit` writes."""
    gone = with_children({addition.path for addition in change.files}, manifest.artifacts)
    return dataclasses.replace(
        manifest,
        engines=(*_notes_left(manifest.engines, gone, change.engines), *change.engines),
        devices=(*_records_left(manifest.devices, gone), *change.devices),
        schema_version=SCHEMA_VERSION,
    )


def require_same(bundle: Bundle, before: Bundle, path: str) -> None:
    """Raise unless the file ``path`` is in ``bundle`` what it was ``before``: hours may lie between.

    Raises:
        BundleError: somebody exported the bundle again in the meantime.
    """
    now = {artifact.path: artifact.sha256 for artifact in bundle.manifest.artifacts}
    then = {artifact.path: artifact.sha256 for artifact in before.manifest.artifacts}
    if now.get(path) != then.get(path):
        raise BundleError(
            "the bundle was changed while work on it went on, and what came of that no longer fits",
            where=str(bundle.path / path),
            fix="Run the command again.",
        )


def additions_of(manifest: Manifest) -> frozenset[str]:
    """Paths of the files that were added to a bundle after it was made: those that a device's record names."""
    return frozenset(path for record in manifest.devices for path in record.files)


def fitting(extra: Manifest, base: Manifest) -> Change:
    """What of the later additions of ``extra`` fits ``base``, another copy of the same bundle.

    An engine fits where all that it was made from is the same file in both; what ``base`` has itself is left out.
    """
    same = {artifact.path: artifact.sha256 for artifact in base.artifacts}
    listed = {artifact.path: artifact for artifact in extra.artifacts}
    added = additions_of(extra)
    taken: dict[str, Addition] = {}
    for artifact in extra.artifacts:
        # What is the same stays, unless that which it was made from is replaced, and it would go with that.
        stays = same.get(artifact.path) == artifact.sha256 and taken.keys().isdisjoint(artifact.parents)
        if artifact.path not in added or stays:
            continue
        if all(parent in taken or same.get(parent) == listed[parent].sha256 for parent in artifact.parents):
            taken[artifact.path] = Addition(artifact.path, artifact.role, artifact.parents)
    return Change(
        tuple(taken.values()),
        tuple(note for note in extra.engines if note.path in taken),
        tuple(
            dataclasses.replace(record, files=files)
            for record in extra.devices
            if (files := tuple(path for path in record.files if path in taken))
        ),
    )


def without(manifest: Manifest, paths: Iterable[str]) -> Manifest:
    """``manifest`` as if these files, and all that was made from them, had never been added."""
    gone = with_children(paths, manifest.artifacts)
    return dataclasses.replace(
        manifest,
        artifacts=tuple(one for one in manifest.artifacts if one.path not in gone),
        engines=tuple(note for note in manifest.engines if note.path not in gone),
        devices=_records_left(manifest.devices, gone),
    )


def with_children(paths: Iterable[str], artifacts: Sequence[Artifact]) -> set[str]:
    """``paths``, and those of all files that were made from them."""
    gone = set(paths)
    for artifact in artifacts:  # parents come before their children
        if gone & set(artifact.parents):
            gone.add(artifact.path)
    return gone


def _notes_left(old: Sequence[EngineNote], gone: set[str], new: Sequence[EngineNote]) -> tuple[EngineNote, ...]:
    told = {note.runtime for note in new}
    return tuple(note for note in old if note.path not in gone and not (note.path is None and note.runtime in told))


def _records_left(old: Sequence[DeviceRecord], gone: set[str]) -> tuple[DeviceRecord, ...]:
    return tuple(
        dataclasses.replace(record, files=left)
        for record in old
        if (left := tuple(path for path in record.files if path not in gone))
    )
