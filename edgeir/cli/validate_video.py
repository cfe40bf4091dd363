"""``edgeir validate --video``: frames of a video through engines and reference, their fidelity and their flicker."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from edgeir.bundle import Bundle
from edgeir.cli.console import Console
from edgeir.cli.measuring import NOT_ROUNDED, rounding_session
from edgeir.compare.gates import GATES
from edgeir.errors import MissingDependency, PictureError, UsageError
from edgeir.precision import Precision
from edgeir.report.chart import Chart
from edgeir.report.value import Check, Fact, Report, Table
from edgeir.runtime.opening import graph_input, open_session
from edgeir.runtime.ort_session import OrtSession
from edgeir.runtime.restore import overlap_to_run, restore_pixels
from edgeir.runtime.session import Session
from edgeir.video.ending import Ending
from edgeir.video.flicker import Flicker, FlickerMeter, FrameFlicker, decibels, summarise
from edgeir.video.kinds import require_av, require_file

FRAMES = 16
_FRAME_TABLE = "Frame by frame"
_ADVICE = "Keep the layers that cost most in a higher precision: edit plan.yaml and export again with --plan."


def refuse_mixed(video: Path | None, frames: int | None, others: Mapping[str, object]) -> None:
    """Refuse options that say nothing together.

    Args:
        video, frames: ``--video`` and ``--frames``.
        others: options that are not for videos, with their values; ``None`` for one that was not given.

    Raises:
        UsageError: there is one, or too few frames.
    """
    if video is None:
        if frames is not None:
            raise UsageError("this option is for --video", where="--frames")
        return
    for option, value in others.items():
        if value is not None:
            raise UsageError("this option does not go with --video", where=option, fix="Run validate twice.")
    if frames is not None and frames < 2:
        raise UsageError("flicker is between frames", where="--frames", expected="2 or more", got=str(frames))
    require_av()
    require_file(video)


def validate_video(
    opened: Bundle, video: Path, *, frames: int, console: Console, provenance: Callable[[], Mapping[str, Any]]
) -> Report:
    """Measure a bundle on consecutive frames of a video, from the first.

    Args:
        opened: the bundle.
        video: the file.
        frames: how many frames, if it has as many.
        console: where progress goes.
        provenance: called when all is done.

    Raises:
        PictureError: it is no video, or has fewer than two frames.
    """
    from edgeir.video.source import open_video

    graph, spec = graph_input(opened.manifest), opened.manifest.model
    overlap_px = overlap_to_run(graph, opened.manifest.tiling).px
    reference, engines = _sessions(opened)
    meters = {name: FlickerMeter() for name in engines}
    with open_video(video) as source:
        info = source.info
        count = frames if info.frames is None else min(frames, info.frames)
        console.stage(f"restoring {count} frames with {len(engines) + 1} sessions")
        if not spec.trained:
            console.say(f"      {spec.name} is UNTRAINED: only its fidelity and its flicker mean anything.")
        with console.bar("frames", count) as advance:
            for picture in source.pictures(limit=frames):
                expected = restore_pixels(reference, graph, picture.pixels, overlap_px=overlap_px)
                for name, session in engines.items():
                    output = restore_pixels(session, graph, picture.pixels, overlap_px=overlap_px)
                    meters[name].add(output, expected, time_s=float(picture.pts * info.time_base))
                advance()
        ending = source.ending
    if ending.frames < 2:
        raise PictureError("flicker is between frames", where=str(video), expected="two or more", got=ending.sentence())
    found = {name: summarise(meter.rows) for name, meter in meters.items()}
    main = next(iter(found))
    state = "trained" if spec.trained else "UNTRAINED"
    return Report(
        title=f"edgeir validate --video: {spec.name} {opened.manifest.precision}",
        summary=f"{spec.name} ({state}) in {opened.manifest.precision} on {found[main].frames} consecutive frames: "
        f"flicker {decibels(found[main].rms):.1f} dB against the reference, "
        f"worst frame {found[main].worst_fidelity_db:.1f} dB fidelity.",
        facts=(
            Fact("reference", f"reference.onnx in {reference.name}"),
            Fact("engines", ", ".join(f"{name}: {session.name}" for name, session in engines.items())),
            Fact("video", f"{video.name}, {info.width}x{info.height}, {float(info.rate):.3f} frames per second"),
            Fact("frames", found[main].frames),
        ),
        checks=tuple(_checks(found, Precision(opened.manifest.precision), judged=not spec.chooses_neighbours)),
        tables=(_flicker_table(found), _frame_table(meters[main].rows, main)),
        charts=(Chart("Flicker over the clip", "lines", _FRAME_TABLE, "frame", ("flicker of 255",)),),
        provenance=provenance(),
        notes=_notes(
            trained=spec.trained,
            ending=ending,
            asked=frames,
            rounded=len(engines) > 1,
            judged=not spec.chooses_neighbours,
        ),
    )


def _sessions(opened: Bundle) -> tuple[Session, dict[str, Session]]:
    """The reference in FP32, and the engines; the first is ``model.onnx`` as a device rounds it, where possible."""
    reference = OrtSession(opened.file("reference"), arena=False, integer_kernels=False)
    here: dict[str, Session] = {f"{opened.graph_for('onnxruntime').name} as it runs here": open_session(opened, "ort")}
    try:
        return reference, {"model.onnx": rounding_session(opened.file("model")), **here}
    except MissingDependency:
        return reference, here


def _checks(found: Mapping[str, Flicker], precision: Precision, *, judged: bool) -> list[Check]:
    """Fidelity of every frame against the gate of pictures, and no NaN or Inf; flicker has no limit of its own."""
    checks = []
    for name, flicker in found.items():
        checks.append(Check(f"NaN or Inf in any frame, {name}", flicker.nonfinite, 0))
        if judged:
            limit = GATES[precision].fidelity_db
            checks.append(
                Check(f"fidelity of the worst frame, {name}", flicker.worst_fidelity_db, limit, "dB", "min", _ADVICE)
            )
    return checks


def _flicker_table(found: Mapping[str, Flicker]) -> Table:
    return Table(
        title="Flicker against the reference",
        columns=(
            "engine",
            "flicker dB",
            "flicker of 255",
            "worst pair",
            "worst of 255",
            "brightness step",
            "anew",
            "worst fidelity dB",
            "scene of 255",
        ),
        rows=tuple(
            (
                name,
                round(decibels(one.rms), 1),
                round(one.rms * 255, 4),
                f"{one.worst_frame - 1}, {one.worst_frame}",
                round(one.worst * 255, 4),
                round(one.worst_brightness_step_8bit, 4),
                None if one.renewal is None else round(one.renewal, 2),
                round(one.worst_fidelity_db, 1),
                round(one.change * 255, 2),
            )
            for name, one in found.items()
        ),
        note="Flicker: RMS of what the engine changes from frame to frame beyond what the reference does. Brightness "
        "step: its mean over the worst frame, of 255. Anew: 0 for an error that stays the same, 1 for one drawn anew "
        "in each frame. Scene: RMS of the reference's own change. By the triangle inequality flicker is at most 6.0 dB "
        "worse than the fidelity of its two frames, so that the limit on fidelity bounds it; it has none of its own.",
    )


def _frame_table(rows: tuple[FrameFlicker, ...], engine: str) -> Table:
    return Table(
        title=_FRAME_TABLE,
        columns=("frame", "time s", "fidelity dB", "flicker of 255", "brightness step", "scene of 255"),
        rows=tuple(
            (
                row.frame,
                round(row.time_s, 4),
                round(row.fidelity_db, 1),
                None if row.flicker is None else round(row.flicker * 255, 4),
                None if row.brightness_step_8bit is None else round(row.brightness_step_8bit, 4),
                None if row.change is None else round(row.change * 255, 2),
            )
            for row in rows
        ),
        note=f"{engine} against reference.onnx, each frame beside the one before.",
    )


def _notes(*, trained: bool, ending: Ending, asked: int, rounded: bool, judged: bool) -> tuple[str, ...]:
    notes = ["The reference is reference.onnx, which the export held against PyTorch."]
    if not trained:
        notes.append("UNTRAINED: the network restores nothing, so that the outputs are no restorations.")
    if not judged:
        notes.append("The network chooses neighbours, and exact runtimes choose otherwise: fidelity is not judged.")
    if not rounded:
        notes.append(NOT_ROUNDED)
    if ending.frames < asked:
        notes.append(f"The video has {ending.frames} frames, fewer than the {asked} that were asked for.")
    if ending.frames < asked and not ending.whole:  # or else it was not read to its end
        notes.append(f"The video is not whole: {ending.sentence()}.")
    elif ending.damaged:
        notes.append(f"Of what was read, {ending.damage()}: a frame that is concealed or missing flickers by itself.")
    return tuple(notes)
