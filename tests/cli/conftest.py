"""What the tests of the commands share: a runner, the three micro bundles it exports once, and folders as listings."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgeir.cli.main import _run
from edgeir.models.build import build_seeded, describe
from edgeir.models.checkpoint import save_checkpoint
from edgeir.spec import WeightsSpec

MICRO = {"dim": 8, "blocks": [1, 1, 1, 1], "refine": 1, "heads": [1, 1, 1, 1]}


@dataclass(frozen=True)
class Outcome:
    """How one command ended."""

    code: int
    out: str
    err: str

    def sentence(self, code: int, *words: str) -> str:
        """The one line that says what is wrong; fails unless the command ended with ``code`` and that line alone."""
        lines = [line for line in self.err.splitlines() if line.startswith("edgeir: ")]
        assert self.code == code, self.err
        assert "Traceback" not in self.err + self.out
        assert "defect" not in self.err
        assert len(lines) == 1, self.err
        assert self.err.endswith(f"{lines[0]}\n"), self.err
        for word in words:
            assert word in lines[0], (word, lines[0])
        return lines[0]

    def done(self) -> Outcome:
        """Itself, if the command ended well and stderr holds progress only."""
        assert self.code == 0, self.err
        assert "edgeir: " not in self.err
        assert "Traceback" not in self.err
        return self


Cli = Callable[..., Outcome]


def run_here(capture: Any, *arguments: object, debug: bool = False) -> Outcome:
    """Run a command in this process; ``capture`` is pytest's ``capsys`` or one that works alike."""
    words = [str(argument) for argument in arguments]
    before = sys.argv
    sys.argv = ["edgeir", *words]
    try:
        capture.readouterr()
        code = _run(words, debug=debug)
    finally:
        sys.argv = before
    out, err = capture.readouterr()
    return Outcome(code, out, err)


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    """``cli("run", bundle, picture, "-o", out)``: a command in this process."""

    def run(*arguments: object, debug: bool = False) -> Outcome:
        return run_here(capsys, *arguments, debug=debug)

    return run


class _NoCapture:
    def readouterr(self) -> tuple[str, str]:
        return "", ""


def _export(*arguments: object) -> None:
    outcome = run_here(_NoCapture(), "export", *arguments, debug=True)
    assert outcome.code == 0, "the export of the micro bundle failed, see the captured stderr"


@pytest.fixture(scope="session")
def weights_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a very small ExDA with seeded weights."""
    path = tmp_path_factory.mktemp("checkpoint") / "micro.safetensors"
    weights = WeightsSpec(source="seeded", trained=False, sha256="", seed=7)
    save_checkpoint(path, build_seeded("exda", MICRO, seed=7), describe("exda-custom", "exda", MICRO, weights))
    return path


@pytest.fixture(scope="session")
def made_static(weights_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle for 64x64; nobody may change it."""
    folder = tmp_path_factory.mktemp("static")
    _export("--checkpoint", weights_file, "--size", "64x64", "--target", "ort", "--out", folder)
    return folder / "exda-custom-fp16-64x64.edgeir"


@pytest.fixture(scope="session")
def wide_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small CEA with layers wide enough for eight bits; its record says "trained", so that budgets count."""
    settings = {"dim": 16, "blocks": [1, 1, 1, 1], "refine": 1, "heads": [1, 2, 1, 2], "rank": 4, "adapter_width": 16}
    path = tmp_path_factory.mktemp("wide") / "wide.safetensors"
    weights = WeightsSpec(source="checkpoint", trained=True, sha256="")
    save_checkpoint(path, build_seeded("cea", settings, seed=7), describe("cea-custom", "cea", settings, weights))
    return path


@pytest.fixture
def stopped_planner() -> Callable[[], Any]:
    """``with stopped_planner():`` interrupts a planner after the first layer that it measured."""
    from edgeir.cli import planning

    alone = planning.measure_sensitivity

    def stopped(*arguments: Any, on_layer: Any, **options: Any) -> Any:
        def once(name: str, effect: Any) -> None:
            on_layer(name, effect)
            raise KeyboardInterrupt

        return alone(*arguments, on_layer=once, **options)

    @contextmanager
    def stop() -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(planning, "measure_sensitivity", stopped)
            yield

    return stop


@pytest.fixture(scope="session")
def made_wide(wide_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its bundle in FP16 for 32x32; nobody may change it."""
    path = tmp_path_factory.mktemp("wide-bundle") / "wide.edgeir"
    _export("--checkpoint", wide_file, "--size", "32x32", "--target", "ort", "--out", path)
    return path


@pytest.fixture(scope="session")
def made_dynamic(weights_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle for 64x64 to 128x128; nobody may change it."""
    path = tmp_path_factory.mktemp("dynamic") / "dynamic.edgeir"
    _export("--checkpoint", weights_file, "--dynamic", "64x64", "96x96", "128x128", "--target", "ort", "--out", path)
    return path


@pytest.fixture(scope="session")
def made_rtx(weights_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle for 64x64 with an engine; nobody may change it."""
    if importlib.util.find_spec("tensorrt_rtx") is None:
        pytest.skip("tensorrt_rtx is not installed: no engine can be built here")
    path = tmp_path_factory.mktemp("rtx") / "rtx.edgeir"
    _export("--checkpoint", weights_file, "--size", "64x64", "--target", "rtx", "--out", path)
    return path


@pytest.fixture
def static(made_static: Path, tmp_path: Path) -> Path:
    """A copy of the static bundle, to damage."""
    return Path(shutil.copytree(made_static, tmp_path / "micro.edgeir"))


@pytest.fixture
def quick_trace(made_static: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An export of the micro network at 64x64 takes the graph of the finished bundle, on one picture."""
    import onnx_ir as ir

    monkeypatch.setattr("edgeir.cli.export_bundle.trace", lambda *_: ir.load(made_static / "reference.onnx"))
    monkeypatch.setattr("edgeir.cli.export_bundle.EXPORT_PICTURES", 1)


def listing(folder: Path) -> list[str]:
    """Every file and folder below ``folder``, the hidden ones included, with its size."""
    return sorted(
        f"{path.relative_to(folder)} {path.lstat().st_size if path.is_file() else ''}" for path in folder.rglob("*")
    )


@pytest.fixture
def unchanged() -> Callable[[Path], Any]:
    """``with unchanged(folder):`` fails if the folder holds anything else afterwards."""
    from contextlib import contextmanager

    @contextmanager
    def check(folder: Path) -> Iterator[None]:
        before = listing(folder)
        yield
        assert listing(folder) == before

    return check


@pytest.fixture
def tree() -> Callable[[Path], list[str]]:
    """Names of everything below a folder."""
    return lambda folder: sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.fixture(scope="session")
def scene() -> Callable[..., Image.Image]:
    """``scene(height, width, mode)``: a smooth picture with edges, the same on every call."""

    def make(height: int, width: int, mode: str = "RGB") -> Image.Image:
        y, x = np.mgrid[0:height, 0:width].astype(np.float64)
        planes = [
            0.5 + 0.4 * np.sin(x / 9 + y / 23),
            0.5 + 0.4 * np.cos(y / 11 - x / 31),
            ((x // 16 + y // 16) % 2) * 0.6 + 0.2,
            0.5 + 0.5 * np.sin((x + y) / 17),
        ]
        values = (np.stack(planes, axis=2) * 255).round().astype(np.uint8)
        image = Image.fromarray(values, "RGBA")
        return image if mode == "RGBA" else image.convert("RGB").convert(mode)

    return make


@pytest.fixture
def one_frame(tmp_path: Path) -> Path:
    """A video of a single frame, 64x48."""
    av = pytest.importorskip("av", reason="PyAV is not installed: no video can be made")
    path = tmp_path / "in.mp4"
    with av.open(str(path), "w") as output:
        video = output.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        output.mux(video.encode(av.VideoFrame(64, 48, "yuv420p")))
        output.mux(video.encode(None))
    return path
