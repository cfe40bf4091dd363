"""The pictures that ``edgeir run`` and ``edgeir device run`` restore, and where each goes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgeir.cli.console import Console
from edgeir.errors import EdgeIRError, OutputError, PictureError


@dataclass(frozen=True, slots=True)
class Job:
    """One picture: where it is, and where the restored one goes."""

    source: Path
    destination: Path


def picture_jobs(source: Path, output: Path, console: Console) -> list[Job]:
    """Inputs and where each goes; refuses what could overwrite an input.

    Raises:
        PictureError: there is no such picture, or none in the folder.
        OutputError: a picture would overwrite itself, or the place or format is none.
    """
    if not source.exists():
        raise PictureError("there is no such file or folder", where=str(source))
    if source.is_dir():
        from edgeir.imaging.listing import list_pictures

        listing = list_pictures(source)
        if listing.skipped:
            console.say(f"{len(listing.skipped)} files in {source} are not pictures and are left alone.")
        if output.exists() and not output.is_dir():
            raise OutputError("a folder of pictures needs a folder to go to", where=str(output), got="a file")
        if output.exists() and output.resolve() == source.resolve():
            raise OutputError(
                "the pictures would overwrite themselves", where=str(output), fix="Choose another folder."
            )
        jobs = [Job(path, output / _writable_name(path.name)) for path in listing.pictures]
        for job in jobs:
            _require_other(job)
        return jobs
    destination = output / _writable_name(source.name) if output.is_dir() else output
    from edgeir.imaging.writing import format_of

    format_of(destination)  # an unknown suffix is refused before the work, not after it
    if not destination.parent.is_dir():
        raise OutputError("there is no such folder", where=str(destination.parent), fix="Make it first.")
    job = Job(source, destination)
    _require_other(job)
    return [job]


def _require_other(job: Job) -> None:
    """Refuse to overwrite an input, also through a link."""
    if job.destination.exists() and job.destination.resolve() == job.source.resolve():
        raise OutputError("the picture would overwrite itself", where=str(job.destination), fix="Choose another name.")


def _writable_name(name: str) -> str:
    """The same name, as PNG where edgeir reads the format but does not write it."""
    from edgeir.imaging.writing import format_of

    try:
        format_of(Path(name))
    except EdgeIRError:
        return f"{name}.png"
    return name
