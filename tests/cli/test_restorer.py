"""What stands around an opened network: tiles that share statistics, and what is done where that goes wrong."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from edgeir.cli.restorer import Restorer
from edgeir.errors import CheckFailed
from edgeir.export.tile_statistics import with_tile_statistics
from edgeir.imaging.picture import Picture
from edgeir.runtime.ort_session import OrtSession
from edgeir.runtime.restore import GraphInput
from edgeir.runtime.sentry import OnBad
from edgeir.runtime.tile_statistics import StatisticsSession
from edgeir.spec import SizeRule

GRAPH = GraphInput(1, (16, 16), (16, 16), (16, 16), SizeRule(8, 8))
LESS_ITS_MEAN = """
    <ir_version: 9, opset_import: ["" : 20]> g (float[1,3,16,16] image) => (float[1,3,16,16] restored) {
        a = Constant<value_ints = [2, 3]>() mean = ReduceMean(image, a) half = Constant<value = float {0.5}>()
        centred = Sub(image, mean) restored = Add(centred, half)
    }
"""
RAMP = np.repeat(np.linspace(0, 1, 64, dtype=np.float32)[None, :, None], 16, 0).repeat(3, 2)


class OfItsOwn:
    """The same network without statistics to be given."""

    name = "own"

    def run(self, pictures: np.ndarray) -> np.ndarray:
        return np.asarray(pictures - pictures.mean(axis=(2, 3), keepdims=True) + 0.5, np.float32)


class OverflowsWhereItIsBright(StatisticsSession):
    def run(self, pictures: np.ndarray) -> np.ndarray:
        return np.asarray(super().run(pictures) + np.float32(np.inf if pictures.mean() > 0.85 else 0), np.float32)


class FindsNothing(StatisticsSession):
    def own(self, pictures: np.ndarray) -> np.ndarray:
        return np.asarray(super().own(pictures) * np.float32(np.nan if pictures.mean() > 0.85 else 1), np.float32)


@pytest.fixture(scope="module")
def tiles_graph() -> bytes:
    graph = with_tile_statistics(ir.from_proto(onnx.parser.parse_model(LESS_ITS_MEAN)))
    assert graph is not None
    return ir.to_proto(graph).SerializeToString()


def restorer(
    session: Callable[[], StatisticsSession] | None,
    said: list[str],
    *,
    on_bad: OnBad = "retry",
    unshared: str | None = None,
) -> Restorer:
    return Restorer(
        OfItsOwn(),
        GRAPH,
        None,
        tile_px=None,
        overlap_px=0,
        on_bad=on_bad,
        spare=OfItsOwn,
        say=said.append,
        sharing=session,
        unshared=unshared,
    )


def tile_means(pixels: np.ndarray) -> list[float]:
    return [round(float(pixels[:, left : left + 16].mean()), 3) for left in range(0, 64, 16)]


def test_tiles_share_what_the_picture_has(tiles_graph: bytes) -> None:
    said: list[str] = []
    made = restorer(lambda: StatisticsSession(OrtSession(tiles_graph, threads=1)), said)
    assert made.facts()["tile_statistics"] is None
    np.testing.assert_allclose(made.pixels(RAMP), RAMP - RAMP.mean() + 0.5, atol=1e-6)
    facts = made.facts()
    assert (facts["tile_statistics"], facts["not_shared_after_all"], said) == ("shared", 0, [])
    assert facts["sentry"]["checked"] == 4


@pytest.mark.parametrize(
    ("kind", "says", "bad"),
    [
        (OverflowsWhereItIsBright, "FP32 shares no statistics: the picture is restored once more", 1),
        (FindsNothing, "not finite and cannot be shared", 0),
    ],
)
def test_tiles_of_two_kinds_never_stand_side_by_side(
    tiles_graph: bytes, kind: type[StatisticsSession], says: str, bad: int
) -> None:
    said: list[str] = []
    made = restorer(lambda: kind(OrtSession(tiles_graph, threads=1)), said)
    assert tile_means(made.pixels(RAMP)) == [0.5] * 4  # every tile has its own mean taken away
    assert says in said[-1]
    facts = made.facts()
    assert (facts["not_shared_after_all"], facts["sentry"]["not_finite"]) == (1, bad)


def test_a_bad_tile_stops_where_it_is_to(tiles_graph: bytes) -> None:
    made = restorer(lambda: OverflowsWhereItIsBright(OrtSession(tiles_graph, threads=1)), [], on_bad="stop")
    with pytest.raises(CheckFailed, match="NaN or infinity"):
        made.pixels(RAMP)
    assert made.facts()["sentry"]["not_finite"] == 1


def test_tiles_of_their_own_are_told_of_once() -> None:
    said: list[str] = []
    made = restorer(None, said, unshared="They could share.")
    made.pixels(RAMP[:, :16])
    assert (said, made.facts()["tile_statistics"]) == ([], None)
    made.pixels(RAMP)
    made.pixels(RAMP)
    assert (said, made.facts()["tile_statistics"]) == (["They could share."], "own")


def test_a_picture_of_sixteen_bits_and_an_engine_of_bytes() -> None:
    class OfBytes(OfItsOwn):
        takes_bytes = True

    said: list[str] = []
    made = Restorer(OfBytes(), GRAPH, None, tile_px=None, overlap_px=0, on_bad="retry", spare=OfItsOwn, say=said.append)
    for bits in (8, 16, 16):
        made.picture(Picture(RAMP, bits=bits))
    assert len(said) == 1
    assert "of the picture's 16 bits per channel 8 are left" in said[0]
