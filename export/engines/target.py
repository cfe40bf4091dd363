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
    "sm72": "Jetson Xavier",
    "sm75": "GeForce RTX 20",
    "sm86": "GeForce RTX 30",
    "sm87": "Jetson Orin",
    "sm89": "GeForce RTX 40",
    "sm110": "Jetson Thor",
    "sm120": "GeForce RTX 50",
    "sm121": "GB10",
    "native": "the GPU of this machine",
}


@dataclass(frozen=True, slots=True)
class EngineTarget:
    """One engine to build.

    Attributes:
        runtime: ``"rtx"`` (TensorRT-RTX) or ``"tensorrt"`` (TensorRT proper).
        architectures: ``("sm86", "sm89")``. TensorRT proper builds for the GPU it runs on: ``("sm87",)``, or
            ``("native",)`` where the driver cannot be asked.
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
        return ", ".join(ARCHITECTURE_NAMES.get(name, name.upper()) for name in self.architectures)


@dataclass(frozen=True, slots=True)
class Profile:
    """Range of one dynamic input: full shapes (N, C, H, W), pixels."""

    input_name: str
    minimum: tuple[int, ...]
    optimum: tuple[int, ...]
    maximum: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """Everything a build process needs; paths are absolute. Without a graph the process only says what it is.

    Attributes:
        target: what to build for.
        onnx_path: a typed graph.
        engine_path: where the engine goes.
        profile: range of the dynamic input, ``None`` for a static graph.
        kernels_path: a ``kernels.json`` whose kernels TensorRT puts into the engine in place of the bodies.
        timing_cache_path: a timing cache to begin with, where there is one, and to write anew after the build.
        libraries: plugin libraries to load first.
        weak_flags: names of builder flags for a TensorRT without strong typing (8.x), whose types are hints.
    """

    target: EngineTarget
    onnx_path: str
    engine_path: str
    profile: Profile | None
    kernels_path: str | None = None
    timing_cache_path: str | None = None
    libraries: tuple[str, ...] = ()
    weak_flags: tuple[str, ...] = ()

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
            timing_cache_path=data["timing_cache_path"],
            libraries=tuple(data["libraries"]),
            weak_flags=tuple(data["weak_flags"]),
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
        timing_cache: what became of the timing cache: ``"used"``, ``"new"``, ``"refused"`` (of another GPU or version,
            replaced) or ``"none"`` (not asked for, or this builder has none).
    """

    target: EngineTarget
    version: str
    layers: int
    seconds: float
    bytes: int
    warnings: tuple[str, ...]
    kernels: tuple[str, ...] = ()
    timing_cache: str = "none"


@dataclass(frozen=True, slots=True)
class Progress:
    """What a builder is at: ``done`` of ``steps`` of one of its phases, ``seconds`` after that phase began."""

    phase: str
    done: int
    steps: int
    seconds: float

    @property
    def left_s(self) -> float | None:
        """Seconds until the end of the phase if its steps go on as they did; ``None`` where that says nothing yet."""
        return None if self.done < 1 else self.seconds / self.done * (self.steps - self.done)
