"""The wheel without extras and ONNX Runtime, in an environment that has nothing else: what a device has.

No network is needed: the environment sees links to what pip would have installed, the closure of the wheel's own
requirements, out of the environment that runs the tests.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from PIL import Image

Run = Callable[..., subprocess.CompletedProcess[str]]

MOST_MB = 250  # of the issue: what a device's environment may take
NEVER = ("torch", "onnx", "onnx_ir", "onnxscript", "skimage", "sklearn", "safetensors", "plotly", "psutil")
COMMANDS = ("run", "bench", "inspect", "doctor")


def closure(names: list[str]) -> set[str]:
    """Distributions that pip would install for these, by name, markers evaluated for this Python."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = _canonical(waiting.pop())
        if name in found:
            continue
        found.add(name)
        for text in importlib.metadata.requires(name) or ():
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(requirement.name)
    return found


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory, built_wheel: Path) -> tuple[Run, float]:
    """How to run Python there, and the size of what is installed in MB."""
    home = tmp_path_factory.mktemp("device")
    venv.create(home / "v", with_pip=False, symlinks=os.name != "nt")
    site = next((home / "v").rglob("site-packages"))
    size = 0
    own = _canonical("edgeir")
    for name in closure(["edgeir", "onnxruntime"]) - {own}:
        distribution = importlib.metadata.distribution(name)
        for file in distribution.files or ():
            source = Path(str(distribution.locate_file(file)))
            if ".." in file.parts or not source.is_file() or file.suffix == ".pyc":
                continue
            size += source.stat().st_size
            top = site / file.parts[0]
            if not top.exists():
                top.symlink_to(Path(str(distribution.locate_file(file.parts[0]))))
    with zipfile.ZipFile(built_wheel) as archive:
        archive.extractall(site)
        size += sum(entry.file_size for entry in archive.infolist())
    python = home / "v" / ("Scripts" if os.name == "nt" else "bin") / "python"

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "COVERAGE"))}
        return subprocess.run(
            [str(python), *arguments], capture_output=True, text=True, cwd=home, env=environment, check=False
        )

    return run, size / 1e6


def test_there_is_nothing_else_in_it(device: tuple[Run, float]) -> None:
    run, _ = device
    code = f"import importlib.util as u; print([n for n in {NEVER!r} if u.find_spec(n)])"
    assert run("-c", code).stdout.strip() == "[]"


def test_it_is_small(device: tuple[Run, float]) -> None:
    _, megabytes = device
    assert 20 < megabytes <= MOST_MB, f"{megabytes:.0f} MB"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_a_device_works(
    device: tuple[Run, float], made_static: Path, tmp_path: Path, command: str
) -> None:
    run, _ = device
    picture = tmp_path / "in.png"
    Image.new("RGB", (90, 70), (200, 100, 50)).save(picture)
    arguments = {
        "run": (str(made_static), str(picture), "-o", str(tmp_path / "out.png")),
        "bench": (str(made_static), "--rounds", "2", "--against", "none", "--no-power"),
        "inspect": (str(made_static),),
        "doctor": (),
    }[command]
    done = run("-m", "edgeir", command, *arguments)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    if command == "run":
        with Image.open(tmp_path / "out.png") as restored:
            assert restored.size == (90, 70)
