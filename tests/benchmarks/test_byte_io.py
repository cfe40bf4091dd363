"""Floats beside bytes: one row says time, bytes copied and whether both give the same."""

from __future__ import annotations

import json

import numpy as np

from benchmarks.byte_io import Ways, lines, measure, network, opened


def test_a_row() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    row = {"network": "ends", "size_px": 24, **measure(opened(network("ends")), picture, 3)}
    assert (row["differing_bytes"], row["largest_step"], row["output_bytes"]) == (0, 0, 24 * 32 * 3)
    assert row["copied_bytes"] == {"floats": 24 * 32 * 24, "bytes": 24 * 32 * 6}
    for way in ("floats", "bytes"):
        figures = row[way]
        assert isinstance(figures, dict)
        assert 0 < figures["lowest_ms"] <= figures["whole_ms"] <= figures["highest_ms"]
    json.dumps(row, allow_nan=False)
    first, second = lines(row)
    assert first.count("|") == second.count("|") == 10
    assert "| bytes |" in second


def test_a_difference_is_counted() -> None:
    class Off:
        def run_bytes(self, pictures: np.ndarray) -> np.ndarray:
            return np.where(np.arange(pictures.shape[2])[:, None] == 1, pictures + np.uint8(3), pictures)

    picture = np.full((4, 5, 3), 100, np.uint8)
    ways = opened(network("ends"))
    row = measure(Ways(ways.floats, Off()), picture, 1)  # type: ignore[arg-type]
    assert (row["differing_bytes"], row["largest_step"]) == (4 * 3, 3)
