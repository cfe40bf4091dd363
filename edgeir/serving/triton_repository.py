"""Putting models into a Triton model repository: new versions beside old ones, whole or not at all.

::

    DIR/NAME/config.pbtxt       written once; kept as somebody changed it while inputs, outputs and sizes stay the same
    DIR/NAME/1/model.onnx       a version never changes
    DIR/NAME/2/model.onnx       the next export; Triton serves the newest
    DIR/NAME/2/edgeir.json      where it comes from

Everything is copied and checked first, under hidden names inside the models' own folders (Triton takes any folder of
the repository for a model, and only folders with numbers for versions), and then renamed.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path

from edgeir.bundle import Bundle
from edgeir.errors import BundleError, OutputError
from edgeir.serving.triton_config import interface_in, to_pbtxt
from edgeir.serving.triton_models import Served, servable
from edgeir.storage import atomic_write_bytes, flush_file, flush_folder, sha256_of, writing

CONFIG_NAME = "config.pbtxt"
RECORD_NAME = "edgeir.json"


@dataclass(frozen=True, slots=True)
class Published:
    """What became of one model.

    Attributes:
        served: which.
        version: the one that holds it.
        is_new: whether this call added it; the newest version held the same file otherwise.
        config: ``"written"``, ``"kept"`` as somebody left it, or ``"replaced"``.
    """

    served: Served
    version: int
    is_new: bool
    config: str


@dataclass(frozen=True, slots=True)
class Publication:
    """What became of a bundle: a row per model, and a sentence per file that Triton cannot serve."""

    models: tuple[Published, ...]
    left_out: tuple[str, ...]


def require_repository(repository: Path) -> None:
    """Raise ``OutputError`` unless ``repository`` is a folder, or can be made one; also where it is a bundle."""
    if repository.exists() and not repository.is_dir():
        raise OutputError("it is a file", where=str(repository), expected="a folder for the models")
    if (repository / "manifest.json").exists():
        raise OutputError("this is a bundle", where=str(repository), expected="a folder for the models")
    if not repository.exists() and not repository.absolute().parent.is_dir():
        raise OutputError("there is no such folder", where=str(repository.parent), fix="Make it first.")


def publish(bundle: Bundle, repository: Path, *, force: bool = False) -> Publication:
    """Add every model of ``bundle`` to ``repository`` as its next version.

    Args:
        bundle: opened and verified.
        repository: the folder that Triton is given; made where it does not exist.
        force: write ``config.pbtxt`` anew, also where somebody changed it, or where it describes other inputs.

    Raises:
        BundleError: the bundle has nothing to serve, or a file changed while it was copied.
        OutputError: a model of that name is there and takes other inputs or sizes, or the folder cannot be written;
            then no version was added.
        OutOfSpace: the disk is full; likewise.
    """
    require_repository(repository)
    found = servable(bundle)
    configs = {served.model.name: _config_plan(served, repository, force) for served in found.models}
    with contextlib.ExitStack() as undo:
        _make(repository, undo)
        working = {}
        versions = {}
        for served in found.models:
            name = served.model.name
            folder = repository / name
            _make(folder, undo)
            _clear(folder)
            versions[name], is_new = _version_for(served, folder)
            if is_new:
                working[name] = folder / f".edgeir-{os.getpid()}-{secrets.token_hex(4)}.tmp"
                undo.callback(shutil.rmtree, working[name], ignore_errors=True)
                _copy(bundle, served, working[name])
        published = []
        for served in found.models:
            name = served.model.name
            folder = repository / name
            if configs[name] != "kept":  # before the version: one without a configuration would be served by guesses
                _write_config(served, folder / CONFIG_NAME, undo)
            if name in working:
                placed = folder / str(versions[name])
                with writing(folder):
                    working[name].rename(placed)
                undo.callback(shutil.rmtree, placed, ignore_errors=True)  # not before: it might be somebody else's
                flush_folder(folder)
            published.append(Published(served, versions[name], name in working, configs[name]))
        undo.pop_all()  # all is there: nothing is taken back
    return Publication(tuple(published), found.left_out)


def _make(folder: Path, undo: contextlib.ExitStack) -> None:
    with writing(folder):
        if not folder.is_dir():
            folder.mkdir()
            undo.callback(shutil.rmtree, folder, ignore_errors=True)


def _write_config(served: Served, config: Path, undo: contextlib.ExitStack) -> None:
    if config.exists():
        undo.callback(config.write_bytes, config.read_bytes())
    else:
        undo.callback(config.unlink, missing_ok=True)
    atomic_write_bytes(config, to_pbtxt(served.model).encode())


def _config_plan(served: Served, repository: Path, force: bool) -> str:
    """``"written"``, ``"kept"`` or ``"replaced"``.

    Raises:
        OutputError: the configuration there is of another interface, not edgeir's, or a file stands in the way.
    """
    folder = repository / served.model.name
    config = folder / CONFIG_NAME
    if folder.is_file():
        raise OutputError("it is a file", where=str(folder), expected="a folder for the model", fix="Move it away.")
    if config.is_dir():
        raise OutputError("it is a folder", where=str(config), expected="a configuration", fix="Move it away.")
    if not config.exists():
        if folder.exists() and _versions(folder) and not force:
            raise OutputError(
                "a model of this name is there and has no configuration",
                where=str(folder),
                fix="Remove it, choose another folder, or pass --force.",
            )
        return "written"
    if force:
        return "replaced"
    known = interface_in(config.read_text(encoding="utf-8", errors="replace"))
    if known == served.model.interface:
        return "kept"
    raise OutputError(
        "the model of this name has other inputs or sizes" if known else "edgeir did not write this configuration",
        where=str(config),
        fix="Choose another folder, or pass --force to write it anew; versions that are there stay.",
    )


def _versions(folder: Path) -> list[int]:
    """Versions as Triton counts them: folders whose names are numbers without leading zeros."""
    return sorted(
        int(path.name)
        for path in folder.iterdir()
        if path.is_dir() and path.name.isascii() and path.name.isdecimal() and not path.name.startswith("0")
    )


def _version_for(served: Served, folder: Path) -> tuple[int, bool]:
    """The version that is to hold the file, and whether it has to be made."""
    versions = _versions(folder)
    if not versions:
        return 1, True
    newest = folder / str(versions[-1]) / served.model.file
    if newest.is_file() and newest.stat().st_size == served.artifact.bytes:
        with writing(newest):
            if sha256_of(newest)[1] == served.artifact.sha256:
                return versions[-1], False
    return versions[-1] + 1, True


def _copy(bundle: Bundle, served: Served, working: Path) -> None:
    """The version's folder under its working name, checked against the manifest."""
    target = working / served.model.file
    record = {
        "bundle": bundle.manifest.name,
        "precision": bundle.manifest.precision,
        "file": served.artifact.path,
        "sha256": served.artifact.sha256,
        "weights": bundle.manifest.model.weights.state if bundle.manifest.model.weights else None,
        "note": served.note,
        "made": bundle.manifest.provenance.to_dict(),
    }
    with writing(working.parent):
        working.mkdir()
        shutil.copyfile(bundle.path / served.artifact.path, target)
        (working / RECORD_NAME).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        if sha256_of(target)[1] != served.artifact.sha256:
            raise BundleError("the file changed while it was copied", where=str(bundle.path / served.artifact.path))
        for path in (target, working / RECORD_NAME):
            flush_file(path)
        flush_folder(working)


def _clear(folder: Path) -> None:
    """Remove what a killed run left; only one process at a time adds to a model."""
    for path in folder.glob(".edgeir-*.tmp"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
