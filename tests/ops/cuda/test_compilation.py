"""Every kernel for every architecture: no warning, no register that spills."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[3] / "edgeir" / "ops" / "cuda"
ARCHITECTURES = ("80", "87", "89", "90", "110", "120")  # A100, Orin, RTX 40, H100, Thor, RTX 50


@pytest.mark.slow
@pytest.mark.timeout(1800)  # minutes on an idle core: six architectures, one after the other
@pytest.mark.parametrize("source", sorted(path.name for path in SOURCES.glob("*.cu")))
def test_no_warning_and_no_spill(source: str, tmp_path: Path) -> None:
    compiler = shutil.which("nvcc")
    if compiler is None:
        pytest.skip("nvcc is not on this machine: the kernels are not compiled")
    targets = [f"-gencode=arch=compute_{number},code=sm_{number}" for number in ARCHITECTURES]
    command = [compiler, "-std=c++17", "-O3", "-Xptxas", "-v", "-Werror", "all-warnings", *targets, "-c"]
    built = subprocess.run(
        [*command, str(SOURCES / source), "-o", str(tmp_path / "kernels.o")], capture_output=True, text=True
    )
    assert built.returncode == 0, built.stderr
    assert not [line for line in built.stderr.splitlines() if "warning" in line.lower()]
    spills = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", built.stderr)
    compiled = re.findall(r"Compiling entry function '\w+' for 'sm_(\d+)'", built.stderr)
    assert set(compiled) == set(ARCHITECTURES)
    assert len(spills) >= len(compiled)
    assert {number for row in spills for number in row} == {"0"}, built.stderr
