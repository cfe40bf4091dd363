"""Power rails of a Jetson, read from the INA3221 and INA238 chips through sysfs.

Three layouts of the same thing, all in `_LAYOUTS`: the kernel's own driver since JetPack 5 gives millivolts and
milliamperes per channel (https://docs.kernel.org/hwmon/ina3221.html), NVIDIA's driver before that gives milliwatts, and
the INA238 on the carrier board of a Thor gives microwatts. No file needs root.

A chip averages for some milliseconds by itself, and reading one register over I2C takes about half a millisecond.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from edgeir.errors import MissingDependency
from edgeir.runtime.board_sysfs import ROOT, matching, read_number, read_text

# Rails that carry all that the module (VDD_IN), the Nano's board (POM_5V_IN) or the Thor developer kit (VIN) takes:
# NVIDIA's developer guide, "Software-Based Power Consumption Modeling" of each board. The first one that is there wins.
INPUT_RAILS = ("VIN", "VDD_IN", "POM_5V_IN")
# A rail that another one feeds is not added to it. AGX Orin: the same chapter of the guide for R36.4.3.
FED_BY = {"VDDQ_VDD2_1V8AO": "VIN_SYS_5V0"}
# Inputs of the carrier board of an industrial AGX Orin: what they feed is not documented, so they enter no sum.
_NOT_SUMMED = ("CVB_",)
_NOT_RAILS = frozenset({"NC", "sum of shunt voltages"})


@dataclass(frozen=True, slots=True)
class Rail:
    """One rail: its power in watts is the product of the numbers in ``files`` times ``factor``."""

    name: str
    files: tuple[Path, ...]
    factor: float

    def watts(self) -> float | None:
        """Power now in watts, negative where the chip says so; ``None`` while it cannot be read."""
        values = [read_number(path) for path in self.files]
        return None if None in values else math.prod(value for value in values if value is not None) * self.factor


def _hwmon(folder: Path) -> Iterator[Rail]:
    for label in matching(folder, "in*_label"):
        channel = label.name.removeprefix("in").removesuffix("_label")
        files = (folder / f"in{channel}_input", folder / f"curr{channel}_input")
        if (name := read_text(label)) and name not in _NOT_RAILS:
            yield Rail(name, files, 1e-6)  # mV x mA


def _iio(folder: Path) -> Iterator[Rail]:
    for label in matching(folder, "rail_name_*"):
        if (name := read_text(label)) and name not in _NOT_RAILS:
            channel = label.name.removeprefix("rail_name_")
            yield Rail(name, (folder / f"in_power{channel}_input",), 1e-3)  # mW


def _single(folder: Path) -> Iterator[Rail]:
    if name := read_text(folder / "label"):
        yield Rail(name, (folder / "power1_input",), 1e-6)  # microwatts


_LAYOUTS: tuple[tuple[str, Callable[[Path], Iterator[Rail]]], ...] = (
    ("ina3221/*/hwmon/hwmon*", _hwmon),
    ("ina238/*/hwmon/hwmon*", _single),
    ("ina3221x/*/iio:device*", _iio),
)


def summed_rails(names: Mapping[str, object]) -> tuple[str, ...]:
    """Those rails whose sum is the total: the one input rail, else every rail that no other one feeds.

    >>> summed_rails({"VDD_IN": 5.3, "VDD_SOC": 1.2})
    ('VDD_IN',)
    >>> summed_rails({"VDD_GPU_SOC": 2.4, "VIN_SYS_5V0": 4.7, "VDDQ_VDD2_1V8AO": 0.3})
    ('VDD_GPU_SOC', 'VIN_SYS_5V0')
    """
    for rail in INPUT_RAILS:
        if rail in names:
            return (rail,)
    return tuple(name for name in names if FED_BY.get(name) not in names and not name.startswith(_NOT_SUMMED))


def with_total(rails: Mapping[str, float]) -> dict[str, float]:
    """The rails in watts, and ``"total"``: the sum of `summed_rails`."""
    return {**rails, "total": sum(rails[name] for name in summed_rails(rails))}


class RailsMeter:
    """Reads some rails by their files; ``name`` says which of them make up the total."""

    period_s = 0.0  # a chip converts in milliseconds; no slower than anybody asks here

    def __init__(self, rails: tuple[Rail, ...]) -> None:
        self._rails = rails
        self.name = f"power rails (total: {' + '.join(summed_rails(dict.fromkeys(rail.name for rail in rails)))})"

    def read_watts(self) -> dict[str, float]:
        """Power of every rail now, and of ``"total"``, in watts.

        Raises:
            MissingDependency: a rail can no longer be read.
        """
        found = {}
        for rail in self._rails:
            if (watts := rail.watts()) is None:
                raise MissingDependency("the power rail cannot be read any more", where=rail.name, expected="a number")
            found[rail.name] = watts
        return with_total(found)

    def read_joules(self) -> None:
        """These chips count no energy."""
        return

    def close(self) -> None:
        """Nothing is held."""


def find_rails(root: Path = ROOT) -> tuple[tuple[RailsMeter, ...], tuple[str, ...]]:
    """The meter of this board's rails, if they can be read now, and sentences on what is there and cannot be."""
    drivers = root / "sys/bus/i2c/drivers"
    rails = {rail.name: rail for folders, read in _LAYOUTS for at in matching(drivers, folders) for rail in read(at)}
    readable = tuple(rail for rail in rails.values() if rail.watts() is not None)
    silent = sorted(set(rails) - {rail.name for rail in readable})
    reasons = (f"power rails {', '.join(silent)}: there, but they cannot be read",) if silent else ()
    summed = summed_rails(dict.fromkeys(rail.name for rail in readable))
    return ((RailsMeter(readable),) if summed else ()), reasons
