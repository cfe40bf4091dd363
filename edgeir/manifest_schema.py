"""The shape of ``manifest.json`` as pydantic checks it: names, kinds and bounds, nothing else is let through.

The model spec and the provenance are read by the classes that wrote them (`edgeir.spec`, `edgeir.provenance`).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

_Count = Annotated[int, Field(ge=1, strict=True)]
_Text = Annotated[str, Field(strict=True)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TensorJson(_Strict):
    """One input: a side is a count of elements or the symbol of a dynamic axis."""

    name: _Text
    shape: tuple[_Count | _Text, ...]
    dtype: _Text
    value_range: tuple[float, float]


class RangeJson(_Strict):
    """Bounds of a dynamic axis, in order."""

    minimum: _Count
    optimum: _Count
    maximum: _Count

    @model_validator(mode="after")
    def _in_order(self) -> RangeJson:
        if not self.minimum <= self.optimum <= self.maximum:
            raise ValueError("expected minimum <= optimum <= maximum")
        return self


class ArtifactJson(_Strict):
    """One file; its path is judged by `edgeir.manifest.safe_path`."""

    path: _Text
    role: Annotated[str, Field(min_length=1)]
    bytes: Annotated[int, Field(ge=0, strict=True)]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    parents: tuple[_Text, ...]


class EngineJson(_Strict):
    """What happened to one runtime's engine."""

    runtime: _Text
    version: _Text
    architecture: _Text
    path: str | None
    note: _Text


class TilingJson(_Strict):
    """The overlap that was measured, below the tile."""

    overlap_px: Annotated[int, Field(ge=0, strict=True)]
    tile_px: tuple[_Count, _Count]
    fidelity_db: float | None
    border_ratio: float
    pictures: _Count
    shared_statistics: bool = False

    @model_validator(mode="after")
    def _below_the_tile(self) -> TilingJson:
        if self.overlap_px >= min(self.tile_px):
            raise ValueError("expected overlap_px below both sides of tile_px")
        return self


class BoardJson(_Strict):
    """What a device was set to."""

    l4t: str | None
    jetpack: str | None
    power_mode: str | None
    clocks_pinned: bool | None
    driver: str | None


class DeviceJson(_Strict):
    """Files that were added later, and where they come from."""

    files: Annotated[tuple[_Text, ...], Field(min_length=1)]
    board: BoardJson
    provenance: dict[str, Any]


class ManifestJson(_Strict):
    """The whole file."""

    schema_version: _Count
    name: Annotated[str, Field(min_length=1)]
    precision: Literal["fp32", "fp16", "int8", "fp8"]
    input: TensorJson
    ranges: dict[str, RangeJson]
    batch: _Count
    model: dict[str, Any]
    artifacts: tuple[ArtifactJson, ...]
    engines: tuple[EngineJson, ...]
    tiling: TilingJson | None = None
    devices: tuple[DeviceJson, ...] = ()
    provenance: dict[str, Any]

    @classmethod
    def keys_at(cls, location: tuple[int | str, ...]) -> tuple[str, ...]:
        """Known keys of the object at ``location`` (a pydantic ``loc``), to offer the nearest one."""
        model: type[BaseModel] = cls
        for part in location:
            if isinstance(part, str) and part in model.model_fields:
                model = _model_in(model.model_fields[part].annotation) or model
        return tuple(model.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The pydantic model that an annotation is, or holds (``tuple[Model, ...]``, ``dict[str, Model]``)."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for part in get_args(annotation) if (model := _model_in(part))), None)
