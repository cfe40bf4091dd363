"""One trial, and the content keys that say whether it was done: a hash over everything that decides its result."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

_PLACES = (
    "checkpoint",
    "plan",
    "calibration",
    "bundle",
)  # where content lies decides nothing; its hash stands beside each


@dataclass(frozen=True, slots=True)
class Build:
    """The bundle that a trial needs: exported from a model or a checkpoint, or taken as it is.

    Attributes:
        name: of the model, of the zoo or as the bundle says.
        content_sha256: of the weights file (``"untrained"`` without one), or of the bundle's manifest.
        precision: ``"fp32"``, ``"fp16"``, ``"int8"`` or ``"fp8"``.
        height, width: of the graph's input, in pixels.
        batch: pictures (or tiles) per run.
        k: neighbours per token of a key graph, ``None`` for the model's own.
        targets: engines to build (``"rtx"``, ``"tensorrt"``).
        runtimes: runtimes to prepare a file for (``"onnxruntime"``), as ``--for`` takes them.
        drift_budget_db: what eight bits may lose where no plan names the layers.
        checkpoint: path of the weights, ``None`` for a named model.
        plan: path of a ``plan.yaml``, and the hash of its content.
        calibration: path of a folder of clean pictures, and the hash of what is in it.
        bundle: path of a finished bundle, ``None`` where one is to be exported.
    """

    name: str
    content_sha256: str
    precision: str
    height: int
    width: int
    batch: int = 1
    k: int | None = None
    targets: tuple[str, ...] = ()
    runtimes: tuple[str, ...] = ()
    drift_budget_db: float | None = None
    checkpoint: str | None = field(default=None, compare=False)
    plan: str | None = field(default=None, compare=False)
    plan_sha256: str | None = None
    calibration: str | None = field(default=None, compare=False)
    calibration_sha256: str | None = None
    bundle: str | None = field(default=None, compare=False)

    def identity(self) -> dict[str, Any]:
        """What decides the bundle, JSON-ready, without any path."""
        return {name: value for name, value in asdict(self).items() if name not in _PLACES}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Build:
        """Inverse of `dataclasses.asdict`, or of `identity` without the paths, after JSON."""
        lists = {name: tuple(data[name]) for name in ("targets", "runtimes")}
        return cls(**{**data, **lists})


@dataclass(frozen=True, slots=True)
class Trial:
    """One row of a sweep.

    Attributes:
        build: the bundle it runs.
        height, width: of the picture that is restored, in pixels.
        tile_px: side of the tiles, which is then the graph's size; ``None`` for the whole picture.
        backend: key of `edgeir.runtime.opening.BACKENDS`.
        threads: of the runtime, ``None`` to leave it to it.
    """

    build: Build
    height: int
    width: int
    tile_px: int | None = None
    backend: str = "ort"
    threads: int | None = None

    @property
    def size(self) -> str:
        """``"128x192"``, height and width in pixels."""
        return f"{self.height}x{self.width}"

    @property
    def label(self) -> str:
        """``"exda-tiny fp16 128x128 ort"``, and what else is not as usual."""
        build = self.build
        parts = [build.name, build.precision, self.size, self.backend]
        extra = (("batch", None if build.batch == 1 else build.batch), ("k", build.k), ("tile", self.tile_px))
        parts += [f"{word} {value}" for word, value in (*extra, ("threads", self.threads)) if value is not None]
        return " ".join(parts)

    @property
    def in_one(self) -> bool:
        """Whether the graph takes the whole picture as it is, with neither tiles nor padding."""
        return self.tile_px is None and (self.height, self.width) == (self.build.height, self.build.width)

    @property
    def comparable(self) -> tuple[str, int]:
        """What latencies can be compared within: the size, and how many pictures of it they are of."""
        return self.size, self.build.batch if self.in_one else 1

    def identity(self) -> dict[str, Any]:
        """What decides the result, JSON-ready, without any path."""
        own = {name: getattr(self, name) for name in ("height", "width", "tile_px", "backend", "threads")}
        return {"build": self.build.identity(), **own}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Trial:
        """Inverse of `dataclasses.asdict`, or of `identity` without the paths, after JSON."""
        return cls(**{**data, "build": Build.from_dict(data["build"])})


@dataclass(frozen=True, slots=True)
class Settings:
    """How thoroughly a trial is measured: pictures restored under every degradation, and timed rounds."""

    pictures: int
    rounds: int


@dataclass(frozen=True, slots=True)
class Machine:
    """Where trials run: the kind of device and the versions there, as provenance has them; nothing that names it."""

    device: Mapping[str, Any]
    versions: Mapping[str, str]

    @property
    def label(self) -> str:
        """``"2 x some processor"``, and its GPU where one was reported."""
        gpu = self.device.get("gpu")
        text = f"{self.device.get('processors')} x {self.device.get('processor')}"
        return f"{text}, {gpu}" if gpu else text

    @property
    def identity(self) -> str:
        """The same text for machines of the same kind with the same versions, and no others."""
        return json.dumps({"device": dict(self.device), "versions": dict(self.versions)}, sort_keys=True)


def bundle_key(build: Build, machine: Machine) -> str:
    """sha256 (hex) of everything that decides the bundle: the first level of the cache.

    The device counts: an engine is built where it is built, and calibration runs on that processor's kernels.
    """
    return _sha256({"build": build.identity(), "versions": machine.versions, "device": machine.device})


def trial_key(trial: Trial, settings: Settings, machine: Machine) -> str:
    """sha256 (hex) of everything that decides the trial's row."""
    return _sha256(
        {
            "trial": trial.identity(),
            "settings": asdict(settings),
            "versions": machine.versions,
            "device": machine.device,
        }
    )


def _sha256(value: Mapping[str, Any]) -> str:
    plain = {key: dict(part) if isinstance(part, Mapping) else part for key, part in value.items()}
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
