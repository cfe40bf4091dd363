"""Time and memory of one tile on one device, on paper.

Time is a roofline with two ends. *Quickest*: everything that can be is fused, arithmetic and memory work at the same
time, each as well as good kernels do. *Slowest*: nothing is fused, one waits for the other, and both are used poorly. A
device is somewhere between; `docs/sizes.md` has where ONNX Runtime is on a processor.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgeir.sizing.devices import Device, Mode
from edgeir.sizing.networks import Network

# Shares of the theoretical rate that are reached, best and worst. Arithmetic: tuned libraries reach 55 to 75 % of what
# Thor's data sheet promises for large products (FP16 75, INT8 63); products here have 24 to 96 channels, which fill a
# tensor core badly. Memory: 85 to 89 % were measured on RTX 50 cards. The lower ends are judgement, not measurement.
_GPU_ARITHMETIC = (0.75, 0.15)
_GPU_MEMORY = (0.85, 0.5)
# Seconds from one kernel to the next that waits for it: in a CUDA graph, and launched one by one. Judgement.
_GPU_LAUNCH_S = (2e-6, 5e-6)
# A processor's rates are measured, not promised; what thin layers reach of them is calibrated in docs/sizes.md.
_CPU_ARITHMETIC = (1.0, 0.5)
_CPU_MEMORY = (1.0, 0.7)

_BYTES = {"fp32": 4, "fp16": 2, "int8": 1, "fp8": 1}


@dataclass(frozen=True, slots=True)
class Seconds:
    """A modelled time: both ends, and what it consists of at the peak rates of the device.

    Attributes:
        quickest, slowest: see the module.
        arithmetic: the products alone at the full rate.
        least_traffic, most_traffic: reading and writing alone at the full bandwidth, everything or nothing fused.

    What kernels cost besides, one after the other, is in both ends: most of the time of small tiles on large GPUs.
    """

    quickest: float
    slowest: float
    arithmetic: float
    least_traffic: float
    most_traffic: float


def value_bytes(device: Device, precision: str) -> tuple[int, int]:
    """Bytes of one number of an activation, least and most.

    Between layers in eight bits some stay in FP16. A processor computes in FP32 whatever the graph says.
    """
    if device.architecture == "cpu":
        return 4, 4
    least = _BYTES[precision]
    return least, max(least, 2)


def weight_bytes(network: Network, device: Device, precision: str) -> int:
    """Of all weights, as they are read: a processor's are FP32 whatever the file has."""
    return network.parameters * _BYTES["fp32" if device.architecture == "cpu" else precision]


def tile_seconds(network: Network, pixels: int, device: Device, mode: Mode, precision: str) -> Seconds:
    """One run on ``pixels`` input pixels, a batch of tiles taken together."""
    processor = device.architecture == "cpu"
    best, worst = _CPU_ARITHMETIC if processor else _GPU_ARITHMETIC
    most_used, least_used = _CPU_MEMORY if processor else _GPU_MEMORY
    narrow, wide = value_bytes(device, precision)
    weights = weight_bytes(network, device, precision)
    macs = network.macs * pixels
    slow_rate = mode.rates.of("fp32" if precision == "fp32" else "fp16")  # of eight bits, all that may stay in FP16
    arithmetic = macs / mode.rates.of(precision)
    least = (network.least_values * pixels * narrow + weights) / mode.bandwidth
    most = (network.most_values * pixels * wide + weights) / mode.bandwidth
    soon, late = (0.0, 0.0) if processor else _GPU_LAUNCH_S
    return Seconds(
        quickest=max(arithmetic / best, least / most_used) + network.kernels * soon,
        slowest=macs / slow_rate / worst + most / least_used + network.operators * late,
        arithmetic=arithmetic,
        least_traffic=least,
        most_traffic=most,
    )
