"""The whole path over a real sshd: add, doctor, push, build, bench, run, pull, as a user would type it."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgeir import __version__
from edgeir.bundle import Bundle

if sys.platform == "win32":
    pytest.skip("boards are POSIX machines", allow_module_level=True)

import fcntl

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
    assert "Nothing to send" in cli("device", "push", "orin", bundle).done().out  # results stay here
    result = next(one for one in manifest.artifacts if one.role == "bench")
    assert result.parents == ("model.onnx", pulled[0])  # it was the engine that was timed


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
    before = {path: path.read_bytes() for path in source.iterdir()}
    cli("device", "run", "orin", bundle, source, "-o", source).sentence(2, "the pictures would overwrite themselves")
    cli("device", "run", "orin", bundle, source / "b.png", "-o", source).sentence(2, "would overwrite itself")
    assert {path: path.read_bytes() for path in source.iterdir()} == before
    cli("device", "run", "orin", bundle, source / "gone.png", "-o", output).sentence(2, "no such file or folder")
    cli("device", "bench", "orin", bundle, "--output=x").sentence(2, "--output=x cannot be passed on")


def test_results_that_somebody_else_took(
    orin: Any, cli: Callable[..., Any], bundle: Path, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgeir.remote import pictures

    cli("device", "push", "orin", bundle).done()
    fetch = pictures.fetch

    def late(connection: Any, jobs: Any, folder: str) -> Any:
        for path in (orin.root / folder / "out").iterdir():
            path.unlink()
        return fetch(connection, jobs, folder)

    monkeypatch.setattr(pictures, "fetch", late)
    out = tmp_path / "out.png"
    gone = cli("device", "run", "orin", bundle, picture, "-o", out)
    gone.sentence(3, "the results are gone there (expected 1 pictures, got 0)", "run the command again")
    assert gone.out == ""
    monkeypatch.setattr(pictures, "fetch", fetch)
    again = cli("device", "run", "orin", bundle, picture, "-o", out)  # and that helps
    assert out.is_file(), again.err


def test_a_result_that_could_not_be_kept_here_is_there_the_next_time(
    orin: Any, cli: Callable[..., Any], bundle: Path, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgeir.errors import OutOfSpace
    from edgeir.remote import pictures

    cli("device", "push", "orin", bundle).done()

    fetch = pictures.fetch

    def full(*_: Any) -> Any:
        raise OutOfSpace("the disk here is full", where="out.png")

    monkeypatch.setattr(pictures, "fetch", full)
    cli("device", "run", "orin", bundle, picture, "-o", tmp_path / "out.png").sentence(3, "the disk here is full")
    monkeypatch.setattr(pictures, "fetch", fetch)
    (job,) = (orin.root / "jobs").glob("run-*")
    token = json.loads((job / "job.json").read_text())["token"]
    again = cli("device", "run", "orin", bundle, picture, "-o", tmp_path / "out.png").done()
    assert "0 of 1 pictures sent" in again.err
    assert json.loads((job / "job.json").read_text())["token"] == token
    assert (tmp_path / "out.png").is_file()
    assert (job / "taken").exists()


def test_stop(orin: Any, cli: Callable[..., Any], bundle: Path, settings: Path) -> None:
    """Jobs that run for as long as they are let."""
    from edgeir.remote.addresses import device_named
    from edgeir.remote.connection import Connection

    assert cli("device", "stop", "orin").done().out == "Nothing runs there.\n"
    keys = ["bench-gain.edgeir-01234567-01234567", "build-other.edgeir-01234567-01234567"]
    with Connection(device_named("orin")) as connection:
        for key in keys:
            connection.ask("start", key=key, command=["sleep", "60"])
    assert cli("device", "stop", "orin").done().out.split() == keys
    assert cli("device", "stop", "orin", bundle).done().out == f"Stopped: {keys[0]}\n"
    assert json.loads(cli("device", "stop", "orin", "--json").done().out)["running"][0]["key"] == keys[1]
    assert cli("device", "stop", "orin", bundle).done().out == "Nothing of this bundle runs there.\n"
    devices = json.loads(settings.read_text())
    other = orin.home / "third"
    devices["devices"]["third"] = {**devices["devices"]["orin"], "root": str(other)}
    settings.write_text(json.dumps(devices))
    with Connection(device_named("third")) as connection:
        connection.ask("make", folder="jobs")
        connection.ask("start", key=keys[0], command=["sleep", "60"])
        pid = (
            int((other / "jobs" / keys[0] / "pid").read_text() or "0") if _soon(other / "jobs" / keys[0] / "pid") else 0
        )
        cli("device", "remove", "third", "--there").done()
    assert list(other.iterdir()) == []
    assert not Path(f"/proc/{pid}").exists()


def _soon(path: Path) -> bool:
    deadline = time.monotonic() + 20
    while not (path.is_file() and path.read_bytes().endswith(b"\n")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return True


def test_what_cannot_be_removed(orin: Any, cli: Callable[..., Any], settings: Path) -> None:
    devices = json.loads(settings.read_text())
    other = orin.home / "fourth"
    devices["devices"]["fourth"] = {**devices["devices"]["orin"], "root": str(other)}
    settings.write_text(json.dumps(devices))
    (other / "runs" / "of root").mkdir(parents=True)  # and not of the board's user
    (other / "runs" / "of root" / "a.png").touch()
    cli("device", "remove", "fourth", "--there").sentence(
        2, "not everything there could be removed", f"runs in {other}"
    )
    assert "fourth" in cli("device", "list").done().out
    shutil.rmtree(other)


def test_an_environment_that_is_gone(orin: Any, cli: Callable[..., Any], settings: Path) -> None:
    devices = json.loads(settings.read_text())
    devices["devices"]["orin"]["python"] = str(orin.root / "envs" / "gone" / "bin" / "python")
    settings.write_text(json.dumps(devices))
    cli("device", "doctor", "orin").sentence(3, "edgeir does not run there", "Install it again: edgeir device add orin")


def test_added_again(orin: Any, cli: Callable[..., Any]) -> None:
    """Nothing is done twice, not while somebody else is at it, and not with a word that pip would only warn of."""
    words = ["device", "add", "orin", orin.address, "--port", orin.port, "--ssh-config", orin.config,
             "--python", orin.python, "--system-site-packages"]  # fmt: skip
    again = cli(*words).done()
    assert "it is installed already" in again.err
    assert "sending" not in again.err
    cli(*words, "--extra", "gqu").sentence(2, "--extra: edgeir has no extra 'gqu'", "Did you mean 'gpu'?")
    with (orin.root / "envs" / ".lock").open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        cli(*words, "--again").sentence(3, "orin: another installation is running there")
    assert not list((orin.root / "wheels").iterdir())


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
