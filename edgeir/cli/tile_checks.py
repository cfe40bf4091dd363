"""Tiles against the whole picture, for export and validate: the measurement, the overlap chosen, and what is said."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from edgeir.cli.console import Console
from edgeir.compare.drift import degraded_samples
from edgeir.compare.tiles import (
    TILED_BORDER_RATIO,
    TILED_FIDELITY_DB,
    OverlapChoice,
    TileAgreement,
    Tiled,
    by_overlap,
    choose_overlap,
    compare_tiles,
    whole_size,
)
from edgeir.imaging.conditions import condition_named
from edgeir.imaging.layout import hwc_from_nchw, nchw_from_hwc
from edgeir.imaging.measuring import load_measuring
from edgeir.imaging.padding import pad_to_at_least
from edgeir.manifest import Tiling
from edgeir.report.value import Cell, Check, Table
from edgeir.runtime.restore import GraphInput, restore_pixels
from edgeir.runtime.session import Session
from edgeir.runtime.tile_statistics import StatisticsSession, gather
from edgeir.spec import ModelSpec

Pixels = NDArray[np.float32]

OVERLAPS_PX = (0, 16, 32, 64)
PICTURES = ("astronaut",)
# Noise asks most of a network that sees its surroundings, low light of one that sees everything: a tile is not as dark
# as its picture.
CONDITIONS = ("noise-25", "low-light")
# The whole picture has four times the pixels of a tile, and PyTorch keeps every layer's result of it in memory.
LARGEST_TILE_PX = 256 * 256
# Of the whole measurement, by the processor time of one tile: other work on the machine changes it less than the clock.
# Minutes on a few cores, in an export that takes longer than that.
LONGEST_CPU_S = 480.0
_LARGEST_CROP_PX = 512  # the smallest side of the measuring pictures that tiles are compared on
_TITLE = "Tiles against the whole"
_COLUMNS = ("degradation", "tile", "overlap px", "work", "fidelity dB", "border error", "step", "drift dB", "")


@dataclass(frozen=True, slots=True)
class TilingMeasurement:
    """What tiles were found to lose.

    Attributes:
        rows: one per picture, degradation and overlap; empty where nothing was measured.
        choice: the overlap to take; ``None`` where nothing was measured.
        table: for the report; without rows its note says why nothing was measured.
        shared: the rows are of tiles that share the picture's statistics, which were closer to the whole.
    """

    rows: tuple[TileAgreement, ...]
    choice: OverlapChoice | None
    table: Table
    shared: bool = False

    @property
    def tiling(self) -> Tiling | None:
        """For the manifest; ``None`` where nothing was measured, or an output was not finite."""
        if self.choice is None or not math.isfinite(self.choice.chosen.border_ratio):
            return None
        chosen = self.choice.chosen
        return Tiling(
            overlap_px=chosen.overlap_px,
            tile_px=chosen.tile_px,
            fidelity_db=None if math.isinf(chosen.fidelity_db) else chosen.fidelity_db,
            border_ratio=chosen.border_ratio,
            pictures=chosen.pictures,
            shared_statistics=self.shared,
        )


def measure_tiling(
    session: Session,
    whole: Session,
    graph: GraphInput,
    spec: ModelSpec,
    *,
    console: Console,
    sharing: StatisticsSession | None = None,
    overlaps_px: Sequence[int] = OVERLAPS_PX,
    pictures: Sequence[str] = PICTURES,
    conditions: Sequence[str] = CONDITIONS,
) -> TilingMeasurement:
    """Restore measuring pictures whole and in tiles of the graph's optimum, with each overlap.

    Args:
        session: what restores the tiles, one at a time. In FP32, or rounding is taken for tiling: a
            `edgeir.runtime.torch_session.TorchSession`, or ``reference.onnx`` of batch 1.
        whole: the same network for pictures of any size: a `TorchSession`, or a dynamic graph. It may be ``session``.
        graph: which batches ``session`` accepts.
        spec: the network's own description.
        sharing: the same network in FP32 as a graph whose tiles can share statistics; both ways are measured then,
            and the one that comes closer to the whole is chosen.
        overlaps_px: of these, multiples of the network's size rule up to half a tile are tried. With any other a
            network's windows fall on other pixels than those of the whole picture (10 dB for kgt-tiny,
            ``benchmarks/results/tiles-cpu.json``).
        pictures: names of measuring pictures.
        conditions: names of validation conditions; not used where the network enlarges.

    Returns:
        the measurement; nothing was measured where a tile has more than `LARGEST_TILE_PX` pixels, or where it would
        take more than `LONGEST_CPU_S` of processor time here.
    """
    tile = graph.optimum
    if tile[0] * tile[1] > LARGEST_TILE_PX:
        return _not_measured(
            f"a whole picture for tiles of {tile[0]}x{tile[1]} pixels takes too much memory; tiles of 256x256 are "
            "compared at most"
        )
    overlaps = [one for one in overlaps_px if one <= min(tile) // 2 and one % graph.rule.multiple == 0]
    height, width = (side * graph.scale for side in whole_size(tile))
    clean = [(name, measuring_square(name, height, width)) for name in pictures]
    samples = list(degraded_samples(clean, map(condition_named, conditions), scale=graph.scale))
    # A dynamic graph takes the whole picture in one piece, and tiles go one by one: a batch would be filled up.
    fixed = replace(graph, batch=1, minimum=tile, maximum=tile)
    # The whole is four tiles, and four are asked twice; of the two tiles per overlap the first is always the same.
    a_run = _cpu_seconds_of_a_run(session, fixed) * len(samples)
    seconds = a_run * (4 + 1 + len(overlaps))
    both = seconds + a_run * (8 + 1 + len(overlaps))
    too_long = sharing is not None and both > LONGEST_CPU_S
    if too_long:
        sharing = None
    if seconds > LONGEST_CPU_S:
        return _not_measured(f"it would take {seconds / 60:.0f} minutes of processor time on this machine")

    in_one_piece = RememberingSession(whole)
    own: list[TileAgreement] = []
    shared: list[TileAgreement] = []
    with console.bar("pictures in tiles", len(samples) * len(overlaps) * (1 if sharing is None else 2)) as advance:
        for sample in samples:
            compare = partial(
                compare_tiles,
                sample,
                lambda picture: hwc_from_nchw(in_one_piece.run(nchw_from_hwc(picture))),
                tile_px=tile,
                overlaps_px=overlaps,
                scale=graph.scale,
                on_overlap=advance,
            )
            own += compare(_in_tiles(session, fixed))
            if sharing is not None:
                with sharing.sharing(gather(sharing, fixed, sample.degraded)):
                    shared += compare(_in_tiles(sharing, fixed))
    choices = {False: choose_overlap(own)} | ({True: choose_overlap(shared)} if shared else {})
    closer = True in choices and choices[True].chosen.fidelity_db > choices[False].chosen.fidelity_db
    ways = {"its own": own} | ({"the picture's": shared} if shared else {})
    table = _table(ways, "the picture's" if closer else "its own", choices[closer], spec)
    if too_long:
        left_out = f"Tiles that share statistics were not measured: both would take {both / 60:.0f} minutes here."
        table = replace(table, note=f"{table.note} {left_out}")
    return TilingMeasurement(tuple(shared if closer else own), choices[closer], table, closer)


def _in_tiles(session: Session, graph: GraphInput) -> Tiled:
    remembering = RememberingSession(session)
    return lambda picture, overlap_px: restore_pixels(remembering, graph, picture, overlap_px=overlap_px)


def tile_checks(measurement: TilingMeasurement, spec: ModelSpec, *, overlap_px: int | None = None) -> list[Check]:
    """An overlap against the gate, for a trained network that sees its surroundings only.

    A network that attends to the whole picture computes something else on a tile, whatever the overlap: its figures are
    in the table and are not judged. Nor are those of an untrained network, whose tiles differ by chance.

    Args:
        overlap_px: the one to judge, of those that were measured; ``None`` for the chosen one.
    """
    if measurement.choice is None or not spec.trained or not spec.attends_in_windows:
        return []
    chosen = measurement.choice.chosen
    if overlap_px is not None:
        chosen = next((one for one in by_overlap(measurement.rows) if one.overlap_px == overlap_px), chosen)
    label = f"tiles of {_size(chosen.tile_px)}, overlap {chosen.overlap_px}, against the whole picture"
    advice = "Export with a larger --size, or run with a larger --overlap."
    return [
        Check(f"fidelity, {label}", chosen.fidelity_db, TILED_FIDELITY_DB, "dB", "min", advice),
        Check(f"border error, {label}", chosen.border_ratio, TILED_BORDER_RATIO, "", "max", advice),
    ]


def measuring_square(name: str, height: int, width: int) -> Pixels:
    """``(height, width, 3)`` of a measuring picture, as little mirrored outwards as it allows."""
    crop = load_measuring(name, crop_px=min(max(height, width), _LARGEST_CROP_PX))
    return np.ascontiguousarray(pad_to_at_least(crop, height, width)[:height, :width])


class RememberingSession:
    """A session that restores no batch twice: the first tile of a picture is the same whatever the overlap."""

    def __init__(self, session: Session) -> None:
        self.name = session.name
        self._session = session
        self._restored: dict[bytes, Pixels] = {}

    def run(self, pictures: Pixels) -> Pixels:
        """Restore a batch, see `edgeir.runtime.session.Session.run`."""
        key = hashlib.sha256(pictures.tobytes()).digest()
        if key not in self._restored:
            self._restored[key] = self._session.run(pictures)
        return self._restored[key]


def _cpu_seconds_of_a_run(session: Session, graph: GraphInput) -> float:
    """Of the second run: the first also allocates, and may compile."""
    picture = np.zeros((graph.batch, 3, *graph.optimum), np.float32)
    session.run(picture)
    started = time.process_time()
    session.run(picture)
    return time.process_time() - started


def _not_measured(reason: str) -> TilingMeasurement:
    return TilingMeasurement((), None, Table(_TITLE, _COLUMNS, (), f"Not measured: {reason}."))


def _table(
    ways: Mapping[str, Sequence[TileAgreement]], chosen_way: str, choice: OverlapChoice, spec: ModelSpec
) -> Table:
    """Rows of every way, which is named where there are two."""
    rows = next(iter(ways.values()))
    names = ", ".join(dict.fromkeys(row.picture for row in rows))
    several = len(ways) > 1
    cells: list[tuple[Cell, ...]] = []
    for condition in dict.fromkeys(row.condition for row in rows):
        for way, found in ways.items():
            for row in by_overlap([one for one in found if one.condition == condition]):
                chosen = way == chosen_way and row.overlap_px == choice.chosen.overlap_px
                figures = (
                    round(row.work, 2),
                    round(row.fidelity_db, 1),
                    round(row.border_ratio, 2),
                    round(row.step, 3),
                    round(row.drift_db, 3),
                    "chosen" if chosen else "",
                )
                head = (condition, *((way,) if several else ()), _size(row.tile_px), row.overlap_px)
                cells.append((*head, *figures))
    of_ways = (
        " Statistics: what the network computes of the whole picture; a tile takes itself for the picture, or all "
        "tiles share the mean of some."
        if several
        else ""
    )
    return Table(
        title=_TITLE,
        columns=(_COLUMNS[0], *(("statistics",) if several else ()), *_COLUMNS[1:]),
        rows=tuple(cells),
        note=f"{names}: {_size(whole_size(choice.chosen.tile_px))} pixels restored in one piece, and in tiles, both in "
        "FP32; the worst of several pictures. Work: pixels restored per pixel of a large picture. Border error: RMS "
        "difference to the whole where tiles meet, as a multiple of that elsewhere (or of rounding to 8 bits, where "
        "that is more). Step: gradient energy across the worst border line beyond what it would be without tiles, as "
        f"a share of that. Drift: what tiling loses against the truth.{of_ways} {choice.reason} {_judged(spec)}",
    )


def _judged(spec: ModelSpec) -> str:
    gate = f"at least {TILED_FIDELITY_DB:g} dB and a border error of at most {TILED_BORDER_RATIO:g}"
    if not spec.trained:
        return f"Not judged (the gate is {gate}): the network is untrained."
    if not spec.attends_in_windows:
        return (
            f"Not judged (the gate is {gate}): this network attends to the whole picture, so that it computes "
            "something else on a tile, whatever the overlap; larger tiles come closer."
        )
    return f"Judged: {gate}."


def _size(size_px: tuple[int, int]) -> str:
    return f"{size_px[0]}x{size_px[1]}"
