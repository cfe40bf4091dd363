"""Power meters: what a machine says about the power it takes while something runs on it.

One small protocol and one table of sources. No meter measures the same thing as another: rails of a Jetson module, a
whole graphics card, the package of a processor. Compare figures of one meter on one machine, and say which it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edgeir.runtime.board_sysfs import ROOT
from edgeir.runtime.power_nvml import NvmlMeter, find_nvml
from edgeir.runtime.power_rails import find_rails
from edgeir.runtime.power_rapl import find_rapl
from edgeir.runtime.power_tegrastats_meter import find_tegrastats


class PowerMeter(Protocol):
    """A source of power readings. One reader at a time."""

    @property
    def name(self) -> str:
        """What is read, and which rails make up the total, for reports: ``"power rails (total: VDD_IN)"``."""
        ...

    @property
    def period_s(self) -> float:
        """Reading more often than this gives the same value again; 0 where that is not known to happen."""
        ...

    def read_watts(self) -> dict[str, float]:
        """Power now in watts by rail, and ``"total"`` as the source defines it.

        Raises:
            MissingDependency: the source does not answer any more.
        """
        ...

    def read_joules(self) -> float | None:
        """Energy of the total since a moment that stays the same, in joules; ``None`` where the source counts none.

        Raises:
            MissingDependency: the source does not answer any more.
        """
        ...

    def close(self) -> None:
        """Give back what is held, a child process for example. The meter may be read again afterwards."""
        ...


@dataclass(frozen=True, slots=True)
class MeterSearch:
    """What was found: meters that answer, best first, and a sentence for each source that is there and does not."""

    meters: tuple[PowerMeter, ...]
    reasons: tuple[str, ...]

    @property
    def of_processors(self) -> tuple[PowerMeter, ...]:
        """Those that see what a processor takes: a graphics card's own meter does not."""
        return tuple(meter for meter in self.meters if not isinstance(meter, NvmlMeter))


def search_meters(root: Path = ROOT) -> MeterSearch:
    """Every meter that answers on this machine, and why others do not.

    Rails come first, then graphics cards, then the processor. tegrastats shows the same rails, ten times a second at
    best, so that it is asked only where they cannot be read. With another ``root`` than ``/``, files and programs below
    it count and NVML, which has no files, is not asked.
    """
    rails, reasons = find_rails(root)
    tegrastats, no_tegrastats = ((), ()) if rails else find_tegrastats(root)
    cards, no_cards = find_nvml() if root == ROOT else ((), ())
    processor, no_processor = find_rapl(root)
    return MeterSearch((*rails, *tegrastats, *cards, *processor), (*reasons, *no_tegrastats, *no_cards, *no_processor))
