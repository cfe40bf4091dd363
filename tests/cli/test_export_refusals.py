"""``edgeir export`` that cannot be: the right exit code, one sentence, nothing half-written."""

from __future__ import annotations

import errno
import importlib.util
import os
import pickle
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

MODEL = ("--model", "exda-tiny")

# arguments, words of the sentence; nothing is traced for any of them
REFUSED = {
    "unknown model": (("--model", "exda-tyni"), ("'exda-tyni'", "Did you mean 'exda-tiny'?")),
    "no model": ((), ("--model NAME or --checkpoint FILE", "neither")),
    "two models": ((*MODEL, "--checkpoint", "w.safetensors"), ("--model NAME or --checkpoint FILE", "both")),
    "two precisions": ((*MODEL, "--fp32", "--fp16"), ("name one precision", "--fp32 and --fp16")),
    "size between": ((*MODEL, "--size", "250x250"), ("--size", "multiples of 16", "250x250", "Use 256x256.")),
    "size of nothing": ((*MODEL, "--size", "0x0"), ("--size", "0x0", "Use 16x16.")),
    "negative size": ((*MODEL, "--size", "-64x64"), ("--size", "256x256", "'-64x64'")),
    "size in words": ((*MODEL, "--size", "big"), ("--size", "HEIGHTxWIDTH", "'big'")),
    "one side": ((*MODEL, "--size", "256"), ("--size", "HEIGHTxWIDTH", "'256'")),
    "absurd size": ((*MODEL, "--size", "9" * 5000 + "x16"), ("--size", "HEIGHTxWIDTH")),
    "no pictures": ((*MODEL, "--batch", "0"), ("--batch", "at least 1")),
    "batch in words": ((*MODEL, "--batch", "two"), ("--batch", "edgeir export --help")),
    "size and range": ((*MODEL, "--size", "64x64", "--dynamic", "64x64", "64x64", "96x96"), ("--size and --dynamic",)),
    "range out of order": ((*MODEL, "--dynamic", "128x128", "96x96", "64x64"), ("--dynamic", "MIN <= OPT <= MAX")),
    "range of nothing": ((*MODEL, "--dynamic", "64x64", "64x64", "64x64"), ("--dynamic", "MIN < MAX")),
    "range between": ((*MODEL, "--dynamic", "60x64", "96x96", "128x128"), ("--dynamic", "60x64", "Use 64x64.")),
    "short range": ((*MODEL, "--dynamic", "64x64", "96x96"), ("--dynamic", "3")),
    "unknown target": ((*MODEL, "--target", "tensort"), ("'tensort'", "Did you mean 'tensorrt'?")),
    "no target": ((*MODEL, "--target", ","), ("--target", "ort, rtx, tensorrt")),
    "k without key graph": ((*MODEL, "--k", "8"), ("'k'",)),
    "missing checkpoint": (("--checkpoint", "gone.safetensors"), ("gone.safetensors", "no such checkpoint file")),
    "checkpoint is a folder": (("--checkpoint", "."), ("no such checkpoint file",)),
    "checkpoint of a kind": (("--checkpoint", "weights.txt"), ("weights.txt", ".safetensors", "got .txt")),
    "empty checkpoint": (("--checkpoint", "empty.pth"), ("empty.pth", "is empty")),
    "missing plan": ((*MODEL, "--plan", "gone.yaml"), ("gone.yaml", "cannot be read")),
    "plan with a wrong key": ((*MODEL, "--plan", "typo.yaml"), ("'defualt'", "Did you mean 'default'?")),
    "plan with a wrong type": ((*MODEL, "--plan", "type.yaml"), ("'fp61'", "Did you mean 'fp16'?")),
    "plan that is no YAML": ((*MODEL, "--plan", "broken.yaml"), ("broken.yaml", "not YAML")),
    "plan that is a picture": ((*MODEL, "--plan", "binary.yaml"), ("binary.yaml", "cannot be read")),
    "plan of tomorrow": ((*MODEL, "--plan", "newer.yaml"), ("newer.yaml", "expected 1", "got 99")),
    "out folder missing": ((*MODEL, "--out", "no/such"), ("the folder does not exist", "no/such")),
    "out is a file": ((*MODEL, "--out", "weights.txt"), ("is a file, not a folder",)),
    "out is a file named bundle": ((*MODEL, "--out", "file.edgeir"), ("file.edgeir", "already exists", "--force")),
    "force over a file": ((*MODEL, "--out", "file.edgeir", "--force"), ("is not a bundle",)),
    "force over a folder of mine": ((*MODEL, "--out", "mine.edgeir", "--force"), ("is not a bundle",)),
}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    folder = tmp_path / "place"
    (folder / "mine.edgeir").mkdir(parents=True)
    (folder / "mine.edgeir" / "thesis.txt").write_text("ten years")
    (folder / "weights.txt").write_text("0.1 0.2")
    (folder / "file.edgeir").write_text("x")
    (folder / "empty.pth").write_bytes(b"")
    (folder / "typo.yaml").write_text("plan_version: 1\ndefualt: fp16\n")
    (folder / "type.yaml").write_text("plan_version: 1\ndefault: fp61\n")
    (folder / "broken.yaml").write_text("plan_version: [1\ndefault: {\n")
    (folder / "binary.yaml").write_bytes(b"\x89PNG\xff\xfe")
    (folder / "newer.yaml").write_text("plan_version: 99\ndefault: fp16\n")
    return folder


@pytest.fixture
def no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    def trace(*_: object) -> None:
        raise AssertionError("the refusal came after the work")

    monkeypatch.setattr("edgeir.cli.export_bundle.trace", trace)


@pytest.mark.parametrize("case", REFUSED)
def test_refused(cli: Any, place: Path, no_trace: None, case: str, monkeypatch: Any, unchanged: Any) -> None:
    arguments, words = REFUSED[case]
    monkeypatch.chdir(place)
    with unchanged(place):
        outcome = cli("export", *(() if "--target" in arguments else ("--target", "ort")), *arguments)
        outcome.sentence(2, *words)
        assert outcome.out == ""


def test_a_plan_with_an_unknown_layer(
    cli: Any, weights_file: Path, quick_trace: None, place: Path, unchanged: Any
) -> None:
    plan = place / "layer.yaml"
    plan.write_text("plan_version: 1\ndefault: fp16\nlayers:\n  latnt.0: {type: fp32, reason: a typo}\n")
    with unchanged(place):
        arguments = ("--checkpoint", weights_file, "--size", "64x64", "--target", "ort", "--plan", plan, "--out", place)
        outcome = cli("export", *arguments)
        outcome.sentence(2, "latnt.0", "Did you mean 'latent")


def test_an_existing_bundle(
    cli: Any, weights_file: Path, no_trace: None, static: Path, tmp_path: Path, unchanged: Any
) -> None:
    with unchanged(tmp_path):
        outcome = cli("export", "--checkpoint", weights_file, "--size", "64x64", "--target", "ort", "--out", static)
        outcome.sentence(2, str(static), "already exists", "--force")


@pytest.mark.parametrize("target", ["rtx", "tensorrt"])
def test_a_builder_that_is_not_installed(
    cli: Any, no_trace: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, tree: Any
) -> None:
    found = importlib.util.find_spec
    missing = {"rtx": "tensorrt_rtx", "tensorrt": "tensorrt"}[target]
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *rest: None if name == missing else found(name, *rest))
    cli("export", *MODEL, "--target", target, "--out", tmp_path).sentence(3, f"'{target}'", "not installed", "nstall")
    assert tree(tmp_path) == []


# Checkpoints that are not what they say.


class Exploit:
    """What a pickle runs while it is read."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.marker}",)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("suffix", [".pth", ".pt", ".ckpt", ".bin"])
@pytest.mark.parametrize("kind", ["torch", "bare pickle"])
def test_a_pickle_that_runs_code(cli: Any, no_trace: None, tmp_path: Path, suffix: str, kind: str, tree: Any) -> None:
    import torch

    marker, path = tmp_path / "marker", tmp_path / f"weights{suffix}"
    payload = {"state_dict": Exploit(marker)}
    if kind == "torch":
        torch.save(payload, path)
    else:
        path.write_bytes(pickle.dumps(payload))
    cli("export", "--checkpoint", path, "--target", "ort", "--out", tmp_path).sentence(2, path.name)
    assert tree(tmp_path) == [path.name]


def test_the_exploit_would_run(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Exploit(tmp_path / "marker")))
    assert (tmp_path / "marker").exists()


def damaged_checkpoints(weights_file: Path, folder: Path) -> Iterator[tuple[Path, tuple[str, ...]]]:
    import torch
    from safetensors import safe_open
    from safetensors.torch import save_file

    with safe_open(weights_file, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    data = weights_file.read_bytes()
    for name, content, words in (
        ("cut.safetensors", data[:-1000], ("damaged or not a safetensors file",)),
        ("head.safetensors", data[:20], ("damaged or not a safetensors file",)),
        ("text.safetensors", b"weights", ("damaged or not a safetensors file",)),
        ("text.pth", b"weights", ("not a PyTorch checkpoint",)),
    ):
        (folder / name).write_bytes(content)
        yield folder / name, words
    first = next(iter(tensors))
    save_file(tensors | {first: tensors[first] * 2}, folder / "edited.safetensors", metadata)
    yield folder / "edited.safetensors", ("not those that the spec in the file vouches for",)
    save_file(tensors | {first: tensors[first] * float("nan")}, folder / "nan.safetensors", metadata)
    yield folder / "nan.safetensors", ("NaN or infinity", first)
    save_file({name: tensors[name] for name in list(tensors)[1:]}, folder / "less.safetensors", metadata)
    yield folder / "less.safetensors", ("does not fit", "1 missing", first)
    save_file(tensors | {"extra": torch.zeros(3)}, folder / "more.safetensors", metadata)
    yield folder / "more.safetensors", ("does not fit", "1 unexpected: extra")
    save_file(tensors | {first: torch.zeros(3)}, folder / "shape.safetensors", metadata)
    yield folder / "shape.safetensors", ("does not fit", "1 wrong shape", first)
    save_file(tensors, folder / "spec.safetensors", {"edgeir_spec": "{}"})
    yield folder / "spec.safetensors", ("spec",)
    cnn = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Conv2d(8, 3, 3))
    torch.save(cnn.state_dict(), folder / "cnn.pth")
    yield folder / "cnn.pth", ("cnn.pth",)
    torch.save({"epoch": 3}, folder / "epoch.pth")
    yield folder / "epoch.pth", ("no weights were found",)


def test_damaged_checkpoints(cli: Any, weights_file: Path, no_trace: None, tmp_path: Path, unchanged: Any) -> None:
    (tmp_path / "out").mkdir()
    for path, words in damaged_checkpoints(weights_file, tmp_path):
        with unchanged(tmp_path):
            outcome = cli("export", "--checkpoint", path, "--target", "ort", "--out", tmp_path / "out")
            outcome.sentence(2, path.name, *words)


# Builders and disks that fail.


def export_micro(cli: Any, weights_file: Path, out: Path, target: str = "ort") -> Any:
    return cli("export", "--checkpoint", weights_file, "--size", "64x64", "--target", target, "--out", out)


def test_a_builder_that_fails(
    cli: Any, weights_file: Path, quick_trace: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tree: Any
) -> None:
    from edgeir.errors import BuildFailed

    def build(*_: object, **__: object) -> None:
        raise BuildFailed("the engine build for rtx failed: the parser refuses the graph", where="model.onnx")

    monkeypatch.setattr("edgeir.cli.engine_builds.can_build", lambda runtime: True)
    monkeypatch.setattr("edgeir.cli.engine_builds.build_engine", build)
    export_micro(cli, weights_file, tmp_path, "rtx").sentence(4, "model.onnx", "the parser refuses the graph")
    assert tree(tmp_path) == []


def test_a_builder_that_dies(
    cli: Any, weights_file: Path, quick_trace: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tree: Any
) -> None:
    """The real subprocess, killed by a signal of its own before it answers."""
    import sys

    script = tmp_path / "die"
    script.write_text(f"#!{sys.executable}\nimport os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    script.chmod(0o755)
    (tmp_path / "out").mkdir()
    monkeypatch.setattr("edgeir.cli.engine_builds.can_build", lambda runtime: True)
    monkeypatch.setattr("edgeir.export.engines.builder.sys.executable", str(script))
    export_micro(cli, weights_file, tmp_path / "out", "rtx").sentence(4, "SIGSEGV")
    assert tree(tmp_path / "out") == []


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("reference.onnx", errno.ENOSPC),
        ("model.onnx", errno.ENOSPC),
        ("model.onnx", errno.EDQUOT),
        ("plan.yaml", errno.ENOSPC),
        ("report.html", errno.ENOSPC),
        ("manifest.json", errno.ENOSPC),
    ],
)
def test_a_full_disk(
    cli: Any,
    weights_file: Path,
    quick_trace: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tree: Any,
    name: str,
    number: int,
) -> None:
    for method in ("write_bytes", "write_text"):
        original = getattr(Path, method)

        def write(path: Path, data: Any, *rest: Any, _original: Any = original, **options: Any) -> Any:
            if path.name == name:
                path.touch()
                raise OSError(number, os.strerror(number), str(path))
            return _original(path, data, *rest, **options)

        monkeypatch.setattr(Path, method, write)
    (tmp_path / "out").mkdir()
    export_micro(cli, weights_file, tmp_path / "out").sentence(3, "no room", "Free some space")
    assert tree(tmp_path / "out") == []


def mounted(folder: Path, options: str) -> None:
    """Mount a small disk on ``folder``, or skip and say why."""
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(folder)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no disk can be mounted here: {done.stderr.strip()}")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    mounted(folder, "size=800k")  # reference.onnx fits, model.onnx does not
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def frozen_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    mounted(folder, "size=1m,ro")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_is_really_full(
    cli: Any, weights_file: Path, quick_trace: None, small_disk: Path, tree: Any
) -> None:
    export_micro(cli, weights_file, small_disk).sentence(3, "no room", "Free some space")
    assert tree(small_disk) == []


def test_a_read_only_disk(cli: Any, weights_file: Path, no_trace: None, frozen_disk: Path, tree: Any) -> None:
    export_micro(cli, weights_file, frozen_disk).sentence(2, "read-only")
    assert tree(frozen_disk) == []


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="there is no /proc here")
def test_a_file_system_that_takes_no_files(
    cli: Any, weights_file: Path, no_trace: None, made_static: Path, scene: Any, tmp_path: Path
) -> None:
    line = export_micro(cli, weights_file, Path("/proc")).sentence(2, "/proc")
    assert "does not exist" not in line
    scene(20, 20).save(tmp_path / "a.png")
    line = cli("run", made_static, tmp_path / "a.png", "-o", "/proc/a.png").sentence(2, "/proc/a.png")
    assert "does not exist" not in line


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(cli: Any, weights_file: Path, no_trace: None, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir(mode=0o555)
    export_micro(cli, weights_file, tmp_path / "out").sentence(2, "no permission")
