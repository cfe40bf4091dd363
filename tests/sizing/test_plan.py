"""Which tile is chosen, and what it is said to take."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from edgeir.errors import MissingDependency, UsageError
from edgeir.manifest import AxisRange, Manifest, Tiling
from edgeir.models.registry import VARIANTS
from edgeir.provenance import collect
from edgeir.sizing.cost import tile_seconds
from edgeir.sizing.cutting import even_cut
from edgeir.sizing.devices import DEVICES, GIB, Device, Mode, Rates
from edgeir.sizing.memory import fits, memory_of, usable_bytes
from edgeir.sizing.networks import Network, network, network_of
from edgeir.sizing.plan import plan_bundle, plan_named
from edgeir.spec import ModelSpec, SizeRule, TensorSpec

HD = (1080, 1920)
SPEC = ModelSpec("exda-tiny", "exda", {"dim": 24}, SizeRule(16, 16))


def card(gib: float, *, shared: bool = False) -> Device:
    mode = Mode("boost", Rates(1e12, 4e12, 8e12), 100e9)
    return Device("made-up", "Made-up", "8.6", int(gib * GIB), shared=shared, modes=(mode,))


def manifest(**changes: Any) -> Manifest:
    made = Manifest(
        name="exda-tiny",
        precision="fp16",
        input=TensorSpec("image", (1, 3, 256, 256)),
        batch=1,
        model=SPEC,
        provenance=collect(seconds=0.0),
        tiling=Tiling(64, (256, 256), 53.0, 1.2, 1),
    )
    return replace(made, **changes)


DYNAMIC = manifest(
    input=TensorSpec("image", (1, 3, "H", "W")),
    ranges={"H": AxisRange(128, 256, 512), "W": AxisRange(128, 256, 512)},
)


@pytest.mark.parametrize("name", VARIANTS)
def test_every_named_model_can_be_planned(name: str) -> None:
    plan = plan_named(network(name), HD, DEVICES["agx-orin-64gb"], "fp16")
    assert plan.fits
    seconds = plan.seconds()
    assert 0 < seconds.quickest < seconds.slowest
    assert seconds.arithmetic <= seconds.quickest
    assert seconds.least_traffic < seconds.most_traffic < seconds.slowest


def test_the_whole_picture_where_it_fits() -> None:
    plan = plan_named(network("exda-tiny"), HD, card(24), "fp16")
    assert (plan.cut.tile, plan.cut.tiles, plan.cut.overlap.px) == ((1088, 1920), 1, 0)
    assert "whole picture" in plan.reason


def test_less_memory_takes_more_tiles() -> None:
    counts, memories = [], []
    for gib in (24, 4, 2, 1):
        plan = plan_named(network("exda-tiny"), HD, card(gib), "fp16")
        assert plan.fits
        assert plan.memory.engine <= usable_bytes(plan.device)
        counts.append(plan.cut.tiles)
        memories.append(plan.memory.engine)
    assert counts == sorted(set(counts))
    assert memories == sorted(memories, reverse=True)


@pytest.mark.parametrize("name", ["exda-tiny", "kgt-unet"])
@pytest.mark.parametrize("gib", [0.8, 0.9, 1.05, 1.2, 1.35, 2, 4])
def test_fewer_even_tiles_would_not_fit(name: str, gib: float) -> None:
    """Of all grids of so few tiles that one could draw them."""
    known, device = network(name), card(gib if name == "exda-tiny" else 4 * gib)
    plan = plan_named(known, HD, device, "fp16")
    assert plan.fits
    fitting = []
    for rows in range(1, plan.cut.tiles + 1):
        for columns in range(1, plan.cut.tiles // rows + 1):
            made = even_cut(HD, known.rule, known.scale, (rows, columns))
            if fits(memory_of(known, made.tile_pixels, made.padded_pixels, device, "fp16"), device):
                fitting.append((made.tiles, made.tiles * made.tile_pixels))
    assert min(fitting) == (plan.cut.tiles, plan.cut.tiles * plan.cut.tile_pixels)


def test_an_overlap_as_large_as_the_picture_leaves_the_whole_alone() -> None:
    assert plan_named(network("exda-tiny"), (40, 4000), card(8), "fp16", overlap_px=48).cut.tiles == 1
    with pytest.raises(UsageError, match=r"no tile of exda-tiny fits Made-up .*with tiles of 4000x48 pixels"):
        plan_named(network("exda-tiny"), (40, 4000), card(0.6), "fp16", overlap_px=48)


def test_pictures_of_absurd_size_are_answered() -> None:
    with pytest.raises(UsageError, match="no tile of exda-tiny fits"):
        plan_named(network("exda-tiny"), (999_999, 999_999), DEVICES["orin-nx-8gb"], "fp16")
    plan = plan_named(network("exda-tiny"), (999_999, 999_999), DEVICES["thor"], "fp16", tile_px=64)
    assert (plan.fits, plan.cut.tiles) == (False, 20_833**2)


def test_a_board_holds_the_pictures_too() -> None:
    huge = (20_000, 20_000)
    with pytest.raises(UsageError, match=r"no tile of exda-tiny fits Jetson Orin NX 8GB .*expected at most 6.44 GB"):
        plan_named(network("exda-tiny"), huge, DEVICES["orin-nx-8gb"], "fp16")
    assert plan_named(network("exda-tiny"), huge, DEVICES["rtx-4060"], "fp16").fits


def test_small_pictures_and_odd_ones() -> None:
    plan = plan_named(network("kgt-unet"), (1, 7), card(8), "fp16")
    assert plan.cut.tiles == 1
    assert plan.network.rule.accepts(*plan.cut.tile)
    assert plan.cut.repeated > 0.99
    enlarged = plan_named(network("kgt-s-x4"), (101, 203), card(8), "fp16")
    same = memory_of(replace(enlarged.network, scale=1), 1, enlarged.cut.padded_pixels, card(8), "fp16")
    assert enlarged.memory.pictures > 4 * same.pictures  # sixteen times the pixels come out


def test_tiles_that_were_asked_for() -> None:
    plan = plan_named(network("exda-tiny"), HD, card(8), "fp16", tile_px=256, overlap_px=32)
    assert (plan.cut.tile, plan.cut.tiles, plan.cut.overlap) == ((256, 256), 45, plan.cut.overlap)
    assert plan.cut.overlap.origin == "asked"
    tight = plan_named(network("exda-tiny"), HD, card(0.6), "fp16", tile_px=512)
    assert not tight.fits
    with pytest.raises(UsageError, match=r"--tile: .*multiples of 16.*Use 256x256"):
        plan_named(network("exda-tiny"), HD, card(8), "fp16", tile_px=250)
    assert plan_named(network("exda-tiny"), (100, 100), card(8), "fp16", overlap_px=500).cut.tiles == 1


def test_precision() -> None:
    known = network("cea-tiny")
    times = {name: plan_named(known, HD, card(24), name).seconds() for name in ("fp32", "fp16", "int8")}
    assert times["int8"].quickest < times["fp16"].quickest < times["fp32"].quickest
    assert times["int8"].slowest <= times["fp16"].slowest < times["fp32"].slowest
    memories = {name: plan_named(known, HD, card(24), name).memory for name in ("fp32", "fp16", "int8")}
    assert memories["fp32"].activations == 2 * memories["fp16"].activations
    assert memories["int8"].activations == memories["fp16"].activations  # some layers stay in FP16
    with pytest.raises(UsageError, match="Made-up has no FP8"):
        plan_named(known, HD, card(24), "fp8")


def test_time_is_a_roofline() -> None:
    """By hand: 1e6 pixels, 1 GMAC and 1 GB of either kind."""
    made = Network("made-up", SizeRule(1, 1), 1, 0, 1000, False, 500, 500, 1, kernels=100, operators=300)
    seconds = tile_seconds(made, 10**6, card(8), card(8).modes[0], "fp16")
    assert seconds.arithmetic == pytest.approx(1e9 / 4e12)
    assert seconds.least_traffic == seconds.most_traffic == pytest.approx(1e9 / 100e9)
    assert seconds.quickest == pytest.approx(0.01 / 0.85 + 100 * 2e-6)
    assert seconds.slowest == pytest.approx(1e9 / 4e12 / 0.15 + 0.01 / 0.5 + 300 * 5e-6)
    eight = tile_seconds(made, 10**6, card(8), card(8).modes[0], "int8")
    assert (eight.least_traffic, eight.most_traffic) == (pytest.approx(0.005), pytest.approx(0.01))


def test_a_processor_reads_weights_in_fp32() -> None:
    """Whatever the file has: the memory and the traffic are of the same bytes."""
    made = Network("made-up", SizeRule(1, 1), 1, 10**9, 0, False, 0, 0, 0, kernels=0, operators=0)
    processor = replace(card(8), architecture="cpu")
    assert memory_of(made, 1, 1, processor, "fp16").weights == memory_of(made, 1, 1, processor, "fp32").weights == 4e9
    assert memory_of(made, 1, 1, card(8), "int8").weights == 1e9
    for precision in ("fp16", "fp32"):
        assert tile_seconds(made, 1, processor, processor.modes[0], precision).least_traffic == 4e9 / 100e9
    assert tile_seconds(made, 1, card(8), card(8).modes[0], "fp16").least_traffic == 2e9 / 100e9


def test_a_slower_power_mode_takes_longer() -> None:
    plan = plan_named(network("exda-tiny"), HD, DEVICES["orin-nx-8gb"], "fp16")
    times = [plan.seconds(mode.name).slowest for mode in plan.device.modes]
    assert times == sorted(times)
    assert plan.seconds() == plan.seconds("40W")


def test_a_bundle_of_one_size() -> None:
    plan = plan_bundle(manifest(), HD, card(8))
    assert (plan.cut.tile, plan.cut.overlap.px, plan.cut.overlap.origin) == ((256, 256), 64, "measured")
    assert plan.tile_option is None
    assert plan.precision == "fp16"
    # Three tiles of 256 that share 64 pixels cover 640; the fourth would reach 832.
    assert plan_bundle(manifest(), (640, 640), card(8)).cut.tiles == 9
    assert plan_bundle(manifest(), (641, 640), card(8)).cut.tiles == 12
    in_pairs = plan_bundle(manifest(batch=2, input=TensorSpec("image", (2, 3, 256, 256))), (640, 640), card(8))
    assert (in_pairs.cut.tiles, in_pairs.cut.runs) == (9, 5)
    assert not plan_bundle(manifest(), HD, card(0.5)).fits


def test_tiles_that_share_statistics_are_gathered_from_first() -> None:
    """On a processor, where edgeir run does it."""
    sharing = manifest(tiling=Tiling(64, (256, 256), 53.0, 1.2, 1, shared_statistics=True))
    processor = replace(card(8), architecture="cpu")
    own, shared = (plan_bundle(each, (640, 640), processor) for each in (manifest(), sharing))
    assert (own.cut.runs, own.gathered) == (9, 0)
    assert (shared.cut.runs, shared.gathered) == (9, 18)  # in two passes
    assert shared.seconds().slowest == pytest.approx(3 * own.seconds().slowest)
    assert (
        0 < plan_bundle(sharing, HD, processor).gathered <= 80
    )  # no more than twice the tiles of 256 that cover 1088x1920
    assert plan_bundle(sharing, (200, 200), processor).gathered == 0  # one tile is its own whole
    assert plan_bundle(sharing, (640, 640), card(8)).gathered == 0  # engines do not share
    assert plan_bundle(sharing, (640, 640), processor, tile_px=256).gathered == 18


def test_a_bundle_of_many_sizes() -> None:
    whole = plan_bundle(DYNAMIC, (500, 400), card(8))
    assert (whole.cut.tile, whole.tile_option) == ((512, 400), None)
    large = plan_bundle(DYNAMIC, HD, card(8))
    assert large.cut.tile == (large.tile_option, large.tile_option)
    assert large.cut.tile[0] > 256  # what run would take by itself repeats more
    tight = plan_bundle(DYNAMIC, (500, 400), card(0.7))
    assert tight.fits
    assert tight.cut.tile[0] < 512
    assert plan_bundle(DYNAMIC, HD, card(8), tile_px=128).tile_option == 128


def test_a_network_with_settings_of_its_own_is_counted() -> None:
    settings = {"dim": 8, "blocks": [1, 1, 1, 1], "refine": 1, "heads": [1, 2, 1, 2]}
    found = network_of(replace(SPEC, name="exda-custom", config=settings))
    assert (found.name, found.rule, found.chooses_neighbours) == ("exda-custom", SPEC.size, False)
    known = network("exda-tiny")
    assert 0 < found.macs < known.macs
    assert 0 < found.live_values < known.live_values
    assert 0 < found.least_values < found.most_values < known.most_values
    assert 0 < found.parameters < known.parameters


def test_counting_takes_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingDependency, match=r"cost of 'exda-custom' is not known.*edgeir\[export\].*edgeir bench"):
        network_of(replace(SPEC, name="exda-custom"))
    assert network_of(SPEC) == network("exda-tiny")  # the table needs none


def test_unknown_names_offer_the_nearest() -> None:
    with pytest.raises(UsageError, match="Did you mean 'exda-tiny'"):
        network("exda-tyni")
