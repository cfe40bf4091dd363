"""Degradations with parameters to be drawn: what a training recipe says, and one draw from it.

A parameter is a number (fixed), a pair ``[low, high]`` (uniform; whole numbers where the parameter is one) or
``{one_of: [...]}``.

>>> mixture = parse_mixture({"noise": {"weight": 2, "steps": [{"kind": "gaussian-noise", "sigma_8bit": [0, 50]}]},
...                          "clean": {"weight": 1, "steps": []}}, where="recipe")
>>> drawn = mixture.draw(np.random.default_rng(0))
>>> drawn.name in ("noise", "clean")
True
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Any

import numpy as np

from edgeir.errors import EdgeIRError, UsageError, nearest
from edgeir.imaging.colour import Pixels
from edgeir.imaging.degradations import KINDS, Degradation, apply_all


@dataclass(frozen=True, slots=True)
class Uniform:
    """Uniform in [low, high]; both ends included where ``whole``."""

    low: float
    high: float
    whole: bool

    def draw(self, rng: np.random.Generator) -> float | int:
        """One number."""
        if self.whole:
            return int(rng.integers(int(self.low), int(self.high), endpoint=True))
        return float(rng.uniform(self.low, self.high))


@dataclass(frozen=True, slots=True)
class OneOf:
    """One of several values, all equally likely."""

    values: tuple[Any, ...]

    def draw(self, rng: np.random.Generator) -> Any:
        """One value."""
        return self.values[int(rng.integers(len(self.values)))]


@dataclass(frozen=True, slots=True)
class StepDraw:
    """One degradation, its parameters still open.

    Attributes:
        kind: key of `edgeir.imaging.degradations.KINDS`.
        parameters: name to a value, or to `Uniform` or `OneOf`.
    """

    kind: str
    parameters: Mapping[str, Any]

    def draw(self, rng: np.random.Generator) -> Degradation:
        """The degradation with every parameter drawn, in the order of the parameters' names."""
        values = {
            name: value.draw(rng) if isinstance(value, (Uniform, OneOf)) else value
            for name, value in sorted(self.parameters.items())
        }
        return KINDS[self.kind](**values)


@dataclass(frozen=True, slots=True)
class Drawn:
    """What one picture gets.

    Attributes:
        name: which part of the mixture it is.
        steps: the degradations, first to last; empty for a clean picture.
    """

    name: str
    steps: tuple[Degradation, ...]

    def apply(self, image: Pixels, rng: np.random.Generator) -> Pixels:
        """All steps on ``(H, W, 3) float32``; without steps, ``image`` itself."""
        return apply_all(self.steps, image, rng)


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a mixture: how often, and what."""

    name: str
    weight: float
    steps: tuple[StepDraw, ...]


@dataclass(frozen=True, slots=True)
class Mixture:
    """Several degradations, of which each picture gets one part, with probability proportional to its weight."""

    parts: tuple[Part, ...]

    def draw(self, rng: np.random.Generator) -> Drawn:
        """Draw a part, then its parameters."""
        weights = np.array([part.weight for part in self.parts])
        part = self.parts[int(rng.choice(len(self.parts), p=weights / weights.sum()))]
        return Drawn(part.name, tuple(step.draw(rng) for step in part.steps))

    def only(self, names: Sequence[str], *, where: str) -> Mixture:
        """The mixture of the parts called ``names``; ``UsageError`` with the nearest name for an unknown one."""
        known = {part.name: part for part in self.parts}
        for name in names:
            if name not in known:
                raise UsageError(f"unknown degradation '{name}'", where=where, fix=nearest(name, known))
        return Mixture(tuple(known[name] for name in names))


def parse_mixture(table: Mapping[str, Any], *, where: str) -> Mixture:
    """A mixture from a recipe's table: name to ``{weight, steps}``.

    Raises:
        UsageError: an unknown key, kind or parameter (offers the nearest), a missing one, or a value out of range.
    """
    if not table:
        raise UsageError("a mixture needs at least one part", where=where)
    parts = []
    for name, entry in table.items():
        place = f"{where}.{name}"
        _require_keys(entry, ("weight", "steps"), place)
        weight = entry.get("weight", 1)
        if not isinstance(weight, (int, float)) or isinstance(weight, bool) or not 0 < weight < math.inf:
            raise UsageError("a weight is a number above zero", where=f"{place}.weight", got=repr(weight))
        steps = entry.get("steps", [])
        if not isinstance(steps, list):
            raise UsageError("steps are a list", where=f"{place}.steps", got=type(steps).__name__)
        parsed = tuple(parse_step(step, where=f"{place}.steps[{index}]") for index, step in enumerate(steps))
        parts.append(Part(name, float(weight), parsed))
    return Mixture(tuple(parts))


def parse_step(entry: Any, *, where: str) -> StepDraw:
    """One degradation from ``{kind: ..., parameter: ...}``; the ends of every range are tried out.

    Raises:
        UsageError: an unknown kind or parameter (offers the nearest), a missing one, or a value out of range.
    """
    if not isinstance(entry, Mapping) or not isinstance(entry.get("kind"), str):
        raise UsageError("a degradation has a kind", where=where, expected="{kind: NAME, ...}", got=repr(entry))
    kind = str(entry["kind"])
    if kind not in KINDS:
        raise UsageError(f"unknown degradation '{kind}'", where=where, fix=nearest(kind, KINDS))
    known = {field.name: field for field in fields(KINDS[kind])}  # type: ignore[arg-type]
    given = {name: value for name, value in entry.items() if name != "kind"}
    for name in given:
        if name not in known:
            raise UsageError(f"unknown parameter '{name}' of {kind}", where=where, fix=nearest(str(name), known))
    missing = [name for name, field in known.items() if name not in given and field.default is MISSING]
    if missing:
        raise UsageError(f"{kind} needs {', '.join(missing)}", where=where)
    parameters = {
        name: _parse_value(value, type_name=str(known[name].type), where=f"{where}.{name}")
        for name, value in given.items()
    }
    _try_out(kind, parameters, where)
    return StepDraw(kind, parameters)


def _parse_value(value: Any, *, type_name: str, where: str) -> Any:
    whole = type_name == "int"
    if isinstance(value, Mapping):
        _require_keys(value, ("one_of",), where)
        values = value.get("one_of")
        if not isinstance(values, list) or not values:
            raise UsageError("one_of is a list of values", where=where, got=repr(values))
        return OneOf(tuple(_parse_single(single, type_name, _SINGLE[type_name], where) for single in values))
    if isinstance(value, list) and type_name != "bool":
        numbers = len(value) == 2 and all(_is_number(end, whole=whole) for end in value)
        if not numbers or value[0] > value[1]:
            expected = "[low, high], low <= high" + (", whole numbers" if whole else "")
            raise UsageError("not a range", where=where, expected=expected, got=repr(value))
        return Uniform(value[0], value[1], whole)
    ranges = "" if type_name == "bool" else ", [low, high]"
    return _parse_single(value, type_name, f"{_SINGLE[type_name]}{ranges} or {{one_of: [...]}}", where)


_SINGLE = {"float": "a number", "int": "a whole number", "bool": "true or false"}


def _parse_single(value: Any, type_name: str, expected: str, where: str) -> Any:
    fits = isinstance(value, bool) if type_name == "bool" else _is_number(value, whole=type_name == "int")
    if not fits:
        raise UsageError("not a value", where=where, expected=expected, got=repr(value))
    return value


def _is_number(value: Any, *, whole: bool) -> bool:
    return isinstance(value, int if whole else (int, float)) and not isinstance(value, bool) and abs(value) < math.inf


def _try_out(kind: str, parameters: Mapping[str, Any], where: str) -> None:
    """Make the degradation with each parameter at each of its ends: its own checks then speak before training."""

    def ends(value: Any) -> tuple[Any, ...]:
        if isinstance(value, Uniform):
            return (value.low, value.high)
        if isinstance(value, OneOf):
            return value.values
        return (value,)

    middle = {name: ends(value)[0] for name, value in parameters.items()}
    for name, value in parameters.items():
        for end in ends(value):
            try:
                KINDS[kind](**{**middle, name: end})
            except EdgeIRError as error:
                raise UsageError(error.what, where=f"{where}.{name}", expected=error.expected, got=error.got) from error
            except TypeError as error:
                raise UsageError(f"not a value for {name} of {kind}", where=where, got=repr(end)) from error


def _require_keys(entry: Any, known: Sequence[str], where: str) -> None:
    if not isinstance(entry, Mapping):
        raise UsageError("not a table", where=where, expected=f"keys {', '.join(known)}", got=type(entry).__name__)
    for key in entry:
        if key not in known:
            raise UsageError(f"unknown key '{key}'", where=where, fix=nearest(str(key), known))
