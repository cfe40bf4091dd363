"""What a device imports stays light: no torch, no ONNX tools, no runtime until a command needs it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

_EXPORT = ("torch", "onnx", "onnx_ir", "onnxscript", "scipy")
HEAVY = (*_EXPORT, "onnxruntime", "tensorrt", "tensorrt_rtx", "polygraphy", "cuda", "av")
REPORT_HEAVY = f"import json, sys; print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"


def heavy_after(code: str) -> list[str]:
    """Which of `HEAVY` a fresh interpreter has loaded after ``code``."""
    result = subprocess.run(
        [sys.executable, "-c", f"{code}\n{REPORT_HEAVY}"], capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 0, result.stderr
    loaded: list[str] = json.loads(result.stdout.splitlines()[-1])
    return loaded


@pytest.mark.parametrize(
    "module",
    [
        "edgeir",
        "edgeir.bundle",
        "edgeir.provenance",
        "edgeir.imaging",
        "edgeir.ops.table",
        "edgeir.models.registry",
        "edgeir.report.formats",
        "edgeir.runtime.board",
        "edgeir.runtime.power",
        "edgeir.cli.main",
    ],
)
def test_imports(module: str) -> None:
    assert heavy_after(f"import {module}") == []


@pytest.mark.parametrize("arguments", [["--help"], ["export", "--help"]])
def test_command_line(arguments: list[str]) -> None:
    code = f"""
import sys
sys.argv = ["edgeir", *{arguments!r}]
from edgeir.cli.main import main
try:
    code = main()
except SystemExit as exit:
    code = exit.code
assert not code, code
"""
    assert heavy_after(code) == []


def test_the_test_can_fail() -> None:
    assert heavy_after("import onnx_ir") != []
