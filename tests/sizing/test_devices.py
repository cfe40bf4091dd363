"""The table of devices against what NVIDIA prints of whole modules and cards."""

from __future__ import annotations

import pytest

from edgeir.errors import UsageError
from edgeir.sizing.devices import DEVICES, GIB, device


@pytest.mark.parametrize(
    ("name", "mode", "precision", "printed_tera"),
    [
        # DS-10662-001 v1.8 and the technical brief of AGX Orin: sparse INT8 TOPS of the GPU, halved; FP32 TFLOPS.
        ("agx-orin-64gb", "MAXN", "int8", 170 / 2),
        ("agx-orin-64gb", "MAXN", "fp32", 5.3),
        ("agx-orin-32gb", "MAXN", "int8", 108 / 2),
        # DS-11105-001: sparse INT8 TOPS of the whole Orin Nano, which has no other accelerator.
        ("orin-nano-8gb", "15W", "int8", 40 / 2),
        ("orin-nano-4gb", "10W", "int8", 20 / 2),
        ("orin-nano-8gb", "MAXN_SUPER", "int8", 67 / 2),
        ("orin-nano-4gb", "25W", "int8", 34 / 2),
        # Introducing NVIDIA Jetson Thor: dense FP8, and the half of sparse FP16.
        ("thor", "MAXN", "fp8", 517),
        ("thor", "MAXN", "fp16", 517 / 2),
        # Whitepapers Ampere GA102, Ada and RTX Blackwell: FP16 with FP32 accumulation, dense.
        ("rtx-3090", "boost", "fp16", 71),
        ("rtx-3090", "boost", "int8", 284),
        ("rtx-4090", "boost", "fp32", 82.6),
        ("rtx-4090", "boost", "fp16", 165.2),
        ("rtx-4090", "boost", "int8", 660.6),
        ("rtx-5090", "boost", "fp16", 209.5),
        ("h100", "boost", "fp16", 989.5),
        ("h100", "boost", "int8", 1979),
    ],
)
def test_rates(name: str, mode: str, precision: str, printed_tera: float) -> None:
    flops = 2 * device(name).mode(mode).rates.of(precision)
    assert flops / 1e12 == pytest.approx(printed_tera, rel=0.025)  # printed with two digits


@pytest.mark.parametrize(
    ("name", "mode", "gb_s"),
    [
        ("orin-nano-4gb", "10W", 34),
        ("orin-nano-8gb", "15W", 68),
        ("orin-nano-8gb", "25W", 102),
        ("orin-nx-8gb", "MAXN", 102),
        ("orin-nx-16gb", "MAXN", 102),
        ("agx-orin-64gb", "MAXN", 204.8),
        ("thor", "MAXN", 273),
        ("rtx-4090", "boost", 1008),
        ("rtx-5090", "boost", 1792),
    ],
)
def test_bandwidth(name: str, mode: str, gb_s: float) -> None:
    assert device(name).mode(mode).bandwidth / 1e9 == pytest.approx(gb_s, rel=0.01)


def test_the_table() -> None:
    for name, entry in DEVICES.items():
        assert entry.name == name == name.lower()
        assert entry.modes
        assert 4 * GIB <= entry.memory_bytes <= 128 * GIB
        assert len({mode.name for mode in entry.modes}) == len(entry.modes)
        fastest = entry.mode(None)
        for mode in entry.modes:
            assert mode.rates.fp16 <= fastest.rates.fp16
            assert mode.rates.fp32 < mode.rates.fp16 < mode.rates.int8
            assert mode.bandwidth <= fastest.bandwidth
    assert {name: entry.fp8 for name, entry in DEVICES.items() if name in ("orin-nx-8gb", "rtx-3090", "rtx-4060")} == {
        "orin-nx-8gb": False,
        "rtx-3090": False,
        "rtx-4060": True,
    }
    assert all(entry.shared == entry.title.startswith("Jetson") for entry in DEVICES.values())


def test_unknown_names_offer_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"--for: unknown device 'orin-nx-8g'. Did you mean 'orin-nx-8gb'"):
        device("orin-nx-8g")
    with pytest.raises(UsageError, match="Did you mean 'this-machine'"):
        device("this-machin")
    with pytest.raises(UsageError, match=r"no power mode 'MAXNN'. Did you mean 'MAXN'"):
        device("orin-nx-8gb").mode("MAXNN")
    assert device("orin-nx-8gb").mode("maxn").name == "MAXN"
