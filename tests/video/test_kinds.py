"""What is a video and what is a camera, without PyAV."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from edgeir.errors import MissingDependency, PictureError, UsageError
from edgeir.video.kinds import camera_of, is_video, require_av, require_file

TS = (b"\x47" + bytes(187)) * 4


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.mp4", b"", True),
        ("A.MKV", b"anything", True),
        ("a", b"\0\0\0\x18ftypisom", True),
        ("a", b"\0\0\0\x18ftypheic", False),
        ("a", b"\0\0\0\x18ftypavif", False),
        ("a.bin", b"\x1aE\xdf\xa3rest", True),
        ("a", b"RIFF\0\0\0\0AVI LIST", True),
        ("a", b"RIFF\0\0\0\0WEBPVP8 ", False),
        ("a", b"FLV\x01", True),
        ("a", b"YUV4MPEG2 W64", True),
        ("a", TS, True),
        ("a", TS[:188], False),
        ("a.png", b"\x89PNG\r\n\x1a\n", False),
        ("a.txt", b"G" * 1000, True),  # 0x47 throughout: FFmpeg then says what it is not
        ("a", b"", False),
    ],
)
def test_what_is_a_video(tmp_path: Path, name: str, content: bytes, expected: bool) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert is_video(path) is expected


def test_what_cannot_be_read_is_none(tmp_path: Path) -> None:
    assert not is_video(tmp_path / "missing")
    assert not is_video(tmp_path)
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(PictureError, match="cannot be read"):
            require_file(path)


def test_cameras() -> None:
    assert camera_of("camera:0") == "0"
    assert camera_of("camera:/dev/video2") == "/dev/video2"
    assert camera_of("camera") is None
    assert camera_of("camera.mp4") is None
    with pytest.raises(UsageError, match="the camera has no name"):
        camera_of("camera:")


def test_pyav_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependency, match=r"Run: pip install 'edgeir\[video\]'"):
        require_av()


def test_nothing_heavy_is_imported() -> None:
    code = "import sys, edgeir.video.kinds; print([name for name in ('av', 'numpy') if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
