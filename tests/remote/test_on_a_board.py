"""The whole path over a real sshd: add, doctor, push, build, bench, run, pull, as a user would type it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgeir import __version__
from edgeir.bundle import Bundle

pytestmark = pytest.mark.slow


def test_add(orin: Any, installed: dict[str, Any], cli: Callable[..., Any]) -> None:
    answer = json.loads(installed["answer"])
    assert answer["device"]["root"] == str(orin.root)
    assert answer["edgeir"] == __version__
    assert answer["probe"]["system"] == "Linux"
    assert (orin.root / "envs").is_dir()
    assert not (orin.root / "wheels").exists()  # what was sent is removed again
    assert "orin" in cli("device", "list").done().out


def test_doctor(orin: Any, cli: Callable[..., Any]) -> None:
    text = cli("device", "doctor", "orin").done().out
    assert f"edgeir {__version__}" in " ".join(text.split())
    assert "onnxruntime" in text
    found = json.loads(cli("device", "doctor", "orin", "--json").done().out)
    parts = {part["name"]: part["version"] for part in found["doctor"]["parts"]}
    assert parts["onnxruntime"]
    assert found["board"]["cpus"] >= 1


def test_the_whole_path(orin: Any, cli: Callable[..., Any], bundle: Path, picture: Path, tmp_path: Path) -> None:
    cli("device", "build", "orin", bundle).sentence(3, "the bundle is not on the device", "edgeir device push orin")
    assert "2 files sent" in cli("device", "push", "orin", bundle).done().out
    assert "Nothing to send" in cli("device", "push", "orin", bundle).done().out
    built = cli("device", "build", "orin", bundle, "--target", "ort").done()
    assert "Built on orin: engines/ort-" in built.out
    assert "[2/3]" in built.err
    assert "Already built" in cli("device", "build", "orin", bundle, "--target", "ort").done().out

    timed = cli("device", "bench", "orin", bundle, "--rounds", "2", "--against", "none", "--no-memory").done()
    assert "p50" in timed.out

    restored = tmp_path / "a folder" / "out [2].png"
    restored.parent.mkdir()
    assert cli("device", "run", "orin", bundle, picture, "-o", restored).done().out.strip() == str(restored)
    expected = np.asarray(Image.open(picture)) * 0.5
    assert np.abs(np.asarray(Image.open(restored)) - expected).max() <= 1
    assert not list((orin.root / "runs").iterdir())

    pulled = cli("device", "pull", "orin", bundle).done().out.splitlines()
    assert len(pulled) == 2
    assert pulled[0].startswith("engines/ort-")
    assert pulled[1].startswith("results/bench-")
    manifest = Bundle.open(bundle).manifest
    assert [note.path for note in manifest.engines] == [pulled[0]]
    assert {record.files for record in manifest.devices} == {(pulled[0],), (pulled[1],)}
    assert orin.user not in (bundle / "manifest.json").read_text()
    assert "Nothing there" in cli("device", "pull", "orin", bundle).done().out
    assert "1 file sent" in cli("device", "push", "orin", bundle).done().out  # the result, which was no file there


def test_a_folder_of_pictures(orin: Any, cli: Callable[..., Any], bundle: Path, tmp_path: Path) -> None:
    source, output = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for name, side in (("b.png", 32), ("a.jpg", 20), ("c.webp", 40)):
        Image.new("RGB", (side, side), (200, 100, 50)).save(source / name)
    (source / "broken.png").write_bytes(b"no picture")
    cli("device", "push", "orin", bundle).done()
    ran = cli("device", "run", "orin", bundle, source, "-o", output)
    ran.sentence(2, f"{source}: 1 of 4 pictures could not be restored", "the first is broken.png")
    assert sorted(path.name for path in output.iterdir()) == ["a.jpg", "b.png", "c.webp"]
    assert np.asarray(Image.open(output / "b.png"))[0, 0].tolist() == [100, 50, 25]
    cli("device", "run", "orin", bundle, source / "gone.png", "-o", output).sentence(2, "no such file or folder")
    cli("device", "bench", "orin", bundle, "--output=x").sentence(2, "--output=x cannot be passed on")


def test_remove(orin: Any, cli: Callable[..., Any], settings: Path) -> None:
    devices = json.loads(settings.read_text())
    other = orin.home / "other"
    devices["devices"]["second"] = {**devices["devices"]["orin"], "root": str(other)}
    settings.write_text(json.dumps(devices))
    (other / "bundles" / "x.edgeir").mkdir(parents=True)
    for path in (other, other / "bundles", other / "bundles" / "x.edgeir"):
        shutil.chown(path, orin.user)
    assert "is still there" in cli("device", "remove", "orin").done().out
    cli("device", "remove", "second", "--there").done()
    assert list(other.iterdir()) == []
    cli("device", "doctor", "second").sentence(2, "there is no device 'second'")
