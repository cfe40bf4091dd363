"""What a recording of a camera needs to be finished by a later run, without the camera: it cannot be recorded again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple
from fractions import Fraction
from pathlib import Path
from typing import Any

from edgeir.video.codecs import CODECS
from edgeir.video.colour import VideoColour
from edgeir.video.encoder import Encoding
from edgeir.video.joining import Join, write_joined
from edgeir.video.streams import OtherStreams
from edgeir.video.working import RECORDING, WorkingFolder, unfinished_job, working_folder


def recording_facts(join: Join) -> dict[str, object]:
    """How a recording is to be joined, as JSON values."""
    encoding = join.encoding
    return {
        "codec": encoding.codec.name,
        "crf": encoding.crf,
        "width": encoding.width,
        "height": encoding.height,
        "format": encoding.format,
        "time_base": str(encoding.time_base),
        "rate": str(encoding.rate),
        "colour": list(astuple(encoding.colour)),
        "sample_aspect": None if encoding.sample_aspect is None else str(encoding.sample_aspect),
        "container": join.format,
        "display_matrix": None if join.display_matrix is None else list(join.display_matrix),
    }


def finish_recording(output: Path, say: Callable[[str], None]) -> Path | None:
    """Write a recording that an earlier run to ``output`` could not finish to a file of its own beside it.

    Args:
        output: what the earlier run was to write; it is left alone.
        say: told where the recording is now.

    Returns:
        That file, or ``None`` where there was nothing to finish.

    Raises:
        OutOfSpace, OutputError: it cannot be written, and stays where it is; or another run is at work.
    """
    job = unfinished_job(output)
    facts = None if job is None else job.get(RECORDING)
    if job is None or not isinstance(facts, dict):
        return None
    work = WorkingFolder(output, job)
    target = None
    try:
        if work.segments:
            target = _free_name(output)
            write_joined(_join_of(facts, work), target)
            say(f"An earlier recording that was not finished, {work.frames} frames, is now in {target}.")
    except BaseException:
        work.release()
        say(kept_sentence(output))
        raise
    work.remove()
    return target


def kept_sentence(output: Path) -> str:
    """Where a recording lies that could not be finished, and how it will be."""
    return (
        f"What was recorded is kept in {working_folder(output)}: the same command first writes it beside {output.name}."
    )


def _join_of(facts: dict[str, Any], work: WorkingFolder) -> Join:
    aspect, matrix = facts["sample_aspect"], facts["display_matrix"]
    encoding = Encoding(
        codec=CODECS[facts["codec"]],
        crf=facts["crf"],
        width=facts["width"],
        height=facts["height"],
        format=facts["format"],
        time_base=Fraction(facts["time_base"]),
        rate=Fraction(facts["rate"]),
        colour=VideoColour(*facts["colour"]),
        sample_aspect=None if aspect is None else Fraction(aspect),
    )
    return Join(
        segments=work.segments,
        encoding=encoding,
        format=facts["container"],
        display_matrix=None if matrix is None else tuple(matrix),
        source=None,
        others=OtherStreams((), ()),
        origin=Fraction(0),
        shifts=(),
    )


def _free_name(output: Path) -> Path:
    """``out-recovered.mp4``, or with a number behind it: a name that is not taken."""
    number = 1
    while True:
        ending = "-recovered" if number == 1 else f"-recovered-{number}"
        path = output.with_stem(f"{output.stem}{ending}")
        if not path.exists():
            return path
        number += 1
