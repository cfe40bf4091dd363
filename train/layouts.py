"""Published data sets as they lie on disk: a root folder to a list of examples, without reading a pixel.

``docs/datasets.md`` shows the folders of every layout. Examples come sorted by the path of the degraded picture (of
the clean one where there is none) from the root, character by character: ``rain-10.png`` before ``rain-2.png``, the
same on every system.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from edgeir.errors import PictureError, UsageError, nearest
from edgeir.imaging.listing import list_pictures
from edgeir.train.layout_ways import Alone, Example, Kinds, Pairs, Way

__all__ = ["LAYOUTS", "Example", "Layout", "list_examples"]

_SCALES = (1, 2, 3, 4, 8)  # of published pairs for super-resolution, smallest first


class Layout(Protocol):
    """Where the pictures of a data set lie."""

    def examples(self, root: Path, *, scale: int = 1) -> list[Example]:
        """Every example below ``root``, sorted; raises ``PictureError`` or ``UsageError`` with the reason."""
        ...


@dataclass(frozen=True, slots=True)
class Published:
    """A layout with a name.

    Attributes:
        name: key in `LAYOUTS`.
        group: the task of its examples; they are ``"sr"`` where ``scale`` is above 1.
        ways: where the pictures may lie; the first that fits is taken.
        parts: folders below the root that are looked into first; ``""`` is the root itself.
        scaled: usable for super-resolution.
    """

    name: str
    group: str
    ways: tuple[Way, ...]
    parts: tuple[str, ...] = ("",)
    scaled: bool = False

    def examples(self, root: Path, *, scale: int = 1) -> list[Example]:
        """As `Layout.examples`."""
        if scale > 1 and not self.scaled:
            raise UsageError(
                f"the pictures of layout '{self.name}' have one size",
                where=str(root),
                expected="scale 1",
                got=f"scale {scale}",
                fix=f"For super-resolution take {', '.join(name for name in LAYOUTS if LAYOUTS[name].scaled)}.",
            )
        self._refuse_no_folder(root)
        if self.name == "folder" and (others := _resembled(root, self.name)):
            raise PictureError(
                "some of these pictures are degraded, and layout 'folder' would take all for clean",
                where=str(root),
                got=f"what looks like {others}",
                fix="Take that layout, or name the folder of the clean pictures.",
            )
        for base, way in self._places(root):
            if way.fits(base, scale):
                found = way.examples(base, scale, "sr" if scale > 1 else self.group)
                return sorted(found, key=lambda example: _order(example, root))
        raise self._refusal(root, scale)

    def fits(self, root: Path, scale: int) -> bool:
        """Whether the folders below ``root`` are those of this layout."""
        return any(way.fits(base, scale) for base, way in self._places(root))

    def holds_pairs(self, root: Path) -> bool:
        """Whether it fits at some scale with degraded pictures."""
        places = [(base, way) for base, way in self._places(root) if not isinstance(way, Alone)]
        return any(way.fits(base, scale) for scale in _SCALES for base, way in places)

    def _places(self, root: Path) -> list[tuple[Path, Way]]:
        return [(root / part, way) for part in self.parts for way in self.ways if (root / part).is_dir()]

    def _refuse_no_folder(self, root: Path) -> None:
        if not root.is_dir():
            what = "this is a file, not a folder" if root.exists() else "there is no such folder"
            fix = f"Layout '{self.name}' needs the folder that holds {self.ways[0].tree(1)}."
            raise PictureError(what, where=str(root), fix=fix)

    def _refusal(self, root: Path, scale: int) -> PictureError:
        """Why nothing fits: no picture at all, another root, another scale, or another layout."""
        list_pictures(root, recursive=True)  # raises where there is none
        scaling = [way for way in self.ways if isinstance(way, Pairs) and way.for_scaling]
        usual = (scaling if scale > 1 else [way for way in self.ways if way not in scaling]) or self.ways
        fix = None
        alien = {part for layout in LAYOUTS.values() for part in layout.parts} - set(self.parts)
        near = [root.parent, *sorted(entry for entry in root.iterdir() if entry.is_dir() and entry.name not in alien)]
        if place := next((str(folder) for folder in near if self.fits(folder, scale)), None):
            fix = f"Name {place} instead."
        elif scale > 1 and self.fits(root, 1):
            fix = "Download the pairs of this scale, or take layout 'folder' on the large ones: it makes small ones."
        elif others := _resembled(root, self.name) or _resembled_alone(root, self.name):
            fix = f"It looks like {others}."
        return PictureError(
            f"this folder has not the layout '{self.name}'" + (f" at scale {scale}" if scale > 1 else ""),
            where=str(root),
            expected=usual[0].tree(scale),
            got=_held(root),
            fix=fix or "docs/datasets.md shows every layout.",
        )


def _named_pairs(*folders: tuple[str, str]) -> tuple[Way, ...]:
    """Pairs with the same name in two folders."""
    return tuple(Pairs(degraded, clean) for degraded, clean in folders)


def _hazy(*folders: tuple[str, str]) -> tuple[Way, ...]:
    """``0001_0.8_0.2`` and ``0001``: several hazy pictures share one clear picture."""
    return tuple(Pairs(hazy, clear, "{number}_*", "{number}", shared=True) for hazy, clear in folders)


def _super_resolution(small: str, large: str, digits: int) -> tuple[Way, ...]:
    """``X2/0001x2`` and ``0001``; without small pictures the large ones are clean pictures like others."""
    file, name = f"{1:0{digits}}.png", f"[0-9]{{{digits}}}"
    return (
        Alone(f"{large}/{file}", (large,), name),
        Alone(file, name=name),
        Pairs(f"{small}/X{{scale}}", large, "{number}x{scale}", "{number}"),
    )


_RAIN: tuple[Way, ...] = (
    Pairs("rainy", "gt", "rain-{number}", "norain-{number}"),
    Pairs("", "", "rain-{number}", "norain-{number}"),
    Pairs("rainy", "", "rain-{number}", "norain-{number}"),
    Pairs("input", "target", "{number}", "{number}"),
)
_BLUR: tuple[Way, ...] = (
    Pairs("GOPR*/blur", "GOPR*/sharp"),
    *_named_pairs(("blur", "sharp"), ("input", "target"), ("input_crops", "target_crops")),
)
_LOW_LIGHT = _named_pairs(("low", "high"), ("low", "gt"), ("input", "target"))
_COMPOSITE = Kinds(
    "clear",
    (
        *("low", "haze", "rain", "snow", "low_haze", "low_rain", "low_snow"),
        *("haze_rain", "haze_snow", "low_haze_rain", "low_haze_snow"),
    ),
)
_PAIRED_FOLDERS = (
    *(("input", "target"), ("degraded", "clean"), ("lq", "gt"), ("LQ", "GT"), ("LR", "HR"), ("noisy", "clean")),
    *(("blur", "sharp"), ("low", "high"), ("hazy", "clear"), ("hazy", "GT"), ("rainy", "gt"), ("low", "clear")),
)
_ANY_PAIRS = (
    *(Pairs(degraded, clean, "{key}x{scale}", recursive=True) for degraded, clean in _PAIRED_FOLDERS),
    *(Pairs(degraded, clean, recursive=True) for degraded, clean in _PAIRED_FOLDERS),
)

LAYOUTS: dict[str, Published] = {
    layout.name: layout
    for layout in (
        Published("folder", "clean", (Alone("any picture", recursive=True, any_scale=True),), scaled=True),
        Published("paired-folders", "pairs", _ANY_PAIRS, scaled=True),
        Published(
            "bsd400",
            "denoise",
            (
                Alone(
                    "images/train/2092.jpg and images/test/2018.jpg", ("images/train", "images/test"), any_scale=True
                ),
                Alone("a2092.jpg", name="a?[1-9][0-9]{3,5}", any_scale=True),
            ),
            ("BSR/BSDS500/data", "BSDS500/data", "data", ""),
            scaled=True,
        ),
        Published(
            "wed",
            "denoise",
            (Alone("00001.bmp", name="0[0-9]{4}", any_scale=True),),
            ("exploration_database_and_code/pristine_images", "pristine_images", ""),
            scaled=True,
        ),
        Published("rain100l", "rain", _RAIN, ("RainTrainL", "")),
        Published("rain100l-test", "rain", _RAIN, ("Rain100L", "")),
        Published(
            "reside-ots",
            "haze",
            _hazy(("synthetic/part*", "original"), ("synthetic", "original"), ("hazy", "clear"), ("part*", "clear")),
            ("OTS", ""),
        ),
        Published(
            "sots-outdoor",
            "haze",
            _hazy(*((hazy, clear) for hazy in ("hazy", "input") for clear in ("clear", "gt", "target"))),
            ("outdoor", ""),
        ),
        Published("gopro", "blur", _BLUR, ("train", "")),
        Published("gopro-test", "blur", _BLUR, ("test", "")),
        Published("lol-v1", "low-light", _LOW_LIGHT, ("our485", "Train", "")),
        Published("lol-v1-test", "low-light", _LOW_LIGHT, ("eval15", "Test", "")),
        Published("cdd-11", "composite", (_COMPOSITE,), ("train", "CDD-11_train", "")),
        Published("cdd-11-test", "composite", (_COMPOSITE,), ("test", "CDD-11_test", "")),
        Published(
            "div2k",
            "denoise",
            _super_resolution("DIV2K_train_LR_bicubic", "DIV2K_train_HR", 4),
            scaled=True,
        ),
        Published(
            "div2k-valid",
            "denoise",
            _super_resolution("DIV2K_valid_LR_bicubic", "DIV2K_valid_HR", 4),
            scaled=True,
        ),
        Published(
            "flickr2k",
            "denoise",
            _super_resolution("Flickr2K_LR_bicubic", "Flickr2K_HR", 6),
            scaled=True,
        ),
    )
}


def list_examples(layout: str, root: Path, *, scale: int = 1, group: str | None = None) -> list[Example]:
    """The examples of a data set; no picture is opened.

    Args:
        layout: key of `LAYOUTS`.
        root: the folder that holds the data set.
        scale: clean pictures are so many times as high and wide as degraded ones. Layouts of clean pictures only give
            them at every scale, to be made small on the fly.
        group: name of the task for all examples; by default the layout's.

    Returns:
        At least one example, sorted as the module says.

    Raises:
        UsageError: no layout has this name, or this one has no pairs of different size.
        PictureError: the root is missing or empty or has another layout, or a picture has no counterpart.
    """
    if layout not in LAYOUTS:
        raise UsageError("no layout has this name", got=repr(layout), fix=nearest(layout, LAYOUTS))
    if scale < 1:
        raise UsageError("pictures cannot have this scale", where="scale", expected="1 or more", got=str(scale))
    found = LAYOUTS[layout].examples(Path(root), scale=scale)
    return found if group is None else [replace(example, group=group) for example in found]


def _order(example: Example, root: Path) -> str:
    file = example.clean if example.degraded is None else example.degraded
    return file.relative_to(root).as_posix()


def _resembled(root: Path, name: str) -> str:
    """The layouts of pairs, but ``name``, that fit ``root``, for a sentence; the general one if no other does."""
    pairs = [layout for layout in LAYOUTS if layout != name and LAYOUTS[layout].holds_pairs(root)]
    return " or ".join([layout for layout in pairs if layout != "paired-folders"][:4] or pairs)


def _resembled_alone(root: Path, name: str) -> str:
    """Likewise of clean pictures."""
    alone = [layout for layout in LAYOUTS if layout != name and LAYOUTS[layout].fits(root, 1)]
    return " or ".join([layout for layout in alone if layout != "folder"][:4] or alone)


def _held(root: Path) -> str:
    """What lies in ``root``, in a few words."""
    entries = sorted(root.iterdir())
    folders = [entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")]
    shown = ", ".join(folders[:6]) + (f" and {len(folders) - 6} more" if len(folders) > 6 else "")
    files = [entry.name for entry in entries if entry.is_file() and not entry.name.startswith(".")]
    parts = ([f"folders {shown}"] if folders else []) + ([f"{len(files)} files, the first {files[0]}"] if files else [])
    return " and ".join(parts) or "nothing"
