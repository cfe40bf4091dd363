"""Lines of tegrastats from boards of every generation; each file in samples/ says which board and release it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeir.runtime.power_rails import with_total
from edgeir.runtime.power_tegrastats import CpuLoad, Tegrastats, parse_tegrastats

SAMPLES = Path(__file__).parent / "samples"


def lines_of(name: str) -> list[Tegrastats]:
    parsed = [
        parse_tegrastats(line)
        for line in (SAMPLES / f"tegrastats-{name}.txt").read_text(encoding="utf-8").splitlines()
        if not line.startswith("#")
    ]
    assert parsed
    assert all(parsed)
    return [line for line in parsed if line is not None]


@pytest.mark.parametrize("name", sorted(path.stem.partition("-")[2] for path in SAMPLES.glob("tegrastats-*.txt")))
def test_every_sample_has_what_every_board_prints(name: str) -> None:
    for line in lines_of(name):
        assert 0 < line.ram_used_mb < line.ram_total_mb
        assert line.cpus
        assert line.cpus[0] is not None
        assert 0 < with_total(line.watts)["total"] < 200
        assert set(line.watts) == set(line.mean_watts)
        assert all(20 < degrees <= 100 for degrees in line.temperatures_c.values())
        assert "NC" not in line.watts


@pytest.mark.parametrize(
    ("name", "total", "rails"),
    [
        ("orin-nano-jetpack6", 5.251, 3),
        ("orin-nx-jetpack6.2", 4.304, 3),
        ("agx-orin-jetpack5", 2.340 + 0.390 + 4.025, 4),  # without the memory that VIN_SYS_5V0 feeds
        ("agx-orin-jetpack6.2.1", 2.412 + 1.607 + 4.707, 3),
        ("xavier-nx-jetpack5.1.2", 2.763, 3),
        ("agx-xavier-jetpack4", 0.216 + 0.864 + 0.144 + 1.889, 6),
        ("nano-jetpack4", 0.900, 3),
        ("tx2-jetpack4", 2.003, 6),
        ("thor-jetpack7.1", 0 + 4.923 + 4.327, 3),
        ("thor-jetpack7.2", 124.486, 4),
    ],
)
def test_totals(name: str, total: float, rails: int) -> None:
    line = lines_of(name)[0]
    assert len(line.watts) == rails
    assert with_total(line.watts)["total"] == pytest.approx(total)


def test_a_line_of_jetpack_6() -> None:
    (line,) = lines_of("orin-nano-jetpack6")
    assert (line.ram_used_mb, line.ram_total_mb, line.swap_used_mb, line.swap_total_mb) == (1343, 7620, 165, 3810)
    assert line.cpus == (CpuLoad(0, 1497), *[CpuLoad(0, 729)] * 5)
    assert (line.emc_percent, line.emc_mhz, line.gpu_percent, line.gpu_mhz) == (15, 204, 0, (305,))
    assert line.temperatures_c["gpu"] == 49.625
    assert len(line.temperatures_c) == 6
    assert line.watts == {"VDD_IN": 5.251, "VDD_CPU_GPU_CV": 0.512, "VDD_SOC": 2.720}
    assert line.mean_watts == {"VDD_IN": 8.535, "VDD_CPU_GPU_CV": 1.944, "VDD_SOC": 3.659}


def test_what_is_off_is_left_out() -> None:
    (orin,) = lines_of("agx-orin-jetpack5")
    assert "gpu" not in orin.temperatures_c
    assert orin.temperatures_c["tj"] == 44.343
    (tx2,) = lines_of("tx2-jetpack4")
    assert tx2.cpus == (CpuLoad(2, 345), None, None, None, None, None)
    (thor,) = lines_of("thor-jetpack7.1")
    assert (thor.gpu_percent, thor.gpu_mhz) == (None, (0, 0, 0))


def test_what_jetpack_7_2_adds() -> None:
    busy, idle = lines_of("thor-jetpack7.2")
    assert busy.temperatures_c["cpu"] == 58.25  # now, not the largest behind it
    assert (busy.watts["VDD_GPU"], busy.mean_watts["VDD_GPU"]) == (37.939, 8.660)
    assert (busy.gpu_percent, busy.gpu_mhz, busy.swap_total_mb) == (87, (1574, 1574, 1574), None)
    assert idle.cpus == (CpuLoad(0, 2601), CpuLoad(5, 2601), None)  # one clock behind the bracket
    assert (idle.emc_percent, idle.emc_mhz) == (None, 4266)


def test_without_clocks_there_are_none() -> None:
    (nano,) = lines_of("nano-jetpack4")
    assert (nano.emc_percent, nano.emc_mhz, nano.gpu_percent, nano.gpu_mhz) == (0, None, 0, ())


def test_a_sensor_below_zero_is_kept() -> None:
    """Composed: a user of a Thor reports rails of some hundred milliwatts below zero, which is how the chip is set."""
    line = parse_tegrastats("RAM 1/2MB CPU [0%@972] cpu@-12.5C VDD_GPU -392mW/-392mW VIN 3924mW/3924mW")
    assert line is not None
    assert line.watts == {"VDD_GPU": -0.392, "VIN": 3.924}
    assert line.temperatures_c == {"cpu": -12.5}


@pytest.mark.parametrize("line", ["", "tegrastats: command not found", "NV Power Mode: MAXN", "RAM used: 3 GB"])
def test_other_lines_are_none(line: str) -> None:
    assert parse_tegrastats(line) is None
