"""The ways in which the pictures of data sets lie in folders: clean ones alone, or degraded beside clean ones."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edgeir.errors import PictureError
from edgeir.imaging.listing import list_pictures
from edgeir.imaging.writing import FORMAT_BY_SUFFIX


@dataclass(frozen=True, slots=True)
class Example:
    """One thing to learn from.

    Attributes:
        clean: the picture without the degradation.
        degraded: the same scene with it; ``None`` where the degradation is made on the fly.
        group: the task in tables: ``"denoise"``, ``"rain"``, ``"haze"``, ...
    """

    clean: Path
    degraded: Path | None
    group: str


class Way(Protocol):
    """One way in which pictures can lie below a base folder; ``scale`` is 1 but for super-resolution."""

    def fits(self, base: Path, scale: int) -> bool:
        """Whether the folders and the names below ``base`` are those of this way; nothing is refused yet."""
        ...

    def examples(self, base: Path, scale: int, group: str) -> list[Example]:
        """Every example below ``base``, which fits; raises ``PictureError`` where it is incomplete."""
        ...

    def tree(self, scale: int) -> str:
        """The files looked for, to be read in an error."""
        ...


@dataclass(frozen=True, slots=True)
class Alone:
    """Clean pictures only.

    Attributes:
        shown: such a file, for people.
        folders: where they lie, all of these, relative to the base.
        name: regular expression of the whole name without its suffix; other pictures are another data set's.
        recursive: pictures in folders below count as well.
        any_scale: also where small pictures are wanted: they are made on the fly.
    """

    shown: str
    folders: tuple[str, ...] = ("",)
    name: str = ".+"
    recursive: bool = False
    any_scale: bool = False

    def fits(self, base: Path, scale: int) -> bool:
        """As `Way.fits`."""
        if scale > 1 and not self.any_scale:
            return False
        return all(any(map(self._wanted, _pictures(base / folder, self.recursive))) for folder in self.folders)

    def examples(self, base: Path, scale: int, group: str) -> list[Example]:
        """As `Way.examples`."""
        files = [file for folder in self.folders for file in _pictures(base / folder, self.recursive)]
        return [Example(file, None, group) for file in files if self._wanted(file)]

    def tree(self, scale: int) -> str:
        """As `Way.tree`."""
        return self.shown

    def _wanted(self, file: Path) -> bool:
        return re.fullmatch(self.name, file.stem) is not None


@dataclass(frozen=True, slots=True)
class Pairs:
    """Degraded pictures in one folder, clean ones in another or the same; the names say which belong together.

    In a name, ``{key}`` (any text) or ``{number}`` (digits) must be the same in both, ``*`` stands for anything and
    ``{scale}`` for the scale; a way with ``{scale}`` in it is for super-resolution only. The suffixes may differ.

    Attributes:
        degraded: folder relative to the base; one ``*`` stands for part of one folder's name.
        clean: likewise; its ``*`` is what the one in ``degraded`` stands for.
        degraded_name: names of the files without their suffix (with `recursive`: paths from ``degraded``).
        clean_name: likewise.
        shared: several degraded pictures may have one clean picture, and clean ones may stay unused.
        recursive: pictures in folders below count as well.
    """

    degraded: str
    clean: str
    degraded_name: str = "{key}"
    clean_name: str = "{key}"
    shared: bool = False
    recursive: bool = False

    @property
    def for_scaling(self) -> bool:
        """Whether it is a way of pairs for super-resolution only."""
        return "{scale}" in self.degraded + self.degraded_name

    def fits(self, base: Path, scale: int) -> bool:
        """As `Way.fits`: both folders are there and a degraded picture has the right name (or there is none yet)."""
        if scale == 1 and self.for_scaling:
            return False
        pattern = _pattern(self.degraded_name, scale)
        for degraded, clean in self._folders(base, scale):
            names = [_name(file, degraded) for file in _pictures(degraded, self.recursive)]
            if clean.is_dir() and (any(map(pattern.fullmatch, names)) or (self.degraded and not names)):
                return True
        return False

    def examples(self, base: Path, scale: int, group: str) -> list[Example]:
        """As `Way.examples`."""
        found: list[Example] = []
        orphans: list[tuple[Path, str]] = []  # with the path of what is missing
        widows: list[tuple[Path, str]] = []
        pattern = _pattern(self.degraded_name, scale)
        for degraded, clean in self._folders(base, scale):
            clean_by_key = self._clean_by_key(clean, scale)
            seen: set[str] = set()
            for file in list_pictures(degraded, recursive=self.recursive).pictures:
                match = pattern.fullmatch(_name(file, degraded))
                if match is None and degraded == clean:
                    continue
                key = match.group(1) if match else "*"
                if key in clean_by_key:
                    found.append(Example(clean_by_key[key], file, group))
                    seen.add(key)
                else:
                    orphans.append((file, f"{clean / _filled(self.clean_name, key, scale)}{file.suffix}"))
            if not self.shared:
                for key, file in clean_by_key.items():
                    if key not in seen:
                        widows.append((file, f"{degraded / _filled(self.degraded_name, key, scale)}{file.suffix}"))
        _refuse_single(orphans, "degraded", "clean", len(found))
        _refuse_single(widows, "clean", "degraded", len(found))
        return found

    def tree(self, scale: int) -> str:
        """As `Way.tree`."""
        degraded = Path(self.degraded, _filled(self.degraded_name, "1", scale))
        clean = Path(self.clean, _filled(self.clean_name, "1", scale))
        return f"{degraded.as_posix().replace('{scale}', str(scale))}.png with {clean.as_posix()}.png"

    def _folders(self, base: Path, scale: int) -> list[tuple[Path, Path]]:
        """The degraded folders that exist, each with the clean folder that belongs to it, which may not exist."""
        wanted = self.degraded.replace("{scale}", str(scale))
        if "*" not in wanted:
            return [(base / wanted, base / self.clean)] if (base / wanted).is_dir() else []
        pattern = re.compile(re.escape(wanted).replace(r"\*", "([^/]*)"))
        folders: list[tuple[Path, Path]] = []
        for folder in sorted(base.glob(wanted)):
            match = pattern.fullmatch(folder.relative_to(base).as_posix())
            if match and folder.is_dir():
                folders.append((folder, base / self.clean.replace("*", match.group(1))))
        return folders

    def _clean_by_key(self, folder: Path, scale: int) -> dict[str, Path]:
        pattern = _pattern(self.clean_name, scale)
        files: dict[str, Path] = {}
        for file in _pictures(folder, self.recursive):
            match = pattern.fullmatch(_name(file, folder))
            if match is None:
                continue
            twin = files.setdefault(match.group(1), file)
            if twin != file:
                raise PictureError(
                    "two clean pictures have the same name",
                    where=str(file),
                    expected="one",
                    got=f"{twin.name} as well",
                    fix="Remove one of them.",
                )
        return files


@dataclass(frozen=True, slots=True)
class Kinds:
    """One folder of clean pictures and one folder of each kind of degradation, same names; the kind is the group."""

    clean: str
    kinds: tuple[str, ...]

    def fits(self, base: Path, scale: int) -> bool:
        """As `Way.fits`: the clean folder and two of the others are there."""
        present = [kind for kind in self.kinds if (base / kind).is_dir()]
        return scale == 1 and (base / self.clean).is_dir() and len(present) > 1

    def examples(self, base: Path, scale: int, group: str) -> list[Example]:
        """As `Way.examples`; ``group`` is not used."""
        missing = [kind for kind in self.kinds if not (base / kind).is_dir()]
        if missing:
            raise PictureError(
                "a folder of this data set is missing",
                where=str(base / missing[0]),
                expected=f"{len(self.kinds)} kinds of degradation",
                got=str(len(self.kinds) - len(missing)),
                fix="Unpack the data set again; the layout 'paired-folders' reads one kind alone.",
            )
        return [example for kind in self.kinds for example in Pairs(kind, self.clean).examples(base, scale, kind)]

    def tree(self, scale: int) -> str:
        """As `Way.tree`."""
        return f"{self.clean}/1.png with {self.kinds[0]}/1.png, {self.kinds[1]}/1.png and {len(self.kinds) - 2} more"


def _pictures(folder: Path, recursive: bool) -> list[Path]:
    """The pictures that `list_pictures` lists, in its order; none where it refuses."""
    found: list[Path] = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if recursive and not name.startswith(".")]
        found += [Path(parent, name) for name in names if not name.startswith(".")]
    pictures = [file for file in found if file.suffix.lower() in FORMAT_BY_SUFFIX]
    return sorted(pictures, key=lambda file: file.relative_to(folder).as_posix())


def _name(file: Path, folder: Path) -> str:
    return file.relative_to(folder).with_suffix("").as_posix()


def _pattern(template: str, scale: int) -> re.Pattern[str]:
    """``rain-{number}`` as a regular expression whose only group is what pairs have in common."""
    text = re.escape(template.replace("{scale}", str(scale)))
    for token, expression in {r"\{key\}": "(.+)", r"\{number\}": r"(\d+)", r"\*": ".*"}.items():
        text = text.replace(token, expression)
    return re.compile(text)


def _filled(template: str, key: str, scale: int) -> str:
    return template.replace("{scale}", str(scale)).replace("{key}", key).replace("{number}", key)


def _refuse_single(singles: list[tuple[Path, str]], one: str, other: str, paired: int) -> None:
    if singles:
        file, counterpart = singles[0]
        raise PictureError(
            f"this {one} picture has no {other} counterpart",
            where=str(file),
            expected=counterpart,
            got=f"{len(singles)} without one, beside {paired} whole pairs",
            fix="Unpack the data set again, or take these pictures away.",
        )
