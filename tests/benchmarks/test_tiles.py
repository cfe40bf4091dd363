"""The benchmark of tiles on a network that sees one pixel, and on one that sees them all."""

from __future__ import annotations

import json
import math

import numpy as np

from benchmarks.tiles import lines, measure, result_row
from edgeir.spec import SizeRule

RULE = SizeRule(8, 8)


class Session:
    name = "a function"

    def __init__(self, weight_of_mean: float) -> None:
        self.weight = weight_of_mean

    def run(self, pictures: np.ndarray) -> np.ndarray:
        return np.asarray(pictures - self.weight * pictures.mean(axis=(1, 2, 3), keepdims=True), np.float32)


def test_rows_and_lines() -> None:
    rows = list(measure(Session(0.5), RULE, 64, [0, 32, 96], ["astronaut"], model="exda-tiny"))
    assert [(row.condition, row.overlap_px) for row in rows] == [
        (condition, overlap) for condition in ("noise-25", "low-light", "haze") for overlap in (0, 32)
    ]
    assert all(row.fidelity_db < 50 for row in rows)
    table = list(lines(rows))
    assert len(table) == 8
    assert table[0].startswith("| noise-25 | 64 | 0 | 1.00 | ")
    assert table[-1].startswith("| all | 64 | 32 | 4.00 | ")
    worst = min(row.fidelity_db for row in rows if row.overlap_px == 32)
    assert f"| {worst:.1f} |" in table[-1]


def test_a_network_trained_on_noise_is_measured_on_noise_and_nothing_infinite_is_written() -> None:
    rows = list(measure(Session(0.0), RULE, 32, [0], ["astronaut", "ihc"], model="kgt-tiny"))
    assert [(row.picture, row.condition) for row in rows] == [
        (picture, condition) for condition in ("noise-25", "noise-50") for picture in ("astronaut", "ihc")
    ]
    assert {row.fidelity_db for row in rows} == {math.inf}
    written = result_row(rows[0])
    assert written["fidelity_db"] is None
    assert (written["tile_px"], written["border_ratio"]) == (32, 0.0)
    json.dumps(written, allow_nan=False)
