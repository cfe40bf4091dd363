"""The best way to restore a picture on a device, modelled: which tile, and what it takes."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass

from edgeir.errors import UsageError
from edgeir.manifest import Manifest, Tiling
from edgeir.runtime.opening import graph_input
from edgeir.runtime.restore import GraphInput
from edgeir.sizing.cost import Seconds, tile_seconds
from edgeir.sizing.cutting import Cut, cut, even_cut, fixed_size, gathering_runs, square_tiles
from edgeir.sizing.devices import Device
from edgeir.sizing.memory import Memory, fits, memory_of, usable_bytes
from edgeir.sizing.networks import Network, network_of

_WORK_WORTH_A_LARGER_TILE = 1.1
"""A larger tile may repeat this much more work: fewer seams, and nearer to the whole picture."""
_MOST_TILES = 4096
"""Of a picture of a named network: beyond that the tiles are far too small for it."""


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
        gathered: runs before the picture's, for the statistics that its tiles share.
    """

    network: Network
    device: Device
    precision: str
    cut: Cut
    memory: Memory
    fits: bool
    reason: str
    tile_option: int | None = None
    gathered: int = 0

    def seconds(self, power_mode: str | None = None) -> Seconds:
        """Modelled time of the whole picture, network alone, in one of the device's power modes."""
        mode = self.device.mode(power_mode)
        pixels = self.cut.batch * self.cut.tile_pixels
        once = tile_seconds(self.network, pixels, self.device, mode, self.precision)
        runs = self.cut.runs + self.gathered
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
    return _fewest_that_fit(network, picture, device, precision, overlap_px)


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
    gathered = _gathered(graph, made, tiling, device)
    if tile_px is not None:
        return _planned(network, device, precision, made, "The tile was asked for.", tile_px, gathered)
    if graph.static:
        return _planned(network, device, precision, made, "The bundle takes this size only.", gathered=gathered)
    as_it_runs = _planned(network, device, precision, made, "What 'edgeir run' takes by itself.", gathered=gathered)
    if as_it_runs.fits and made.tiles == 1:
        return as_it_runs
    others = list(_squares(network, device, precision, graph, picture, overlap_px, tiling))
    best = _best([*([as_it_runs] if as_it_runs.fits else []), *others])
    return best or as_it_runs


def _gathered(graph: GraphInput, made: Cut, tiling: Tiling | None, device: Device) -> int:
    """Runs before the picture's where its tiles share statistics: on a processor they do, engines never."""
    shared = tiling is not None and tiling.shared_statistics and device.architecture == "cpu"
    return gathering_runs(graph, made) if shared else 0


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
    reason = "The largest tile that fits at little repeated work."
    for side, _ in square_tiles(max(graph.minimum), min(graph.maximum), step):
        if overlap_px is not None and overlap_px >= side:
            return
        made = cut(graph, picture, tile_px=side, overlap_px=overlap_px, tiling=tiling)
        gathered = _gathered(graph, made, tiling, device)
        plan = _planned(network, device, precision, made, reason, side, gathered)
        if plan.fits:
            yield plan


def _fewest_that_fit(
    network: Network, picture: tuple[int, int], device: Device, precision: str, overlap_px: int | None
) -> SizePlan:
    """The grid of the fewest even tiles that fit, of several the one that repeats least.

    More columns never make a larger tile, so that for each number of rows the first number of columns that fits is
    found by halving.
    """

    def planned(rows: int, columns: int) -> SizePlan:
        made = even_cut(picture, network.rule, network.scale, (rows, columns), overlap_px=overlap_px)
        whole = made.tiles == 1
        reason = "The whole picture fits." if whole else "The fewest even tiles that fit the memory."
        return _planned(network, device, precision, made, reason)

    best = None
    smallest = planned(1, 1)
    # Tiles are larger than what they share: an overlap as large as the picture leaves the whole alone.
    most = 1 if overlap_px is not None and overlap_px >= min(smallest.cut.padded) else _MOST_TILES
    for rows in range(1, _MOST_TILES + 1):
        if rows > most:
            break
        last = planned(rows, most // rows)
        if last.cut.tile_pixels < smallest.cut.tile_pixels:
            smallest = last
        if last.fits:
            first = bisect_left(range(1, most // rows), True, key=lambda columns: planned(rows, columns).fits) + 1
            found = planned(rows, first)
            best = found if best is None else min(best, found, key=_tiles_and_work)
            most = best.cut.tiles
    if best is not None:
        return best
    needed = smallest.memory.total if device.shared else smallest.memory.engine
    raise UsageError(
        f"no tile of {network.name} fits {device.title}",
        where="--for",
        expected=f"at most {usable_bytes(device) / 1e9:.2f} GB",
        got=f"{needed / 1e9:.2f} GB with tiles of {smallest.cut.tile[1]}x{smallest.cut.tile[0]} pixels",
        fix="The pictures alone may be too large for the memory: cut them first, or take a larger device.",
    )


def _tiles_and_work(plan: SizePlan) -> tuple[int, int]:
    return plan.cut.tiles, plan.cut.tiles * plan.cut.tile_pixels


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
    network: Network,
    device: Device,
    precision: str,
    made: Cut,
    reason: str,
    tile_option: int | None = None,
    gathered: int = 0,
) -> SizePlan:
    memory = memory_of(network, made.batch * made.tile_pixels, made.padded_pixels, device, precision)
    return SizePlan(network, device, precision, made, memory, fits(memory, device), reason, tile_option, gathered)


def _require_precision(device: Device, precision: str) -> None:
    if precision == "fp8" and not device.fp8:
        raise UsageError(
            f"{device.title} has no FP8",
            where="--precision",
            expected="fp32, fp16 or int8",
            got="fp8",
            fix="FP8 needs compute capability 8.9 or later.",
        )
