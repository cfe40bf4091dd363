"""edgeir plan-size, as it is called."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Cli = Callable[..., Any]


def test_it_says_what_the_picture_takes(cli: Cli) -> None:
    said = cli("plan-size", "1920x1080", "--for", "orin-nano-4gb").done().out
    words = " ".join(said.split())
    assert words.startswith("1920x1080 through exda-tiny fp16 on Jetson Orin Nano 4GB 2 tiles of 976x1088, 32 shared;")
    for part in ("repeated work", "activations", "weights", "pictures", "fits yes", "25W", "10W", "7W_AI"):
        assert part in words
    assert "Modelled, not measured" in words
    assert "edgeir export --model exda-tiny --fp16 --size 1088x976" in words


def test_json(cli: Cli) -> None:
    value = json.loads(
        cli("plan-size", "640x480", "--for", "rtx-4070", "--model", "kgt-tiny", "--precision", "fp32", "--json")
        .done()
        .out
    )
    assert value["modelled"] is True
    assert value["picture"] == {"width": 640, "height": 480}
    assert (value["device"], value["model"], value["precision"]) == ("rtx-4070", "kgt-tiny", "fp32")
    assert value["memory_bytes"]["total"] == value["memory_bytes"]["engine"] + value["memory_bytes"]["pictures"]
    assert [mode["power_mode"] for mode in value["modes"]] == ["boost"]
    assert value["fits"]


def test_this_machine_is_measured(cli: Cli) -> None:
    words = " ".join(cli("plan-size", "320x240", "--model", "cea-tiny").done().out.split())
    assert "on this machine's processor" in words
    assert "prepared with --for onnxruntime" in words
    assert words.split("Next: ")[1] == "edgeir export --model cea-tiny --fp16 --size 240x320 --for onnxruntime"


def test_the_next_command_does_what_was_planned(cli: Cli) -> None:
    for precision in ("int8", "fp8"):
        said = cli("plan-size", "640x480", "--for", "thor", "--precision", precision).done().out
        assert f"edgeir export --model exda-tiny --{precision} --calibration FOLDER --size 480x640\n" in said
    said = cli("plan-size", "1920x1080", "--for", "orin-nano-4gb", "--overlap", "48").done().out
    assert said.endswith("  edgeir run exda-tiny-fp16-1088x992.edgeir PICTURE -o RESTORED.png --overlap 48\n")
    whole = cli("plan-size", "640x480", "--for", "thor", "--overlap", "48").done().out
    assert "edgeir run" not in whole  # one tile shares nothing


def test_kgt_says_what_is_left_out(cli: Cli) -> None:
    words = " ".join(cli("plan-size", "320x240", "--for", "thor", "--model", "kgt-tiny").done().out.split())
    assert "choice of neighbours is sorting, which the model leaves out" in words


@pytest.fixture
def make_bundle(tmp_path: Path) -> Callable[..., Path]:
    """``make_bundle(...)``: a bundle of no files; what is planned stands in its manifest."""
    from edgeir.bundle import BundleWriter
    from edgeir.manifest import Manifest
    from edgeir.provenance import collect
    from edgeir.spec import ModelSpec, SizeRule

    def make(**changes: Any) -> Path:
        with BundleWriter(tmp_path / "some.edgeir", force=True) as writer:
            return writer.commit(
                Manifest(
                    name="exda-tiny",
                    precision="fp16",
                    batch=1,
                    model=ModelSpec("exda-tiny", "exda", {"dim": 24}, SizeRule(16, 16)),
                    provenance=collect(seconds=0.0),
                    **changes,
                )
            )

    return make


def test_a_bundle(cli: Cli, make_bundle: Callable[..., Path]) -> None:
    from edgeir.manifest import AxisRange
    from edgeir.spec import TensorSpec

    ranges = {"H": AxisRange(128, 256, 512), "W": AxisRange(128, 256, 512)}
    path = make_bundle(input=TensorSpec("image", (1, 3, "H", "W")), ranges=ranges)
    said = cli("plan-size", "1920x1080", "--for", "orin-nx-8gb", "--model", path, "--overlap", "48").done().out
    assert f"edgeir run {path} PICTURE -o RESTORED.png --tile" in said
    assert "--overlap 48" in said
    cli("plan-size", "640x480", "--model", path, "--precision", "int8", "--for", "thor").sentence(2, "expected fp16")
    cli("plan-size", "640x480", "--model", path, "--tile", "100", "--for", "thor").sentence(2, "--tile")
    huge = cli("plan-size", "30000x30000", "--for", "orin-nano-4gb", "--model", path, "--tile", "256").done().out
    assert "DOES NOT FIT" in huge
    assert "Next" not in huge


def test_a_bundle_whose_tiles_share_statistics(cli: Cli, make_bundle: Callable[..., Path]) -> None:
    from edgeir.manifest import Tiling
    from edgeir.spec import TensorSpec

    tiling = Tiling(64, (256, 256), 57.0, 1.0, 1, shared_statistics=True)
    path = make_bundle(input=TensorSpec("image", (1, 3, 256, 256)), tiling=tiling)
    here = " ".join(cli("plan-size", "640x640", "--model", path).done().out.split())
    assert "gathering 18 runs before these, for the statistics that the tiles share" in here
    value = json.loads(cli("plan-size", "640x640", "--model", path, "--json").done().out)
    assert (value["runs"], value["gathering_runs"]) == (9, 18)
    assert "gathering" not in cli("plan-size", "640x640", "--model", path, "--for", "orin-nx-8gb").done().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("1920",), ("not a resolution", "WIDTHxHEIGHT")),
        (("0x10",), ("not a resolution",)),
        (("1920x1080", "--for", "orin-nx"), ("unknown device 'orin-nx'", "Did you mean 'orin-nx-")),
        (("1920x1080", "--model", "exda-tyni"), ("unknown model", "Did you mean 'exda-tiny'")),
        (("1920x1080", "--model", "absent.edgeir", "--for", "thor"), ("no such bundle",)),
        (("1920x1080", "--precision", "fp61"), ("unknown precision", "Did you mean 'fp16'")),
        (("1920x1080", "--for", "orin-nx-8gb", "--precision", "fp8"), ("has no FP8",)),
        (("1920x1080", "--for", "orin-nx-8gb", "--power-mode", "100W"), ("no power mode '100W'",)),
        (("1920x1080", "--for", "thor", "--tile", "100"), ("--tile", "multiples of 16")),
        (("1920x1080", "--for", "thor", "--tile", "64", "--overlap", "64"), ("--overlap", "0 to 63 pixels")),
        (("30000x30000", "--for", "orin-nano-4gb"), ("no tile of exda-tiny fits",)),
    ],
)
def test_refusals(cli: Cli, arguments: tuple[str, ...], words: tuple[str, ...]) -> None:
    cli("plan-size", *arguments).sentence(2, *words)


def test_a_tile_that_does_not_fit_is_said(cli: Cli) -> None:
    said = cli("plan-size", "4000x3000", "--for", "orin-nano-4gb", "--tile", "2048").done().out
    assert "DOES NOT FIT" in said
    assert "edgeir export" not in said


def test_no_torch_and_no_onnx() -> None:
    code = (
        "import sys\nfrom edgeir.cli.main import _run\n"
        "assert _run(['plan-size', '640x480', '--for', 'thor'], debug=True) == 0\n"
        "print([name for name in ('torch', 'onnx', 'onnx_ir', 'onnxruntime') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert result.stdout.splitlines()[-1] == "[]"
