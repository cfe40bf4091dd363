"""The benchmark of gathering passes, on a network that takes the mean colour away."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir

from benchmarks.tile_passes import SIDE_TILES, lines, passes_of
from edgeir.compare.drift import Sample
from edgeir.export.tile_statistics import with_tile_statistics
from edgeir.runtime.ort_session import OrtSession
from edgeir.runtime.restore import GraphInput
from edgeir.runtime.tile_statistics import StatisticsSession
from edgeir.spec import SizeRule

LESS_ITS_MEAN = """
    <ir_version: 9, opset_import: ["" : 20]> g (float[1,3,16,16] image) => (float[1,3,16,16] restored) {
        a = Constant<value_ints = [2, 3]>() mean = ReduceMean(image, a) restored = Sub(image, mean)
    }
"""


class Whole:
    name = "whole"

    def run(self, pictures: np.ndarray) -> np.ndarray:
        return np.asarray(pictures - pictures.mean(axis=(2, 3), keepdims=True), np.float32)


def test_rows_and_lines() -> None:
    graph = with_tile_statistics(ir.from_proto(onnx.parser.parse_model(LESS_ITS_MEAN)))
    assert graph is not None
    tiles = StatisticsSession(OrtSession(ir.to_proto(graph).SerializeToString(), threads=1))
    side = 16 * SIDE_TILES
    picture = (
        np.random.default_rng(0).random((side, side, 3), dtype=np.float32) * np.linspace(0, 1, side)[:, None, None]
    )
    picture = picture.astype(np.float32)
    sample = Sample("a", "noise-25", clean=picture, degraded=picture)
    graph_input = GraphInput(1, (16, 16), (16, 16), (16, 16), SizeRule(8, 8))
    rows = list(passes_of(Whole(), tiles, graph_input, sample, 0))
    assert [row["passes"] for row in rows] == [0, 1, 2, 3, 4]
    own, *shared = (float(str(row["fidelity_db"])) for row in rows)
    assert own < 20
    assert min(shared) > own + 15
    assert len(set(shared)) == 1  # of one layer: the first pass finds all there is
    (line,) = lines([{"condition": "noise-25", **row} for row in rows])
    assert line.startswith(f"| noise-25 | {own:.1f} | {shared[0]:.1f} |")
