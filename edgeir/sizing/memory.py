"""Memory that restoring one picture takes, on paper: the engine's and the pictures'."""

from __future__ import annotations

from dataclasses import dataclass

from edgeir.sizing.cost import value_bytes, weight_bytes
from edgeir.sizing.devices import GIB, Device
from edgeir.sizing.networks import Network

# Of a board's memory the system, a desktop and other processes have a share; a card has its driver's and the screen's.
_USABLE_SHARED = 0.75
_USABLE_CARD = 0.9
# Runtimes without edgeir's plugins run the key graph's ONNX bodies, whose masks and scores PyTorch's form, which was
# counted, does not make: ONNX Runtime held 2.0 to 2.3 times as much for kgt-tiny.
_BODIES = 2.2
# Python, NumPy and the runtime's libraries: 0.12 GiB measured with ONNX Runtime on a processor. For a GPU, what CUDA
# and TensorRT take for themselves is an allowance: nothing here could measure it.
_PROCESS_CPU_BYTES = int(0.12 * GIB)
_PROCESS_GPU_BYTES = GIB // 2
# Bytes per pixel on the host. While edgeir.runtime.restore works: three floats in and their padded copy; out the sum of
# three floats, a weight, and the byte that says whether a tile is missing (the quotient takes the sum's place). While
# edgeir.imaging.writing does: three floats, their bytes, Pillow's copy of four, and a file that may be as large.
_RESTORING_IN, _RESTORING_OUT = 2 * 12, 12 + 4 + 1
_WRITING_OUT = 12 + 3 + 4 + 3


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes.

    Attributes:
        weights: of the network in the engine's types.
        activations: most that exist at one time, for one batch of tiles.
        process: runtime, driver and interpreter.
        pictures: most that the whole picture takes on the host at one time: read, padded and blended, or written.
    """

    weights: int
    activations: int
    process: int
    pictures: int

    @property
    def engine(self) -> int:
        """Everything but the pictures."""
        return self.weights + self.activations + self.process

    @property
    def total(self) -> int:
        """Everything."""
        return self.engine + self.pictures


def memory_of(network: Network, tile_pixels: int, picture_pixels: int, device: Device, precision: str) -> Memory:
    """What one picture takes.

    Args:
        network: which.
        tile_pixels: input pixels of one batch of tiles.
        picture_pixels: of the whole padded picture.
        device: where.
        precision: of the engine.
    """
    processor = device.architecture == "cpu"
    _, wide = value_bytes(device, precision)
    output_pixels = picture_pixels * network.scale**2
    return Memory(
        weights=weight_bytes(network, device, precision),
        activations=int(network.live_values * tile_pixels * wide * (_BODIES if network.chooses_neighbours else 1)),
        process=_PROCESS_CPU_BYTES if processor else _PROCESS_GPU_BYTES,
        pictures=max(
            picture_pixels * _RESTORING_IN + output_pixels * _RESTORING_OUT,
            output_pixels * _WRITING_OUT,
        ),
    )


def usable_bytes(device: Device) -> int:
    """What edgeir plans to fill at most."""
    return int(device.memory_bytes * (_USABLE_SHARED if device.shared else _USABLE_CARD))


def fits(memory: Memory, device: Device) -> bool:
    """Whether it is within `usable_bytes`; beside a card's own memory the host has the pictures."""
    return (memory.total if device.shared else memory.engine) <= usable_bytes(device)
