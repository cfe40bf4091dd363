"""The best way to restore a picture on a device, modelled: which tile, and what it takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from edgeir.errors import UsageError
from edgeir.manifest import Manifest, Tiling
from edgeir.runtime.opening import graph_input
from edgeir.runtime.restore import DEFAULT_OVERLAP_PX, GraphInput
from edgeir.sizing.cost import Seconds, tile_seconds
from edgeir.sizing.cutting import Cut, cut, even_tiles, fixed_size, square_tiles
from edgeir.sizing.devices import Device
from edgeir.sizing.memory import Memory, fits, memory_of, usable_bytes
from edgeir.sizing.networks import Network, network_of

_WORK_WORTH_A_LARGER_TILE = 1.1
"""A larger tile may repeat this much more work: fewer seams, and nearer to the whole picture."""


@dataclass(frozen=True, slots=True)
class SizePlan:
    """A picture on a device.

    Attributes:
        network, device, precision: what was reckoned with.
        cut: how the picture is cut.
        memory: what it takes; see `fits`.
        fits: whether it does.
        reason: why this tile, one sentence.
        tile_option: what ``edgeir run --tile`` has to be given for these tiles, ``None`` where nothing.
    """

    network: Network
    device: Device
    precision: str
    cut: Cut
    memory: Memory
    fits: bool
    reason: str
    tile_option: int | None = None

    def seconds(self, power_mode: str | None = None) -> Seconds:
        """Modelled time of the whole picture, network alone, in one of the device's power modes."""
        mode = self.device.mode(power_mode)
        pixels = self.cut.batch * self.cut.tile_pixels
        once = tile_seconds(self.network, pixels, self.device, mode, self.precision)
        runs = self.cut.runs
        return Seconds(
            *(runs * each for each in (once.quickest, once.slowest, once.arithmetic)),
            *(runs * each for each in (once.least_traffic, once.most_traffic)),
        )


def plan_named(
    network: Network,
    picture: tuple[int, int],
    device: Device,
    precision: str,
    *,
    tile_px: int | None = None,
    overlap_px: int | None = None,
) -> SizePlan:
    """Plan for a network that is not exported yet: the whole picture if it fits, else the fewest even tiles that do.

    Args:
        network: which.
        picture: (H, W) in pixels.
        device: where.
        precision: ``"fp32"``, ``"fp16"``, ``"int8"`` or ``"fp8"``.
        tile_px: side of square tiles, where the user names one.
        overlap_px: the user's.

    Raises:
        UsageError: the device does not know the precision, the tile is not one of the network's sizes, or nothing fits.
    """
    _require_precision(device, precision)
    if tile_px is not None:
        network.rule.require(tile_px, tile_px, where="--tile")
        graph = fixed_size(network.rule, (tile_px, tile_px), network.scale)
        made = cut(graph, picture, overlap_px=overlap_px)
        return _planned(network, device, precision, made, "The tile was asked for.")
    shared = DEFAULT_OVERLAP_PX if overlap_px is None else overlap_px
    cuts = (
        cut(fixed_size(network.rule, tile, network.scale), picture, overlap_px=overlap_px)
        for number, tile in enumerate(even_tiles(picture, network.rule, shared))
        if number == 0 or overlap_px is None or overlap_px < min(tile)
    )
    return _largest_that_fits(network, device, precision, cuts)


def plan_bundle(
    manifest: Manifest,
    picture: tuple[int, int],
    device: Device,
    *,
    tile_px: int | None = None,
    overlap_px: int | None = None,
) -> SizePlan:
    """Plan for a bundle, whose graph takes the sizes that it was exported for, and whose overlap was measured.

    Raises:
        UsageError: as `plan_named`.
        MissingDependency: the network's cost is not known, see `edgeir.sizing.networks.network_of`.
    """
    network, graph, tiling = network_of(manifest.model), graph_input(manifest), manifest.tiling
    precision = manifest.precision
    _require_precision(device, precision)
    made = cut(graph, picture, tile_px=tile_px, overlap_px=overlap_px, tiling=tiling)
    if tile_px is not None:
        return _planned(network, device, precision, made, "The tile was asked for.", tile_px)
    if graph.static:
        return _planned(network, device, precision, made, "The bundle takes this size only.")
    as_it_runs = _planned(network, device, precision, made, "What 'edgeir run' takes by itself.")
    if as_it_runs.fits and made.tiles == 1:
        return as_it_runs
    others = list(_squares(network, device, precision, graph, picture, overlap_px, tiling))
    best = _best([*([as_it_runs] if as_it_runs.fits else []), *others])
    return best or as_it_runs


def _squares(
    network: Network,
    device: Device,
    precision: str,
    graph: GraphInput,
    picture: tuple[int, int],
    overlap_px: int | None,
    tiling: Tiling | None,
) -> Iterator[SizePlan]:
    """The square tiles of a dynamic graph that fit the device."""
    step = graph.rule.multiple
    for side, _ in square_tiles(max(graph.minimum), min(graph.maximum), step):
        if overlap_px is not None and overlap_px >= side:
            return
        made = cut(graph, picture, tile_px=side, overlap_px=overlap_px, tiling=tiling)
        plan = _planned(network, device, precision, made, "The largest tile that fits at little repeated work.", side)
        if plan.fits:
            yield plan


def _largest_that_fits(network: Network, device: Device, precision: str, cuts: Iterable[Cut]) -> SizePlan:
    smallest = None
    for made in cuts:
        whole = made.tiles == 1
        reason = "The whole picture fits." if whole else "The fewest even tiles that fit the memory."
        plan = _planned(network, device, precision, made, reason)
        if plan.fits:
            return plan
        if smallest is None or made.tile_pixels < smallest.cut.tile_pixels:
            smallest = plan
    assert smallest is not None, "the whole picture is always a candidate"
    needed = smallest.memory.total if device.shared else smallest.memory.engine
    raise UsageError(
        f"no tile of {network.name} fits {device.title}",
        where="--for",
        expected=f"at most {usable_bytes(device) / 1e9:.2f} GB",
        got=f"{needed / 1e9:.2f} GB with tiles of {smallest.cut.tile[1]}x{smallest.cut.tile[0]} pixels",
        fix="The pictures alone may be too large for the memory: cut them first, or take a larger device.",
    )


def _best(plans: list[SizePlan]) -> SizePlan | None:
    """The largest tile among those that repeat little more work than the one that repeats least."""
    if not plans:
        return None
    least = min(plan.cut.runs * plan.cut.batch * plan.cut.tile_pixels for plan in plans)
    near = [
        plan
        for plan in plans
        if plan.cut.runs * plan.cut.batch * plan.cut.tile_pixels <= _WORK_WORTH_A_LARGER_TILE * least
    ]
    return max(near, key=lambda plan: plan.cut.tile_pixels)


def _planned(
    network: Network, device: Device, precision: str, made: Cut, reason: str, tile_option: int | None = None
) -> SizePlan:
    memory = memory_of(network, made.batch * made.tile_pixels, made.padded_pixels, device, precision)
    return SizePlan(network, device, precision, made, memory, fits(memory, device), reason, tile_option)


def _require_precision(device: Device, precision: str) -> None:
    if precision == "fp8" and not device.fp8:
        raise UsageError(
            f"{device.title} has no FP8",
            where="--precision",
            expected="fp32, fp16 or int8",
            got="fp8",
            fix="FP8 needs compute capability 8.9 or later.",
        )
