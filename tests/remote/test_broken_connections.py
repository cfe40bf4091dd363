"""Over a real sshd: the connection killed in the middle of a build, uploads that broke off, damaged files."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeir.bundle import Bundle
from edgeir.remote import jobs
from edgeir.remote.addresses import device_named
from edgeir.remote.bundles import board_name, push
from edgeir.remote.connection import Connection
from edgeir.remote.refusals import Unreachable

pytestmark = pytest.mark.slow


def when(path: Path, pattern: str, action: Callable[[], None]) -> threading.Thread:
    """Runs ``action`` as soon as a file matching ``pattern`` has something in it."""

    def wait() -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if any(file.stat().st_size for file in path.glob(pattern)):
                return action()
            time.sleep(0.02)
        return None

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def test_a_build_goes_on_when_the_connection_is_killed(orin: Any, cli: Callable[..., Any], bundle: Path) -> None:
    cli("device", "push", "orin", bundle).done()

    def cut_and_come_back() -> None:
        orin.cut()
        time.sleep(1)
        orin.start()

    watch = when(orin.root, "jobs/build-*/log", cut_and_come_back)
    built = cli("device", "build", "orin", bundle, "--target", "ort").done()
    watch.join()
    assert "the connection broke, the work goes on there" in built.err
    assert "Built on orin: engines/ort-" in built.out
    # Every line of the build came once, whatever broke in between.
    lines = [line for line in built.err.splitlines() if line.startswith("[")]
    assert [line[:5] for line in lines] == ["[1/3]", "[2/3]", "[3/3]"]


def test_a_second_call_takes_what_the_first_began(
    orin: Any, cli: Callable[..., Any], bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli("device", "push", "orin", bundle).done()
    monkeypatch.setattr(jobs, "RETRIES", 0)
    watch = when(orin.root, "jobs/build-*/log", orin.cut)
    lost = cli("device", "build", "orin", bundle, "--target", "ort")
    watch.join()
    lost.sentence(3, "orin: ", "The work goes on there: the same command attaches to it again.")
    orin.start()
    (job,) = (orin.root / "jobs").glob("build-*")
    token = json.loads((job / "job.json").read_text())["token"]
    again = cli("device", "build", "orin", bundle, "--target", "ort").done()
    assert "attached to it" in again.err or "it ended on orin while nobody listened" in again.err
    assert json.loads((job / "job.json").read_text())["token"] == token  # no second build
    assert "Built on orin" in again.out


def test_a_failed_build_says_why_with_its_exit_code(
    orin: Any, cli: Callable[..., Any], bundle: Path, make_bundle: Callable[..., Path], tmp_path: Path
) -> None:
    cli("device", "push", "orin", bundle).done()
    cli("device", "build", "orin", bundle, "--target", "tensorrt").sentence(
        3, "orin: ", "the engine builder 'tensorrt' is not installed", "--system-site-packages"
    )
    cli("device", "build", "orin", bundle, "--target", "trt").sentence(2, "unknown target 'trt'")
    broken = make_bundle(tmp_path / "broken.edgeir", broken=True)
    cli("device", "push", "orin", broken).done()
    cli("device", "build", "orin", broken, "--target", "ort").sentence(4, "orin: model.onnx: ONNX Runtime refuses")
    assert Bundle.open(orin.root / "bundles" / "broken.edgeir").manifest == Bundle.open(broken).manifest


def test_an_upload_goes_on_where_it_broke_off(orin: Any, make_bundle: Callable[..., Path], tmp_path: Path) -> None:
    opened = Bundle.open(make_bundle(tmp_path / "big.edgeir", megabytes=4))
    (large,) = [one for one in opened.manifest.artifacts if one.role == "report-html"]
    model = next(one for one in opened.manifest.artifacts if one.role == "model")
    incoming = orin.root / "incoming" / board_name(opened.path)
    data = (opened.path / large.path).read_bytes()
    for artifact in opened.manifest.artifacts:  # nobody may write to them: sftp gives the files there the same mode
        (opened.path / artifact.path).chmod(0o444)
    with Connection(device_named("orin")) as connection:
        connection.ask("make", folder=f"incoming/{board_name(opened.path)}")
        (incoming / large.sha256).write_bytes(data[:3_000_000])
        (incoming / model.sha256).write_bytes((opened.path / model.path).read_bytes()[:-1] + b"?")  # whole, and damaged
        for file in incoming.iterdir():
            file.chmod(0o444)
            shutil.chown(file, orin.user)
        said: list[str] = []
        pushed = push(connection, opened, said.append)
        assert said[0] == "sending 2 of 3 files, 1.0 MB"
        assert said[1:] == ["files that came damaged and are sent again: 1", "sending 1 of 3 files, 0.0 MB"]
        assert pushed.files == 3
        assert not incoming.exists()
        assert Bundle.open(orin.root / "bundles" / "big.edgeir").manifest.name == "gain"


def test_what_was_built_there_stays_as_long_as_its_graph_does(
    orin: Any, cli: Callable[..., Any], make_bundle: Callable[..., Path], tmp_path: Path
) -> None:
    path = make_bundle(tmp_path / "gain.edgeir")
    cli("device", "push", "orin", path).done()
    cli("device", "build", "orin", path, "--target", "ort").done()
    make_bundle(path, megabytes=0.1)  # the same graph, and a report more
    assert "1 that were made there stay" in cli("device", "push", "orin", path).done().out
    there = orin.root / "bundles" / "gain.edgeir"
    assert [note.runtime for note in Bundle.open(there).manifest.engines] == ["ort"]
    make_bundle(path, gain=0.25)
    cli("device", "build", "orin", path).sentence(3, "another version of the bundle", "edgeir device push")
    cli("device", "push", "orin", path).done()
    assert Bundle.open(there).manifest.engines == ()


def test_no_server_and_no_host_key(orin: Any, cli: Callable[..., Any], bundle: Path) -> None:
    orin.cut()
    try:
        cli("device", "push", "orin", bundle).sentence(3, "no ssh server answers there", "--port")
    finally:
        orin.start()
    known = orin.folder / "known_hosts"
    before = known.read_text()
    try:
        known.write_text("")
        cli("device", "doctor", "orin").sentence(3, "host key of the device is not known here", "Connect once by hand")
        assert known.read_text() == ""
        known.write_text(f"[127.0.0.1]:{orin.port} {(orin.folder / 'login.pub').read_text()}")
        cli("device", "doctor", "orin").sentence(3, "another host key than the one known here", "ssh-keygen -R")
    finally:
        known.write_text(before)


def test_a_key_that_the_board_does_not_know(orin: Any, bundle: Path, tmp_path: Path) -> None:
    import dataclasses
    import subprocess

    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "other")], check=True)
    (tmp_path / "ssh_config").write_text(
        f"Host *\n  UserKnownHostsFile {orin.folder}/known_hosts\n  GlobalKnownHostsFile /dev/null\n"
    )
    stranger = dataclasses.replace(
        device_named("orin"), config=str(tmp_path / "ssh_config"), identity=str(tmp_path / "other")
    )
    with Connection(stranger) as connection, pytest.raises(Unreachable, match=r"refuses the login.*ssh-copy-id"):
        connection.ask("state")
