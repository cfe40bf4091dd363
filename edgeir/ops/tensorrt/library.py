"""The plugin library: building it on the machine that will use it, finding it again, and asking it what it is.

A build lies in a folder that is named by a hash of everything that makes it what it is (sources, flags, architectures,
CUDA, TensorRT), so a build that is there is never an old one::

    FOLDER/libedgeir_plugins-tensorrt10.3.0-sm87-1f0c9a4e5b7d/
        libedgeir_plugins.so   build.json
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from edgeir.errors import BuildFailed, MissingDependency, UsageError
from edgeir.ops import table, toolchain
from edgeir.storage import flush_file, flush_folder, writing

LIBRARY = "libedgeir_plugins.so"
RECORD = "build.json"
OLDEST_TENSORRT = (10, 0)
OLDEST_SM = 80
_HERE = Path(__file__).parent
_SOURCES = ("*.cu", "*.cuh", "*.h")
_HEADER = "NvInfer.h"
_USUAL_FOLDERS = (
    "/usr/include",
    "/usr/include/aarch64-linux-gnu",
    "/usr/include/x86_64-linux-gnu",
    "/usr/local/include",
    "/usr/local/tensorrt/include",
    "/opt/tensorrt/include",
)


@dataclass(frozen=True, slots=True)
class BuildKey:
    """Everything that makes a library what it is.

    Attributes:
        sources: sha256 of kernels, launchers, adaptor and build file.
        architectures: compute capabilities, ``"87"``; ascending.
        cuda: version of nvcc.
        tensorrt: version of the headers.
    """

    sources: str
    architectures: tuple[str, ...]
    cuda: str
    tensorrt: str

    @property
    def name(self) -> str:
        """Of the folder."""
        digest = hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:12]
        return f"libedgeir_plugins-tensorrt{self.tensorrt}-{'-'.join(f'sm{sm}' for sm in self.architectures)}-{digest}"


@dataclass(frozen=True, slots=True)
class BuiltLibrary:
    """A library on the disk and what its record says."""

    path: Path
    key: BuildKey

    @property
    def is_current(self) -> bool:
        """Built from the sources of this edgeir."""
        return self.key.sources == sources_digest()


def default_folder() -> Path:
    """Where libraries are kept: ``edgeir/plugins`` in the user's cache folder."""
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "edgeir" / "plugins"


def find_headers(folder: Path | None) -> Path:
    """The folder with TensorRT's headers: the given one, or the first usual one that has them.

    Raises:
        MissingDependency: they are nowhere.
        UsageError: they are not in the given folder.
    """
    if folder is not None:
        if not (folder / _HEADER).is_file():
            raise UsageError(
                f"{_HEADER} is not there", where=str(folder), fix="Give the folder with TensorRT's headers (--headers)."
            )
        return folder
    for usual in map(Path, _USUAL_FOLDERS):
        if (usual / _HEADER).is_file():
            return usual
    raise MissingDependency(
        "TensorRT's headers are not on this machine",
        where="building plugins",
        expected=f"{_HEADER} in one of {', '.join(_USUAL_FOLDERS)}",
        fix="Install them (JetPack brings them: libnvinfer-headers-dev), or say where they are: --headers FOLDER.",
    )


def headers_version(folder: Path) -> str:
    """``"10.3.0"``, of TensorRT's headers.

    Raises:
        UsageError: it cannot be read, or is older than 10.0.
    """
    numbers = []
    text = (folder / "NvInferVersion.h").read_text(encoding="utf-8", errors="replace")
    for part in ("MAJOR", "MINOR", "PATCH"):
        found = re.search(rf"#define (?:NV_TENSORRT_{part}|TRT_{part}_ENTERPRISE) (\d+)", text)
        if found is None:
            raise UsageError("does not say which version it is", where=str(folder / "NvInferVersion.h"))
        numbers.append(int(found.group(1)))
    version = ".".join(map(str, numbers))
    if tuple(numbers[:2]) < OLDEST_TENSORRT:
        raise UsageError(
            "these headers know no IPluginV3",
            where=str(folder),
            expected="TensorRT 10.0 or later",
            got=version,
            fix="Use the function bodies there: leave the plugins out.",
        )
    return version


def sources_digest() -> str:
    """Sha256 of all that is compiled."""
    digest = hashlib.sha256()
    kernels = [file for pattern in _SOURCES for file in sorted(toolchain.CUDA_SOURCES.glob(pattern))]
    for file in (*kernels, _HERE / "plugins.cpp", _HERE / "CMakeLists.txt"):
        digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()


def parse_architectures(text: str) -> tuple[str, ...]:
    """``"87,110"`` or ``"sm87,sm110"`` to ``("87", "110")``.

    Raises:
        UsageError: no such thing, or below 8.0, whose tensor cores lack the products that the kernels use.
    """
    names = [part.strip().lower().removeprefix("sm").removeprefix("_") for part in text.split(",")]
    if not all(name.isdecimal() and OLDEST_SM <= int(name) < 1000 for name in names):
        raise UsageError(
            "is no list of compute capabilities from 8.0 on", where="--sm", expected="such as 87 or 89,120", got=text
        )
    return tuple(sorted(set(names), key=int))


def build(
    headers: Path, architectures: Sequence[str], folder: Path, *, force: bool = False
) -> tuple[BuiltLibrary, bool]:
    """Build the library, or find that it is there.

    Args:
        headers: folder with TensorRT's headers.
        architectures: compute capabilities to compile for.
        folder: where libraries are kept; made if it is missing.
        force: build although it is there.

    Returns:
        The library, and whether it was built now.

    Raises:
        MissingDependency: nvcc or CMake is missing.
        BuildFailed: a compiler refused.
        OutputError: ``folder`` cannot be written.
    """
    nvcc, cmake = toolchain.find("nvcc"), toolchain.find("cmake")
    key = BuildKey(sources_digest(), tuple(architectures), toolchain.nvcc_version(nvcc), headers_version(headers))
    place = folder / key.name
    if not force and _read(place) is not None:
        return BuiltLibrary(place / LIBRARY, key), False
    temporary = folder / f".{key.name}.{secrets.token_hex(4)}.tmp"
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
    try:
        made = _compile(key, headers, nvcc, cmake, temporary / "build")
        with writing(place):
            made.replace(temporary / LIBRARY)
            shutil.rmtree(temporary / "build")
            (temporary / RECORD).write_text(json.dumps(asdict(key), indent=2) + "\n", encoding="utf-8")
            flush_file(temporary / LIBRARY)
            if place.exists():
                shutil.rmtree(place)
            temporary.replace(place)
            flush_folder(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return BuiltLibrary(place / LIBRARY, key), True


def _compile(key: BuildKey, headers: Path, nvcc: Path, cmake: Path, folder: Path) -> Path:
    configure = [
        *(str(cmake), "-S", str(_HERE), "-B", str(folder), "-DCMAKE_BUILD_TYPE=Release"),
        f"-DCMAKE_CUDA_COMPILER={nvcc}",
        f"-DCMAKE_CUDA_ARCHITECTURES={';'.join(f'{sm}-real' for sm in key.architectures)}",
        f"-DEDGEIR_TENSORRT_INCLUDE={headers}",
        f"-DEDGEIR_BUILD={key.name}",
    ]
    toolchain.run(configure, what="configuring the plugin library")
    jobs = str(os.cpu_count() or 1)
    toolchain.run([str(cmake), "--build", str(folder), "--parallel", jobs], what="compiling the plugin library")
    made = folder / LIBRARY
    if not made.is_file():
        raise BuildFailed("CMake made no library", where="compiling the plugin library", expected=LIBRARY)
    return made


def built_libraries(folder: Path) -> tuple[BuiltLibrary, ...]:
    """Every library in ``folder``, by name."""
    if not folder.is_dir():
        return ()
    keys = ((place, _read(place)) for place in sorted(folder.iterdir()) if not place.name.startswith("."))
    return tuple(BuiltLibrary(place / LIBRARY, key) for place, key in keys if key is not None)


def _read(place: Path) -> BuildKey | None:
    """What the record of a build says; ``None`` where there is no whole build."""
    try:
        data = json.loads((place / RECORD).read_text(encoding="utf-8"))
        key = BuildKey(data["sources"], tuple(data["architectures"]), data["cuda"], data["tensorrt"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return key if (place / LIBRARY).is_file() and key.name == place.name else None


def open_library(path: Path) -> ctypes.CDLL:
    """Load the library into this process.

    Raises:
        MissingDependency: the system cannot load it.
    """
    try:
        return ctypes.CDLL(str(path.resolve()))
    except OSError as error:
        raise MissingDependency(
            "cannot be loaded", where=str(path), got=str(error), fix="Build it on this machine: edgeir plugins build."
        ) from error


def differences(library: ctypes.CDLL) -> list[str]:
    """What a library says of itself against `edgeir.ops.table`, one sentence per difference."""
    try:
        describe = library.edgeir_plugins_describe
    except AttributeError:
        return ["it is no library of edgeir's plugins"]
    describe.restype = ctypes.c_char_p
    said = json.loads(describe())
    found = []
    if (said["namespace"], said["version"]) != (table.DOMAIN, str(table.VERSION)):
        found.append(f"it is {said['namespace']} {said['version']}, expected {table.DOMAIN} {table.VERSION}")
    ops = {row["name"]: row for row in said["ops"]}
    for op in table.FUSED_OPS:
        row = ops.pop(op.name, None)
        types = [field.dtype for field in (*op.inputs, *op.outputs)]
        attributes = [attribute.name for attribute in op.attributes]
        if row is None:
            found.append(f"it has no {op.name}")
        elif (row["types"], row["attributes"]) != (types, attributes):
            found.append(
                f"{op.name} has inputs, output {row['types']} and attributes {row['attributes']}, "
                f"expected {types} and {attributes}"
            )
    found.extend(f"it has {name}, which is no op" for name in ops)
    return found
