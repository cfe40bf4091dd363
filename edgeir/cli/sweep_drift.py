"""What a trial of a sweep loses: drift against its bundle's own reference, and pictures of its worst case.

An export measures the drift of the whole picture with every FP16 result rounded; that is kept in a file, so that trials
of the same bundle find it there. What was not measured yet is measured once, and kept as well.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeir.bundle import Bundle
from edgeir.cli.measuring import on_one, rounding_session
from edgeir.cli.verdicts import drift_checks
from edgeir.compare.drift import (
    PictureDrift,
    Sample,
    by_condition,
    degraded_samples,
    mean_drift_db,
    measure_drift,
    worst_condition,
    worst_sample,
)
from edgeir.compare.parity import Run
from edgeir.errors import MissingDependency
from edgeir.imaging.conditions import VALIDATION_CONDITIONS
from edgeir.imaging.look import Look, to_lay_over
from edgeir.imaging.measuring import measuring_crop, measuring_pictures
from edgeir.imaging.writing import png_bytes
from edgeir.precision import Precision
from edgeir.runtime.opening import graph_input, open_session
from edgeir.runtime.ort_session import OrtSession
from edgeir.runtime.restore import GraphInput, overlap_to_run, restore_pixels
from edgeir.runtime.session import Session
from edgeir.storage import atomic_write_bytes
from edgeir.sweep.trial import Settings, Trial

Pixels = NDArray[np.float32]

_NO_TILING = "typed"  # what an export measures: the whole picture, every FP16 result rounded
_MOST_DB = 200.0  # stands for equal to the last bit
_SAME_DB = 100.0  # of fidelity: nothing is to be seen, and no pictures are needed of it


def keep_exported(path: Path, rows: Sequence[PictureDrift]) -> None:
    """Keep the drift that an export measured, for `drift_figures` of every trial that takes the whole picture."""
    _keep(path, _NO_TILING, rows)


def drift_figures(trial: Trial, settings: Settings, opened: Bundle, kept: Path, pictures: Path) -> dict[str, Any]:
    """Drift of a trial as JSON values.

    Args:
        trial: what runs.
        settings: how many measuring pictures.
        opened: its bundle.
        kept: the file that `keep_exported` wrote, or none yet.
        pictures: folder for PNGs of the worst case.

    Raises:
        MissingDependency: a device has no measuring pictures.
    """
    measured = _MeasuredTrial(trial, opened)
    rows = measured.drift([picture.name for picture in measuring_pictures(settings.pictures)], kept)
    degradation, worst = worst_condition(rows), worst_sample(rows)
    gains = [row.engine_db - row.input_db for row in rows if row.condition != "clean"]
    fidelity_db = min(_MOST_DB, *(row.fidelity_db for row in rows))
    differs = not fidelity_db >= _SAME_DB  # NaN and minus infinity are worth a look
    return {
        "mean_drift_db": mean_drift_db(rows),
        "worst_degradation": {"name": degradation.condition, "drift_db": degradation.mean_drift_db},
        "worst_picture": {"name": worst.picture, "condition": worst.condition, "drift_db": worst.drift_db},
        "min_fidelity_db": fidelity_db,
        "mean_gain_db": sum(gains) / len(gains) if gains else None,
        "by_degradation": {row.condition: row.mean_drift_db for row in by_condition(rows)},
        "rounded": importlib.util.find_spec("onnx_ir") is not None,
        **_judged(rows, opened),
        **({"comparison": measured.comparison(worst, pictures)} if differs else {}),
    }


def restore_tiled(session: Session, graph: GraphInput, pixels: Pixels, tile_px: int | None, opened: Bundle) -> Pixels:
    """Restore one picture as ``edgeir run`` does: ``(H, W, 3) -> (s*H, s*W, 3) float32``."""
    overlap = overlap_to_run(graph, opened.manifest.tiling, tile_px=tile_px)
    return restore_pixels(session, graph, pixels, tile_px=tile_px, overlap_px=overlap.px)


def _judged(rows: Sequence[PictureDrift], opened: Bundle) -> dict[str, Any]:
    """Against the gates of the precision."""
    model = opened.manifest.model
    checks = drift_checks(
        rows,
        Precision(opened.manifest.precision),
        trained=model.trained,
        chooses_neighbours=model.chooses_neighbours,
    )
    failed = [check.name for check in checks if not check.passed]
    return {"within_gates": not failed, "failed_checks": failed}


class _MeasuredTrial:
    """A trial beside its reference, both opened on first use and once."""

    def __init__(self, trial: Trial, opened: Bundle) -> None:
        self._trial = trial
        self._opened = opened
        self._graph = graph_input(opened.manifest)

    def drift(self, names: Sequence[str], kept: Path) -> list[PictureDrift]:
        """Rows for measuring pictures: from an earlier trial of the same bundle, or measured."""
        trial = self._trial
        kind = _NO_TILING if trial.backend == "ort" else trial.backend
        label = kind if trial.in_one else f"{kind} {trial.size} tile {trial.tile_px}"
        found = [row for row in _kept(kept, label) if row.picture in names]
        if {row.picture for row in found} == set(names):
            return found
        reference, engine = self._runs
        rows = measure_drift(self._samples(names), reference, engine)
        _keep(kept, label, rows)
        return rows

    def comparison(self, worst: PictureDrift, folder: Path) -> dict[str, Any]:
        """PNGs of the picture that loses most: name to path below the sweep's ``pictures``, and a caption."""
        sample = next(one for one in self._samples([worst.picture]) if one.condition == worst.condition)
        outputs = [run(sample.batch())[0].transpose(1, 2, 0) for run in self._runs]
        layers = to_lay_over(sample.degraded, *outputs)
        folder.mkdir(parents=True, exist_ok=True)
        written = {}
        for name, pixels in layers.items():
            path = folder / f"{name.split()[0]}.png"
            atomic_write_bytes(path, png_bytes(pixels))
            written[name] = f"{folder.name}/{path.name}"
        return {"caption": f"{worst.picture} under {worst.condition}, {worst.drift_db:.4f} dB", "layers": written}

    @cached_property
    def _runs(self) -> tuple[Run, Run]:
        """The reference and the engine, each on one picture of the trial's size.

        ONNX Runtime is made to round every FP16 result, as a device does, where the ONNX tools are here for that.
        """
        build = self._trial.build
        if self._trial.backend == "ort":
            engine = _rounding(self._opened.file("model"))
        else:
            checkpoint = Path(build.checkpoint) if build.checkpoint else None
            engine = open_session(self._opened, self._trial.backend, checkpoint=checkpoint)
        return self._run(_rounding(self._opened.file("reference"))), self._run(engine)

    def _run(self, session: Session) -> Run:
        if self._trial.in_one:
            return on_one(session, self._graph)

        def run(picture: Pixels) -> Pixels:
            pixels = picture[0].transpose(1, 2, 0)
            restored = restore_tiled(session, self._graph, pixels, self._trial.tile_px, self._opened)
            return restored.transpose(2, 0, 1)[None]

        return run

    def _samples(self, names: Sequence[str]) -> Iterator[Sample]:
        scale = self._graph.scale
        sides = (self._trial.height * scale, self._trial.width * scale)
        return degraded_samples(
            [(name, measuring_crop(name, *sides)) for name in names], VALIDATION_CONDITIONS, scale=scale
        )


def _rounding(path: Path) -> Session:
    try:
        return rounding_session(path)
    except MissingDependency:
        return OrtSession(path, integer_kernels=False)


def _keep(path: Path, label: str, rows: Sequence[PictureDrift]) -> None:
    content = _read_kept(path)
    content[label] = [asdict(row) for row in rows]
    atomic_write_bytes(path, json.dumps(content).encode())


def _kept(path: Path, label: str) -> list[PictureDrift]:
    """Rows as `_keep` wrote them; none where another edgeir wrote other fields."""
    try:
        return [PictureDrift(**{**row, "look": Look(**row["look"])}) for row in _read_kept(path).get(label, [])]
    except (KeyError, TypeError):
        return []


def _read_kept(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
