"""How often must tiles be asked for their statistics before they agree with the whole picture?

    python -m benchmarks.tile_passes --out benchmarks/results/tile-passes-cpu.json

Pictures of eight by eight tiles, restored by PyTorch in FP32 (fast form) in one piece, and by ONNX Runtime in tiles:
each with its own statistics (no pass), and with those gathered from sixteen tiles in one pass and in several, as
`edgeir run` does it (`edgeir.runtime.tile_statistics.gather`). A row per picture, degradation and number of passes is
written; what is printed is the worst per degradation.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path

from benchmarks.result_files import GrowingTable
from benchmarks.tiles import CONDITIONS, PICTURES, shared_session
from edgeir.cli.tile_checks import measuring_square
from edgeir.compare.drift import Sample, degraded_samples
from edgeir.imaging.conditions import condition_named
from edgeir.imaging.layout import hwc_from_nchw, nchw_from_hwc
from edgeir.imaging.measuring import MEASURING_SET_SHA256
from edgeir.imaging.metrics import fidelity_db
from edgeir.models.loading import load_named
from edgeir.runtime.memory import keep_for_reuse
from edgeir.runtime.restore import GraphInput, restore_pixels
from edgeir.runtime.session import Session
from edgeir.runtime.tile_statistics import GATHERED_TILES, GATHERING_PASSES, StatisticsSession, gather
from edgeir.runtime.torch_session import TorchSession

SIDE_TILES = math.isqrt(GATHERED_TILES * GATHERING_PASSES)  # enough tiles for every pass to be worth it
MODELS = ("exda-tiny", "cea-tiny")


def passes_of(
    whole: Session, tiles: StatisticsSession, graph: GraphInput, sample: Sample, overlap_px: int
) -> Iterator[dict[str, object]]:
    """A row per number of passes, none first."""
    expected = hwc_from_nchw(whole.run(nchw_from_hwc(sample.degraded)))
    for passes in range(GATHERING_PASSES + 1):
        shared = tiles.sharing(gather(tiles, graph, sample.degraded, passes=passes)) if passes else nullcontext()
        with shared:
            restored = restore_pixels(tiles, graph, sample.degraded, overlap_px=overlap_px)
        yield {"passes": passes, "fidelity_db": round(fidelity_db(restored, expected), 2)}


def lines(rows: Sequence[dict[str, object]]) -> Iterator[str]:
    """The worst picture per degradation, a column per number of passes."""
    for condition in dict.fromkeys(str(row["condition"]) for row in rows):
        worst = [
            min(
                float(str(row["fidelity_db"]))
                for row in rows
                if (row["condition"], row["passes"]) == (condition, passes)
            )
            for passes in range(GATHERING_PASSES + 1)
        ]
        yield f"| {condition} | " + " | ".join(f"{decibels:.1f}" for decibels in worst) + " |"


def main() -> None:
    """Measure, print a table per network, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--tile", type=int, default=64, help="side of the tiles, pixels")
    parser.add_argument("--overlap", type=int, default=16, help="pixels")
    parser.add_argument("--pictures", nargs="+", default=list(PICTURES))
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    keep_for_reuse()
    side = SIDE_TILES * arguments.tile
    key = ("model", "tile_px", "overlap_px", "picture", "condition", "passes")
    table = GrowingTable(arguments.out, key, {"measuring_set_sha256": MEASURING_SET_SHA256, "side_tiles": SIDE_TILES})
    for name in arguments.models:
        loaded = load_named(name)
        tiles = shared_session(loaded, arguments.tile)
        assert loaded.spec.weights is not None and tiles is not None
        whole = TorchSession(loaded, form="fast")
        size = (arguments.tile, arguments.tile)
        graph = GraphInput(1, size, size, size, loaded.spec.size)
        rows: list[dict[str, object]] = []
        clean = [(picture, measuring_square(picture, side, side)) for picture in arguments.pictures]
        for sample in degraded_samples(clean, map(condition_named, CONDITIONS)):
            for found in passes_of(whole, tiles, graph, sample, arguments.overlap):
                of_sample = {"picture": sample.picture, "condition": sample.condition, **found}
                rows.append(of_sample)
                head = {"model": name, "weights_sha256": loaded.spec.weights.sha256}
                table.put({**head, "tile_px": arguments.tile, "overlap_px": arguments.overlap, **of_sample})
        numbers = " | ".join(map(str, range(GATHERING_PASSES + 1)))
        print(f"\n{name}, {side}x{side} in tiles of {arguments.tile}, dB\n\n| passes | {numbers} |", flush=True)
        print("|---|" + "---:|" * (GATHERING_PASSES + 1))
        print("\n".join(lines(rows)), flush=True)


if __name__ == "__main__":
    main()
