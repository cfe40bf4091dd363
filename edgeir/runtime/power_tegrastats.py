"""What ``tegrastats`` of a Jetson prints, as values.

One line per interval. NVIDIA's developer guide describes the format ("Tegrastats Utility") and promises nothing; this
reads what boards print, from JetPack 4 (``POM_5V_IN 900/943``) to JetPack 7.2 (``VDD_GPU 37939mW/8660mW/37939mW``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_RAM = re.compile(r"\bRAM (\d+)/(\d+)MB")
_SWAP = re.compile(r"\bSWAP (\d+)/(\d+)MB")
_CPUS = re.compile(r"\bCPU \[([^\]]*)\](?:@(\d+))?")
_CPU = re.compile(r"(\d+)%(?:@(\d+))?")
_EMC = re.compile(r"\bEMC_FREQ (?:(\d+)%)?(?:@(\d+))?")
_GPU = re.compile(r"\bGR3D_FREQ (?:(\d+)%)?(?:@\[?([\d,]+)\]?)?")
_TEMPERATURE = re.compile(r"\b([A-Za-z]\w*)@(-?\d+(?:\.\d+)?)C\b")
_RAIL = re.compile(r"\b([A-Z][A-Z0-9_]*) (-?\d+)(?:mW)?/(-?\d+)(?:mW)?(?=[/\s]|$)")
_SWITCHED_OFF_C = -100.0  # a sensor without power reads -256 degrees


@dataclass(frozen=True, slots=True)
class CpuLoad:
    """One CPU: ``percent`` busy relative to its clock, the clock in MHz where the line has it."""

    percent: int
    mhz: int | None


@dataclass(frozen=True, slots=True)
class Tegrastats:
    """One line; what it does not say is ``None``, or missing from a mapping.

    Attributes:
        ram_used_mb: memory in use, the GPU's included, in MB as tegrastats counts them.
        ram_total_mb: memory there is.
        swap_used_mb: swap in use.
        swap_total_mb: swap there is.
        cpus: the CPUs in order, ``None`` for one that is off.
        emc_percent: use of the memory controller relative to its clock.
        emc_mhz: clock of the memory controller in MHz.
        gpu_percent: use of the GPU relative to its clock.
        gpu_mhz: clocks of the GPU's clusters in MHz.
        temperatures_c: degrees Celsius by sensor, in lower case as JetPack 6 has them, without those that are off.
        watts: power of each rail now, in watts.
        mean_watts: the same since tegrastats was started.
    """

    ram_used_mb: int
    ram_total_mb: int
    swap_used_mb: int | None
    swap_total_mb: int | None
    cpus: tuple[CpuLoad | None, ...]
    emc_percent: int | None
    emc_mhz: int | None
    gpu_percent: int | None
    gpu_mhz: tuple[int, ...]
    temperatures_c: Mapping[str, float]
    watts: Mapping[str, float]
    mean_watts: Mapping[str, float]


def parse_tegrastats(line: str) -> Tegrastats | None:
    """Values of one line; ``None`` for a line that is none of tegrastats's, a message for example."""
    ram = _RAM.search(line)
    if ram is None:
        return None
    swap, emc, gpu = _SWAP.search(line), _EMC.search(line), _GPU.search(line)
    rails = [match for match in _RAIL.finditer(line) if match[1] != "NC"]
    temperatures = {match[1].lower(): float(match[2]) for match in _TEMPERATURE.finditer(line)}
    return Tegrastats(
        ram_used_mb=int(ram[1]),
        ram_total_mb=int(ram[2]),
        swap_used_mb=int(swap[1]) if swap else None,
        swap_total_mb=int(swap[2]) if swap else None,
        cpus=_cpus(line),
        emc_percent=_number(emc, 1),
        emc_mhz=_number(emc, 2),
        gpu_percent=_number(gpu, 1),
        gpu_mhz=tuple(int(mhz) for mhz in gpu[2].split(",") if mhz) if gpu and gpu[2] else (),
        temperatures_c={name: degrees for name, degrees in temperatures.items() if degrees > _SWITCHED_OFF_C},
        watts={match[1]: int(match[2]) / 1000 for match in rails},
        mean_watts={match[1]: int(match[3]) / 1000 for match in rails},
    )


def _cpus(line: str) -> tuple[CpuLoad | None, ...]:
    found = _CPUS.search(line)
    if found is None:
        return ()
    loads = (_CPU.fullmatch(part.strip()) for part in found[1].split(","))
    together = int(found[2]) if found[2] else None  # one clock behind the bracket, for all
    return tuple(CpuLoad(int(load[1]), int(load[2]) if load[2] else together) if load else None for load in loads)


def _number(match: re.Match[str] | None, group: int) -> int | None:
    return int(match[group]) if match and match[group] else None
