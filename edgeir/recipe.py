"""Files that a person writes: YAML into frozen sections, and every mistake in them as one sentence.

Recipes of trainings, recipes of sweeps and contracts share this: a key that no section knows is an error that offers
the nearest known one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from edgeir.errors import UsageError, nearest


class Section(BaseModel):
    """Base of all sections: unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Kind = TypeVar("Kind", bound=Section)


def read_yaml(path: Path, *, what: str) -> Any:
    """The value of a YAML file; ``what`` it should hold stands in errors (``"recipe"``).

    Raises:
        UsageError: no YAML, or not readable; the line is named.
    """
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{path}:{mark.line + 1}" if mark else str(path)
        raise UsageError(f"the {what} is not YAML", where=place, got=getattr(error, "problem", None)) from error
    except OSError as error:
        raise UsageError(f"the {what} cannot be read", where=str(path), got=error.strerror) from error


def parse_section(kind: type[Kind], content: Any, *, where: str, what: str) -> Kind:
    """A section from the value of its YAML; ``where`` and ``what`` name it in errors.

    Raises:
        UsageError: an unknown key (offers the nearest), a missing one, or a value out of range.
    """
    if not isinstance(content, Mapping):
        raise UsageError(f"a {what} is a table of keys", where=where, got=type(content).__name__)
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise _first_problem(kind, error, where) from error


def find_named(name: str, folder: Path, *, what: str) -> Path:
    """The file given by path, or by the name of one that comes with edgeir in ``folder``.

    Raises:
        UsageError: neither; offers the nearest name.
    """
    path = Path(name)
    if path.is_file():
        return path
    shipped = folder / f"{name}.yaml"
    if path.name == name and shipped.is_file():
        return shipped
    known = names_in(folder)
    if path.suffix in (".yaml", ".yml"):
        raise UsageError(f"there is no such {what} file", where=name, fix=f"Or name one of: {', '.join(known)}.")
    raise UsageError(f"unknown {what} '{name}'", fix=nearest(name, known))


def names_in(folder: Path) -> list[str]:
    """Names of the YAML files that come with edgeir in ``folder``."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def _first_problem(kind: type[Section], error: ValidationError, where: str) -> UsageError:
    problems = error.errors()
    # A misspelt key is missing as well: what stands there says more than what does not.
    problem = next((one for one in problems if one["type"] == "extra_forbidden"), problems[0])
    place = ".".join(str(part) for part in problem["loc"])
    full = f"{where}: {place}" if place else where
    if problem["type"] == "extra_forbidden":
        key = str(problem["loc"][-1])
        section = _section_at(kind, problem["loc"][:-1])
        return UsageError(f"unknown key '{key}'", where=full, fix=nearest(key, section.model_fields))
    if problem["type"] == "missing":
        return UsageError("a key is missing", where=full)
    message = str(problem["msg"]).removeprefix("Value error, ")
    got = None if isinstance(problem["input"], (Mapping, Section)) else repr(problem["input"])
    return UsageError(message[:1].lower() + message[1:], where=full, got=got)


def _section_at(kind: type[Section], location: Sequence[int | str]) -> type[Section]:
    """The section class at a place such as ``("data", 0)``."""
    section = kind
    for part in location:
        if isinstance(part, int):
            continue
        field = section.model_fields.get(part)
        if field is None:
            break
        section = next((one for one in _classes(field.annotation) if issubclass(one, Section)), section)
    return section


def _classes(annotation: Any) -> list[type]:
    """All classes inside an annotation."""
    if isinstance(annotation, type) and not get_args(annotation):
        return [annotation]
    return [kind for argument in get_args(annotation) for kind in _classes(argument)]
