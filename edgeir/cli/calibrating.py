"""Calibration as a stage of export: pictures of the user's folder, ranges of the graph's tensors, and what was seen."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeir.bundle import BundleWriter
from edgeir.calibrate.migration import find_exponents, migrate, seams
from edgeir.calibrate.observe import observe, passes
from edgeir.calibrate.pictures import CalibrationSet, calibration_set
from edgeir.calibrate.qdq import LowPrecision, input_tensors
from edgeir.calibrate.range_fit import RangeFit, range_fits
from edgeir.calibrate.ranges import Ranges, ranges_seen, ranges_to_json, read_ranges
from edgeir.cli.console import Console
from edgeir.errors import GraphError
from edgeir.imaging.conditions import VALIDATION_CONDITIONS, condition_named
from edgeir.runtime.restore import GraphInput

CALIBRATION_VERSION = 1
SAMPLES = 2 * len(VALIDATION_CONDITIONS)
METHOD = "mse"
_NAMED = 5


@dataclass(frozen=True, slots=True)
class CalibrationRequest:
    """What the command line asked for.

    Attributes:
        folder: clean pictures.
        method: key of `edgeir.calibrate.observers.OBSERVERS`.
        samples: degraded crops to look at.
        seed: of their choice.
        ranges: a ``ranges.json`` to use, instead of what ``method`` would find.
    """

    folder: Path
    method: str = METHOD
    samples: int = SAMPLES
    seed: int = 0
    ranges: Path | None = None


@dataclass(frozen=True, slots=True)
class Calibration:
    """What was looked at, and what was found.

    Attributes:
        pictures: the crops.
        ranges: in use, of every tensor that a layer with weights reads.
        fits: how well each fits what was seen, the worst first.
        readers: the layers that read each tensor.
        extremes: how many tensors had their largest magnitude under each degradation.
    """

    pictures: CalibrationSet
    ranges: Ranges
    fits: tuple[RangeFit, ...]
    readers: Mapping[str, tuple[str, ...]]
    extremes: Mapping[str, int]

    def amax(self) -> dict[str, float]:
        """By the tensor's name."""
        return {name: entry.amax for name, entry in self.ranges.tensors.items()}


def choose_pictures(request: CalibrationRequest, graph: GraphInput) -> CalibrationSet:
    """The crops, of the graph's own size.

    A network that enlarges reads small pictures that nothing fell upon: its crops are taken as they are.

    Raises:
        PictureError, UsageError: see `calibration_set`.
    """
    height, width = graph.optimum
    conditions = VALIDATION_CONDITIONS if graph.scale == 1 else (condition_named("clean"),)
    return calibration_set(
        request.folder, height=height, width=width, conditions=conditions, count=request.samples, seed=request.seed
    )


def calibrate(
    model: ir.Model,
    pictures: CalibrationSet,
    graph: GraphInput,
    *,
    request: CalibrationRequest,
    layers: Collection[str],
    kind: LowPrecision,
    console: Console,
) -> Calibration:
    """Move scales between channels, and find the range of every tensor that a layer with weights reads.

    Args:
        model: in FP32, rewritten: the graph that the plan will be written into. Scales of its channels move
            (`edgeir.calibrate.migration`); what it computes stays.
        pictures: see `choose_pictures`.
        graph: the batches it takes.
        request: how to find them, or where they are: then they are judged, and scales move as they say.
        layers: those that may be in eight bits.
        kind: what the ranges are for.

    Raises:
        GraphError: the given ranges cannot be read, or are of other tensors.
    """
    readers: dict[str, tuple[str, ...]] = {}
    for layer, tensor in input_tensors(model.graph).items():
        readers[tensor] = (*readers.get(tensor, ()), layer)
    tensors = list(readers)
    given = None if request.ranges is None else _fitting_ranges(request.ranges, tensors)

    def batches() -> Iterator[NDArray[np.float32]]:
        for batch in pictures.batches():
            yield np.repeat(batch, graph.batch, axis=0)

    open_seams = seams(model.graph, layers) if given is None else {}
    looks = passes(model, [seam.tensor for seam in open_seams.values()]) + passes(model, tensors)
    with console.bar("pictures seen", looks * len(pictures.samples)) as advance:
        migrated = given.migrated if given else find_exponents(model, open_seams, batches, on_picture=advance)
        migrate(model, migrated)
        console.say(f"      powers of two moved from channels into weights in front of {len(migrated)} layers")
        observed = observe(model, tensors, batches, method=request.method, on_picture=advance)
    ranges = replace(observed.ranges, migrated=migrated) if given is None else ranges_seen(given, observed.seen)
    fits = tuple(range_fits(ranges, observed.seen, kind))
    wrong = [fit for fit in fits if fit.wrong]
    for fit in wrong[:_NAMED]:
        console.say(f"      the range of '{fit.tensor}', which {' and '.join(readers[fit.tensor])} reads: {fit}")
    if len(wrong) > _NAMED:
        console.say(f"      and {len(wrong) - _NAMED} more; the report has them all")
    extremes = Counter(pictures.samples[index].condition for index in observed.extremes.values())
    return Calibration(pictures, ranges, fits, readers, extremes)


def _fitting_ranges(path: Path, tensors: Sequence[str]) -> Ranges:
    ranges = read_ranges(path)
    missing = [name for name in tensors if name not in ranges.tensors]
    if missing or len(ranges.tensors) > len(tensors):
        extra = [name for name in ranges.tensors if name not in tensors]
        raise GraphError(
            "the ranges are of another graph",
            where=str(path),
            expected=f"the {len(tensors)} tensors that a layer with weights reads",
            got=f"none for '{missing[0]}'" if missing else f"one for '{extra[0]}' too",
            fix="Calibrate again, for this network, its size and its rewrites.",
        )
    return ranges


def write_calibration(calibration: Calibration, writer: BundleWriter) -> None:
    """``ranges.json``, and ``calibration.json``: which pictures, by content, and what they were turned into."""
    writer.path("ranges.json").write_text(ranges_to_json(calibration.ranges), encoding="utf-8")
    writer.add("ranges.json", "ranges", parents=("reference.onnx",))
    text = json.dumps(calibration_record(calibration.pictures), indent=1) + "\n"
    writer.path("calibration.json").write_text(text, encoding="utf-8")
    writer.add("calibration.json", "calibration")


def calibration_record(pictures: CalibrationSet) -> dict[str, object]:
    """What ``calibration.json`` says. No names of files: a bundle says nothing about its maker's folders."""
    return {
        "calibration_version": CALIBRATION_VERSION,
        "seed": pictures.seed,
        "height": pictures.height,
        "width": pictures.width,
        "samples": [
            {
                "sha256": pictures.sha256[sample.picture],
                "degradation": sample.condition,
                "top": sample.top,
                "left": sample.left,
                "luminance": round(sample.luminance, 4),
            }
            for sample in pictures.samples
        ],
    }


def luminance_bands(pictures: CalibrationSet) -> list[tuple[str, int, float, float]]:
    """Per degradation: how many crops, and the darkest and brightest mean luma among them."""
    rows = []
    for name in (condition.name for condition in pictures.conditions):
        seen = [sample.luminance for sample in pictures.samples if sample.condition == name]
        rows.append((name, len(seen), min(seen), max(seen)))
    return rows
