"""The state of a machine: of boards composed from documented files, and of the one this runs on."""

from __future__ import annotations

import getpass
import json
import os
import platform
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from edgeir.runtime.board import board_state
from edgeir.runtime.board_cpu import cgroup_cpus, clocks_pinned, cpu_clocks, cpu_time, gpu_clock
from edgeir.runtime.board_jetson import JETPACK_OF_L4T, driver_version, parse_l4t, parse_power_mode, power_mode
from edgeir.runtime.board_sysfs import find_program, matching, read_number, read_text

Tree = Callable[[Mapping[str, object]], Path]
SAMPLES = Path(__file__).parent / "samples"


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """Writes files by their path below a root and gives the root."""

    def write(files: Mapping[str, object]) -> Path:
        for name, value in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{value}\n", encoding="utf-8")
        return tmp_path

    return write


def policy(number: int, now_khz: int, low_khz: int, high_khz: int, governor: str = "schedutil") -> dict[str, object]:
    at = f"sys/devices/system/cpu/cpufreq/policy{number}"
    names = {"governor": governor, "cur_freq": now_khz, "min_freq": low_khz, "max_freq": high_khz}
    return {f"{at}/scaling_{name}": value for name, value in names.items()}


def devfreq(name: str, now: int, low: int, high: int) -> dict[str, object]:
    names = {"governor": "nvhost_podgov", "cur_freq": now, "min_freq": low, "max_freq": high}
    return {f"sys/class/devfreq/{name}/{key}": value for key, value in names.items()}


def samples_of(name: str) -> list[tuple[str, str]]:
    lines = (SAMPLES / name).read_text(encoding="utf-8").splitlines()
    pairs = [line.split(" | ", 1) for line in lines if " | " in line]
    return [(expected, text) for expected, text in pairs]


# An Orin NX with JetPack 6.2.1 in MAXN_SUPER: release, model, mode and clocks as a user published them together
# (clocks from `jetson_clocks --show`); thermal zones, cooling devices and the rest composed from the documented files.
ORIN_NX: dict[str, object] = {
    "etc/nv_tegra_release": "# R36 (release), REVISION: 4.4, GCID: 41062509, BOARD: generic, EABI: aarch64, "
    "DATE: Mon Jun 16 16:07:13 UTC 2025\n# KERNEL_VARIANT: oot\nTARGET_USERSPACE_LIB_DIR=nvidia",
    "proc/device-tree/model": "NVIDIA Jetson Orin NX Engineering Reference Developer Kit\0",
    "proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  540.4.0  Release Build",
    **policy(0, 1510400, 729600, 1510400),
    **policy(4, 883200, 729600, 1510400),
    **devfreq("17000000.gpu", 306000000, 306000000, 624750000),
    "sys/class/devfreq/15340000.vic/cur_freq": 115200000,
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal",
    "sys/class/thermal/thermal_zone0/temp": 45843,
    "sys/class/thermal/thermal_zone1/type": "gpu-thermal",
    "sys/class/thermal/thermal_zone1/temp": -256000,  # switched off
    "sys/class/thermal/thermal_zone2/type": "cv0-thermal",  # no file temp: reading it fails
    "sys/class/thermal/thermal_zone10/type": "cpu-thermal",
    "sys/class/thermal/thermal_zone10/temp": 41156,
    "sys/class/thermal/cooling_device0/type": "pwm-fan",
    "sys/class/thermal/cooling_device0/cur_state": 2,
    "sys/class/thermal/cooling_device1/type": "gpu-throttle-alert",
    "sys/class/thermal/cooling_device1/cur_state": 0,
    "sys/devices/platform/soctherm-oc-event/hwmon/hwmon2/oc1_event_cnt": 0,
    "sys/devices/platform/soctherm-oc-event/hwmon/hwmon2/oc3_event_cnt": 7,
    "proc/loadavg": "0.52 0.31 0.18 2/512 4711",
    "proc/meminfo": "MemTotal:       16031892 kB\nMemFree:         9000000 kB\nMemAvailable:   12004004 kB",
    "proc/stat": "cpu  1000 200 300 90000 50 20 30 0 0 0\ncpu0 500 100 150 45000 25 10 15 0 0 0",
    "proc/self/cgroup": "0::/user.slice/user-1000.slice",
}


def test_an_orin_nx(tree: Tree) -> None:
    root = tree(ORIN_NX)
    state = board_state(root)
    found = state.to_dict()
    ours = {name: found.pop(name) for name in ("cpus", "cpus_allowed")}  # of this machine, whatever the root
    assert ours["cpus"] == os.cpu_count()
    ends = {"min_mhz": 729.6, "max_mhz": 1510.4}
    assert found == {
        "model": "NVIDIA Jetson Orin NX Engineering Reference Developer Kit",
        "l4t": "36.4.4",
        "jetpack": "6.2.1",
        "power_mode": None,
        "clocks_pinned": False,
        "cpu_clocks": [
            {"name": "policy0", "governor": "schedutil", "mhz": 1510.4, **ends},
            {"name": "policy4", "governor": "schedutil", "mhz": 883.2, **ends},
        ],
        "gpu_clock": {
            "name": "17000000.gpu",
            "governor": "nvhost_podgov",
            "mhz": 306.0,
            "min_mhz": 306.0,
            "max_mhz": 624.75,
        },
        "gpus": None,
        "driver": "540.4.0",
        "temperatures_c": {"cpu-thermal": 45.843},
        "throttling_now": {"gpu-throttle-alert": 0},
        "throttling_events": {"oc1_event_cnt": 0, "oc3_event_cnt": 7},
        "load_average": [0.52, 0.31, 0.18],
        "cgroup_cpus": None,
        "memory_bytes": 16031892 * 1024,
        "memory_available_bytes": 12004004 * 1024,
    }
    assert json.loads(json.dumps(found)) == found
    assert state.cpu_time is not None
    assert state.cpu_time.busy_s == pytest.approx(15.5)  # 1000 + 200 + 300 + 20 + 30 ticks


@pytest.mark.skipif(sys.platform == "win32", reason="nvpmodel is played by a shell script")
def test_the_power_mode_is_asked_for(tree: Tree) -> None:
    root = tree({"usr/sbin/nvpmodel": "#!/bin/sh\n[ \"$*\" = -q ] || exit 9\necho 'NV Power Mode: MAXN_SUPER'\necho 2"})
    assert power_mode(root) is None  # it is no program yet
    (root / "usr/sbin/nvpmodel").chmod(0o755)
    assert power_mode(root) == "MAXN_SUPER"
    assert board_state(root).power_mode == "MAXN_SUPER"


@pytest.mark.skipif(sys.platform == "win32", reason="nvpmodel is played by a shell script")
def test_a_power_mode_that_never_comes(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeir.runtime.board_jetson._ANSWERS_WITHIN_S", 0.2)
    root = tree({"usr/sbin/nvpmodel": "#!/bin/sh\nexec sleep 60"})
    (root / "usr/sbin/nvpmodel").chmod(0o755)
    assert power_mode(root) is None
    (root / "usr/sbin/nvpmodel").write_text("#!/no/such/shell\n", encoding="utf-8")
    assert power_mode(root) is None


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("NV Power Mode: MAXN\n0\n", "MAXN"),  # AGX Orin, R39.2.0
        ("NVPM WARN: fan mode is not set!\nNV Power Mode: MODE_15W\n2\n", "MODE_15W"),  # AGX Xavier
        ("NV Power Mode: 25W\n1\n", "25W"),  # Orin Nano Super
        ("NVPM ERROR: Error opening /var/lib/nvpmodel/status: 13\nNVPM ERROR: failed to query power mode!\n", None),
        ("", None),
    ],
)
def test_power_modes(text: str, mode: str | None) -> None:
    assert parse_power_mode(text) == mode


@pytest.mark.parametrize(("release", "text"), samples_of("nv_tegra_release.txt"))
def test_l4t_releases(release: str, text: str) -> None:
    assert parse_l4t(text) == release


@pytest.mark.parametrize(
    ("release", "jetpack"),
    [("36.3.0", "6.0"), ("36.4.0", "6.1"), ("36.4.3", "6.2"), ("38.4.0", "7.1"), ("39.2.1", "7.2.1")],
)
def test_jetpacks_that_are_established(tree: Tree, release: str, jetpack: str) -> None:
    major, _, revision = release.partition(".")
    root = tree({"etc/nv_tegra_release": f"# R{major} (release), REVISION: {revision}, GCID: 1, BOARD: generic"})
    assert (board_state(root).l4t, board_state(root).jetpack) == (release, jetpack)


@pytest.mark.parametrize("release", ["36.4.7", "39.9.0", "32.7.1"])
def test_other_releases_are_not_guessed_at(tree: Tree, release: str) -> None:
    major, _, revision = release.partition(".")
    state = board_state(tree({"etc/nv_tegra_release": f"# R{major} (release), REVISION: {revision}, GCID: 1"}))
    assert (state.l4t, state.jetpack) == (release, None)


def test_the_table_is_in_order_and_in_its_families() -> None:
    families = {"35": "5", "36": "6", "38": "7", "39": "7"}
    for release, jetpack in JETPACK_OF_L4T.items():
        assert jetpack.split(".")[0] == families[release.split(".")[0]]
    releases = [tuple(map(int, release.split("."))) for release in JETPACK_OF_L4T]
    jetpacks = [tuple(map(int, jetpack.split("."))) for jetpack in JETPACK_OF_L4T.values()]
    assert releases == sorted(releases)
    assert jetpacks == sorted(jetpacks)


@pytest.mark.parametrize("text", ["", "Ubuntu 22.04", "# R36 (release)", "REVISION: 4.3"])
def test_other_words_are_no_release(text: str) -> None:
    assert parse_l4t(text) is None


@pytest.mark.parametrize(("version", "text"), samples_of("nvidia_version.txt"))
def test_driver_versions(tree: Tree, version: str, text: str) -> None:
    gcc = "GCC version:  gcc version 13.3.0 (Ubuntu 13.3.0-6ubuntu2~24.04.1)"
    assert driver_version(tree({"proc/driver/nvidia/version": f"{text}\n{gcc}"})) == version


def test_groups_of_processors_come_in_their_order(tree: Tree) -> None:
    root = tree({name: value for i in (10, 2, 0) for name, value in policy(i, 1000, 500, 2000).items()})
    assert [clock.name for clock in cpu_clocks(root)] == ["policy0", "policy2", "policy10"]


def test_pinned_clocks(tree: Tree) -> None:
    """After jetson_clocks on an AGX Orin with R39.2.0 (published): MinFreq=MaxFreq=2201600 for every processor."""
    root = tree({**policy(0, 2201600, 2201600, 2201600), **devfreq("17000000.gpu", 10**9, 10**9, 10**9)})
    assert board_state(root).clocks_pinned is True
    tree(policy(4, 729600, 729600, 2201600))
    assert board_state(root).clocks_pinned is False
    (root / "sys/devices/system/cpu/cpufreq/policy4/scaling_min_freq").unlink()
    assert board_state(root).clocks_pinned is None
    assert clocks_pinned(()) is None


def test_a_thor_counts_its_multiprocessors(tree: Tree) -> None:
    root = tree({**devfreq("gpu-nvd-0", 1, 1, 1), **devfreq("gpu-gpc-0", 1575000000, 0, 1575000000)})
    clock = gpu_clock(root)
    assert clock is not None
    assert (clock.name, clock.mhz) == ("gpu-gpc-0", 1575)


@pytest.mark.parametrize(
    ("files", "cpus"),
    [
        # Version 2: a container sees its own group as the top, a service its whole path; the tightest limit counts.
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "150000 100000"}, 1.5),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "max 100000"}, None),
        (
            {
                "proc/self/cgroup": "0::/a.slice/b.service",
                "sys/fs/cgroup/a.slice/cpu.max": "200000 100000",
                "sys/fs/cgroup/a.slice/b.service/cpu.max": "max 100000",
            },
            2,
        ),
        # Version 1, its controllers alone or together; a path of the host that is not there inside a container.
        (
            {
                "proc/self/cgroup": "9:name=systemd:/\n4:memory:/x\n1:cpu:/",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": 50000,
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": 100000,
            },
            0.5,
        ),
        (
            {
                "proc/self/cgroup": "3:cpu,cpuacct:/docker/0123456789ab\n0::/",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": 300000,
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": 100000,
            },
            3,
        ),
        (
            {
                "proc/self/cgroup": "1:cpu:/",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": -1,
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": 100000,
            },
            None,
        ),
        ({"proc/self/cgroup": "nonsense", "sys/fs/cgroup/cpu.max": "1"}, None),
        ({}, None),
    ],
)
def test_limits_of_control_groups(tree: Tree, tmp_path: Path, files: dict[str, object], cpus: float | None) -> None:
    tree(files)
    assert cgroup_cpus(tmp_path) == cpus


def test_throttling_of_an_x86_is_added_up(tree: Tree) -> None:
    at = "sys/devices/system/cpu"
    root = tree({f"{at}/cpu{i}/thermal_throttle/core_throttle_count": i for i in range(4)})
    assert board_state(root).throttling_events == {"core_throttle_count": 6}


def test_an_empty_machine_is_all_none(tmp_path: Path) -> None:
    found = board_state(tmp_path).to_dict()
    assert {name for name, value in found.items() if value is not None} <= {"cpus", "cpus_allowed"}
    assert cpu_time(tmp_path, 0.0) is None


def test_systems_without_affinity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows and macOS know no sched_getaffinity, Windows no getloadavg either."""
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.delattr(os, "getloadavg", raising=False)
    monkeypatch.setattr("edgeir.runtime.board_cpu.ROOT", tmp_path)  # a machine without /proc
    state = board_state(tmp_path)
    assert (state.cpus_allowed, state.load_average) == (None, None)


def test_this_machine() -> None:
    state = board_state()
    assert state.cpus is not None
    assert state.cpus >= 1
    if sys.platform == "linux":
        assert state.cpus_allowed is not None
        assert 1 <= state.cpus_allowed <= state.cpus
        assert state.memory_bytes is not None
        assert state.memory_available_bytes is not None
        assert state.memory_bytes > 2**28
        assert 0 < state.memory_available_bytes <= state.memory_bytes
        assert state.load_average is not None
        assert state.cpu_time is not None
        assert state.cpu_time.own_s > 0
    text = json.dumps(state.to_dict())
    assert str(Path.home()) not in text
    assert "/" not in text.replace("\\/", "")
    for private in (platform.node(), getpass.getuser()):
        assert len(private) < 5 or private not in text  # "root" and the like may be part of a word


def test_small_files(tmp_path: Path) -> None:
    assert read_text(tmp_path) is None  # a folder
    assert read_text(tmp_path / "none") is None
    (tmp_path / "f").write_bytes(b" \0\n")
    assert read_text(tmp_path / "f") is None
    (tmp_path / "f").write_bytes(b"12 mW\n")
    assert (read_text(tmp_path / "f"), read_number(tmp_path / "f")) == ("12 mW", None)
    (tmp_path / "f").write_bytes(b"\xff\n")
    assert read_number(tmp_path / "f") is None
    assert list(matching(tmp_path / "none", "*")) == []


def test_a_program_of_another_root_is_not_looked_for_on_the_path(tmp_path: Path) -> None:
    name = "sh" if sys.platform != "win32" else "cmd"
    assert find_program(Path("/"), name) is not None
    assert find_program(tmp_path, name) is None
