"""``edgeir run`` on videos: end to end with a micro network, killed and resumed, cut off, and refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

av = pytest.importorskip("av", reason="PyAV is not installed: pip install 'edgeir[video]'")

pytestmark = pytest.mark.timeout(300)
EXIT_S = 30.0


def make_video(path: Path, frames: int = 12, *, width: int = 64, height: int = 48, faststart: bool = False) -> Path:
    """Moving waves with a silent sound track."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    options = {"movflags": "faststart"} if faststart else {}
    with av.open(str(path), "w", container_options=options) as output:
        video = output.add_stream("libx264", rate=25, options={"crf": "12", "preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        audio = output.add_stream("aac", rate=48000)
        for index in range(frames):
            wave = 0.5 + 0.4 * np.sin((x + 2 * index) / 9 + y / 23)
            picture = np.stack([wave, wave.T.reshape(wave.shape), 1 - wave], 2).astype(np.float32)
            frame = av.VideoFrame.from_ndarray((picture * 255).astype(np.uint8), format="rgb24")
            frame.pts = index
            output.mux(video.encode(frame))
            sound = av.AudioFrame.from_ndarray(np.zeros((2, 1920), np.float32), format="fltp", layout="stereo")
            sound.sample_rate, sound.pts, sound.time_base = 48000, index * 1920, Fraction(1, 48000)
            output.mux(audio.encode(sound))
        output.mux(video.encode(None))
        output.mux(audio.encode(None))
    return path


def times_of(path: Path) -> list[Fraction]:
    with av.open(str(path)) as container:
        return [frame.pts * frame.time_base for frame in container.decode(video=0)]


def sound_of(path: Path) -> list[tuple[Fraction, bytes]]:
    with av.open(str(path)) as container:
        return [(packet.pts * packet.time_base, bytes(packet)) for packet in container.demux(audio=0) if packet.size]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_video(cli: Any, made_static: Path, tmp_path: Path) -> None:
    source, output = make_video(tmp_path / "in.mp4"), tmp_path / "out.mp4"
    outcome = cli("run", made_static, source, "-o", output).done()
    assert outcome.out == f"{output}\n"
    assert "UNTRAINED" in outcome.err
    assert "12 frames, 12 of them restored now" in outcome.err
    assert "frames: 12 of 12" in outcome.err
    assert times_of(output) == times_of(source)
    assert sound_of(output) == sound_of(source)
    assert names(tmp_path) == ["in.mp4", "out.mp4"]


def test_the_frames_are_what_the_network_gives(cli: Any, made_static: Path, tmp_path: Path) -> None:
    """Without loss in the codec, a frame is the picture that ``edgeir run`` makes of it, within a step of 8 bits."""
    from PIL import Image

    from edgeir.imaging.reading import read_picture
    from edgeir.video.source import open_video

    source = make_video(tmp_path / "in.mp4", frames=2, width=100, height=72)  # more than one tile of 64
    outcome = cli("run", made_static, source, "-o", tmp_path / "out.mkv", "--codec", "ffv1", "--json").done()
    value = json.loads(outcome.out)
    assert (value["frames"], value["codec"], value["pixel_format"]) == (2, "ffv1", "yuv420p")
    with open_video(source) as video:
        pixels = next(video.pictures()).pixels
    Image.fromarray((pixels * 255).round().astype(np.uint8)).save(tmp_path / "frame.png")
    cli("run", made_static, tmp_path / "frame.png", "-o", tmp_path / "restored.png").done()
    expected = read_picture(tmp_path / "restored.png").pixels
    with av.open(str(tmp_path / "out.mkv")) as container:
        plane = next(container.decode(video=0)).planes[0]
    stored = np.frombuffer(memoryview(plane), np.uint8).reshape(72, plane.line_size)[:, :100]
    luma = (stored.astype(np.float32) - 16) / 219  # it has full resolution; colour has half of it
    weights = np.array([0.299, 0.587, 0.114], np.float32)
    # What the two files and the PNG that went in round; the network passes the last of these on.
    assert np.abs(expected @ weights - luma).max() < 2 / 255


def test_json(cli: Any, made_static: Path, tmp_path: Path) -> None:
    source, output = make_video(tmp_path / "in.mp4"), tmp_path / "out.mp4"
    value = json.loads(cli("run", made_static, source, "-o", output, "--json", "--crf", "30").done().out)
    assert value["frames"] == 12
    assert value["fps"] > 0
    assert value["seconds"] > 0
    assert (value["truncated"], value["damaged_frames"], value["resumed_from"], value["dropped"]) == (False, 0, 0, 0)
    assert (value["ended_at_s"], value["declared_s"]) == (0.48, 0.48)
    assert (value["codec"], value["pixel_format"], value["untrained"]) == ("h264", "yuv420p", True)
    assert value["left_out"] == []


def test_into_a_folder(cli: Any, made_static: Path, tmp_path: Path) -> None:
    source, folder = make_video(tmp_path / "in.mp4", frames=3), tmp_path / "out"
    folder.mkdir()
    assert cli("run", made_static, source, "-o", folder).done().out == f"{folder / 'in.mp4'}\n"
    other = source.rename(tmp_path / "film")  # known by its content
    assert cli("run", made_static, other, "-o", folder).done().out == f"{folder / 'film.mp4'}\n"


def test_a_video_that_is_cut_off(cli: Any, made_static: Path, tmp_path: Path) -> None:
    whole = make_video(tmp_path / "whole.mp4", frames=50, faststart=True)
    source, output = tmp_path / "in.mp4", tmp_path / "out.mp4"
    data = whole.read_bytes()
    source.write_bytes(data[: int(len(data) * 0.6)])
    outcome = cli("run", made_static, source, "-o", output, "--json")
    value = json.loads(outcome.out)
    count = value["frames"]
    assert 10 < count < 50
    assert value["truncated"] is True
    assert len(times_of(output)) == count
    assert times_of(output) == times_of(whole)[:count]
    said = outcome.sentence(2, "not whole", f"cut off after {count} frames, at {count / 25:.3f} s of 2.0")
    assert f"{output} holds every frame that could be decoded" in said
    assert names(tmp_path) == ["in.mp4", "out.mp4", "whole.mp4"]


# The command with short segments and a network that takes its time, so that there is something to kill.
SLOW = """
import sys, time
import edgeir.video.restoring as restoring
import edgeir.runtime.ort_session as ort_session
from edgeir.cli.main import main
restoring.SEGMENT_FRAMES = 5
seconds = float(sys.argv.pop())
sys.argv.append("--json")
run = ort_session.OrtSession.run
def slow(self, pictures):
    time.sleep(seconds)
    return run(self, pictures)
ort_session.OrtSession.run = slow
main()
"""


@pytest.fixture
def start(made_static: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """``start(source, output, seconds)``: the command in a process, each frame taking so long."""
    started = []

    def begin(source: object, output: Path, seconds: float, *more: str) -> subprocess.Popen[str]:
        words = [str(word) for word in ("run", made_static, source, "-o", output, *more, seconds)]
        process = subprocess.Popen(
            [sys.executable, "-c", SLOW, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        if process.poll() is None:
            process.kill()
            process.communicate()


def wait_for_segments(folder: Path, count: int, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + EXIT_S
    while len(list(folder.glob("0*.json"))) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "no segment was finished"
        time.sleep(0.02)


@pytest.mark.parametrize("kind", ["SIGKILL", "SIGTERM", "SIGINT"])
def test_stopped_and_begun_again(start: Any, tmp_path: Path, kind: str) -> None:
    """What is finished is not restored again, and what a killed run leaves is one hidden folder."""
    source, output = make_video(tmp_path / "in.mp4", frames=30), tmp_path / "out.mp4"
    work = tmp_path / ".out.mp4.edgeir-work"
    process = start(source, output, 0.1)
    wait_for_segments(work, 2, process)
    process.send_signal(getattr(signal, kind))
    _, errors = process.communicate(timeout=EXIT_S)
    assert process.returncode == {"SIGKILL": -signal.SIGKILL, "SIGTERM": 143, "SIGINT": 130}[kind], errors
    assert names(tmp_path) == [".out.mp4.edgeir-work", "in.mp4"]
    if kind != "SIGKILL":
        assert f"What is restored is kept in {work}: the same command goes on from there." in errors
        assert "Traceback" not in errors
        assert not list(work.glob("*.part"))
    finished = 5 * len(list(work.glob("0*.json")))
    process = start(source, output, 0.0)
    out, errors = process.communicate(timeout=EXIT_S)
    assert process.returncode == 0, errors
    value = json.loads(out)
    assert value["resumed_from"] == finished
    assert 10 <= finished < 30
    assert value["frames"] == 30
    assert f"Going on after {finished} frames" in errors
    assert times_of(output) == times_of(source)
    assert sound_of(output) == sound_of(source)
    assert names(tmp_path) == ["in.mp4", "out.mp4"]


def interrupt_at(monkeypatch: pytest.MonkeyPatch, frame: int) -> None:
    """Ctrl-C while the network works on a frame; segments are of five."""
    import edgeir.runtime.ort_session as ort_session
    import edgeir.video.restoring as restoring

    runs, quick = 0, ort_session.OrtSession.run

    def interrupted(self: Any, pictures: Any) -> Any:
        nonlocal runs
        if runs == frame:
            raise KeyboardInterrupt
        runs += 1
        return quick(self, pictures)

    monkeypatch.setattr(restoring, "SEGMENT_FRAMES", 5)
    monkeypatch.setattr(ort_session.OrtSession, "run", interrupted)


@pytest.mark.parametrize(
    ("options", "changed"),
    [
        ((), None),
        (("--backend", "ort-reference"), "backend"),
        (("--on-bad-output", "stop"), "on_bad_output"),
        (("--overlap", "8"), "overlap"),
        (("--crf", "30"), "encoding"),
    ],
)
def test_only_the_same_run_goes_on(
    cli: Any, made_static: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], changed: str
) -> None:
    """Frames of two networks, or of one that was used otherwise, do not belong in one film."""
    source, output = make_video(tmp_path / "in.mp4", frames=18), tmp_path / "out.mp4"
    with monkeypatch.context() as patch:
        interrupt_at(patch, 16)
        assert cli("run", made_static, source, "-o", output).code == 130
    monkeypatch.setattr("edgeir.video.restoring.SEGMENT_FRAMES", 5)
    outcome = cli("run", made_static, source, "-o", output, "--json", *options).done()
    resumed = json.loads(outcome.out)["resumed_from"]
    if changed is None:
        assert resumed in (10, 15)
        assert "begun anew" not in outcome.err
    else:
        assert resumed == 0
        assert "An unfinished run was for something else (" in outcome.err
        assert changed in outcome.err.partition("something else (")[2].partition(" changed)")[0].split(", ")
    assert len(times_of(output)) == 18


def test_what_is_kept_is_said_only_where_it_is(
    cli: Any, made_static: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not when nothing was finished, and not of a folder that another run works in."""
    from edgeir.video.working import WorkingFolder

    source, output = make_video(tmp_path / "in.mp4", frames=12), tmp_path / "out.mp4"
    with monkeypatch.context() as patch:
        interrupt_at(patch, 2)
        outcome = cli("run", made_static, source, "-o", output)
    assert outcome.code == 130
    assert "is kept in" not in outcome.err
    assert names(tmp_path) == ["in.mp4"]
    other = WorkingFolder(output, {"other": 1})
    if other._lock is None:
        pytest.skip("this file system has no locks")
    outcome = cli("run", made_static, source, "-o", output)
    outcome.sentence(2, "another run is writing this output")
    assert "is kept in" not in outcome.err
    other.release()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("IN", "-o", "out.avi"), ("edgeir writes no video with this suffix", "'.avi'")),
        (("IN", "-o", "out.png"), ("edgeir writes no video with this suffix",)),
        (("IN", "-o", "out.mp4", "--codec", "h265"), ("unknown codec 'h265'",)),
        (("IN", "-o", "out.mp4", "--codec", "ffv1"), ("ffv1 cannot go into this container", "expected .mkv")),
        (("IN", "-o", "out.mp4", "--codec", "mpeg4", "--crf", "3"), ("mpeg4 has no rate factor",)),
        (("IN", "-o", "out.mp4", "--crf", "99"), ("no such rate factor", "expected 0 to 51, got 99")),
        (("IN", "-o", "out.mp4", "--seconds", "1"), ("this option is for cameras",)),
        (("IN", "-o", "IN"), ("would overwrite itself",)),
        (("IN", "-o", "no/out.mp4"), ("there is no such folder",)),
        (("BROKEN", "-o", "out.mp4"), ("cannot be opened as a video", "Invalid data")),
        (("camera:0", "-o", "out.mp4"), ("how long is the camera to be watched?",)),
        (("camera:", "-o", "out.mp4", "--seconds", "1"), ("the camera has no name",)),
        (("PICTURE", "-o", "out.png", "--crf", "3"), ("this option is for videos and cameras",)),
        (("missing.mp4", "-o", "out.mp4"), ("there is no such file",)),
    ],
)
def test_refused(
    cli: Any, made_static: Path, tmp_path: Path, scene: Any, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    make_video(tmp_path / "IN.mp4", frames=2)
    (tmp_path / "BROKEN.mp4").write_bytes(b"this is no video")
    scene(16, 16).save(tmp_path / "PICTURE.png")
    before = names(tmp_path)
    given = [
        {"IN": tmp_path / "IN.mp4", "BROKEN": tmp_path / "BROKEN.mp4", "PICTURE": tmp_path / "PICTURE.png"}.get(
            word, tmp_path / word if "." in word and not word.startswith("-") else word
        )
        for word in arguments
    ]
    cli("run", made_static, *given).sentence(2, *words)
    assert names(tmp_path) == before


def test_without_pyav(cli: Any, made_static: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    source, find = make_video(tmp_path / "in.mp4", frames=2), importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "av" else find(name, *more))
    outcome = cli("run", made_static, source, "-o", tmp_path / "out.mp4")
    outcome.sentence(3, "videos and cameras need PyAV", "pip install 'edgeir[video]'")
