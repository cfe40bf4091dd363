"""What nvidia-smi prints of a PC's card, of Jetsons, and of nothing."""

from __future__ import annotations

from pathlib import Path

from edgeir.runtime.board_nvidia_smi import GpuReading, parse_nvidia_smi

SAMPLE = Path(__file__).parent / "samples" / "nvidia-smi.txt"


def test_samples() -> None:
    lines = [line for line in SAMPLE.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    assert parse_nvidia_smi("\n".join(lines)) == (
        GpuReading("GeForce RTX 2080", "440.64", 7979, 45, 176.98, 1965),
        GpuReading("Orin (nvgpu)", None, None, None, None, None),
        GpuReading("NVIDIA Thor", "580.00", None, None, None, None),
    )


def test_other_words() -> None:
    text = (
        "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that it is running.\n"
        'Field "compute_cap" is not a valid field to query.\n\n'
    )
    assert parse_nvidia_smi(text) == ()
    assert parse_nvidia_smi("") == ()
    assert parse_nvidia_smi("A card, with a comma, 1.0, 5, [Unknown Error], 7.5, 9\n") == (
        GpuReading("A card, with a comma", "1.0", 5, None, 7.5, 9),
    )
