"""Cameras from end to end: what a recording holds, what stops it, and that it is never lost. FFmpeg's pattern plays."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

av = pytest.importorskip("av", reason="PyAV is not installed: pip install 'edgeir[video]'")

from edgeir.errors import OutOfSpace, OutputError  # noqa: E402
from edgeir.video import camera, encoder, recording, restoring  # noqa: E402
from edgeir.video.camera import open_camera  # noqa: E402
from edgeir.video.codecs import choose_codec  # noqa: E402
from edgeir.video.recording import finish_recording  # noqa: E402
from edgeir.video.restoring import Request, restore_camera  # noqa: E402
from edgeir.video.working import working_folder  # noqa: E402

pytestmark = pytest.mark.timeout(120)

Restore = Callable[[np.ndarray], np.ndarray]


@pytest.fixture
def pattern(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fifty frames a second in real time, by a clock that does not begin at zero, as that of a device."""
    if "lavfi" not in av.formats_available:
        pytest.skip("this PyAV has no lavfi: nothing plays the camera")
    pictures = "testsrc2=size=64x48:rate=50,realtime,setpts=PTS+123456*50"
    monkeypatch.setitem(camera.DEVICES, sys.platform, ("lavfi", pictures))


def record(output: Path, restore: Restore, said: list[str], *, seconds: float = 0.3, codec: str | None = None) -> Any:
    request = Request(output, choose_codec(codec, None, output), None, 1, {"bundle": "a"})
    with open_camera("0") as opened:
        return restore_camera(
            opened, request, restore, seconds=seconds, progress=lambda done, total: None, say=said.append
        )


def full(*arguments: Any) -> tuple[str, ...]:
    raise OutOfSpace("the disk has no room left", where="out.mp4")


def same(pixels: np.ndarray) -> np.ndarray:
    return pixels


@pytest.mark.usefixtures("pattern")
def test_the_end_is_on_the_outputs_clock(tmp_path: Path, support: Any) -> None:
    result = record(tmp_path / "out.mp4", same, [])
    assert result.ending.frames == result.frames + result.dropped == 15
    assert result.ending.end_s == pytest.approx(0.3)
    assert support.times_of(tmp_path / "out.mp4")[-1] == Fraction(14, 50)


@pytest.mark.usefixtures("pattern")
def test_ctrl_c_loses_no_frame_that_was_restored(tmp_path: Path, support: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """An encoder that is slower than the network has some of them waiting."""
    write = encoder.SegmentWriter.write

    def slow(*arguments: Any) -> None:
        time.sleep(0.1)
        write(*arguments)

    monkeypatch.setattr(encoder.SegmentWriter, "write", slow)
    network = support.Counting(stop_at=6)
    with pytest.raises(KeyboardInterrupt):
        record(tmp_path / "out.mp4", network, [], seconds=60)
    assert len(support.times_of(tmp_path / "out.mp4")) == network.frames == 6
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]


@pytest.mark.usefixtures("pattern")
@pytest.mark.parametrize("codec", ["h264", "mpeg4"])
def test_a_recording_that_cannot_be_written_is_finished_later(
    tmp_path: Path, support: Any, monkeypatch: pytest.MonkeyPatch, codec: str
) -> None:
    """Nobody else may clear its folder, and the next recording first puts it beside the output."""
    output, folder, said = tmp_path / "out.mp4", working_folder(tmp_path / "out.mp4"), list[str]()
    monkeypatch.setattr(restoring, "write_joined", full)
    network = support.Counting()
    with pytest.raises(OutOfSpace):
        record(output, network, said, codec=codec)
    assert said == [f"What was recorded is kept in {folder}: the same command first writes it beside out.mp4."]
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]
    monkeypatch.undo()
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(OutputError, match="a camera's recording that was not finished lies here"):
        restoring.WorkingFolder(output, {"something": "else"})
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    for name in ("out.mp4", "out-recovered.mp4"):
        (tmp_path / name).write_bytes(b"of somebody")
    monkeypatch.setattr(recording, "write_joined", full)
    with pytest.raises(OutOfSpace):
        finish_recording(output, said.append)
    monkeypatch.undo()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    target = finish_recording(output, said.append)
    assert target == tmp_path / "out-recovered-2.mp4"
    assert said[-1] == f"An earlier recording that was not finished, {network.frames} frames, is now in {target}."
    assert len(support.times_of(target)) == network.frames
    assert support.times_of(target)[0] < 0.3
    assert (tmp_path / "out.mp4").read_bytes() == (tmp_path / "out-recovered.mp4").read_bytes() == b"of somebody"
    assert not folder.exists()


@pytest.mark.usefixtures("pattern")
def test_a_recording_that_was_killed_is_finished_later(
    tmp_path: Path, support: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a killed process leaves are the segments that were full."""
    monkeypatch.setattr(restoring, "SEGMENT_FRAMES", 5)
    output, copy = tmp_path / "out.mp4", tmp_path / "left"
    seen = 0

    def network(pixels: np.ndarray) -> np.ndarray:
        nonlocal seen
        seen += 1
        if len(list(working_folder(output).glob("0*.json"))) >= 2 and not copy.exists():
            shutil.copytree(working_folder(output), copy)
        return pixels

    record(output, network, [], seconds=0.5)
    copy.rename(working_folder(output))
    said: list[str] = []
    target = finish_recording(output, said.append)
    assert target is not None
    assert len(support.times_of(target)) in (10, 15)
    assert not working_folder(output).exists()


def test_nothing_to_finish(tmp_path: Path) -> None:
    output, said = tmp_path / "out.mp4", list[str]()
    assert finish_recording(output, said.append) is None
    folder = working_folder(output)
    folder.mkdir()
    (folder / "job.json").write_text(json.dumps({"input": "a film"}))
    assert finish_recording(output, said.append) is None
    assert (folder / "job.json").exists(), "a film's folder is left alone"
    assert said == []


@pytest.mark.usefixtures("pattern")
def test_an_encoder_that_hangs_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What its thread holds is not touched from another: the run ends, and what was finished stays."""
    import threading

    from edgeir.video import pipeline

    monkeypatch.setattr(restoring, "SEGMENT_FRAMES", 2)
    monkeypatch.setattr(pipeline, "_ENDING_S", 0.3)
    released, hanging = threading.Event(), threading.Event()
    write, finish = encoder.SegmentWriter.write, encoder.SegmentWriter.finish
    touched: list[str] = []

    def hang(self: Any, *arguments: Any) -> None:
        if "000001" in str(self._path):
            hanging.set()
            released.wait(30)
        write(self, *arguments)

    def note(self: Any) -> Any:
        if hanging.is_set():
            touched.append(threading.current_thread().name)
        return finish(self)

    monkeypatch.setattr(encoder.SegmentWriter, "write", hang)
    monkeypatch.setattr(encoder.SegmentWriter, "finish", note)

    def network(pixels: np.ndarray) -> np.ndarray:
        if hanging.is_set():
            raise KeyboardInterrupt
        return pixels

    output = tmp_path / "out.mp4"
    with pytest.raises(KeyboardInterrupt):
        record(output, network, [], seconds=60)
    assert touched == []
    with av.open(str(output)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 2
    released.set()
    for thread in threading.enumerate():
        if thread.name == "edgeir-writer":
            thread.join(10)
