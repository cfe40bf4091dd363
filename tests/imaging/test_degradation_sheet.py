"""The contact sheet has a tile for every kind, and the documentation a row with all of its parameters."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgeir.imaging.colour import to_uint8
from edgeir.imaging.degradations import KINDS
from edgeir.imaging.measuring import load_measuring

ROOT = Path(__file__).resolve().parent.parent.parent
TOOL = ROOT / "tools" / "degradation_sheet.py"


def test_every_kind_has_its_tile(tmp_path: Path) -> None:
    pytest.importorskip("skimage", reason="the measuring pictures lie in scikit-image")
    file, side, columns = tmp_path / "sheet.png", 64, 5
    command = [sys.executable, str(TOOL), str(file), "--side", str(side), "--columns", str(columns)]
    subprocess.run(command, check=True, timeout=120)
    tool = runpy.run_path(str(TOOL))
    assert list(tool["EXAMPLES"]) == list(KINDS)
    assert [type(step) for step in tool["EXAMPLES"].values()] == list(KINDS.values())
    with Image.open(file) as page:
        sheet = np.asarray(page)
    rows = -(-(len(KINDS) + 1) // columns)
    gap, above = tool["_GAP_PX"], tool["_LABEL_PX"]
    assert sheet.shape == (gap + rows * (side + above + gap), gap + columns * (side + gap), 3)
    clean = to_uint8(load_measuring("chelsea", side))
    tiles = []
    for index in range(len(KINDS) + 1):
        left, top, right, bottom = tool["tile_box"](index, side, columns)
        assert (sheet[top - above : top, left:right] < 128).any()  # a label
        tiles.append(sheet[top:bottom, left:right])
    np.testing.assert_array_equal(tiles[0], clean)
    for index, tile in enumerate(tiles):
        assert not any(np.array_equal(tile, other) for other in tiles[:index])
    for name, step in tool["EXAMPLES"].items():
        label = tool["label"](name)
        assert label.startswith(name)
        assert all(
            f"{value}" in label
            for key, value in ((f.name, getattr(step, f.name)) for f in fields(step))
            if key != "clip"
        )


def test_an_unknown_picture_is_refused(tmp_path: Path) -> None:
    command = [sys.executable, str(TOOL), str(tmp_path / "sheet.png"), "--picture", "chelsae"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "Did you mean 'chelsea'" in done.stderr


def test_every_kind_is_documented_with_its_parameters() -> None:
    text = (ROOT / "docs" / "degradations.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([a-z0-9-]+)` (\|.*)$", text, flags=re.MULTILINE))
    assert list(rows) == list(KINDS)
    for name, kind in KINDS.items():
        for field in fields(kind):  # type: ignore[arg-type]
            assert field.name == "clip" or f"`{field.name}`" in rows[name], (name, field.name)
