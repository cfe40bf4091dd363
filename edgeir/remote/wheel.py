"""A wheel of the edgeir that runs here, for a device: built from its sources, or packed again from where it lies.

edgeir holds no compiled code, so one wheel fits every machine.
"""

from __future__ import annotations

import base64
import csv
import email
import hashlib
import importlib.util
import io
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path, PurePosixPath

import edgeir
from edgeir.errors import MissingDependency, UsageError, nearest

SOURCES = ("edgeir", "export", "calibrate", "train", "pyproject.toml", "README.md", "LICENSE")
# Of this installation, not of the package.
_LOCAL = {"INSTALLER", "RECORD", "REQUESTED", "direct_url.json"}
_TIME = (2020, 1, 1, 0, 0, 0)  # the same sources give the same wheel, so that a device need not be installed again


def make_wheel(folder: Path) -> Path:
    """The wheel, in ``folder``.

    Raises:
        MissingDependency: edgeir is neither installed nor are its sources at hand, or they cannot be built here.
    """
    if (sources := _sources()) is not None:
        return _build(sources, folder)
    try:
        return _pack(metadata.distribution("edgeir"), folder)
    except metadata.PackageNotFoundError:
        raise MissingDependency(
            "edgeir is not installed as a package here", fix="Name a wheel: --wheel FILE."
        ) from None


def check_wheel(path: Path) -> Path:
    """``path``, if it is a wheel of edgeir that fits any machine.

    Raises:
        UsageError: it is not.
    """
    name = path.name
    if not path.is_file() or not name.startswith("edgeir-") or not name.endswith("-py3-none-any.whl"):
        raise UsageError(
            "this is no wheel of edgeir", where=str(path), expected="edgeir-VERSION-py3-none-any.whl",
            fix="Make one in edgeir's sources: pip wheel --no-deps .",
        )  # fmt: skip
    return path


def content_digest(wheel: Path) -> str:
    """sha256 (hex) over the names and contents of a wheel's files, whatever their times and order."""
    digest = hashlib.sha256()
    with zipfile.ZipFile(wheel) as archive:
        for name in sorted(archive.namelist()):
            digest.update(f"{name}\0".encode() + hashlib.sha256(archive.read(name)).digest())
    return digest.hexdigest()


def check_extras(wheel: Path, extras: Sequence[str]) -> tuple[str, ...]:
    """``extras``, if the wheel has them all: pip only warns of one that there is none of.

    Raises:
        UsageError: it has not; offers the nearest.
    """
    with zipfile.ZipFile(wheel) as archive:
        info = next((name for name in archive.namelist() if name.endswith(".dist-info/METADATA")), None)
        words = email.message_from_bytes(b"" if info is None else archive.read(info))
    known = [str(extra) for extra in words.get_all("Provides-Extra", [])]
    for extra in extras:
        if extra not in known:
            raise UsageError(f"edgeir has no extra '{extra}'", where="--extra", fix=nearest(extra, known))
    return tuple(extras)


def _sources() -> Path | None:
    """Folder of the sources that this edgeir runs from, ``None`` where it was installed as a copy."""
    folder = Path(edgeir.__file__).resolve().parent.parent
    return folder if all((folder / name).exists() for name in SOURCES) else None


def _build(sources: Path, folder: Path) -> Path:
    """Build in a copy: setuptools leaves folders behind where it builds."""
    with tempfile.TemporaryDirectory(prefix="edgeir-") as temporary:
        copy = Path(temporary) / "edgeir"
        copy.mkdir()
        for name in SOURCES:
            if (sources / name).is_dir():
                shutil.copytree(sources / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(sources / name, copy / name)
        # Left to itself pip builds in an environment of its own, for which it needs a network.
        here = ["--no-build-isolation"] if _has_setuptools() else []
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--no-deps", "--quiet"]
        done = subprocess.run(
            [*command, *here, "--wheel-dir", str(folder), str(copy)], capture_output=True, encoding="utf-8", check=False
        )
    if done.returncode:
        raise MissingDependency(
            "edgeir's wheel cannot be built here",
            got=(done.stderr.strip().splitlines() or ["no reason stated"])[-1],
            fix="Name one that was built elsewhere: --wheel FILE.",
        )
    return _only_wheel(folder)


def _has_setuptools() -> bool:
    if importlib.util.find_spec("setuptools") is None:
        return False
    return int(metadata.version("setuptools").split(".")[0]) >= 77


def _pack(distribution: metadata.Distribution, folder: Path) -> Path:
    """The installed files as a wheel again, by the list of files that the installer kept."""
    files = {
        PurePosixPath(file): Path(str(distribution.locate_file(file)))
        for file in distribution.files or ()
        if ".." not in file.parts and file.suffix != ".pyc"
    }
    info = next((path.parts[0] for path in files if path.parts[0].endswith(".dist-info")), None)
    if info is None or not all(path.is_file() for path in files.values()):
        raise MissingDependency(
            "files of the installed edgeir are missing",
            fix="Install it again, or name a wheel: --wheel FILE.",
        )
    target = folder / f"edgeir-{distribution.version}-py3-none-any.whl"
    record = io.StringIO()
    rows = csv.writer(record, lineterminator="\n")
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, path in sorted(files.items()):
            if name.parts[0] == info and name.name in _LOCAL:
                continue
            data = path.read_bytes()
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            archive.writestr(zipfile.ZipInfo(str(name), _TIME), data, zipfile.ZIP_DEFLATED)
            rows.writerow([str(name), f"sha256={digest}", len(data)])
        rows.writerow([f"{info}/RECORD", "", ""])
        archive.writestr(zipfile.ZipInfo(f"{info}/RECORD", _TIME), record.getvalue())
    return target


def _only_wheel(folder: Path) -> Path:
    (wheel,) = folder.glob("edgeir-*.whl")
    return wheel
