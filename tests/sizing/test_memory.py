"""The memory of whole pictures against what restoring and writing them allocates."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeir.imaging.picture import Picture
from edgeir.imaging.writing import write_picture
from edgeir.runtime.restore import restore_pixels
from edgeir.sizing.cutting import cut, fixed_size
from edgeir.sizing.devices import DEVICES
from edgeir.sizing.memory import memory_of
from edgeir.sizing.networks import network
from edgeir.spec import SizeRule

ROWS, COLUMNS = 600, 801


class Enlarging:
    """A session without memory of its own beside its output."""

    name = "enlarging"

    def __init__(self, scale: int) -> None:
        self.scale = scale

    def run(self, pictures: Any) -> Any:
        return pictures.repeat(self.scale, axis=2).repeat(self.scale, axis=3)


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


def modelled(name: str, size: tuple[int, int]) -> int:
    graph = fixed_size(SizeRule(16, 16), (64, 64), network(name).scale)
    return memory_of(network(name), 1, cut(graph, size).padded_pixels, DEVICES["thor"], "fp16").pictures


@pytest.mark.parametrize("name", ["exda-tiny", "kgt-s-x2"])
@pytest.mark.usefixtures("traced")
def test_pictures_while_they_are_restored(name: str) -> None:
    scale = network(name).scale
    graph = fixed_size(SizeRule(16, 16), (64, 64), scale)
    given = np.zeros((ROWS, COLUMNS, 3), np.float32)
    tracemalloc.reset_peak()
    restore_pixels(Enlarging(scale), graph, given, overlap_px=16)
    peak = tracemalloc.get_traced_memory()[1]
    # A batch of 64x64 pixels and its output, some copies each, come on top: 1 % of this picture.
    assert peak == pytest.approx(modelled(name, (ROWS, COLUMNS)), rel=0.03)


@pytest.mark.usefixtures("traced")
def test_pictures_while_they_are_written(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).random((4 * ROWS // 2, 4 * COLUMNS // 2, 3), np.float32)  # no file is larger
    tracemalloc.reset_peak()
    write_picture(Picture(noise), tmp_path / "noise.png")  # four times the sides: writing takes more than restoring
    pillow = 4 * noise.shape[0] * noise.shape[1]  # its own copy is not Python's memory
    peak = tracemalloc.get_traced_memory()[1] + pillow
    assert peak == pytest.approx(modelled("kgt-s-x4", (ROWS // 2, COLUMNS // 2)), rel=0.1)
