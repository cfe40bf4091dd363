"""An export that is interrupted, terminated or killed: no bundle, no temporary folder, no process left over."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edgeir.bundle import Bundle

pytestmark = [
    pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="left-over processes are found in /proc"),
    pytest.mark.slow,
]
HAS_RTX = importlib.util.find_spec("tensorrt_rtx") is not None
EXIT_S = 20.0

# The command with one thing replaced: it takes the graph in its first argument instead of tracing the network.
UNTRACED = """
import sys
import onnx_ir, edgeir.cli.export_bundle as export_bundle
from edgeir.cli.main import main
path = sys.argv.pop(1)
export_bundle.trace = lambda *_: onnx_ir.load(path)
main()
"""


class Export:
    """A real export of the micro network in a process group of its own, all its processes marked."""

    def __init__(self, weights_file: Path, out: Path, graph: Path | None) -> None:
        self._mark = f"EDGEIR_TEST_MARK={uuid.uuid4()}"
        name, _, value = self._mark.partition("=")
        program = ("-m", "edgeir.cli.main") if graph is None else ("-c", UNTRACED, graph)
        self.process = subprocess.Popen(
            [
                *(sys.executable, *program),
                *("export", "--checkpoint", weights_file, "--size", "64x64"),
                *("--target", "rtx" if HAS_RTX else "ort", "--out", out / "a.edgeir"),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, name: value},
            start_new_session=True,
        )
        self.lines: list[str] = []

    def wait_for(self, words: str) -> None:
        """Read progress until a line holds ``words``."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)
            if words in line:
                return
        pytest.fail(f"no line with {words!r} in {self.lines}")

    def alive(self) -> list[int]:
        """Numbers of the processes that carry our mark, dead children that nobody waited for included."""
        found = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdecimal() and self._mark.encode() in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
        return found

    def end(self) -> tuple[int, str]:
        """Exit code and what was said on stderr."""
        _, rest = self.process.communicate(timeout=EXIT_S)
        return self.process.returncode, "".join(self.lines) + rest

    def all_gone(self) -> bool:
        """Whether no process is left, given a moment."""
        return within(10, lambda: not self.alive())


def within(seconds: float, condition: Callable[[], bool]) -> bool:
    """Whether ``condition`` comes true in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


@pytest.fixture
def start(weights_file: Path, made_static: Path, tmp_path: Path) -> Iterator[Callable[..., Export]]:
    """``start(traced=True)``: begin a real export into ``tmp_path``; whatever is left of it is killed at the end."""
    started = []

    def begin(*, traced: bool) -> Export:
        started.append(Export(weights_file, tmp_path, None if traced else made_static / "reference.onnx"))
        return started[-1]

    yield begin
    for export in started:
        for number in export.alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        export.process.wait()


def reach(export: Export, moment: str) -> None:
    """Wait until the export is in the middle of something."""
    if moment == "trace":
        export.wait_for("tracing")
        time.sleep(0.4)
    elif moment == "engine build":
        export.wait_for("building engines")
        assert within(10, lambda: len(export.alive()) > 1), "no build process"
        time.sleep(0.3)
    else:
        export.wait_for("measuring drift")
    assert export.process.poll() is None


@pytest.mark.parametrize("moment", ["trace", "engine build", "drift"])
@pytest.mark.parametrize("kind", ["SIGINT", "SIGTERM"])
def test_stopped(start: Callable[..., Export], tmp_path: Path, tree: Any, moment: str, kind: str) -> None:
    if moment == "engine build" and not HAS_RTX:
        pytest.skip("tensorrt_rtx is not installed: no engine can be built here")
    export = start(traced=moment == "trace")
    reach(export, moment)
    assert len(tree(tmp_path)) >= 1, "the export had not begun to write"
    if kind == "SIGINT":  # a terminal sends it to every process of the command
        os.killpg(export.process.pid, signal.SIGINT)
    else:
        os.kill(export.process.pid, signal.SIGTERM)
    code, text = export.end()
    assert code == {"SIGINT": 130, "SIGTERM": 143}[kind], text
    word = {"SIGINT": "interrupted", "SIGTERM": "terminated"}[kind]
    assert text.splitlines()[-1] == f"edgeir: {word}, nothing half-written was left behind."
    assert "Traceback" not in text
    assert export.all_gone()
    assert tree(tmp_path) == []


def test_killed_and_done_again(
    start: Callable[..., Export], cli: Any, weights_file: Path, quick_trace: None, tmp_path: Path, tree: Any
) -> None:
    export = start(traced=not HAS_RTX)
    reach(export, "engine build" if HAS_RTX else "trace")
    export.process.kill()
    assert export.process.wait(EXIT_S) == -signal.SIGKILL
    assert export.all_gone(), "the build process outlived the export"
    left = [name for name in tree(tmp_path) if "/" not in name]
    assert len(left) == 1
    assert left[0].startswith(".a.edgeir.")
    out = tmp_path / "a.edgeir"
    cli("export", "--checkpoint", weights_file, "--size", "64x64", "--target", "ort", "--out", out).done()
    Bundle.open(out)
    assert [path.name for path in tmp_path.iterdir()] == ["a.edgeir"]


def test_an_interrupted_folder_keeps_what_was_finished(made_static: Path, scene: Any, tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    scene(300, 300).save(source / "000.png")
    for number in range(1, 200):
        shutil.copy(source / "000.png", source / f"{number:03}.png")
    process = subprocess.Popen(
        [sys.executable, "-m", "edgeir.cli.main", "run", str(made_static), str(source), "-o", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert within(30, lambda: out.is_dir() and len(list(out.glob("*.png"))) >= 2)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=EXIT_S)
    assert process.returncode == 130
    assert errors.splitlines()[-1].startswith("edgeir: interrupted")
    from edgeir.imaging.reading import read_picture

    names = sorted(path.name for path in out.iterdir())
    assert names == [f"{number:03}.png" for number in range(len(names))], "a hidden or half file"
    assert (read_picture(out / names[-1]).height, len(names) < 200) == (300, True)
