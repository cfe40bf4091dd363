"""Power meters on trees that look like the boards': every layout, and files that are there and cannot be read.

Composed: folders and files are those of the kernel's documentation (hwmon/ina3221, hwmon/ina238, powercap) and of
NVIDIA's developer guides, labels those of the device trees (tegra234-p3701, tegra234-p3767) and of what tegrastats
prints. The values of the AGX Orin are a listing that a user published.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeir.errors import MissingDependency
from edgeir.runtime.power import search_meters
from edgeir.runtime.power_nvml import find_nvml, nvml_gpus, throttle_words
from edgeir.runtime.power_rails import Rail, find_rails
from edgeir.runtime.power_rapl import WrappingCounter, find_rapl

Tree = Callable[[str, Mapping[str, object]], Path]
I2C = "sys/bus/i2c/drivers"
RAPL = "sys/class/powercap"


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """Writes files below a folder of a root and gives that folder."""

    def write(folder: str, files: Mapping[str, object]) -> Path:
        at = tmp_path / folder
        at.mkdir(parents=True, exist_ok=True)
        for name, value in files.items():
            (at / name).write_text(f"{value}\n", encoding="utf-8")
        return at

    return write


def channels(*rails: tuple[str, int, int]) -> dict[str, object]:
    """Files of an INA3221: label, mV and mA per channel, and the sum that is no rail."""
    files: dict[str, object] = {"in7_label": "sum of shunt voltages", "in7_input": 760, "curr4_input": 360}
    for number, (label, millivolts, milliamperes) in enumerate(rails, 1):
        files |= {f"in{number}_label": label, f"in{number}_input": millivolts, f"curr{number}_input": milliamperes}
    return files


def test_orin_nano(tree: Tree, tmp_path: Path) -> None:
    tree(
        f"{I2C}/ina3221/1-0040/hwmon/hwmon1",
        channels(("VDD_IN", 5072, 1040), ("VDD_CPU_GPU_CV", 5072, 104), ("VDD_SOC", 5064, 280)),
    )
    (meter,) = search_meters(tmp_path).meters
    assert meter.name == "power rails (total: VDD_IN)"
    assert meter.read_watts() == pytest.approx(
        {"VDD_IN": 5.27488, "VDD_CPU_GPU_CV": 0.527488, "VDD_SOC": 1.41792, "total": 5.27488}
    )
    assert meter.read_joules() is None
    meter.close()


def test_agx_orin(tree: Tree, tmp_path: Path) -> None:
    tree(
        f"{I2C}/ina3221/1-0040/hwmon/hwmon3",
        channels(("VDD_GPU_SOC", 843, 6170), ("VDD_CPU_CV", 780, 3437), ("VIN_SYS_5V0", 4968, 953)),
    )
    tree(f"{I2C}/ina3221/1-0041/hwmon/hwmon4", channels(("NC", 0, 0), ("VDDQ_VDD2_1V8AO", 1800, 341), ("NC", 0, 0)))
    (meter,) = search_meters(tmp_path).meters
    assert meter.name == "power rails (total: VDD_GPU_SOC + VDD_CPU_CV + VIN_SYS_5V0)"
    watts = meter.read_watts()
    assert set(watts) == {"VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0", "VDDQ_VDD2_1V8AO", "total"}
    assert watts["total"] == pytest.approx(843e-3 * 6.17 + 780e-3 * 3.437 + 4.968 * 0.953)


def test_thor_has_its_input_on_another_chip(tree: Tree, tmp_path: Path) -> None:
    """The INA238's files are the kernel's (hwmon/ina238); its label stands in a file of its own."""
    tree(
        f"{I2C}/ina3221/2-0040/hwmon/hwmon2",
        channels(("VDD_GPU", 780, 0), ("VDD_CPU_SOC_MSS", 720, 6837), ("VIN_SYS_5V0", 5000, 865)),
    )
    summed = "power rails (total: VDD_GPU + VDD_CPU_SOC_MSS + VIN_SYS_5V0)"
    assert [meter.name for meter in search_meters(tmp_path).meters] == [summed]
    at = tree(f"{I2C}/ina238/2-0044/hwmon/hwmon5", {"in1_input": 19984, "curr1_input": 1335, "power1_input": 26686000})
    assert [meter.name for meter in search_meters(tmp_path).meters] == [summed]  # no label, no guess
    (at / "label").write_text("VIN\n", encoding="utf-8")
    (meter,) = search_meters(tmp_path).meters
    assert meter.name == "power rails (total: VIN)"
    assert meter.read_watts()["total"] == pytest.approx(26.686)


def test_nano_before_jetpack_5(tree: Tree, tmp_path: Path) -> None:
    files: dict[str, object] = {}
    for number, (rail, milliwatts) in enumerate([("POM_5V_IN", 2532), ("POM_5V_GPU", 40), ("POM_5V_CPU", 614)]):
        files |= {f"rail_name_{number}": rail, f"in_power{number}_input": milliwatts}
    tree(f"{I2C}/ina3221x/6-0040/iio:device0", files)
    (meter,) = search_meters(tmp_path).meters
    assert meter.read_watts() == {"POM_5V_IN": 2.532, "POM_5V_GPU": 0.040, "POM_5V_CPU": 0.614, "total": 2.532}


def test_carrier_inputs_enter_no_sum(tree: Tree, tmp_path: Path) -> None:
    """AGX Orin Industrial (tegra234-p3701-0008)."""
    tree(
        f"{I2C}/ina3221/1-0040/hwmon/hwmon3",
        channels(("VDD_GPU_SOC", 1000, 1000), ("VDD_CPU_CV", 1000, 1000), ("VIN_SYS_5V0", 5000, 1000)),
    )
    tree(f"{I2C}/ina3221/2-0041/hwmon/hwmon4", channels(("CVB_ATX_12V", 12000, 2000), ("CVB_ATX_3V3", 3300, 10)))
    (meter,) = search_meters(tmp_path).meters
    assert meter.read_watts()["total"] == pytest.approx(7)
    assert meter.read_watts()["CVB_ATX_12V"] == pytest.approx(24)


def test_a_rail_that_cannot_be_read_is_named(tree: Tree, tmp_path: Path) -> None:
    at = tree(f"{I2C}/ina3221/1-0040/hwmon/hwmon1", channels(("VDD_IN", 5000, 1000), ("VDD_SOC", 5000, 100)))
    (at / "curr2_input").unlink()
    search = search_meters(tmp_path)
    assert search.reasons == ("power rails VDD_SOC: there, but they cannot be read",)
    (meter,) = search.meters
    assert meter.read_watts() == {"VDD_IN": 5, "total": 5}
    (at / "in1_input").write_text("not a number\n", encoding="utf-8")
    with pytest.raises(MissingDependency, match="VDD_IN: the power rail cannot be read any more"):
        meter.read_watts()
    assert find_rails(tmp_path)[0] == ()


def test_power_flowing_back_is_negative(tree: Tree) -> None:
    at = tree("chip", {"in1_input": 5000, "curr1_input": -40})
    assert Rail("R", (at / "in1_input", at / "curr1_input"), 1e-6).watts() == pytest.approx(-0.2)


@pytest.fixture
def processor(tree: Tree) -> None:
    """Two packages of a server, and the domains that packages and psys hold once more."""
    for name, label, energy in [
        ("intel-rapl", None, None),
        ("intel-rapl:0", "package-0", 1_000_000),
        ("intel-rapl:0:0", "core", 400_000),
        ("intel-rapl:0:1", "dram", 200_000),
        ("intel-rapl:1", "package-1", 262_143_000_000),
        ("intel-rapl:1:0", "dram", 5_000),
        ("intel-rapl:2", "psys", 7_000_000),
    ]:
        files = {} if label is None else {"name": label, "energy_uj": energy, "max_energy_range_uj": 262_143_328_850}
        tree(f"{RAPL}/{name}", files)


@pytest.mark.usefixtures("processor")
def test_rapl_counts_packages_and_memory_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (meter,) = search_meters(tmp_path).meters
    assert meter.name == "RAPL (total: package-0 + dram-0 + package-1 + dram-1)"
    assert meter.read_joules() == 0
    zones = tmp_path / RAPL

    def work(_: float = 0) -> None:
        (zones / "intel-rapl:0" / "energy_uj").write_text("4000000\n", encoding="utf-8")  # 3 J
        (zones / "intel-rapl:0:0" / "energy_uj").write_text("2400000\n", encoding="utf-8")  # 2 J, in the package
        (zones / "intel-rapl:1" / "energy_uj").write_text("671150\n", encoding="utf-8")  # around the end: 1 J

    work()
    assert meter.read_joules() == pytest.approx(3 + 1.0)
    assert meter.read_joules() == pytest.approx(4)  # nothing more since
    seconds = iter([10.0, 10.5])
    monkeypatch.setattr("edgeir.runtime.power_rapl.time.perf_counter", lambda: next(seconds))
    monkeypatch.setattr(
        "edgeir.runtime.power_rapl.time.sleep",
        lambda _: (zones / "intel-rapl:0" / "energy_uj").write_text("9000000\n", encoding="utf-8"),
    )
    watts = meter.read_watts()
    assert watts["package-0"] == watts["total"] == pytest.approx(10)  # 5 J in half a second
    assert watts["psys-2"] == 0
    (zones / "intel-rapl:0" / "energy_uj").unlink()
    with pytest.raises(MissingDependency, match="package-0: the RAPL counter cannot be read any more"):
        meter.read_joules()


@pytest.mark.usefixtures("processor")
def test_rapl_for_root_only_is_no_meter_and_no_crash(tmp_path: Path) -> None:
    for counter in (tmp_path / RAPL).glob("*/energy_uj"):
        counter.unlink()
        counter.mkdir()  # unreadable for everybody, root included
    meters, (reason,) = find_rapl(tmp_path)
    assert meters == ()
    assert reason.startswith(
        "RAPL counters package-0, core-0, dram-0, package-1, dram-1, psys-2: there, but not readable"
    )


@given(moves=st.lists(st.integers(0, 999_999), min_size=1, max_size=50), first=st.integers(0, 999_999))
def test_a_counter_that_wraps_loses_nothing(moves: list[int], first: int) -> None:
    """Whatever moves less than a turn between readings adds up, wherever the counter starts anew."""
    counter, now = WrappingCounter(1_000_000, first), first
    for move in moves:
        now = (now + move) % 1_000_000
        joules = counter.advance(now)
    assert joules == pytest.approx(sum(moves) * 1e-6, abs=1e-9)


class FakeNvml(SimpleNamespace):
    """``pynvml`` with what a test puts in; everything else is not supported."""

    class NVMLError(Exception):
        pass

    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0

    def __init__(self, count: int = 1, **answers: Any) -> None:
        super().__init__()
        self.count = count
        self.answers = answers

    def nvmlInit(self) -> None:
        if "init" in self.answers:
            raise self.NVMLError(self.answers["init"])

    def nvmlDeviceGetCount(self) -> int:
        return self.count

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        if index >= self.count - self.answers.get("lost", 0):
            raise self.NVMLError("GPU is lost")
        return index

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("nvml"):
            raise AttributeError(name)

        def answer(*details: Any) -> Any:
            value = self.answers.get(name)
            if value is None:
                raise self.NVMLError("Not Supported")
            return value(*details[1:]) if callable(value) else value

        return answer


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def install(**answers: Any) -> None:
        monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(**answers))

    return install


def test_a_graphics_card(nvml: Callable[..., None]) -> None:
    nvml(
        nvmlDeviceGetName=b"NVIDIA GeForce RTX 4090",  # bytes, as older packages gave
        nvmlSystemGetDriverVersion="580.95.05",
        nvmlDeviceGetPowerUsage=312_500,
        nvmlDeviceGetTotalEnergyConsumption=41_000_250,
        nvmlDeviceGetEnforcedPowerLimit=450_000,
        nvmlDeviceGetClockInfo=lambda which: {1: 2520, 2: 10501}[which],
        nvmlDeviceGetTemperature=lambda _: 67,
        nvmlDeviceGetCurrentClocksThrottleReasons=0x4 | 0x20 | 0x4000,
    )
    (meter,), reasons = find_nvml()
    assert reasons == ()
    assert meter.name == "NVML 0: NVIDIA GeForce RTX 4090"
    assert meter.read_watts() == {"gpu": 312.5, "total": 312.5}
    assert meter.read_joules() == 41_000.25
    assert meter.state().to_dict() == {
        "name": "NVIDIA GeForce RTX 4090",
        "driver": "580.95.05",
        "watts": 312.5,
        "limit_watts": 450.0,
        "sm_mhz": 2520,
        "memory_mhz": 10501,
        "temperature_c": 67,
        "throttle_reasons": ["power limit", "thermal limit", "reason 0x4000"],
    }
    assert meter.name in [found.name for found in search_meters().meters]


def test_an_older_card_has_power_and_no_counter(nvml: Callable[..., None]) -> None:
    nvml(nvmlDeviceGetPowerUsage=70_000)
    (meter,), _ = find_nvml()
    assert meter.read_joules() is None
    assert meter.read_watts()["total"] == 70
    assert meter.name == "NVML 0: GPU"


def test_a_jetson_starts_nvml_and_says_nothing(nvml: Callable[..., None]) -> None:
    """JetPack 7.2.1: every question but the name is NVMLError_NotSupported (reported for driver 595.78)."""
    nvml(nvmlDeviceGetName="Orin (nvgpu)")
    assert find_nvml() == ((), ("NVML 0: Orin (nvgpu): its driver tells neither power nor energy",))
    ((gpu,), _) = nvml_gpus()
    state = gpu.state()
    assert state.name == "Orin (nvgpu)"
    assert {value for name, value in state.to_dict().items() if name != "name"} == {None}
    with pytest.raises(MissingDependency, match="does not say what power it takes"):
        gpu.read_watts()


def test_a_lost_card_does_not_hide_the_others(nvml: Callable[..., None]) -> None:
    nvml(count=3, lost=1, nvmlDeviceGetPowerUsage=1000)
    assert [meter.name for meter in find_nvml()[0]] == ["NVML 0: GPU", "NVML 1: GPU"]


def test_no_driver_and_no_package(nvml: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    nvml(init="NVML Shared Library Not Found")
    assert find_nvml() == ((), ("NVML: NVML Shared Library Not Found",))
    monkeypatch.setitem(sys.modules, "pynvml", None)  # as if it were not installed
    assert find_nvml() == ((), ("NVML: the package nvidia-ml-py is not installed",))


def test_the_questions_are_the_librarys_own() -> None:
    """The fake answers any question; the real package must know them."""
    pynvml = pytest.importorskip("pynvml", reason="nvidia-ml-py is not installed")
    source = Path(sys.modules["edgeir.runtime.power_nvml"].__file__ or "").read_text(encoding="utf-8")
    names = {word.strip("\"'(),") for word in source.replace("(", " ").split() if "nvmlDevice" in word}
    names |= {"nvmlInit", "nvmlSystemGetDriverVersion", "NVML_CLOCK_SM", "NVML_CLOCK_MEM", "NVML_TEMPERATURE_GPU"}
    names = {name.rpartition(".")[2] for name in names}
    assert len(names) > 10
    assert [name for name in sorted(names) if not hasattr(pynvml, name)] == []


@given(st.integers(0, 2**16 - 1))
def test_no_bit_of_a_reason_is_dropped(bits: int) -> None:
    assert bool(throttle_words(bits)) == bool(bits)
    assert len(throttle_words(bits)) == (bits & 0x1FF).bit_count() + bool(bits >> 9)


def test_an_empty_machine_has_no_meters(tmp_path: Path) -> None:
    search = search_meters(tmp_path)
    assert (search.meters, search.reasons) == ((), ())


def test_this_machine_is_searched() -> None:
    search = search_meters()
    for meter in search.meters:
        assert meter.read_watts()["total"] >= 0
        meter.close()
    assert search.meters or search.reasons  # without NVML at the least, it is said why
