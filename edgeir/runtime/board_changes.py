"""What happened to a machine between two looks at it, in sentences with numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from edgeir.runtime.board import BoardState
from edgeir.runtime.board_cpu import Clock

SLOWER = 0.05  # a twentieth of the clock is about a twentieth of the speed, more than rounds scatter
WARMER_C = 10.0
LESS_MEMORY = 0.25
OTHERS_CPUS = 0.25  # a quarter of a processor, more than the services of an idle system take
# Field -> what it is called, and what its absence is called.
_SETTINGS = {
    "power_mode": ("power mode", "unknown"),
    "clocks_pinned": ("clocks pinned", "unknown"),
    "l4t": ("L4T release", "unknown"),
    "driver": ("NVIDIA's driver", "none"),
    "cpus_allowed": ("processors allowed", "unknown"),
    "cgroup_cpus": ("processors that control groups allow", "no limit"),
}


def differences(before: BoardState, after: BoardState) -> tuple[str, ...]:
    """What changed so that a measurement between the two states may not be what it seems; empty: nothing that shows.

    Clocks that fell by more than 5 %, their upper limits likewise, temperatures that rose by more than 10 degrees,
    throttling, settings, memory, and processor time that other programs took. A clock that rose is no news: a governor
    raises it for work.
    """
    return (
        *_settings(before, after),
        *_slower(before, after),
        *_warmer(before.temperatures_c, after.temperatures_c),
        *_throttled(before, after),
        *_cards(before, after),
        *_less_memory(before, after),
        *_others(before, after),
    )


def _settings(before: BoardState, after: BoardState) -> Iterator[str]:
    for name, (words, absent) in _SETTINGS.items():
        was, now = (getattr(state, name) for state in (before, after))
        if was != now:
            yield f"{words}: changed from {_shown(was, absent)} to {_shown(now, absent)}"
    governors = {clock.name: clock.governor for clock in before.cpu_clocks}
    changed = [clock for clock in after.cpu_clocks if governors.get(clock.name, clock.governor) != clock.governor]
    if changed:
        first = changed[0]
        yield (
            f"CPU governor: changed from {_shown(governors[first.name])} to {_shown(first.governor)} in "
            f"{len(changed)} of {len(after.cpu_clocks)} groups"
        )


def _slower(before: BoardState, after: BoardState) -> Iterator[str]:
    gpus = [tuple(clock for clock in (state.gpu_clock,) if clock) for state in (before, after)]
    for words, was, now in (("CPU", before.cpu_clocks, after.cpu_clocks), ("GPU", gpus[0], gpus[1])):
        for kind, value in (("clock", "mhz"), ("clock limit", "max_mhz")):
            yield from _fallen(f"{words} {kind}", _by_name(was, value), _by_name(now, value), "MHz")


def _warmer(before: Mapping[str, float], after: Mapping[str, float]) -> Iterator[str]:
    rises = {zone: after[zone] - before[zone] for zone in before if zone in after}
    risen = {zone: rise for zone, rise in rises.items() if rise > WARMER_C}
    if risen:
        most = max(risen, key=lambda zone: risen[zone])
        yield (
            f"temperature: {most} rose from {before[most]:.1f} to {after[most]:.1f} °C"
            f"{_and_more(len(risen), len(rises), 'sensors')}"
        )


def _throttled(before: BoardState, after: BoardState) -> Iterator[str]:
    for name, state in after.throttling_now.items():
        if state > 0 and state > before.throttling_now.get(name, 0):
            yield f"throttling: {name} went from {before.throttling_now.get(name, 0)} to {state}"
    for name, count in after.throttling_events.items():
        if name in before.throttling_events and count > before.throttling_events[name]:
            yield f"throttling: {name} rose by {count - before.throttling_events[name]} to {count}"


def _cards(before: BoardState, after: BoardState) -> Iterator[str]:
    for index, (was, now) in enumerate(zip(before.gpus, after.gpus, strict=False)):
        at = f"GPU {index}"
        for words, name, unit in (("clock", "sm_mhz", "MHz"), ("memory clock", "memory_mhz", "MHz")):
            yield from _fallen(f"{at} {words}", {at: getattr(was, name)}, {at: getattr(now, name)}, unit)
        if was.temperature_c is not None and now.temperature_c is not None:
            yield from _warmer({at: was.temperature_c}, {at: now.temperature_c})
        if was.limit_watts != now.limit_watts:
            yield f"{at} power limit: changed from {_shown(was.limit_watts)} to {_shown(now.limit_watts)} W"
        new = [
            word for word in now.throttle_reasons or () if word not in (was.throttle_reasons or ()) and word != "idle"
        ]
        if new:
            yield f"{at}: its clocks are now held back by {', '.join(new)}"
    if len(before.gpus) != len(after.gpus):
        yield f"GPUs: {len(before.gpus)} before, {len(after.gpus)} after"


def _less_memory(before: BoardState, after: BoardState) -> Iterator[str]:
    was, now = before.memory_available_bytes, after.memory_available_bytes
    if was and now is not None and now < was * (1 - LESS_MEMORY):
        yield f"memory available: fell from {was / 2**30:.1f} to {now / 2**30:.1f} GiB"


def _others(before: BoardState, after: BoardState) -> Iterator[str]:
    """Processor time that was taken and not by this process; children of it that still run count as others."""
    was, now = before.cpu_time, after.cpu_time
    if was is None or now is None or now.at_s <= was.at_s:
        return
    seconds, own = now.at_s - was.at_s, now.own_s - was.own_s
    others = (now.busy_s - was.busy_s - own) / seconds
    if others > OTHERS_CPUS:
        yield (
            f"other load: other programs took {others:.2f} processors on average over {seconds:.1f} s, "
            f"this one {own / seconds:.2f}"
        )


def _fallen(
    words: str, before: Mapping[str, float | None], after: Mapping[str, float | None], unit: str
) -> Iterator[str]:
    shares: dict[str, float] = {}
    for name, was in before.items():
        now = after.get(name)
        if was and now is not None:
            shares[name] = now / was
    fallen = {name: share for name, share in shares.items() if share < 1 - SLOWER}
    if fallen:
        most = min(fallen, key=lambda name: fallen[name])
        at = "" if len(shares) == 1 else f"{most} "
        yield (
            f"{words}: {at}fell from {before[most]:.0f} to {after[most]:.0f} {unit} ({fallen[most] - 1:+.0%})"
            f"{_and_more(len(fallen), len(shares), 'groups')}"
        )


def _by_name(clocks: tuple[Clock, ...], value: str) -> dict[str, float | None]:
    return {clock.name: getattr(clock, value) for clock in clocks}


def _and_more(count: int, of: int, words: str) -> str:
    return f", the most of {count} of {of} {words}" if count > 1 else ""


def _shown(value: object, absent: str = "unknown") -> str:
    return absent if value is None else str(value)
