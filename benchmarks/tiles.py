"""What does a picture lose when it is restored in tiles? Against the whole picture, per tile size and overlap.

    python -m benchmarks.tiles --out benchmarks/results/tiles-cpu.json

Measuring pictures under some degradations, restored by PyTorch in FP32 (fast form) in one piece, twice as high and as
wide as a tile, and in tiles as `edgeir run` does it; `edgeir.compare.tiles` has the arrangement, `edgeir.imaging.seams`
the measures. A network that attends to the whole picture is another computation on a tile; one that attends in windows
is the same one as far as its windows fall on the same pixels and what it needs lies inside the tile.

A row per picture and degradation is written; what is printed is the worst of each figure per degradation, and over all.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from benchmarks.result_files import GrowingTable
from edgeir.cli.console import Console
from edgeir.cli.tile_checks import RememberingSession, measuring_square
from edgeir.cli.tile_graphs import sharing_session
from edgeir.compare.drift import degraded_samples
from edgeir.compare.tiles import TileAgreement, by_overlap, choose_overlap, compare_tiles, whole_size
from edgeir.export.graph import TraceShape, save_graph
from edgeir.export.trace import trace
from edgeir.imaging.colour import Pixels
from edgeir.imaging.conditions import condition_named
from edgeir.imaging.layout import hwc_from_nchw, nchw_from_hwc
from edgeir.imaging.measuring import MEASURING_SET_SHA256
from edgeir.models.loading import LoadedModel, load_named
from edgeir.models.registry import VARIANTS, weights_state
from edgeir.runtime.memory import keep_for_reuse
from edgeir.runtime.restore import GraphInput, restore_pixels
from edgeir.runtime.session import Session
from edgeir.runtime.tile_statistics import StatisticsSession, gather
from edgeir.runtime.torch_session import TorchSession
from edgeir.spec import SizeRule

PICTURES = ("astronaut", "ihc")
CONDITIONS = ("noise-25", "low-light", "haze")
NOISE_ONLY = {"kgt-tiny": ("noise-25", "noise-50")}  # what it was trained on
OVERLAPS_PX = (0, 16, 32, 64, 96, 128)
HEAD = (
    "| degradation | tile | overlap | work | fidelity dB | border error | step | drift dB |\n"
    "|---|---:|---:|---:|---:|---:|---:|---:|"
)


def measure(
    session: Session,
    rule: SizeRule,
    side: int,
    overlaps: Sequence[int],
    pictures: Sequence[str],
    *,
    model: str,
    sharing: StatisticsSession | None = None,
) -> Iterator[TileAgreement]:
    """A row per picture, degradation and overlap, for square tiles of ``side`` pixels.

    With ``sharing`` the tiles take the statistics of the whole picture; ``session`` still restores that.
    """
    graph = GraphInput(1, (side, side), (side, side), (side, side), rule)

    def in_one(picture: Pixels) -> Pixels:
        return hwc_from_nchw(session.run(nchw_from_hwc(picture)))

    def in_tiles(picture: Pixels, overlap_px: int) -> Pixels:
        return restore_pixels(remembering, graph, picture, overlap_px=overlap_px)

    remembering = RememberingSession(session)
    clean = [(name, measuring_square(name, *whole_size((side, side)))) for name in pictures]
    conditions = map(condition_named, NOISE_ONLY.get(model, CONDITIONS))
    for sample in degraded_samples(clean, conditions):
        fitting = [overlap for overlap in overlaps if overlap <= side // 2]
        compare = partial(compare_tiles, sample, in_one, in_tiles, tile_px=(side, side), overlaps_px=fitting)
        if sharing is None:
            yield from compare()
            continue
        remembering = RememberingSession(sharing)  # the same tile is restored otherwise within another picture
        with sharing.sharing(gather(sharing, graph, sample.degraded)):
            yield from compare()


def shared_session(loaded: LoadedModel, side: int) -> StatisticsSession | None:
    """The network as a graph whose tiles share statistics; ``None`` where there are none."""
    shape = TraceShape(1, side, side)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "reference.onnx"
        save_graph(trace(loaded, shape), path)
        return sharing_session(path, shape, loaded.spec, Console(quiet=True))


def lines(rows: Sequence[TileAgreement]) -> Iterator[str]:
    """The worst of every figure as Markdown, per degradation and overlap, and per overlap."""
    for condition in [*dict.fromkeys(row.condition for row in rows), "all"]:
        for row in by_overlap([one for one in rows if condition in (one.condition, "all")]):
            cells = (f"{row.fidelity_db:.1f}", f"{row.border_ratio:.2f}", f"{row.step:.3f}", f"{row.drift_db:.3f}")
            yield f"| {condition} | {row.tile_px[0]} | {row.overlap_px} | {row.work:.2f} | {' | '.join(cells)} |"


def main() -> None:
    """Measure, print a table per network, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    shipped = [name for name in VARIANTS if weights_state(name) == "trained"]
    parser.add_argument("--models", nargs="+", default=shipped, help="all that weights come for")
    parser.add_argument("--tiles", type=int, nargs="+", default=[128, 256], help="sides of the tiles, pixels")
    parser.add_argument("--overlaps", type=int, nargs="+", default=list(OVERLAPS_PX), help="pixels; up to half a tile")
    parser.add_argument("--pictures", nargs="+", default=list(PICTURES))
    parser.add_argument("--shared", action="store_true", help="tiles share the statistics of the whole picture")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    keep_for_reuse()
    table = GrowingTable(
        arguments.out,
        ("model", "statistics", "tile_px", "overlap_px", "picture", "condition"),
        {"measuring_set_sha256": MEASURING_SET_SHA256},
    )
    for name in arguments.models:
        loaded = load_named(name)
        assert loaded.spec.weights is not None
        session = TorchSession(loaded, form="fast")
        print(f"\n{name}\n\n{HEAD}", flush=True)
        for side in arguments.tiles:
            sharing = shared_session(loaded, side) if arguments.shared else None
            if arguments.shared and sharing is None:
                print(f"{name} has no statistics to share")
                continue
            rows = []
            for row in measure(
                session, loaded.spec.size, side, arguments.overlaps, arguments.pictures, model=name, sharing=sharing
            ):
                rows.append(row)
                statistics = "shared" if arguments.shared else "own"
                head = {"model": name, "weights_sha256": loaded.spec.weights.sha256, "statistics": statistics}
                table.put({**head, **result_row(row)})
            print("\n".join(lines(rows)), flush=True)
            print(choose_overlap(rows).reason, flush=True)


def result_row(row: TileAgreement) -> dict[str, object]:
    """A row as JSON: no number is infinite."""
    figures = {
        "fidelity_db": round(row.fidelity_db, 2),
        "border_ratio": round(row.border_ratio, 3),
        "step": round(row.step, 4),
        "drift_db": round(row.drift_db, 4),
    }
    return {
        "tile_px": row.tile_px[0],
        "overlap_px": row.overlap_px,
        "picture": row.picture,
        "condition": row.condition,
        **{key: value if math.isfinite(value) else None for key, value in figures.items()},
    }


if __name__ == "__main__":
    main()
