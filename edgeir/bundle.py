"""A bundle: one folder that is an exported network, and the check that it is what its manifest vouches for.

`Bundle.open` believes nothing: every file is listed, has the listed size and hash, and lies inside the folder, before
any of them is parsed. `edgeir.bundle_writer` makes bundles.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from edgeir.bundle_writer import BundleWriter
from edgeir.errors import BundleError, nearest
from edgeir.manifest import MANIFEST_NAME, Artifact, Manifest
from edgeir.storage import sha256_of

__all__ = ["KERNELS_NAME", "Bundle", "BundleWriter", "bundle_name"]

SUFFIX = ".edgeir"
KERNELS_NAME = "kernels.json"
_COPY_AGAIN = "Copy or export the bundle again."


def bundle_name(model: str, precision: str, height: int, width: int, *, dynamic: bool = False) -> str:
    """Folder name of a bundle: ``NAME-PRECISION-HxW.edgeir``, sizes in pixels (the optimum where dynamic).

    >>> bundle_name("exda-tiny", "fp16", 256, 320)
    'exda-tiny-fp16-256x320.edgeir'
    >>> bundle_name("exda-tiny", "fp16", 256, 256, dynamic=True)
    'exda-tiny-fp16-256x256-dynamic.edgeir'
    """
    name = re.sub(r"[^A-Za-z0-9._+-]+", "-", model).lstrip(".-") or "model"
    return f"{name}-{precision}-{height}x{width}{'-dynamic' if dynamic else ''}{SUFFIX}"


def prepared_name(runtime: str, *, plugins: bool = False) -> str:
    """File name of the graph that is prepared for one runtime: ``"model.onnxruntime.onnx"``.

    >>> prepared_name("tensorrt-10.3", plugins=True)
    'model.tensorrt-10.3-plugins.onnx'
    """
    return f"model.{runtime}{'-plugins' if plugins else ''}.onnx"


def tiles_name(runtime: str | None = None) -> str:
    """File name of the graph whose tiles share statistics, of ``model.onnx`` or of one that was prepared.

    >>> tiles_name("onnxruntime")
    'model.tiles.onnxruntime.onnx'
    """
    return f"model.tiles.{runtime}.onnx" if runtime else "model.tiles.onnx"


@dataclass(frozen=True, slots=True)
class Bundle:
    """An opened bundle.

    Attributes:
        path: its folder.
        manifest: what it says about itself.
    """

    path: Path
    manifest: Manifest

    @classmethod
    def open(cls, path: Path | str, *, verify: bool = True) -> Bundle:
        """Open the bundle in folder ``path``.

        Args:
            path: the folder.
            verify: also hash every file; ``False`` only for looking at a bundle without using its files.

        Raises:
            BundleError: it is not a bundle, or a file is missing, not listed, a link, or not what the manifest says.
        """
        folder = Path(path)
        manifest = Manifest.from_json(_manifest_bytes(folder), where=str(folder / MANIFEST_NAME))
        found = _files_in(folder)
        listed = {artifact.path for artifact in manifest.artifacts}
        if missing := sorted(listed - found.keys()):
            raise BundleError("a file of the bundle is missing", where=str(folder / missing[0]), fix=_COPY_AGAIN)
        if extra := sorted(found.keys() - listed - {MANIFEST_NAME}):
            raise BundleError(
                "the manifest does not list this file",
                where=str(folder / extra[0]),
                fix="Remove it: a bundle holds only what its manifest vouches for.",
            )
        for artifact in manifest.artifacts:
            _check_size(folder / artifact.path, artifact, found[artifact.path])
        if verify:
            for artifact in manifest.artifacts:
                _check_hash(folder / artifact.path, artifact)
        return cls(folder, manifest)

    def file(self, role: str) -> Path:
        """Path of the one file with ``role``.

        Raises:
            BundleError: the bundle has no such file, or several.
        """
        paths = self.files(role)
        if len(paths) == 1:
            return paths[0]
        what = f"the bundle has {len(paths) or 'no'} files of role '{role}'"
        roles = {artifact.role for artifact in self.manifest.artifacts}
        fix = None if paths else nearest(role, roles) if roles else "The bundle is empty."
        raise BundleError(what, where=str(self.path), expected="one", fix=fix)

    def files(self, role: str) -> tuple[Path, ...]:
        """Paths of all files with ``role``, in the order of the manifest; empty when there are none."""
        return tuple(self.path / artifact.path for artifact in self.manifest.artifacts if artifact.role == role)

    def graph_for(self, runtime: str) -> Path:
        """The graph that ``runtime`` (a name such as ``"onnxruntime"``) reads best: its prepared one, else the model's.

        Raises:
            BundleError: the bundle has neither.
        """
        prepared = self.path / prepared_name(runtime)
        return prepared if prepared in self.files("prepared") else self.file("model")

    def tiles_graph_for(self, runtime: str) -> Path | None:
        """The graph whose tiles share statistics that ``runtime`` reads best; ``None`` where there is none."""
        best = (self.path / tiles_name(runtime), self.path / tiles_name())
        return next((path for path in best if path in self.files("tiles")), None)

    def engine(self, runtime: str, version: str, architecture: str) -> Path | None:
        """The engine that was built for exactly this, ``None`` where the bundle has none.

        Args:
            runtime: ``"ort"``, ``"rtx"`` or ``"tensorrt"``.
            version: of the runtime, whole.
            architecture: as in `edgeir.manifest.EngineNote`.
        """
        for note in self.manifest.engines:
            if (note.runtime, note.version, note.architecture) == (runtime, version, architecture) and note.path:
                return self.path / note.path
        return None

    def read(self, path: Path | str) -> bytes:
        """The bytes of one listed file, hashed as they were read: what an engine is deserialized from.

        Args:
            path: as `file` gives it, or relative to the bundle.

        Raises:
            BundleError: the file is not listed, or its bytes are not the listed ones.
        """
        whole = self.path / path
        for artifact in self.manifest.artifacts:
            if self.path / artifact.path == whole:
                break
        else:
            raise BundleError("the manifest does not list this file", where=str(whole))
        try:
            data = whole.read_bytes()
        except OSError as error:
            raise _unreadable(whole, error) from error
        if hashlib.sha256(data).hexdigest() != artifact.sha256:
            raise _changed(whole)
        return data


def _manifest_bytes(folder: Path) -> bytes:
    if not folder.exists():
        raise BundleError("there is no such bundle", where=str(folder), fix="Make one with 'edgeir export'.")
    if not folder.is_dir():
        raise BundleError("this is a file", where=str(folder), expected="the folder of a bundle")
    path = folder / MANIFEST_NAME
    if path.is_symlink():
        raise BundleError("a bundle may not contain links", where=str(path), fix=_COPY_AGAIN)
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise BundleError(
            f"the folder has no {MANIFEST_NAME}, so it is not a bundle",
            where=str(folder),
            fix="Name the folder that 'edgeir export' wrote; its name ends in .edgeir.",
        ) from None
    except OSError as error:
        raise _unreadable(path, error) from error


def _files_in(folder: Path) -> dict[str, int]:
    """Every file below ``folder``: path with ``/`` to size in bytes; refuses links and special files."""
    found: dict[str, int] = {}
    pending = [folder]
    while pending:
        current = pending.pop()
        try:
            with os.scandir(current) as entries:
                for entry in entries:
                    path = Path(entry.path)
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISDIR(status.st_mode) and not entry.is_symlink():
                        pending.append(path)
                    elif stat.S_ISREG(status.st_mode):
                        found[path.relative_to(folder).as_posix()] = status.st_size
                    else:
                        raise BundleError(
                            "a bundle may not contain links or special files", where=str(path), fix=_COPY_AGAIN
                        )
        except OSError as error:
            raise _unreadable(current, error) from error
    return found


def _check_size(path: Path, artifact: Artifact, size: int) -> None:
    if size != artifact.bytes:
        raise BundleError(
            "the file does not have the listed size",
            where=str(path),
            expected=f"{artifact.bytes} bytes",
            got=f"{size} bytes",
            fix=_COPY_AGAIN,
        )


def _check_hash(path: Path, artifact: Artifact) -> None:
    try:
        _, digest = sha256_of(path)
    except OSError as error:
        raise _unreadable(path, error) from error
    if digest != artifact.sha256:
        raise _changed(path)


def _changed(path: Path) -> BundleError:
    return BundleError("the content is not what the manifest vouches for", where=str(path), fix=_COPY_AGAIN)


def _unreadable(path: Path, error: OSError) -> BundleError:
    return BundleError(f"cannot be read: {error.strerror or error}", where=str(path))
