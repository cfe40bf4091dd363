"""What an engine is built for, and what a build gave: the two values that cross the process border, as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

# TensorRT-RTX compiles ahead of time for GPUs it does not see, several at once: an engine for all three is as large as
# one for any of them (33 MB for exda-tiny FP16), its kernels are finished on the user's card.
RTX_ARCHITECTURES = ("sm86", "sm89", "sm120")
# RTX 30 has no FP8: a builder for it refuses the graph.
FP8_ARCHITECTURES = ("sm89", "sm120")
NATIVE = ("native",)

ARCHITECTURE_NAMES: Mapping[str, str] = {
    "sm86": "GeForce RTX 30",
    "sm89": "GeForce RTX 40",
    "sm120": "GeForce RTX 50",
    "native": "the GPU of this machine",
}


@dataclass(frozen=True, slots=True)
class EngineTarget:
    """One engine to build.

    Attributes:
        runtime: ``"rtx"`` (TensorRT-RTX) or ``"tensorrt"`` (TensorRT proper).
        architectures: ``("sm86", "sm89")``, or ``("native",)``: TensorRT proper builds for the GPU it runs on.
    """

    runtime: str
    architectures: tuple[str, ...]

    @property
    def architecture(self) -> str:
        """All architectures in one word, for file names: ``"sm86-sm89"``."""
        return "-".join(self.architectures)

    @property
    def label(self) -> str:
        """``"rtx sm86-sm89"``."""
        return f"{self.runtime} {self.architecture}"

    @property
    def devices(self) -> str:
        """The cards it is for, in words."""
        return ", ".join(ARCHITECTURE_NAMES[name] for name in self.architectures)


@dataclass(frozen=True, slots=True)
class Profile:
    """Range of one dynamic input: full shapes (N, C, H, W), pixels."""

    input_name: str
    minimum: tuple[int, ...]
    optimum: tuple[int, ...]
    maximum: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """Everything a build process needs; paths are absolute.

    Attributes:
        target: what to build for.
        onnx_path: a typed graph.
        engine_path: where the engine goes.
        profile: range of the dynamic input, ``None`` for a static graph.
        kernels_path: a ``kernels.json`` whose kernels TensorRT puts into the engine in place of the bodies.
    """

    target: EngineTarget
    onnx_path: str
    engine_path: str
    profile: Profile | None
    kernels_path: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> BuildRequest:
        """Inverse of `to_dict`."""
        profile = data["profile"]
        return cls(
            target=EngineTarget(data["target"]["runtime"], tuple(data["target"]["architectures"])),
            onnx_path=data["onnx_path"],
            engine_path=data["engine_path"],
            profile=None
            if profile is None
            else Profile(
                profile["input_name"], tuple(profile["minimum"]), tuple(profile["optimum"]), tuple(profile["maximum"])
            ),
            kernels_path=data["kernels_path"],
        )


@dataclass(frozen=True, slots=True)
class BuildResult:
    """What one build gave.

    Attributes:
        target: what it was built for.
        version: version of the runtime that built it.
        layers: layers of the parsed network, before the compiler fuses them.
        seconds: wall time of parsing and building.
        bytes: size of the engine.
        warnings: distinct warnings of the builder, at most 20.
        kernels: ids of the ops that the builder was given kernels for, such as ``"edgeir::EdgeirKeyGraph"``.
    """

    target: EngineTarget
    version: str
    layers: int
    seconds: float
    bytes: int
    warnings: tuple[str, ...]
    kernels: tuple[str, ...] = ()
