"""Settings of a network: a frozen dataclass on one side, a JSON object on the other.

Every field of a settings class has a default; the default's type is the field's type. A JSON list becomes a tuple.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

from edgeir.errors import UsageError, nearest

ConfigT = TypeVar("ConfigT")


def config_from_dict(kind: type[ConfigT], data: Mapping[str, Any], *, where: str) -> ConfigT:
    """Settings of class ``kind`` from a JSON object.

    Args:
        kind: the settings class, for example `edgeir.models.exda.ExDAConfig`.
        data: field name to JSON value; absent fields take their default.
        where: what the settings belong to, for errors.

    Raises:
        UsageError: an unknown field (offers the nearest one), a value of the wrong kind, or a value out of range.
    """
    defaults = {field.name: field.default for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for name, value in data.items():
        if name not in defaults:
            raise UsageError(f"unknown setting '{name}'", where=where, fix=nearest(name, defaults))
        values[name] = _typed(value, defaults[name], where=f"{where}: setting '{name}'")
    return kind(**values)


def config_to_dict(config: Any) -> dict[str, Any]:
    """All fields of a settings object as JSON values (tuples become lists); inverse of `config_from_dict`."""
    values = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def require(condition: bool, what: str, *, where: str, expected: str, got: object) -> None:
    """Raise ``UsageError`` unless ``condition`` holds; settings classes call this in ``__post_init__``."""
    if not condition:
        raise UsageError(what, where=where, expected=expected, got=str(got))


def require_choice(value: str, choices: tuple[str, ...], *, where: str) -> None:
    """Raise ``UsageError`` that offers the nearest choice unless ``value`` is one of ``choices``."""
    if value not in choices:
        raise UsageError(
            "unknown choice", where=where, expected=" or ".join(choices), got=repr(value), fix=nearest(value, choices)
        )


def _typed(value: Any, default: Any, *, where: str) -> Any:
    """``value`` as the type of ``default``, or ``UsageError``."""
    if isinstance(default, bool):
        fits, expected = isinstance(value, bool), "true or false"
    elif isinstance(default, int):
        fits, expected = _is_whole(value), "a whole number"
    elif isinstance(default, float):
        fits, expected = isinstance(value, (int, float)) and not isinstance(value, bool), "a number"
        value = float(value) if fits else value
    elif isinstance(default, str):
        fits, expected = isinstance(value, str), "a string"
    else:
        fits, expected = isinstance(value, (list, tuple)) and all(map(_is_whole, value)), "a list of whole numbers"
        value = tuple(value) if fits else value
    if not fits:
        raise UsageError("wrong kind of value", where=where, expected=expected, got=repr(value))
    return value


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
