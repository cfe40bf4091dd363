"""``manifest.json``: what a bundle holds, in a form that a person can read and a program can check.

The JSON is strict: an unknown key, a missing one or a value of the wrong kind is an error that names the key, and a
schema newer than this edgeir asks for an update. `edgeir.bundle` checks the files against it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import PurePosixPath
from typing import Any

from pydantic import ValidationError

from edgeir.errors import BundleError, EdgeIRError, nearest
from edgeir.manifest_schema import ManifestJson
from edgeir.provenance import Provenance
from edgeir.spec import ModelSpec, TensorSpec

SCHEMA_VERSION = 3  # 2: tiling; 3: devices, shared statistics of tiles
MANIFEST_NAME = "manifest.json"
PRECISIONS = ("fp32", "fp16", "int8", "fp8")


@dataclass(frozen=True, slots=True)
class Artifact:
    """One file of a bundle.

    Attributes:
        path: relative to the bundle, ``/`` between parts.
        role: what it is for (``"model"``, ``"reference"``, ``"prepared"`` for one runtime, ``"bytes"``, ``"tiles"``,
            ``"plan"``, ``"ranges"``, ``"kernels"``, ``"engine"``, ``"timing-cache"``, ``"report-html"``,
            ``"report-json"``, ``"bench"`` of a device).
        bytes: size.
        sha256: hash of the content, 64 hexadecimal digits.
        parents: paths of the files in the same bundle it was made from.
    """

    path: str
    role: str
    bytes: int
    sha256: str
    parents: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AxisRange:
    """Bounds of one dynamic axis in pixels (or pictures for ``N``), and the value engines are tuned for."""

    minimum: int
    optimum: int
    maximum: int


@dataclass(frozen=True, slots=True)
class EngineNote:
    """What happened when an engine was wanted for one runtime.

    Attributes:
        runtime: ``"ort"``, ``"rtx"`` or ``"tensorrt"``.
        version: version of the runtime, or ``""`` when it is not installed.
        architecture: what the engine was built for (``"sm89"``, ``"any"``), or ``""``.
        path: the engine's path in the bundle, ``None`` when there is no file.
        note: one sentence: how it was built, or why it was not.
    """

    runtime: str
    version: str
    architecture: str
    path: str | None
    note: str


@dataclass(frozen=True, slots=True)
class Tiling:
    """What was measured of pictures in tiles against the whole, at the chosen overlap (`edgeir.compare.tiles`).

    Attributes:
        overlap_px: what neighbouring tiles share; ``edgeir run`` takes it where nothing else is asked for.
        tile_px: (h, w) of the tiles it was measured with.
        fidelity_db: lowest PSNR of the tiles against the whole, dB; ``None`` where they are equal.
        border_ratio: largest error where tiles meet, as a multiple of that elsewhere (`edgeir.imaging.seams`).
        pictures: how many were compared; a picture under two degradations counts twice.
        shared_statistics: tiles agreed better when they shared the picture's statistics
            (`edgeir.runtime.tile_statistics`); the graph for that has the role ``"tiles"``.
    """

    overlap_px: int
    tile_px: tuple[int, int]
    fidelity_db: float | None
    border_ratio: float
    pictures: int
    shared_statistics: bool = False


@dataclass(frozen=True, slots=True)
class Board:
    """What a device was set to; ``None`` where it does not say.

    Attributes:
        l4t: release of Jetson Linux (``"36.4.3"``).
        jetpack: the JetPack that brought it (``"6.2"``).
        power_mode: name of the nvpmodel mode (``"MAXN_SUPER"``).
        clocks_pinned: every clock had one value to take, as after ``jetson_clocks``.
        driver: version of NVIDIA's kernel module.
    """

    l4t: str | None = None
    jetpack: str | None = None
    power_mode: str | None = None
    clocks_pinned: bool | None = None
    driver: str | None = None


@dataclass(frozen=True, slots=True)
class DeviceRecord:
    """Where files come from that were added to a finished bundle: an engine built on a board, what was measured there.

    Attributes:
        files: their paths, each in one record only.
        board: what the device was set to then.
        provenance: command, versions, kind of device, seconds and time.
    """

    files: tuple[str, ...]
    board: Board
    provenance: Provenance


@dataclass(frozen=True, slots=True)
class Manifest:
    """Everything a bundle says about itself.

    Attributes:
        name: of the model (``"exda-tiny"``).
        precision: ``"fp32"``, ``"fp16"`` or ``"int8"``.
        input: the graph's input; dynamic axes are symbols.
        ranges: bounds of every symbol in ``input.shape``.
        batch: pictures per run, the optimum where it is dynamic.
        model: the model's own description.
        provenance: how the bundle was made.
        artifacts: every file besides the manifest; `BundleWriter.commit` fills them in.
        engines: one note per runtime that was asked for.
        tiling: what overlap tiles need, ``None`` where that was not measured.
        devices: where files come from that were added later.
    """

    name: str
    precision: str
    input: TensorSpec
    batch: int
    model: ModelSpec
    provenance: Provenance
    ranges: Mapping[str, AxisRange] = field(default_factory=dict)
    artifacts: tuple[Artifact, ...] = ()
    engines: tuple[EngineNote, ...] = ()
    tiling: Tiling | None = None
    devices: tuple[DeviceRecord, ...] = ()
    schema_version: int = SCHEMA_VERSION

    def to_json(self) -> str:
        """Indented JSON with a final newline."""
        data = {
            "schema_version": self.schema_version,
            "name": self.name,
            "precision": self.precision,
            "input": asdict(self.input),
            "ranges": {symbol: asdict(bounds) for symbol, bounds in self.ranges.items()},
            "batch": self.batch,
            "model": self.model.to_dict(),
            "artifacts": [asdict(artifact) for artifact in self.artifacts],
            "engines": [asdict(engine) for engine in self.engines],
            **({} if self.tiling is None else {"tiling": asdict(self.tiling)}),
            **({} if not self.devices else {"devices": [_device_json(record) for record in self.devices]}),
            "provenance": self.provenance.to_dict(),
        }
        return json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes, *, where: str) -> Manifest:
        """Read and check a manifest; ``where`` names the file in errors.

        Raises:
            BundleError: not JSON, a newer schema, an unknown, missing or wrong key, an unsafe path, a path listed
                twice, or a parent that is not in the bundle.
        """
        raw = _read_object(text, where)
        try:
            data = ManifestJson.model_validate(raw)
        except ValidationError as error:
            raise _explain(error, where) from error
        _check_graph_of_files(data, where)
        try:
            return cls(
                name=data.name,
                precision=data.precision,
                input=TensorSpec(data.input.name, data.input.shape, data.input.dtype, data.input.value_range),
                ranges={symbol: AxisRange(**dict(bounds)) for symbol, bounds in data.ranges.items()},
                batch=data.batch,
                model=ModelSpec.from_dict(data.model, where=where),
                provenance=Provenance.from_dict(data.provenance, where=where),
                artifacts=tuple(Artifact(**dict(artifact)) for artifact in data.artifacts),
                engines=tuple(EngineNote(**dict(engine)) for engine in data.engines),
                tiling=None if data.tiling is None else Tiling(**dict(data.tiling)),
                devices=tuple(
                    DeviceRecord(
                        record.files,
                        Board(**dict(record.board)),
                        Provenance.from_dict(record.provenance, where=where),
                    )
                    for record in data.devices
                ),
                schema_version=data.schema_version,
            )
        except BundleError:
            raise
        except EdgeIRError as error:
            raise BundleError(
                error.what, where=error.where, expected=error.expected, got=error.got, fix=error.fix
            ) from error


def safe_path(path: str) -> str | None:
    """Why ``path`` may not stand in a manifest, or ``None`` when it may.

    A path is relative, stays inside the bundle, uses ``/`` and means the same on every system.
    """
    pure = PurePosixPath(path)
    if not path or path != pure.as_posix() or path == ".":
        return "it is empty or not written in its shortest form"
    if pure.is_absolute():
        return "it is absolute"
    if ".." in pure.parts:
        return "it contains '..'"
    if any(mark in path for mark in "\\:") or not path.isprintable():
        return "it contains a backslash, a colon or an unprintable character"
    if pure.parts[0] == MANIFEST_NAME:
        return "the manifest does not list itself"
    return None


def _device_json(record: DeviceRecord) -> dict[str, Any]:
    return {
        "files": list(record.files),
        "board": asdict(record.board),
        "provenance": record.provenance.to_dict(),
    }


def _read_object(text: str | bytes, where: str) -> dict[str, Any]:
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BundleError(
            "the manifest is not JSON", where=where, got=str(error), fix="Copy or export the bundle again."
        ) from error
    if not isinstance(raw, dict):
        raise BundleError("the manifest is not a JSON object", where=where, got=type(raw).__name__)
    version = raw.get("schema_version")
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise BundleError(
            "the bundle comes from a newer edgeir",
            where=where,
            expected=f"schema_version <= {SCHEMA_VERSION}",
            got=str(version),
            fix="Update edgeir.",
        )
    return raw


def _explain(error: ValidationError, where: str) -> BundleError:
    """The first thing pydantic found, as a sentence that names the key."""
    first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        known = ManifestJson.keys_at(first["loc"][:-1])
        return BundleError(f"unknown key '{key}'", where=where, fix=nearest(str(first["loc"][-1]), known))
    if first["type"] == "missing":
        return BundleError(f"the key '{key}' is missing", where=where, fix="Export the bundle again.")
    return BundleError(f"the key '{key}' is wrong", where=where, got=f"{first['input']!r:.80}: {first['msg']}")


def _check_graph_of_files(data: ManifestJson, where: str) -> None:
    listed: set[str] = set()
    for artifact in data.artifacts:
        if reason := safe_path(artifact.path):
            raise BundleError("a path may not stand in a manifest", where=where, got=f"{artifact.path!r}, {reason}")
        if artifact.path.lower() in {path.lower() for path in listed}:
            raise BundleError(f"{artifact.path!r} is listed twice", where=where)
        listed.add(artifact.path)
    for artifact in data.artifacts:
        for parent in artifact.parents:
            if parent not in listed:
                raise BundleError(f"{artifact.path!r} names a parent that is not listed", where=where, got=repr(parent))
    for engine in data.engines:
        if engine.path is not None and engine.path not in listed:
            raise BundleError("an engine note names a file that is not listed", where=where, got=repr(engine.path))
    told: set[str] = set()
    for record in data.devices:
        for path in record.files:
            if path not in listed:
                raise BundleError("a device's record names a file that is not listed", where=where, got=repr(path))
            if path in told:
                raise BundleError("two devices' records name the same file", where=where, got=repr(path))
            told.add(path)
    symbols = {side for side in data.input.shape if isinstance(side, str)}
    if symbols != set(data.ranges):
        raise BundleError(
            "every dynamic axis needs its range, and no other",
            where=where,
            expected=", ".join(sorted(symbols)) or "no ranges",
            got=", ".join(sorted(data.ranges)) or "none",
        )
