"""NVIDIA's management library through ``nvidia-ml-py``: power, energy, clocks, temperature and throttling of a GPU.

The package (import name ``pynvml``) is imported when a meter is looked for, and nothing here fails without it. A driver
answers any question with "not supported" as it likes: on Jetsons NVML starts and then knows neither power nor clocks.
"""

from __future__ import annotations

import contextlib
import importlib
from dataclasses import asdict, dataclass
from typing import Any

from edgeir.errors import MissingDependency

# nvml.h, nvmlClocksEventReasons: bit -> what holds the clocks back.
THROTTLE_WORDS = {
    0x001: "idle",
    0x002: "clocks set by the user",
    0x004: "power limit",
    0x008: "hardware slowdown",
    0x010: "sync boost with another GPU",
    0x020: "thermal limit",
    0x040: "hardware thermal slowdown",
    0x080: "power brake",
    0x100: "display clock setting",
}


@dataclass(frozen=True, slots=True)
class GpuState:
    """What a GPU says of itself; what it does not say is ``None``.

    Attributes:
        name: its model.
        driver: version of NVIDIA's driver.
        watts: power now, in watts; newer cards give the mean of the last second.
        limit_watts: the power limit in force.
        sm_mhz: clock of the multiprocessors in MHz.
        memory_mhz: clock of the memory in MHz.
        temperature_c: temperature of the chip in degrees Celsius.
        throttle_reasons: what holds the clocks back now, in words of `THROTTLE_WORDS`; empty: nothing.
    """

    name: str | None
    driver: str | None
    watts: float | None
    limit_watts: float | None
    sm_mhz: int | None
    memory_mhz: int | None
    temperature_c: int | None
    throttle_reasons: tuple[str, ...] | None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        reasons = None if self.throttle_reasons is None else list(self.throttle_reasons)
        return {**asdict(self), "throttle_reasons": reasons}


class NvmlMeter:
    """One GPU of the machine; its total is the whole card, memory included.

    Args:
        library: the module ``pynvml``, started.
        index: number of the GPU in NVML's order, which is that of the PCI bus and need not be CUDA's.
    """

    period_s = 0.0

    def __init__(self, library: Any, index: int) -> None:
        self._library = library
        self._handle = library.nvmlDeviceGetHandleByIndex(index)
        self.name = f"NVML {index}: {_text(self._ask('nvmlDeviceGetName')) or 'GPU'}"

    def read_watts(self) -> dict[str, float]:
        """Power of the card in watts as ``"gpu"``, and the same as ``"total"``.

        Raises:
            MissingDependency: the card does not say.
        """
        milliwatts = self._ask("nvmlDeviceGetPowerUsage")
        if milliwatts is None:
            raise MissingDependency("the GPU does not say what power it takes", where=self.name)
        return {"gpu": milliwatts / 1000, "total": milliwatts / 1000}

    def read_joules(self) -> float | None:
        """Energy of the card since its driver was loaded, in joules; ``None`` before Volta."""
        millijoules = self._ask("nvmlDeviceGetTotalEnergyConsumption")
        return None if millijoules is None else float(millijoules / 1000)

    def state(self) -> GpuState:
        """Everything the card says now."""
        library = self._library
        limit = self._first("nvmlDeviceGetEnforcedPowerLimit", "nvmlDeviceGetPowerManagementLimit")
        power = self._ask("nvmlDeviceGetPowerUsage")
        held_back = self._first("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons")
        return GpuState(
            name=_text(self._ask("nvmlDeviceGetName")),
            driver=_text(_asked(library, "nvmlSystemGetDriverVersion")),
            watts=None if power is None else power / 1000,
            limit_watts=None if limit is None else limit / 1000,
            sm_mhz=self._ask("nvmlDeviceGetClockInfo", library.NVML_CLOCK_SM),
            memory_mhz=self._ask("nvmlDeviceGetClockInfo", library.NVML_CLOCK_MEM),
            temperature_c=self._ask("nvmlDeviceGetTemperature", library.NVML_TEMPERATURE_GPU),
            throttle_reasons=None if held_back is None else throttle_words(held_back),
        )

    def close(self) -> None:
        """NVML stays started until the process ends: other meters may use it."""

    def _ask(self, question: str, *details: Any) -> Any:
        return _asked(self._library, question, self._handle, *details)

    def _first(self, *questions: str) -> Any:
        answers = (self._ask(question) for question in questions)
        return next((answer for answer in answers if answer is not None), None)


def throttle_words(bits: int) -> tuple[str, ...]:
    """Words for the bits of NVML's clock event reasons; a bit that is not known is named by its number."""
    known = tuple(word for bit, word in THROTTLE_WORDS.items() if bits & bit)
    rest = bits & ~sum(THROTTLE_WORDS)
    return (*known, f"reason {rest:#x}") if rest else known


def find_nvml() -> tuple[tuple[NvmlMeter, ...], tuple[str, ...]]:
    """The GPUs that say what power or energy they take, and a sentence for each that does not."""
    gpus, reasons = nvml_gpus()
    silent = []
    meters = []
    for gpu in gpus:
        with contextlib.suppress(MissingDependency):
            if gpu.read_joules() is not None or gpu.read_watts():
                meters.append(gpu)
                continue
        silent.append(f"{gpu.name}: its driver tells neither power nor energy")
    return tuple(meters), (*reasons, *silent)


def nvml_gpus() -> tuple[tuple[NvmlMeter, ...], tuple[str, ...]]:
    """Every GPU that NVML knows, whatever it says of itself, and a sentence where NVML cannot be asked."""
    try:
        library = importlib.import_module("pynvml")
    except ImportError:
        return (), ("NVML: the package nvidia-ml-py is not installed",)
    try:
        library.nvmlInit()
        count = library.nvmlDeviceGetCount()
    except library.NVMLError as error:
        return (), (f"NVML: {error}",)
    found = []
    for index in range(count):
        with contextlib.suppress(library.NVMLError):  # a card that has fallen off the bus
            found.append(NvmlMeter(library, index))
    return tuple(found), ()


def _asked(library: Any, question: str, *details: Any) -> Any:
    try:
        return getattr(library, question)(*details)
    except (AttributeError, library.NVMLError):  # an older package, or an older driver
        return None


def _text(value: str | bytes | None) -> str | None:
    return value.decode(errors="replace") if isinstance(value, bytes) else value  # bytes before nvidia-ml-py 11.5
