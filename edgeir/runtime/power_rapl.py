"""Energy of an x86 processor from its RAPL counters: /sys/class/powercap/intel-rapl:*, Intel's and AMD's alike.

https://docs.kernel.org/power/powercap/powercap.html. Since CVE-2020-8694 most systems let only root read the counters.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from edgeir.errors import MissingDependency
from edgeir.runtime.board_sysfs import ROOT, matching, read_number, read_text

_WATTS_OVER_S = 0.02  # the counters move every millisecond, which leaves 5 % of a reading uncertain
# A package holds its cores and its graphics; memory beside it counts apart; psys holds everything once more.
_SUMMED = ("package", "dram")


@dataclass(slots=True)
class WrappingCounter:
    """Energy in joules out of a counter that starts again from zero after ``range_uj`` microjoules.

    It must be read at least once per turn: at 200 W a range of 262,144 J lasts 22 minutes.
    """

    range_uj: int
    last_uj: int
    joules: float = 0.0

    def advance(self, reading_uj: int) -> float:
        """Joules since the first reading."""
        moved = reading_uj - self.last_uj
        self.joules += (moved if moved >= 0 else moved + self.range_uj) * 1e-6
        self.last_uj = reading_uj
        return self.joules


class RaplMeter:
    """Reads RAPL domains; the total is that of every package and of memory where it counts apart.

    One reader at a time: the turns of the counters are kept between calls.
    """

    period_s = 0.001

    def __init__(self, zones: dict[str, Path], counters: dict[str, WrappingCounter]) -> None:
        self._zones = zones
        self._counters = counters
        self.name = f"RAPL (total: {' + '.join(name for name in zones if name.startswith(_SUMMED))})"

    def read_joules(self) -> float:
        """Energy of the total since the meter was found, in joules.

        Raises:
            MissingDependency: a counter can no longer be read.
        """
        return sum(joules for name, joules in self._advance().items() if name.startswith(_SUMMED))

    def read_watts(self) -> dict[str, float]:
        """Mean power of every domain, and of ``"total"``, in watts, over the 20 ms that this call takes.

        Raises:
            MissingDependency: a counter can no longer be read.
        """
        before, started = self._advance(), time.perf_counter()
        time.sleep(_WATTS_OVER_S)
        after, seconds = self._advance(), time.perf_counter() - started
        watts = {name: (after[name] - before[name]) / seconds for name in after}
        return {**watts, "total": sum(power for name, power in watts.items() if name.startswith(_SUMMED))}

    def close(self) -> None:
        """Nothing is held."""

    def _advance(self) -> dict[str, float]:
        joules = {}
        for name, folder in self._zones.items():
            if (reading := read_number(folder / "energy_uj")) is None:
                raise MissingDependency("the RAPL counter cannot be read any more", where=name)
            joules[name] = self._counters[name].advance(reading)
        return joules


def find_rapl(root: Path = ROOT) -> tuple[tuple[RaplMeter, ...], tuple[str, ...]]:
    """The meter of this processor, if its counters can be read, and a sentence where they are there and cannot be."""
    zones: dict[str, Path] = {}
    counters: dict[str, WrappingCounter] = {}
    closed = []
    for folder in matching(root / "sys/class/powercap", "intel-rapl:*"):
        if (name := read_text(folder / "name")) is None:
            continue
        reading, whole = read_number(folder / "energy_uj"), read_number(folder / "max_energy_range_uj")
        # Two sockets have a "dram" each: their number keeps them apart.
        name = name if name.startswith("package") else f"{name}-{folder.name.partition(':')[2].split(':')[0]}"
        if reading is None or whole is None:
            closed.append(name)
        else:
            zones[name], counters[name] = folder, WrappingCounter(whole, reading)
    reasons = (
        (f"RAPL counters {', '.join(closed)}: there, but not readable; most systems let only root read them",)
        if closed
        else ()
    )
    worth = any(name.startswith("package") for name in zones)
    return ((RaplMeter(zones, counters),) if worth else ()), reasons
