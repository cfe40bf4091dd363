"""Bundles on a device: what is there, and a pushed one put together from files that came and files that were there.

::

    incoming/NAME/SHA256    a file on its way, whole when its hash says so
    bundles/NAME/           the bundle, replaced in one step by `edgeir.bundle_writer`
"""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgeir.manifest import Manifest


def inventory(root: Path, *, name: str, hash_files: bool = False) -> dict[str, Any]:
    """What is there of a bundle.

    Args:
        root: edgeir's folder.
        name: of the bundle's folder.
        hash_files: also read every file.

    Returns:
        ``manifest``: its text, ``None`` where there is no bundle; ``incoming``: hash to size of files on their way;
        ``free_bytes``. With ``hash_files`` also ``sound``: hashes of the files that are what the manifest says, and
        ``whole``: all are, and there is no other.
    """
    from edgeir.bundle import Bundle
    from edgeir.errors import BundleError
    from edgeir.manifest import MANIFEST_NAME

    folder, incoming = root / "bundles" / name, root / "incoming" / name
    opens = True
    try:
        Bundle.open(folder, verify=False)
    except BundleError:  # none, or one of no use as it is
        opens = False
    manifest = _manifest(folder) if opens or hash_files else None
    sound = _sound(folder, manifest) if hash_files and manifest is not None else set()
    coming = {}
    for path in incoming.iterdir() if incoming.is_dir() else ():
        with contextlib.suppress(OSError):
            path.chmod(0o600)  # of a file that nobody may write to, sftp makes another one: it could not go on
        coming[path.name] = path.stat().st_size
    listed = () if manifest is None else manifest.artifacts
    return {
        "manifest": None if manifest is None else (folder / MANIFEST_NAME).read_text(encoding="utf-8"),
        "sound": sorted({one.sha256 for one in listed if one.path in sound}),
        "whole": opens and len(sound) == len(listed),
        "incoming": coming,
        "free_bytes": shutil.disk_usage(root).free,
    }


def architectures(root: Path) -> dict[str, Any]:
    """What engines can be for that run here: ``architectures``, as `edgeir.manifest.EngineNote` names them."""
    from edgeir.errors import MissingDependency
    from edgeir.runtime.cuda_driver import CudaDevice, CudaError
    from edgeir.runtime.ort_engine import architecture

    found = [architecture()]
    with contextlib.suppress(CudaError, MissingDependency), CudaDevice() as device:
        found.append(f"sm{device.architecture}")
    return {"architectures": found}


def assemble(root: Path, *, name: str, manifest: str) -> dict[str, Any]:
    """Make the bundle that ``manifest`` describes, of files that came and files that were there, in one step.

    Engines that were built here stay, as long as what they were built from is the same, also in the place of pushed
    ones. Those that are damaged by now go.

    Args:
        root: edgeir's folder.
        name: of the bundle's folder.
        manifest: the text of the pushed one.

    Returns:
        ``damaged``: hashes of incoming files that are not what they should be, and were removed; the bundle is as it
        was then. ``kept``: paths of files that stay and were not pushed. ``dropped``: of those that were damaged.

    Raises:
        BundleError: a file is neither here nor there.
        OutOfSpace: the disk is full.
    """
    from edgeir.bundle_change import Change, merged, with_children, without
    from edgeir.bundle_writer import BundleWriter
    from edgeir.errors import BundleError
    from edgeir.manifest import MANIFEST_NAME, Manifest
    from edgeir.remote.additions import own_engines
    from edgeir.storage import sha256_of

    folder, incoming = root / "bundles" / name, root / "incoming" / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    pushed = Manifest.from_json(manifest, where=MANIFEST_NAME)
    came: dict[str, Path] = {}
    damaged = []
    for digest in dict.fromkeys(one.sha256 for one in pushed.artifacts):
        if (file := incoming / digest).is_file():
            if sha256_of(file)[1] == digest:
                came[digest] = file
            else:
                damaged.append(digest)
                file.unlink()
    if damaged:
        return {"damaged": damaged, "kept": [], "dropped": []}
    with BundleWriter(folder, force=True) as writer, writer.alone():  # a build may end at this moment
        old = _manifest(folder)
        listed = {} if old is None else {one.path: one for one in old.artifacts}
        sound = set() if old is None else _sound(folder, old)
        places = {listed[path].sha256: folder / path for path in sound} | came
        change, dropped = Change(()), set[str]()
        if old is not None:
            own = own_engines(old, pushed)
            damage = {one.path for one in own.files} - sound
            change = own_engines(without(old, damage), pushed)
            dropped = {one.path for one in own.files} - {one.path for one in change.files}
        gone = with_children([one.path for one in change.files], pushed.artifacts)
        for artifact in pushed.artifacts:
            if artifact.path in gone:
                continue
            if artifact.sha256 not in places:
                raise BundleError("a file of the bundle did not arrive", where=artifact.path, fix="Push it again.")
            writer.adopt(places[artifact.sha256], artifact)
        for addition in change.files:
            writer.adopt(folder / addition.path, listed[addition.path])
        writer.commit(merged(pushed, change) if change.files else pushed)
    shutil.rmtree(incoming, ignore_errors=True)
    return {"damaged": [], "kept": [one.path for one in change.files], "dropped": sorted(dropped)}


def _manifest(folder: Path) -> Manifest | None:
    """What the bundle in ``folder`` says, whatever became of its files; ``None`` where it says nothing."""
    from edgeir.errors import BundleError
    from edgeir.manifest import MANIFEST_NAME, Manifest

    try:
        return Manifest.from_json((folder / MANIFEST_NAME).read_bytes(), where=str(folder / MANIFEST_NAME))
    except (OSError, BundleError):
        return None


def _sound(folder: Path, manifest: Manifest) -> set[str]:
    """Paths of the files that are what the manifest says."""
    from edgeir.storage import sha256_of

    sound = set()
    for one in manifest.artifacts:
        path = folder / one.path
        with contextlib.suppress(OSError):
            if not path.is_symlink() and sha256_of(path)[1] == one.sha256:
                sound.add(one.path)
    return sound
