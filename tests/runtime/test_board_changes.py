"""Sentences on what happened to a machine between two looks, each with its numbers; a quiet machine has none."""

from __future__ import annotations

import dataclasses
import os
import sys
import time
from typing import Any

import pytest

from edgeir.runtime.board import BoardState, board_state
from edgeir.runtime.board_changes import differences
from edgeir.runtime.board_cpu import Clock, CpuTime
from edgeir.runtime.power_nvml import GpuState

CARD = GpuState("RTX", "580.95.05", 200.0, 450.0, 2520, 10501, 60, ("idle",))
STATE = BoardState(
    model="a board",
    l4t="36.4.4",
    jetpack="6.2.1",
    power_mode="MAXN",
    clocks_pinned=True,
    cpu_clocks=tuple(Clock(f"policy{i}", "schedutil", 2200.0, 700.0, 2200.0) for i in (0, 4, 8)),
    gpu_clock=Clock("17000000.gpu", "nvhost_podgov", 1000.0, 300.0, 1300.0),
    gpus=(CARD,),
    driver="540.4.0",
    temperatures_c={"cpu": 50.0, "gpu": 48.0},
    throttling_now={"gpu-throttle-alert": 0},
    throttling_events={"oc3_event_cnt": 7},
    load_average=(0.5, 0.3, 0.2),
    cpus=12,
    cpus_allowed=12,
    cgroup_cpus=None,
    memory_bytes=16 << 30,
    memory_available_bytes=12 << 30,
    cpu_time=CpuTime(100.0, 500.0, 20.0),
)


def after(**changed: Any) -> tuple[str, ...]:
    return differences(STATE, dataclasses.replace(STATE, **changed))


def clocks(*mhz: float, limit: float = 2200.0, governor: str = "schedutil") -> tuple[Clock, ...]:
    return tuple(Clock(f"policy{i}", governor, now, 700.0, limit) for i, now in zip((0, 4, 8), mhz, strict=True))


def test_nothing_happened() -> None:
    assert differences(STATE, STATE) == ()


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"cpu_clocks": clocks(2200, 1510, 2200)}, "CPU clock: policy4 fell from 2200 to 1510 MHz (-31%)"),
        (
            {"cpu_clocks": clocks(2000, 1510, 2200)},
            "CPU clock: policy4 fell from 2200 to 1510 MHz (-31%), the most of 2 of 3 groups",
        ),
        (
            {"cpu_clocks": clocks(2200, 2200, 2200, limit=1500)},
            "CPU clock limit: policy0 fell from 2200 to 1500 MHz (-32%), the most of 3 of 3 groups",
        ),
        (
            {"cpu_clocks": clocks(2200, 2200, 2200, governor="powersave")},
            "CPU governor: changed from schedutil to powersave in 3 of 3 groups",
        ),
        (
            {"gpu_clock": Clock("17000000.gpu", "nvhost_podgov", 306.0, 300.0, 1300.0)},
            "GPU clock: fell from 1000 to 306 MHz (-69%)",
        ),
        ({"temperatures_c": {"cpu": 50.0, "gpu": 71.25}}, "temperature: gpu rose from 48.0 to 71.2 °C"),
        (
            {"temperatures_c": {"cpu": 65.0, "gpu": 71.0}},
            "temperature: gpu rose from 48.0 to 71.0 °C, the most of 2 of 2 sensors",
        ),
        ({"throttling_now": {"gpu-throttle-alert": 2}}, "throttling: gpu-throttle-alert went from 0 to 2"),
        ({"throttling_events": {"oc3_event_cnt": 19}}, "throttling: oc3_event_cnt rose by 12 to 19"),
        ({"power_mode": "15W"}, "power mode: changed from MAXN to 15W"),
        ({"cgroup_cpus": 1.5}, "processors that control groups allow: changed from no limit to 1.5"),
        ({"memory_available_bytes": 2 << 30}, "memory available: fell from 12.0 to 2.0 GiB"),
        (
            {"cpu_time": CpuTime(110.0, 535.0, 40.0)},
            "other load: other programs took 1.50 processors on average over 10.0 s, this one 2.00",
        ),
        ({"gpus": (dataclasses.replace(CARD, sm_mhz=1800),)}, "GPU 0 clock: fell from 2520 to 1800 MHz (-29%)"),
        (
            {"gpus": (dataclasses.replace(CARD, memory_mhz=5001),)},
            "GPU 0 memory clock: fell from 10501 to 5001 MHz (-52%)",
        ),
        ({"gpus": (dataclasses.replace(CARD, temperature_c=84),)}, "temperature: GPU 0 rose from 60.0 to 84.0 °C"),
        (
            {"gpus": (dataclasses.replace(CARD, limit_watts=300.0),)},
            "GPU 0 power limit: changed from 450.0 to 300.0 W",
        ),
        (
            {"gpus": (dataclasses.replace(CARD, throttle_reasons=("power limit", "thermal limit")),)},
            "GPU 0: its clocks are now held back by power limit, thermal limit",
        ),
        ({"gpus": ()}, "GPUs: 1 before, 0 after"),
    ],
)
def test_each_change_is_one_sentence(changed: dict[str, Any], sentence: str) -> None:
    assert after(**changed) == (sentence,)


@pytest.mark.parametrize(
    "changed",
    [
        {"cpu_clocks": clocks(2100, 2095, 2300)},  # less than a twentieth, and more
        {"temperatures_c": {"cpu": 60.0, "gpu": 30.0}},
        {"throttling_events": {"oc3_event_cnt": 7, "oc1_event_cnt": 3}},  # not known before
        {"memory_available_bytes": 10 << 30},
        {"load_average": (9.0, 4.0, 2.0)},  # our own work raises it
        {"cpu_time": CpuTime(110.0, 521.0, 40.0)},  # 0.1 processors of others
        {"cpu_time": CpuTime(110.0, 515.0, 40.0)},  # ours more than everybody's: a kernel that does not count
        {"cpu_time": None},
        {"cpu_time": CpuTime(100.0, 900.0, 20.0)},  # no time went by
        {"cpu_clocks": tuple(Clock(f"policy{i}", "schedutil", None, None, None) for i in (0, 4, 8))},
        {"gpu_clock": None},
        {"temperatures_c": {}},
        {"memory_available_bytes": None},
        {"gpus": (dataclasses.replace(CARD, sm_mhz=None, memory_mhz=None, temperature_c=None, throttle_reasons=None),)},
    ],
)
def test_what_is_no_news(changed: dict[str, Any]) -> None:
    assert after(**changed) == ()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts everybody's processor time in /proc/stat")
def test_other_load_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a second of our own work is not taken for another program's, and is, when the process denies it."""
    before = board_state()
    until = time.process_time() + 0.5
    while time.process_time() < until:
        pass
    now = board_state()
    assert before.cpu_time is not None
    assert now.cpu_time is not None
    ours = now.cpu_time.own_s - before.cpu_time.own_s
    everybody = now.cpu_time.busy_s - before.cpu_time.busy_s
    assert ours >= 0.4
    if everybody < ours / 2:
        pytest.skip("the kernel of this machine does not count processor time")
    # Ticks of 10 ms on every processor may be missing at either end.
    assert everybody >= ours - 0.02 * (os.cpu_count() or 1)
    seconds = now.cpu_time.at_s - before.cpu_time.at_s
    denied = CpuTime(now.cpu_time.at_s, now.cpu_time.busy_s, before.cpu_time.own_s)
    sentences = differences(before, dataclasses.replace(now, cpu_time=denied))
    loads = [sentence for sentence in sentences if sentence.startswith("other load: ")]
    assert len(loads) == (everybody / seconds > 0.25)
