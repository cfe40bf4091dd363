"""Which Jetson this is and what it is set to: model, L4T release, power mode, temperatures, throttling."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from edgeir.runtime.board_sysfs import ROOT, find_program, matching, read_number, read_text

# L4T release -> JetPack. https://developer.nvidia.com/embedded/jetpack-archive and the pages of each release; the list
# of jetson_stats agrees. A release that is not here is not guessed at: updates through apt come between JetPacks.
JETPACK_OF_L4T = {
    "35.1.0": "5.0.2",
    "35.2.1": "5.1",
    "35.3.1": "5.1.1",
    "35.4.1": "5.1.2",
    "35.5.0": "5.1.3",
    "35.6.0": "5.1.4",
    "36.3.0": "6.0",
    "36.4.0": "6.1",
    "36.4.3": "6.2",
    "36.4.4": "6.2.1",
    "36.5.0": "6.2.2",
    "38.2.0": "7.0",
    "38.2.1": "7.0",
    "38.2.2": "7.0",
    "38.4.0": "7.1",
    "39.2.0": "7.2",
    "39.2.1": "7.2.1",
}
_RELEASE = re.compile(r"R(\d+) \(release\), REVISION: (\d+(?:\.\d+)*)")
_POWER_MODE = re.compile(r"NV Power Mode: *(\S.*)")
_DRIVER = re.compile(r"^NVRM version:.*?\s(\d+\.\d+(?:\.\d+)?)\s", re.MULTILINE)
_ANSWERS_WITHIN_S = 5


def board_model(root: Path = ROOT) -> str | None:
    """Model in the device tree: ``"NVIDIA Jetson Orin NX Engineering Reference Developer Kit"``."""
    return read_text(root / "proc/device-tree/model")


def l4t_release(root: Path = ROOT) -> str | None:
    """Release of Jetson Linux: ``"36.4.3"``."""
    return parse_l4t(read_text(root / "etc/nv_tegra_release") or "")


def parse_l4t(text: str) -> str | None:
    """Release in the words of /etc/nv_tegra_release; ``None`` for other words.

    >>> parse_l4t("# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64")
    '36.4.3'
    """
    found = _RELEASE.search(text)
    return f"{found[1]}.{found[2]}" if found else None


def power_mode(root: Path = ROOT) -> str | None:
    """Name of the power mode that ``nvpmodel -q`` tells: ``"MAXN_SUPER"``; ``None`` where it does not."""
    program = find_program(root, "nvpmodel")
    if program is None:
        return None
    try:
        answer = subprocess.run(
            [program, "-q"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_ANSWERS_WITHIN_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return parse_power_mode(answer.stdout)


def parse_power_mode(text: str) -> str | None:
    r"""Name of the power mode in what ``nvpmodel -q`` prints.

    >>> parse_power_mode("NVPM WARN: fan mode is not set!\nNV Power Mode: MODE_15W\n2\n")
    'MODE_15W'
    """
    found = _POWER_MODE.search(text)
    return found[1].strip() if found else None


def driver_version(root: Path = ROOT) -> str | None:
    """Version of NVIDIA's kernel module: ``"580.95.05"``."""
    return parse_driver(read_text(root / "proc/driver/nvidia/version") or "")


def parse_driver(text: str) -> str | None:
    """Version in the words of /proc/driver/nvidia/version; ``None`` for other words."""
    found = _DRIVER.search(text)
    return found[1] if found else None


def temperatures(root: Path = ROOT) -> dict[str, float]:
    """Degrees Celsius by kind of thermal zone, the hottest of each kind, without sensors that are off."""
    found: dict[str, float] = {}
    for zone in matching(root / "sys/class/thermal", "thermal_zone*"):
        kind, millidegrees = read_text(zone / "type"), read_number(zone / "temp")
        # A GPU that is switched off reads -256 degrees, or fails to read at all.
        if kind is not None and millidegrees is not None and millidegrees > -100_000:
            found[kind] = max(millidegrees / 1000, found.get(kind, -273.15))
    return found


def throttling_now(root: Path = ROOT) -> dict[str, int]:
    """States of the cooling devices that stand for throttled clocks: 0 free, more: held back."""
    found: dict[str, int] = {}
    for device in matching(root / "sys/class/thermal", "cooling_device*"):
        kind, state = read_text(device / "type"), read_number(device / "cur_state")
        if kind is not None and state is not None and kind.endswith("-throttle-alert"):
            found[kind] = state
    return found


def throttling_events(root: Path = ROOT) -> dict[str, int]:
    """How often hardware has held clocks back since the start of the system.

    On Jetsons the over-current events (``oc1`` under-voltage, ``oc2`` mean and ``oc3`` momentary current); on x86 the
    thermal events of every package and core together.
    """
    found = {
        path.name: count
        for path in matching(root / "sys/devices/platform/soctherm-oc-event/hwmon", "hwmon*/oc*_event_cnt")
        if (count := read_number(path)) is not None
    }
    for name in ("package_throttle_count", "core_throttle_count"):
        counts = [
            read_number(path) for path in matching(root / "sys/devices/system/cpu", f"cpu*/thermal_throttle/{name}")
        ]
        known = [count for count in counts if count is not None]
        if known:
            found[name] = sum(known)
    return found
