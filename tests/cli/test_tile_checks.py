"""Tiles against the whole picture, as export and validate measure and report it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import pytest

from edgeir.cli import tile_checks as module
from edgeir.cli.console import Console
from edgeir.cli.tile_checks import TilingMeasurement, measure_tiling, measuring_square, tile_checks
from edgeir.compare.tiles import OverlapAgreement, OverlapChoice
from edgeir.manifest import Tiling
from edgeir.models.registry import ARCHITECTURES
from edgeir.report.formats import emit
from edgeir.report.value import Report, Table
from edgeir.runtime.restore import GraphInput
from edgeir.spec import ModelSpec, SizeRule, WeightsSpec

QUIET = Console(quiet=True)
TRAINED = WeightsSpec("shipped", True, "0" * 64)
RULE = SizeRule(16, 16)
GRAPH = GraphInput(1, (64, 64), (64, 64), (64, 64), RULE)


def spec(architecture: str = "exda", weights: WeightsSpec = TRAINED, **config: Any) -> ModelSpec:
    return ModelSpec(f"{architecture}-micro", architecture, config, RULE, weights=weights)


class Session:
    """A function of a picture, that notes the sizes it is given."""

    name = "a function"

    def __init__(self, network: Callable[[np.ndarray], np.ndarray]) -> None:
        self.network = network
        self.shapes: list[tuple[int, ...]] = []

    def run(self, pictures: np.ndarray) -> np.ndarray:
        self.shapes.append(pictures.shape)
        return np.stack([self.network(picture) for picture in pictures])


def less_its_mean(picture: np.ndarray) -> np.ndarray:
    return np.asarray(picture - picture.mean() + 0.5, np.float32)


def test_what_is_restored() -> None:
    session, whole = Session(lambda picture: picture), Session(lambda picture: picture)
    measured = measure_tiling(session, whole, GRAPH, spec(), console=QUIET)
    assert [(row.condition, row.overlap_px) for row in measured.rows] == [
        (condition, overlap) for condition in ("noise-25", "low-light") for overlap in (0, 16, 32)
    ]
    assert whole.shapes == [(1, 3, 128, 128)] * 2
    assert set(session.shapes) == {(1, 3, 64, 64)}
    # Two runs for the clock; per degradation the first tile once, and a second one per overlap.
    assert len(session.shapes) == 2 + 2 * (1 + 3)
    assert measured.tiling == Tiling(0, (64, 64), None, 0.0, 2)
    assert measured.table.title == "Tiles against the whole"
    assert [row[-1] for row in measured.table.rows] == ["chosen", "", ""] * 2


def test_only_overlaps_on_the_networks_grid_are_tried() -> None:
    graph = dataclasses.replace(GRAPH, rule=SizeRule(32, 32))
    measured = measure_tiling(Session(np.copy), Session(np.copy), graph, spec(), console=QUIET, conditions=("clean",))
    assert [row.overlap_px for row in measured.rows] == [0, 32]


def test_a_dynamic_graph_is_measured_at_its_optimum() -> None:
    graph = GraphInput(2, (32, 32), (48, 64), (256, 256), RULE)
    session = Session(np.copy)
    measured = measure_tiling(session, session, graph, spec(), console=QUIET, conditions=("clean",))
    assert {row.tile_px for row in measured.rows} == {(48, 64)}
    assert set(session.shapes) == {(1, 3, 48, 64), (1, 3, 96, 128)}, "tiles go one by one"
    assert {row.overlap_px for row in measured.rows} == {0, 16}


def test_a_network_that_enlarges() -> None:
    graph = dataclasses.replace(GRAPH, scale=2)
    double = Session(lambda picture: picture.repeat(2, axis=1).repeat(2, axis=2))
    measured = measure_tiling(double, double, graph, spec(), console=QUIET)
    assert {row.condition for row in measured.rows} == {"downsampled x2"}
    assert min(row.fidelity_db for row in measured.rows) > 120


def test_a_network_that_reads_the_whole_picture_is_stated_and_not_judged() -> None:
    session = Session(less_its_mean)
    measured = measure_tiling(session, session, GRAPH, spec(), console=QUIET)
    assert measured.choice is not None
    assert not measured.choice.chosen.passes
    assert tile_checks(measured, spec()) == []
    assert "Not judged" in measured.table.note
    assert "attends to the whole picture" in measured.table.note
    # The same figures of a network that attends in windows would fail.
    failed = [check for check in tile_checks(measured, spec("kgt", windows=[8])) if not check.passed]
    assert failed[0].name == (
        f"fidelity, tiles of 64x64, overlap {measured.choice.chosen.overlap_px}, against the whole picture"
    )
    assert (
        "Judged: at least 50 dB"
        in measure_tiling(
            session, session, GRAPH, spec("kgt", windows=[8]), console=QUIET, conditions=("clean",)
        ).table.note
    )


class Sharing(Session):
    """`less_its_mean` as a session whose tiles may share the mean."""

    def __init__(self) -> None:
        super().__init__(np.copy)
        self.mean: float | None = None

    def run(self, pictures: np.ndarray) -> np.ndarray:
        return np.stack([picture - (picture.mean() if self.mean is None else self.mean) + 0.5 for picture in pictures])

    def own(self, pictures: np.ndarray) -> np.ndarray:
        return np.array([pictures.mean()], np.float32)

    @contextmanager
    def sharing(self, statistics: np.ndarray) -> Iterator[None]:
        self.mean = float(statistics[0])
        yield
        self.mean = None


def test_tiles_that_share_statistics_are_measured_beside_those_that_do_not() -> None:
    session = Session(less_its_mean)
    measured = measure_tiling(session, session, GRAPH, spec(), console=QUIET, sharing=cast("Any", Sharing()))
    assert measured.shared
    assert measured.tiling is not None
    assert measured.tiling.shared_statistics
    assert min(row.fidelity_db for row in measured.rows) > 100  # equal but for rounding
    ways = [(row[0], row[1], row[-1]) for row in measured.table.rows]
    own, shared = ("noise-25", "its own", ""), ("noise-25", "the picture's", "")
    assert ways[:6] == [own, own, own, ("noise-25", "the picture's", "chosen"), shared, shared]
    assert measured.table.columns[1] == "statistics"


def test_of_two_ways_the_closer_one_is_chosen() -> None:
    worse = Sharing()
    worse.own = lambda pictures: np.array([0.9], np.float32)  # type: ignore[method-assign]
    session = Session(less_its_mean)
    measured = measure_tiling(session, session, GRAPH, spec(), console=QUIET, sharing=cast("Any", worse))
    assert not measured.shared
    assert measured.choice is not None
    assert [row[1] for row in measured.table.rows if row[-1]] == ["its own"] * 2


def test_what_would_take_too_long_is_left_out_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeir.cli.tile_checks._cpu_seconds_of_a_run", lambda session, graph: 20.0)  # 40 runs in all
    session = Session(less_its_mean)
    measured = measure_tiling(session, session, GRAPH, spec(), console=QUIET, sharing=cast("Any", Sharing()))
    assert not measured.shared
    assert "statistics" not in measured.table.columns
    assert "Tiles that share statistics were not measured: both would take 13 minutes here." in measured.table.note


def measurement(fidelity_db: float, ratio: float) -> TilingMeasurement:
    chosen = OverlapAgreement((64, 64), 16, 2, fidelity_db, ratio, 0.0, 0.0)
    return TilingMeasurement((), OverlapChoice(chosen, "Because."), Table("t", (), ()))


@pytest.mark.parametrize(
    ("fidelity_db", "ratio", "failed"),
    [
        (50.0, 1.1, []),
        (49.9, 1.1, ["fidelity"]),
        (50.0, 1.11, ["border error"]),
        (-math.inf, math.nan, ["fidelity", "border error"]),
    ],
)
def test_the_gate(fidelity_db: float, ratio: float, failed: list[str]) -> None:
    windowed = spec("kgt", windows=[8])
    checks = tile_checks(measurement(fidelity_db, ratio), windowed)
    assert len(checks) == 2
    assert [check.name.partition(",")[0] for check in checks if not check.passed] == failed
    untrained = dataclasses.replace(windowed, weights=dataclasses.replace(TRAINED, trained=False))
    assert tile_checks(measurement(fidelity_db, ratio), untrained) == []


def test_what_is_not_finite_is_not_vouched_for() -> None:
    assert measurement(50.0, 1.0).tiling == Tiling(16, (64, 64), 50.0, 1.0, 2)
    assert measurement(-math.inf, math.nan).tiling is None
    session = Session(lambda picture: np.full_like(picture, np.nan))
    measured = measure_tiling(session, session, GRAPH, spec(), console=QUIET)
    assert measured.tiling is None
    assert emit(Report("t", "s", tables=(measured.table,)), "json")


def test_too_large_or_too_slow_is_not_measured_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    session = Session(np.copy)
    large = GraphInput(1, (256, 272), (256, 272), (256, 272), RULE)
    measured = measure_tiling(session, session, large, spec(), console=QUIET)
    assert session.shapes == []
    assert (measured.rows, measured.choice, measured.tiling) == ((), None, None)
    assert "Not measured: a whole picture for tiles of 256x272 pixels" in measured.table.note
    assert tile_checks(measured, spec("kgt", windows=[8])) == []
    monkeypatch.setattr(module, "LONGEST_CPU_S", -1.0)
    measured = measure_tiling(session, session, GRAPH, spec(), console=QUIET)
    assert len(session.shapes) == 2
    assert "Not measured: it would take" in measured.table.note
    assert emit(Report("t", "s", tables=(measured.table,)), "text")


def test_settings_name_windows_where_a_network_attends_in_them() -> None:
    pytest.importorskip("torch", reason="settings classes live beside the networks, which need torch")
    from edgeir.models.build import describe

    described = {name: describe(name, name, {}, None) for name in ARCHITECTURES}
    assert {name for name, one in described.items() if one.attends_in_windows} == {"kgt"}
    assert {name for name, one in described.items() if one.chooses_neighbours} == {"kgt"}


@pytest.mark.parametrize("size", [(512, 512), (600, 520), (96, 64)])
def test_the_measuring_square(size: tuple[int, int]) -> None:
    square = measuring_square("astronaut", *size)
    assert square.shape == (*size, 3)
    assert square.flags.c_contiguous


def test_a_micro_network_in_its_graph_and_in_pytorch(micro: Callable[..., Any]) -> None:
    """The real sessions: tiles by ONNX Runtime, the whole by PyTorch."""
    from edgeir.runtime.ort_session import OrtSession
    from edgeir.runtime.torch_session import TorchSession

    made = micro("exda")
    size = (made.shape.height, made.shape.width)
    graph = GraphInput(1, size, size, size, made.loaded.spec.size)
    torch = TorchSession(made.loaded)
    by_ort = measure_tiling(OrtSession(made.path), torch, graph, made.loaded.spec, console=QUIET)
    by_torch = measure_tiling(torch, torch, graph, made.loaded.spec, console=QUIET)
    assert len(by_ort.rows) == 4
    for one, other in zip(by_ort.rows, by_torch.rows, strict=True):
        assert 10 < one.fidelity_db < 80
        # Two FP32 runtimes differ at 90 dB and beyond (compare.gates); against 80 dB and less that is 0.3 dB at most.
        assert one.fidelity_db == pytest.approx(other.fidelity_db, abs=0.3)
    assert by_ort.tiling is not None
    assert "untrained" in by_ort.table.note
