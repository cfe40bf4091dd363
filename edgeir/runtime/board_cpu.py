"""Processors of this machine: clocks and governors, how many may be used, and what they have been doing.

Linux only; elsewhere everything is empty or ``None``.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from edgeir.runtime.board_sysfs import ROOT, matching, read_number, read_text

_GPU_NAMES = re.compile(r"gpu|ga10b|gv11b|gp10b|gm20b|gb10b")  # names of Tegra's GPUs in the device tree
_TICKS_PER_S = 100  # USER_HZ, part of Linux's interface on every architecture edgeir runs on


@dataclass(frozen=True, slots=True)
class Clock:
    """A clock and the range it may move in, in MHz; ``None`` where the system does not say.

    Attributes:
        name: the policy or device: ``"policy0"``, ``"17000000.gpu"``.
        governor: what chooses the clock (``"schedutil"``, ``"performance"``).
        mhz: the clock now.
        min_mhz: lower end of what the governor may choose.
        max_mhz: upper end; a power mode or a thermal limit lowers it.
    """

    name: str
    governor: str | None
    mhz: float | None
    min_mhz: float | None
    max_mhz: float | None


@dataclass(frozen=True, slots=True)
class CpuTime:
    """CPU seconds until a moment: their difference between two moments is work done between them.

    Attributes:
        at_s: the moment, on a clock that never goes back.
        busy_s: of all processors together, by everybody.
        own_s: of this process, with children that have ended and were waited for.
    """

    at_s: float
    busy_s: float
    own_s: float


def cpu_clocks(root: Path = ROOT) -> tuple[Clock, ...]:
    """The clock of every cpufreq policy (a group of processors with one clock)."""
    return tuple(
        Clock(
            folder.name,
            read_text(folder / "scaling_governor"),
            *(_mhz(folder / f"scaling_{end}_freq", 1e-3) for end in ("cur", "min", "max")),
        )
        for folder in matching(root / "sys/devices/system/cpu/cpufreq", "policy*")
    )


def gpu_clock(root: Path = ROOT) -> Clock | None:
    """The clock of a Tegra's GPU by devfreq, ``None`` where there is none.

    A Thor has two, ``gpu-gpc-0`` for its multiprocessors and ``gpu-nvd-0`` for video: the first counts.
    """
    folders = [folder for folder in matching(root / "sys/class/devfreq", "*") if _GPU_NAMES.search(folder.name)]
    folder = next((found for found in folders if "gpc" in found.name), folders[0] if folders else None)
    if folder is None:
        return None
    ends = (_mhz(folder / f"{end}_freq", 1e-6) for end in ("cur", "min", "max"))
    return Clock(folder.name, read_text(folder / "governor"), *ends)


def clocks_pinned(clocks: tuple[Clock, ...]) -> bool | None:
    """Whether every clock is left one value to take, as ``jetson_clocks`` leaves it; ``None`` where ranges are unknown.

    ``jetson_clocks --show`` itself is for root only.
    """
    ranges = [(clock.min_mhz, clock.max_mhz) for clock in clocks]
    if not ranges or any(None in ends for ends in ranges):
        return None
    return all(low == high for low, high in ranges)


def allowed_cpus() -> int | None:
    """Processors this process may run on, ``None`` where the system has no such thing."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


def cgroup_cpus(root: Path = ROOT) -> float | None:
    """Processors' worth of time that the control groups around this process allow; ``None`` without a limit.

    The tightest limit from its own group up to the top; version 1 and 2.
    """
    limits = []
    for line in (read_text(root / "proc/self/cgroup") or "").splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if not controllers:
            limits += [_limit_v2(folder) for folder in _upwards(root / "sys/fs/cgroup", path)]
        elif "cpu" in controllers.split(","):
            for mount in {"cpu", controllers}:
                limits += [_limit_v1(folder) for folder in _upwards(root / "sys/fs/cgroup" / mount, path)]
    return min((limit for limit in limits if limit is not None), default=None)


def load_average(root: Path = ROOT) -> tuple[float, float, float] | None:
    """Mean number of running or waiting tasks over 1, 5 and 15 minutes."""
    parts = (read_text(root / "proc/loadavg") or "").split()[:3]
    try:
        one, five, fifteen = (float(part) for part in parts)
    except ValueError:
        return os.getloadavg() if root == ROOT and hasattr(os, "getloadavg") else None
    return one, five, fifteen


def cpu_time(root: Path, now_s: float) -> CpuTime | None:
    """CPU seconds of everybody and of this process; ``None`` where the system does not count everybody's.

    Args:
        root: below it lies ``proc/stat``.
        now_s: the moment, in seconds of ``time.monotonic``.
    """
    first = (read_text(root / "proc/stat") or "").partition("\n")[0].split()
    try:
        user, nice, system, _idle, _waiting, interrupt, soft = (int(ticks) for ticks in first[1:8])
    except ValueError:
        return None
    own = os.times()
    return CpuTime(
        now_s,
        (user + nice + system + interrupt + soft) / _TICKS_PER_S,
        own.user + own.system + own.children_user + own.children_system,
    )


def _mhz(path: Path, factor: float) -> float | None:
    value = read_number(path)
    return None if value is None else value * factor


def _upwards(mount: Path, path: str) -> list[Path]:
    """The folder of a group and of all around it; inside a container only the mount itself may be visible."""
    inside = PurePosixPath(path).relative_to("/") if path.startswith("/") else PurePosixPath()
    return [mount / folder for folder in (inside, *inside.parents)]


def _limit_v2(folder: Path) -> float | None:
    quota, _, period = (read_text(folder / "cpu.max") or "").partition(" ")
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() and int(period) else None


def _limit_v1(folder: Path) -> float | None:
    quota, period = read_number(folder / "cpu.cfs_quota_us"), read_number(folder / "cpu.cfs_period_us")
    return quota / period if quota is not None and quota > 0 and period else None
