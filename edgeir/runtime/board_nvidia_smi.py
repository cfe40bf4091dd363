"""What ``nvidia-smi --query-gpu`` prints, as values: for devices that are looked at before anything is installed there.

On this machine NVML is asked instead (`edgeir.runtime.power_nvml`).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GpuReading:
    """One GPU at one moment; ``None`` where it does not say, which on Jetsons is nearly everything.

    Attributes:
        name: its model (``"NVIDIA GeForce RTX 4090"``, ``"Orin (nvgpu)"``).
        driver: version of NVIDIA's driver.
        memory_mib: its memory.
        temperature_c: of the chip, degrees Celsius.
        watts: power now.
        sm_mhz: clock of the multiprocessors.
    """

    name: str
    driver: str | None
    memory_mib: int | None
    temperature_c: int | None
    watts: float | None
    sm_mhz: int | None


def parse_nvidia_smi(text: str) -> tuple[GpuReading, ...]:
    """What the query ``name,driver_version,memory.total,temperature.gpu,power.draw,clocks.sm`` printed.

    Lines that are something else, an error message for example, are left out.

    Args:
        text: its output with ``--format=csv,noheader,nounits``.
    """
    found = []
    for line in text.splitlines():
        parts = [part.strip() for part in line.split(",")]
        if len(parts) < 6:
            continue
        name = ", ".join(parts[:-5])  # the only field that may hold a comma
        driver, memory, temperature, watts, clock = parts[-5:]
        found.append(
            GpuReading(
                name,
                driver if driver[:1].isdigit() else None,
                _whole(memory),
                _whole(temperature),
                _number(watts),
                _whole(clock),
            )
        )
    return tuple(found)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:  # [N/A], [Not Supported], [Unknown Error]
        return None


def _whole(text: str) -> int | None:
    value = _number(text)
    return None if value is None else int(value)
