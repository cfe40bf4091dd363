"""What a model eats and gives: the axis letters, the size rule and the model's own description.

Axis letters, used in every docstring of edgeir:

=====  =============================================================
N      pictures in a batch
C      channels
H, W   height and width in pixels
h, w   height and width of a tile or of a window, in pixels
s      integer scale between input and output (1 for restoration)
=====  =============================================================

Pictures are ``(N, 3, H, W) float32 in [0, 1], RGB`` wherever nothing else is said.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgeir.errors import UsageError

SPEC_VERSION = 1

# Names inside every ONNX file that edgeir writes: its input, its output and the metadata key of the model spec.
INPUT_NAME = "image"
OUTPUT_NAME = "restored"
# Of graphs for tiles (`edgeir.export.tile_statistics`): what others found, whether to take it, and what was found.
STATISTICS_INPUT = "statistics"
USE_STATISTICS_INPUT = "use_statistics"
STATISTICS_OUTPUT = "own_statistics"
SPEC_KEY = "edgeir_spec"


@dataclass(frozen=True, slots=True)
class SizeRule:
    """Which heights and widths a network accepts: multiples of ``multiple``, at least ``minimum`` (pixels)."""

    multiple: int = 1
    minimum: int = 1

    def __post_init__(self) -> None:
        if self.multiple < 1 or self.minimum < 1:
            raise UsageError(
                "a size rule needs positive numbers",
                expected="multiple >= 1 and minimum >= 1",
                got=f"multiple {self.multiple}, minimum {self.minimum}",
            )

    def accepts(self, height: int, width: int) -> bool:
        """Whether a picture of ``height`` x ``width`` pixels fits without padding."""
        return all(side >= self.minimum and side % self.multiple == 0 for side in (height, width))

    def near(self, side: int) -> int:
        """The smallest accepted side that is not below ``side`` (pixels)."""
        least = max(side, self.minimum, 1)
        return -(-least // self.multiple) * self.multiple

    def require(self, height: int, width: int, *, where: str) -> None:
        """Raise ``UsageError`` that names the nearest accepted size unless ``height`` x ``width`` fits."""
        if self.accepts(height, width):
            return
        raise UsageError(
            "the size does not fit the network",
            where=where,
            expected=f"multiples of {self.multiple}, at least {self.near(self.minimum)}",
            got=f"{height}x{width}",
            fix=f"Use {self.near(height)}x{self.near(width)}.",
        )


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output of a graph: a fixed side is an ``int``, a dynamic one its symbol (``"H"``)."""

    name: str
    shape: tuple[int | str, ...]
    dtype: str = "float32"
    value_range: tuple[float, float] = (0.0, 1.0)


@dataclass(frozen=True, slots=True)
class WeightsSpec:
    """Where the weights of a model come from.

    Attributes:
        source: ``"seeded"`` (a seeded initialisation, nothing was trained), ``"shipped"`` (weights that come with
            edgeir) or ``"checkpoint"`` (the user's file).
        trained: whether anybody trained them; every command prints **untrained** where this is false.
        sha256: hash over names, shapes, dtypes and bytes of all tensors (`edgeir.models.checkpoint.weights_digest`).
        seed: the seed of a seeded initialisation.
    """

    source: str
    trained: bool
    sha256: str
    seed: int | None = None

    @property
    def state(self) -> str:
        """``"trained"`` or ``"untrained"``: the word every command prints."""
        return "trained" if self.trained else "untrained"


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """Everything a runtime must know about a network, and everything needed to build it again.

    Attributes:
        name: the variant's name (``"exda-tiny"``), or the architecture's with ``-custom`` for other settings.
        architecture: key of `edgeir.models.registry.ARCHITECTURES` (``"exda"``).
        config: the architecture's settings, JSON values only.
        size: the size rule; ``forward`` never pads.
        scale: output pixels per input pixel along each side.
        channels: channels of input and output (3, RGB).
        weights: where the weights come from, ``None`` before any are loaded.
    """

    name: str
    architecture: str
    config: Mapping[str, Any]
    size: SizeRule
    scale: int = 1
    channels: int = 3
    weights: WeightsSpec | None = field(default=None)

    @property
    def trained(self) -> bool:
        """Whether its weights were; without any it is not."""
        return self.weights is not None and self.weights.trained

    @property
    def chooses_neighbours(self) -> bool:
        """Whether it has a key graph: two exact runtimes choose differently where two neighbours are as near."""
        return "k" in self.config

    @property
    def attends_in_windows(self) -> bool:
        """Whether no layer reads the whole picture at once: its settings name the windows it attends in."""
        return "windows" in self.config

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form, the one stored in checkpoints, manifests and ONNX ``metadata_props``."""
        return {
            "spec_version": SPEC_VERSION,
            "name": self.name,
            "architecture": self.architecture,
            "config": dict(self.config),
            "size": {"multiple": self.size.multiple, "minimum": self.size.minimum},
            "scale": self.scale,
            "channels": self.channels,
            "weights": None
            if self.weights is None
            else {
                "source": self.weights.source,
                "trained": self.weights.trained,
                "sha256": self.weights.sha256,
                "seed": self.weights.seed,
            },
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], *, where: str) -> ModelSpec:
        """Read what `to_dict` wrote; ``where`` names the file in errors.

        Raises:
            UsageError: a field is missing or of the wrong kind, or the version is newer than this edgeir.
        """
        try:
            version = int(data["spec_version"])
            if version > SPEC_VERSION:
                raise UsageError(
                    "the model spec comes from a newer edgeir",
                    where=where,
                    expected=f"spec version <= {SPEC_VERSION}",
                    got=str(version),
                    fix="Update edgeir.",
                )
            weights = data["weights"]
            return cls(
                name=str(data["name"]),
                architecture=str(data["architecture"]),
                config=dict(data["config"]),
                size=SizeRule(int(data["size"]["multiple"]), int(data["size"]["minimum"])),
                scale=int(data["scale"]),
                channels=int(data["channels"]),
                weights=None
                if weights is None
                else WeightsSpec(
                    source=str(weights["source"]),
                    trained=bool(weights["trained"]),
                    sha256=str(weights["sha256"]),
                    seed=None if weights["seed"] is None else int(weights["seed"]),
                ),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(
                "the model spec cannot be read",
                where=where,
                got=f"{type(error).__name__}: {error}",
                fix="The file was not written by edgeir, or was edited; make it again.",
            ) from error

    def to_json(self) -> str:
        """`to_dict` as one JSON line with sorted keys."""
        return json.dumps(self.to_dict(), sort_keys=True)

    @classmethod
    def from_json(cls, text: str, *, where: str) -> ModelSpec:
        """Inverse of `to_json`; raises ``UsageError`` as `from_dict` does."""
        try:
            data = json.loads(text)
        except json.JSONDecodeError as error:
            raise UsageError("the model spec is not JSON", where=where, got=str(error)) from error
        return cls.from_dict(data, where=where)
