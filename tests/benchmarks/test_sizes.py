"""What docs/sizes.md says of the model is what the measurements say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import sizes

ROOT = Path(__file__).resolve().parents[2]
ROWS = json.loads((ROOT / "benchmarks" / "results" / "sizes-cpu.json").read_text(encoding="utf-8"))["rows"]
PAGE = (ROOT / "docs" / "sizes.md").read_text(encoding="utf-8")


def test_the_page_has_the_table() -> None:
    assert sizes.table(ROWS) in PAGE


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['model']}-{row['size']}-{row['graph']}")
def test_what_the_page_claims(row: dict) -> None:  # type: ignore[type-arg]
    quickest, slowest, mib = sizes.modelled(row)
    prepared = next(
        each for each in ROWS if (each["model"], each["size"], each["graph"]) == (row["model"], row["size"], "prepared")
    )
    assert quickest < row["measured_ms"]
    if row["graph"] == "model":
        assert row["measured_mib"] < 1.6 * prepared["measured_mib"]
        return
    if row["model"] == "kgt-tiny":
        assert slowest < row["measured_ms"] < 2.65 * slowest
    else:
        assert row["measured_ms"] < 0.79 * slowest
    assert -0.055 < mib / row["measured_mib"] - 1 < 0.285
