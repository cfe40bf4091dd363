"""Ranges: what calibration found for each tensor, and ``ranges.json``, which people read and compare.

One tensor is one line, in the order of the graph, so that two calibrations can be compared with ``diff``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeir.calibrate.observers import Magnitudes
from edgeir.errors import GraphError, nearest

RANGES_VERSION = 2
FARTHEST = 8
"""No channel is multiplied by more than 2 to this power: one that was silent on the pictures may not be on others."""


@dataclass(frozen=True, slots=True)
class TensorRange:
    """Of one activation.

    Attributes:
        amax: the magnitude that becomes 127.
        largest: the largest magnitude seen.
        saturated: share of the values seen that lie beyond ``amax``, 0 to 1.
    """

    amax: float
    largest: float
    saturated: float = 0.0


@dataclass(frozen=True)
class Ranges:
    """What one calibration found.

    Attributes:
        method: key of `edgeir.calibrate.observers.OBSERVERS`.
        pictures: how many pictures were seen.
        tensors: by the name that a tensor has in the graph, in the order of the graph.
        migrated: by layer, the power of two that each channel of the tensor it reads was multiplied by before it was
            looked at (`edgeir.calibrate.migration`); layers that are not here read what the graph made.
    """

    method: str
    pictures: int
    tensors: Mapping[str, TensorRange]
    migrated: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


def ranges_seen(ranges: Ranges, seen: Mapping[str, Magnitudes]) -> Ranges:
    """Ranges that were found elsewhere, with what these pictures say of them: largest value and share beyond."""
    tensors = {
        name: TensorRange(entry.amax, seen[name].largest, seen[name].share_above(entry.amax))
        for name, entry in ranges.tensors.items()
    }
    return Ranges(ranges.method, ranges.pictures, tensors, ranges.migrated)


def ranges_to_json(ranges: Ranges) -> str:
    """The text of ``ranges.json``; numbers are written so that reading them gives the same floats."""
    head = {"ranges_version": RANGES_VERSION, "method": ranges.method, "pictures": ranges.pictures}
    lines = [
        f"  {json.dumps(name)}: "
        + json.dumps({"amax": entry.amax, "largest": entry.largest, "saturated": entry.saturated})
        for name, entry in ranges.tensors.items()
    ]
    fields = [f" {json.dumps(key)}: {json.dumps(value)}," for key, value in head.items()]
    moved = [f"  {json.dumps(name)}: {json.dumps(list(powers))}" for name, powers in ranges.migrated.items()]
    return "\n".join(["{", *fields, f' "migrated":{_block(moved)},', f' "tensors":{_block(lines)}', "}"]) + "\n"


def _block(lines: Sequence[str]) -> str:
    return " {\n" + ",\n".join(lines) + "\n }" if lines else " {}"


def ranges_from_json(text: str, *, where: str) -> Ranges:
    """Read the text of a ``ranges.json``; ``where`` names it in errors.

    Raises:
        GraphError: not JSON, another version, an unknown or missing key, or a number that is none or negative.
    """
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        raise GraphError("the ranges are not JSON", where=f"{where}:{error.lineno}", got=error.msg) from error
    fields = _fields(document, ("ranges_version", "method", "pictures", "migrated", "tensors"), where)
    if fields["ranges_version"] != RANGES_VERSION:
        raise GraphError(
            "the ranges are of another version",
            where=where,
            expected=str(RANGES_VERSION),
            got=str(fields["ranges_version"]),
        )
    found = {}
    for name, entry in _mapping(fields["tensors"], f"{where}, tensors").items():
        place = f"{where}, tensor {name}"
        numbers = _fields(entry, ("amax", "largest", "saturated"), place)
        found[name] = TensorRange(**{key: _number(value, f"{place}, {key}") for key, value in numbers.items()})
    migrated = {
        name: _powers(powers, f"{where}, migrated, layer {name}")
        for name, powers in _mapping(fields["migrated"], f"{where}, migrated").items()
    }
    return Ranges(str(fields["method"]), int(_number(fields["pictures"], f"{where}, pictures")), found, migrated)


def read_ranges(path: Path) -> Ranges:
    """Read a file of ranges; raises ``GraphError`` when it is not there or no such file."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise GraphError("the ranges cannot be read", where=str(path), got=str(error)) from error
    return ranges_from_json(text, where=str(path))


def _fields(value: object, names: tuple[str, ...], where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise GraphError("not a mapping", where=where, expected=", ".join(names), got=type(value).__name__)
    for key in value:
        if key not in names:
            raise GraphError(f"unknown key '{key}'", where=where, fix=nearest(str(key), names))
    for name in names:
        if name not in value:
            raise GraphError(f"the key '{name}' is missing", where=where)
    return value


def _mapping(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise GraphError("not a mapping", where=where, got=type(value).__name__)
    return value


def _powers(value: object, where: str) -> tuple[int, ...]:
    if not isinstance(value, list) or any(type(one) is not int or abs(one) > FARTHEST for one in value):
        raise GraphError(
            "not a list of exponents",
            where=where,
            expected=f"a whole number from -{FARTHEST} to {FARTHEST} for every channel",
            got=str(value)[:60],
        )
    return tuple(value)


def _number(value: object, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
        raise GraphError("not a number from 0 up", where=where, got=repr(value))
    return float(value)
