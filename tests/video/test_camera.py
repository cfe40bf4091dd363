"""Cameras by name on each system. No device is here: what PyAV is asked to open is looked at."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

av = pytest.importorskip("av", reason="PyAV is not installed: pip install 'edgeir[video]'")

from edgeir.errors import MissingDependency, PictureError, UsageError  # noqa: E402
from edgeir.video import camera  # noqa: E402
from edgeir.video.camera import DEVICES, camera_pictures, open_camera  # noqa: E402


@pytest.mark.parametrize(
    ("system", "name", "format", "device"),
    [
        ("linux", "0", "v4l2", "/dev/video0"),
        ("linux", "/dev/v4l/by-id/front", "v4l2", "/dev/v4l/by-id/front"),
        ("darwin", "1", "avfoundation", "1:none"),
        ("darwin", "FaceTime", "avfoundation", "FaceTime:none"),
        ("win32", "Integrated Camera", "dshow", "video=Integrated Camera"),
        ("win32", "1", "dshow", "video=second"),
    ],
)
def test_what_is_opened(monkeypatch: pytest.MonkeyPatch, system: str, name: str, format: str, device: str) -> None:
    asked: dict[str, Any] = {}

    def opened(what: str, mode: str, **options: Any) -> Any:
        asked.update(what=what, **options)
        raise av.error.FileNotFoundError(2, "No such file or directory")

    cameras = [SimpleNamespace(name=one, media_types=["video"]) for one in ("first", "second")]
    cameras.insert(1, SimpleNamespace(name="microphone", media_types=["audio"]))
    monkeypatch.setattr(camera.sys, "platform", system)
    monkeypatch.setattr(camera.av, "open", opened)
    monkeypatch.setattr(camera.av, "enumerate_input_devices", lambda format: cameras, raising=False)
    with pytest.raises(PictureError, match=r"cannot be opened \(got No such file or directory\)"):
        open_camera(name)
    assert (asked["what"], asked["format"]) == (device, format)
    assert asked["timeout"] > 0


def test_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DEVICES, sys.platform, ("no-such-format", "{}"))
    with pytest.raises(MissingDependency, match="built without 'no-such-format'"):
        open_camera("0")
    monkeypatch.setattr(camera.sys, "platform", "win32")
    monkeypatch.setattr(camera.av, "enumerate_input_devices", lambda format: [], raising=False)
    with pytest.raises(UsageError, match=r"there is no camera of this number \(got 0 cameras\)"):
        open_camera("0")
    monkeypatch.setattr(camera.sys, "platform", "plan9")
    with pytest.raises(MissingDependency, match="no way to read a camera on this system"):
        open_camera("0")


def test_times_count_from_the_first_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    if "lavfi" not in av.formats_available:
        pytest.skip("this PyAV has no lavfi: nothing plays the camera")
    pattern = "testsrc2=size=32x32:rate=10,setpts=PTS+500"
    monkeypatch.setitem(DEVICES, sys.platform, ("lavfi", pattern))
    with open_camera("0") as opened:
        times = [picture.pts * opened.info.time_base for picture in camera_pictures(opened, 0.5)]
    assert [float(time) for time in times] == [0, 0.1, 0.2, 0.3, 0.4]
