"""Which engines go where: what a device made itself, what of a bundle serves there, and what it may bring back.

Engines belong to the machine that built them: a push leaves a device's own alone, and a pull takes nothing but engines
and timing caches. Measurements travel by another way (`edgeir.remote.results`).
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import PurePosixPath

from edgeir.bundle_change import Change, additions_of, fitting, without
from edgeir.errors import BundleError
from edgeir.manifest import EngineNote, Manifest

ROLES = frozenset({"engine", "timing-cache"})
FOLDER = "engines/"
BENCH = "bench"
# For every machine, and of one whose driver did not say what it is.
_EVERYWHERE = frozenset({"any", "native"})


def own_engines(there: Manifest, here: Manifest) -> Change:
    """Engines and timing caches of a device's copy that fit the bundle here and are others than its own."""
    added = additions_of(there)
    others = [one.path for one in there.artifacts if one.path in added and one.role not in ROLES]
    return fitting(without(there, others), here)


def brought_back(there: Manifest, here: Manifest, *, device: str) -> Change:
    """What a pull takes: as `own_engines`, of a device that is not trusted with anything else.

    Raises:
        BundleError: it offers a file that only an export makes, or a note that is none.
    """
    change = fitting(without(there, [one.path for one in there.artifacts if one.role == BENCH]), here)
    roles = {one.path: one.role for one in here.artifacts}
    for file in change.files:
        at_home = file.role in ROLES and file.path.startswith(FOLDER)
        if not at_home or roles.get(file.path, file.role) != file.role:
            raise BundleError(
                "the device offers a file that no build makes",
                where=f"{device}:{file.path}",
                expected=f"engines and timing caches in {FOLDER}",
                got=f"role '{file.role}'",
                fix="Look at the bundle there: somebody put it into it.",
            )
    for note in change.engines:
        if not all(text.isprintable() for text in (note.runtime, note.version, note.architecture, note.note)):
            raise BundleError("the device's note on an engine cannot be printed", where=f"{device}:{note.path}")
    return change


def sound_part(there: Manifest, sound: Collection[str]) -> Manifest:
    """A device's copy without additions that are damaged there: ``sound`` are the hashes of what is not."""
    added = additions_of(there)
    return without(there, [one.path for one in there.artifacts if one.path in added and one.sha256 not in sound])


def for_device(here: Manifest, there: Manifest | None, architectures: Collection[str] | None) -> Manifest:
    """What of a bundle a push sends: no measurements, no engines of other machines or in the place of the device's.

    Args:
        here: what the bundle says.
        there: what the device's copy says, ``None`` without one.
        architectures: what engines can be for that run there, ``None`` where that is not asked.
    """
    added = additions_of(here)
    left = {one.path for one in here.artifacts if one.role == BENCH and one.path in added}
    if there is not None:
        left |= {one.path for one in own_engines(there, here).files}
    if architectures is not None:
        strange = {_stem(note.path) for note in here.engines if note.path in added and not serves(note, architectures)}
        engines = {one.path for one in here.artifacts if one.path in added and one.role in ROLES}
        left |= {path for path in engines if _stem(path) in strange}
    return without(here, left)


def serves(note: EngineNote, architectures: Collection[str]) -> bool:
    """Whether an engine is for one of these."""
    return not {note.architecture, *note.architecture.split("-")}.isdisjoint(_EVERYWHERE | set(architectures))


def _stem(path: str | None) -> str:
    """What an engine and its timing cache have in common."""
    return str(PurePosixPath(path or "").with_suffix(""))


def machines_matter(here: Manifest) -> bool:
    """Whether a bundle holds engines that were added for some machines only."""
    added = additions_of(here)
    return any(note.path in added and not serves(note, ()) for note in here.engines)
