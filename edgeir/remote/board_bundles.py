"""Bundles on a device: what is there, and a pushed one put together from files that came and files that were there.

::

    incoming/NAME/SHA256    a file on its way, whole when its hash says so
    bundles/NAME/           the bundle, replaced in one step by `edgeir.bundle_writer`
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any


def inventory(root: Path, *, name: str, hash_files: bool = False) -> dict[str, Any]:
    """What is there of a bundle.

    Args:
        root: edgeir's folder.
        name: of the bundle's folder.
        hash_files: also read every file.

    Returns:
        ``manifest``: its text, ``None`` where there is no bundle; ``sound``: hashes of the files that are what the
        manifest says, with ``hash_files``; ``incoming``: hash to size of files on their way; ``free_bytes``.
    """
    from edgeir.bundle import Bundle
    from edgeir.errors import BundleError
    from edgeir.manifest import MANIFEST_NAME
    from edgeir.storage import sha256_of

    folder, incoming = root / "bundles" / name, root / "incoming" / name
    text, sound = None, []
    try:
        manifest = Bundle.open(folder, verify=False).manifest
    except BundleError:  # none, or one that is of no use
        pass
    else:
        text = (folder / MANIFEST_NAME).read_text(encoding="utf-8")
        artifacts = manifest.artifacts if hash_files else ()
        sound = [one.sha256 for one in artifacts if sha256_of(folder / one.path)[1] == one.sha256]
    return {
        "manifest": text,
        "sound": sound,
        "incoming": {path.name: path.stat().st_size for path in incoming.iterdir()} if incoming.is_dir() else {},
        "free_bytes": shutil.disk_usage(root).free,
    }


def assemble(root: Path, *, name: str, manifest: str) -> dict[str, Any]:
    """Make the bundle that ``manifest`` describes, of files that came and files that were there, in one step.

    Engines and results that were made here stay, as long as what they were made from is the same.

    Args:
        root: edgeir's folder.
        name: of the bundle's folder.
        manifest: the text of the pushed one.

    Returns:
        ``damaged``: hashes of incoming files that are not what they should be, and were removed; the bundle is as it
        was then. ``kept``: paths of files that stay and were not pushed.

    Raises:
        BundleError: a file is neither here nor there.
        OutOfSpace: the disk is full.
    """
    from edgeir.bundle import Bundle
    from edgeir.bundle_change import fitting, merged
    from edgeir.bundle_writer import BundleWriter
    from edgeir.errors import BundleError
    from edgeir.manifest import MANIFEST_NAME, Manifest
    from edgeir.storage import sha256_of

    folder, incoming = root / "bundles" / name, root / "incoming" / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    pushed = Manifest.from_json(manifest, where=MANIFEST_NAME)
    try:
        old = Bundle.open(folder, verify=False)
    except BundleError:
        old = None
    places = {} if old is None else {one.sha256: old.path / one.path for one in old.manifest.artifacts}
    damaged = []
    for artifact in pushed.artifacts:
        came = incoming / artifact.sha256
        if came.is_file():
            if sha256_of(came)[1] == artifact.sha256:
                places[artifact.sha256] = came
            else:
                damaged.append(artifact.sha256)
                came.unlink()
    if damaged:
        return {"damaged": damaged, "kept": []}
    with BundleWriter(folder, force=True) as writer:
        for artifact in pushed.artifacts:
            if artifact.sha256 not in places:
                raise BundleError("a file of the bundle did not arrive", where=artifact.path, fix="Push it again.")
            writer.adopt(places[artifact.sha256], artifact)
        change = fitting(old.manifest, pushed) if old is not None else None
        if old is not None and change is not None:
            listed = {one.path: one for one in old.manifest.artifacts}
            for addition in change.files:
                writer.adopt(old.path / addition.path, listed[addition.path])
        writer.commit(pushed if change is None else merged(pushed, change))
    shutil.rmtree(incoming, ignore_errors=True)
    return {"damaged": [], "kept": [] if change is None else [one.path for one in change.files]}
