"""The state of the machine at one moment: what a latency or an energy is worth nothing without.

Take it before and after a measurement; `edgeir.runtime.board_changes.differences` says what happened in between.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from edgeir.runtime.board_cpu import (
    Clock,
    CpuTime,
    allowed_cpus,
    cgroup_cpus,
    clocks_pinned,
    cpu_clocks,
    cpu_time,
    gpu_clock,
    load_average,
)
from edgeir.runtime.board_jetson import (
    JETPACK_OF_L4T,
    board_model,
    driver_version,
    l4t_release,
    power_mode,
    temperatures,
    throttling_events,
    throttling_now,
)
from edgeir.runtime.board_sysfs import ROOT, read_text
from edgeir.runtime.power_nvml import GpuState, nvml_gpus


@dataclass(frozen=True, slots=True)
class BoardState:
    """A machine at one moment. What it does not say is ``None``; a list or a mapping is empty then.

    Attributes:
        model: model of the board in its device tree.
        l4t: release of Jetson Linux (``"36.4.3"``).
        jetpack: the JetPack that brought it, only where that is established.
        power_mode: name of the nvpmodel mode.
        clocks_pinned: every clock has one value to take, as after ``jetson_clocks``.
        cpu_clocks: clocks of the processors, one per group of them.
        gpu_clock: clock of a Tegra's GPU.
        gpus: cards that NVML knows.
        driver: version of NVIDIA's kernel module.
        temperatures_c: degrees Celsius by kind of thermal zone.
        throttling_now: cooling states that stand for throttled clocks; 0 is free.
        throttling_events: how often hardware held clocks back since the system started.
        load_average: over 1, 5 and 15 minutes.
        cpus: processors of the machine.
        cpus_allowed: those this process may run on.
        cgroup_cpus: processors' worth of time that control groups allow; ``None``: no limit.
        memory_bytes: memory of the machine.
        memory_available_bytes: memory that could be had without swapping.
        cpu_time: work done until now, to compare two states with; not in `to_dict`.
    """

    model: str | None
    l4t: str | None
    jetpack: str | None
    power_mode: str | None
    clocks_pinned: bool | None
    cpu_clocks: tuple[Clock, ...]
    gpu_clock: Clock | None
    gpus: tuple[GpuState, ...]
    driver: str | None
    temperatures_c: Mapping[str, float]
    throttling_now: Mapping[str, int]
    throttling_events: Mapping[str, int]
    load_average: tuple[float, float, float] | None
    cpus: int | None
    cpus_allowed: int | None
    cgroup_cpus: float | None
    memory_bytes: int | None
    memory_available_bytes: int | None
    cpu_time: CpuTime | None = field(repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form; what is not known is ``None``. Nothing in it names the machine, its user or a path."""
        found = asdict(self)
        del found["cpu_time"]
        found["gpus"] = [gpu.to_dict() for gpu in self.gpus]
        found["cpu_clocks"] = [asdict(clock) for clock in self.cpu_clocks]
        found["load_average"] = list(self.load_average or ())
        return {name: None if value in ([], {}) else value for name, value in found.items()}


def board_state(root: Path = ROOT) -> BoardState:
    """Look at this machine; takes some milliseconds, and on a Jetson the time of ``nvpmodel -q``.

    With another ``root`` than ``/``, files and programs below it are taken for the machine's and NVML is not asked. The
    number of processors is always that of the machine this runs on.
    """
    l4t = l4t_release(root)
    clocks, gpu = cpu_clocks(root), gpu_clock(root)
    memory = _memory(root)
    return BoardState(
        model=board_model(root),
        l4t=l4t,
        jetpack=JETPACK_OF_L4T.get(l4t or ""),
        power_mode=power_mode(root),
        clocks_pinned=clocks_pinned((*clocks, gpu) if gpu else clocks),
        cpu_clocks=clocks,
        gpu_clock=gpu,
        gpus=tuple(card.state() for card in nvml_gpus()[0]) if root == ROOT else (),
        driver=driver_version(root),
        temperatures_c=temperatures(root),
        throttling_now=throttling_now(root),
        throttling_events=throttling_events(root),
        load_average=load_average(root),
        cpus=os.cpu_count(),
        cpus_allowed=allowed_cpus(),
        cgroup_cpus=cgroup_cpus(root),
        memory_bytes=memory.get("MemTotal"),
        memory_available_bytes=memory.get("MemAvailable"),
        cpu_time=cpu_time(root, time.monotonic()),
    )


def _memory(root: Path) -> dict[str, int]:
    found = {}
    for line in (read_text(root / "proc/meminfo") or "").splitlines():
        name, _, amount = line.partition(":")
        number, _, unit = amount.strip().partition(" ")
        if number.isdigit() and unit == "kB":
            found[name] = int(number) * 1024
    return found
