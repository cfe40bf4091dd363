"""``edgeir run`` on cameras, which a test pattern of FFmpeg plays: what is dropped, stopped, kept and said."""

from __future__ import annotations

import json
import sys
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

av = pytest.importorskip("av", reason="PyAV is not installed: pip install 'edgeir[video]'")

from edgeir.video import camera  # noqa: E402

pytestmark = pytest.mark.timeout(300)


def times_of(path: Path) -> list[Fraction]:
    with av.open(str(path)) as container:
        return [frame.pts * frame.time_base for frame in container.decode(video=0)]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def fake_camera(monkeypatch: pytest.MonkeyPatch) -> str:
    """A test pattern of FFmpeg that comes in real time, in place of a device."""
    if "lavfi" not in av.formats_available:
        pytest.skip("this PyAV has no lavfi: nothing plays the camera")
    monkeypatch.setitem(camera.DEVICES, sys.platform, ("lavfi", "testsrc2=size=64x48:rate=50,realtime"))
    return "camera:0"


def test_a_camera(cli: Any, made_static: Path, fake_camera: str, tmp_path: Path) -> None:
    output = tmp_path / "out.mp4"
    outcome = cli("run", made_static, fake_camera, "-o", output, "--seconds", "0.5", "--json").done()
    value = json.loads(outcome.out)
    times = times_of(output)
    assert value["frames"] == len(times) >= 1
    assert value["frames"] + value["dropped"] == 25
    assert 0 <= times[0] < 0.5  # of a machine that is busy the first may be dropped
    assert times == sorted(set(times))
    assert all(float(time * 50).is_integer() for time in times)
    assert names(tmp_path) == ["out.mp4"]


def test_a_slow_network_drops_frames_and_says_so(
    cli: Any, made_static: Path, fake_camera: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import edgeir.runtime.ort_session as ort_session

    quick = ort_session.OrtSession.run

    def slow(self: Any, pictures: Any) -> Any:
        time.sleep(0.15)
        return quick(self, pictures)

    monkeypatch.setattr(ort_session.OrtSession, "run", slow)
    outcome = cli("run", made_static, fake_camera, "-o", tmp_path / "out.mp4", "--seconds", "1", "--json").done()
    value = json.loads(outcome.out)
    assert value["frames"] < 12
    assert value["dropped"] > 30
    assert value["frames"] + value["dropped"] == 50
    assert f"{value['dropped']} frames of the camera were dropped, {value['frames']} restored" in outcome.err


def test_a_camera_that_is_stopped_leaves_its_recording(
    cli: Any, made_static: Path, fake_camera: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import edgeir.runtime.ort_session as ort_session

    runs = 0
    quick = ort_session.OrtSession.run

    def interrupted(self: Any, pictures: Any) -> Any:
        nonlocal runs
        runs += 1
        if runs > 6:
            raise KeyboardInterrupt
        return quick(self, pictures)

    monkeypatch.setattr(ort_session.OrtSession, "run", interrupted)
    output = tmp_path / "out.mp4"
    outcome = cli("run", made_static, fake_camera, "-o", output, "--seconds", "60")
    assert outcome.code == 130
    assert len(times_of(output)) == 6  # every frame that was restored
    assert names(tmp_path) == ["out.mp4"]


def test_a_recording_that_could_not_be_written_is_not_lost(
    cli: Any, made_static: Path, fake_camera: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_frame: Path
) -> None:
    import edgeir.video.restoring as restoring
    from edgeir.errors import OutOfSpace

    def full(*arguments: Any) -> tuple[str, ...]:
        raise OutOfSpace("the disk has no room left", where="out.mp4")

    output, work = tmp_path / "out.mp4", tmp_path / ".out.mp4.edgeir-work"
    with monkeypatch.context() as patch:
        patch.setattr(restoring, "write_joined", full)
        outcome = cli("run", made_static, fake_camera, "-o", output, "--seconds", "0.3")
    outcome.sentence(3, "the disk has no room left")
    assert f"What was recorded is kept in {work}: the same command first writes it beside out.mp4." in outcome.err
    refused = cli("run", made_static, one_frame, "-o", output)
    refused.sentence(2, "a camera's recording that was not finished lies here", str(work))
    assert "is kept in" not in refused.err
    outcome = cli("run", made_static, fake_camera, "-o", output, "--seconds", "0.2", "--json").done()
    recovered = tmp_path / "out-recovered.mp4"
    assert f"frames, is now in {recovered}." in outcome.err
    assert 1 <= len(times_of(recovered)) <= 15
    assert len(times_of(output)) == json.loads(outcome.out)["frames"]
    assert names(tmp_path) == ["in.mp4", "out-recovered.mp4", "out.mp4"]


def test_a_camera_that_is_not_there(cli: Any, made_static: Path, tmp_path: Path) -> None:
    if sys.platform != "linux" or Path("/dev/video97").exists():
        pytest.skip("cameras are files of /dev on Linux only, and number 97 must not be there")
    outcome = cli("run", made_static, "camera:97", "-o", tmp_path / "out.mp4", "--seconds", "1")
    outcome.sentence(2, "camera:97", "cannot be opened", "No such file")
    assert names(tmp_path) == []
