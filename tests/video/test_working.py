"""A run that was stopped goes on, one for something else begins anew, and no two write one output."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

av = pytest.importorskip("av", reason="PyAV is not installed: pip install 'edgeir[video]'")

from edgeir.errors import OutOfSpace, OutputError  # noqa: E402
from edgeir.video import restoring  # noqa: E402
from edgeir.video.working import WorkingFolder, working_folder  # noqa: E402

pytestmark = pytest.mark.timeout(120)

Video = Callable[..., Path]


@pytest.fixture
def short_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restoring, "SEGMENT_FRAMES", 5)


@pytest.mark.usefixtures("short_segments")
def test_a_stopped_run_goes_on(video: Video, tmp_path: Path, support: Any) -> None:
    """Nothing is restored twice, and the file is bit for bit the one of a run that was not stopped."""
    source = video("in.mp4", frames=23, tone=True)
    whole = tmp_path / "whole.mp4"
    support.run(source, whole, support.Counting())
    output, network = tmp_path / "out.mp4", support.Counting(stop_at=17)
    with pytest.raises(KeyboardInterrupt):
        support.run(source, output, network)
    assert not output.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".out.mp4.edgeir-work", "in.mp4", "whole.mp4"]
    assert not list(working_folder(output).glob("*.part"))
    said: list[str] = []
    network = support.Counting()
    result = support.run(source, output, network, said=said)
    assert result.resumed_from in (10, 15)  # the third segment closes while the next frames are restored
    assert network.frames == 23 - result.resumed_from
    assert said == [f"Going on after {result.resumed_from} frames that an earlier run has restored."]
    assert output.read_bytes() == whole.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4", "out.mp4", "whole.mp4"]


@pytest.mark.usefixtures("short_segments")
@pytest.mark.parametrize("changed", ["input", "bundle", "codec"])
def test_something_else_begins_anew(video: Video, tmp_path: Path, changed: str, support: Any) -> None:
    source, output = video("in.mp4", frames=12), tmp_path / "out.mp4"
    with pytest.raises(KeyboardInterrupt):
        support.run(source, output, support.Counting(stop_at=11))
    options: dict[str, Any] = {}
    if changed == "input":
        source = video("in.mp4", frames=12, gop=1)
    else:
        options = {"bundle": {"bundle": "b"}, "codec": {"codec": "mpeg4"}}[changed]
    said: list[str] = []
    network = support.Counting()
    result = support.run(source, output, network, said=said, **options)
    assert (result.resumed_from, network.frames) == (0, 12)
    name = {"codec": "encoding"}.get(changed, changed)
    assert said[0] == f"An unfinished run was for something else ({name} changed): begun anew."


@pytest.mark.usefixtures("short_segments")
def test_a_damaged_segment_is_done_again(video: Video, tmp_path: Path, support: Any) -> None:
    source, output = video("in.mp4", frames=23), tmp_path / "out.mp4"
    with pytest.raises(KeyboardInterrupt):
        support.run(source, output, support.Counting(stop_at=20))
    second = working_folder(output) / "000001.nut"
    data = bytearray(second.read_bytes())
    data[len(data) // 2] ^= 1
    second.write_bytes(data)
    network = support.Counting()
    result = support.run(source, output, network)
    assert (result.resumed_from, network.frames, result.frames) == (5, 18, 23)
    assert support.times_of(output) == support.times_of(source)


def test_only_one_run_at_a_time(video: Video, tmp_path: Path, support: Any) -> None:
    source, output = video("in.mp4"), tmp_path / "out.mp4"
    other = WorkingFolder(output, {"other": 1})
    if other._lock is None:
        pytest.skip("this file system has no locks")
    with pytest.raises(OutputError, match="another run is writing this output"):
        support.run(source, output)
    other.release()
    support.run(source, output)


def test_a_full_disk_is_one_sentence(
    video: Video, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, support: Any
) -> None:
    source, output = video("in.mp4"), tmp_path / "out.mp4"

    def full(self: Path, target: Any) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OutOfSpace, match="the disk has no room left"):
        support.run(source, output)
    monkeypatch.undo()
    assert not output.exists()
    assert support.run(source, output).frames == 12


def test_the_job_is_written_down(video: Video, tmp_path: Path, support: Any) -> None:
    source, output = video("in.mp4", frames=70), tmp_path / "out.mp4"
    with pytest.raises(KeyboardInterrupt):
        support.run(source, output, support.Counting(stop_at=65))
    job = json.loads((working_folder(output) / "job.json").read_text())
    assert job["bundle"] == "a"
    assert job["encoding"]["format"] == "yuv420p"
    text = json.dumps(job)
    assert str(tmp_path) not in text
    assert os.uname().nodename not in text or len(os.uname().nodename) < 4
