"""Reading videos: what they say of themselves, times that are missing, and ends that come too soon."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

av = pytest.importorskip("av", reason="PyAV is not installed: pip install 'edgeir[video]'")

from edgeir.errors import PictureError  # noqa: E402
from edgeir.video.ending import Ending, is_cut  # noqa: E402
from edgeir.video.source import open_video  # noqa: E402

Video = Callable[..., Path]


def read(path: Path) -> tuple[list[int], Ending]:
    """Times of all pictures, and how the file ended."""
    with open_video(path) as video:
        return [picture.pts for picture in video.pictures()], video.ending


def cut(path: Path, share: float) -> Path:
    """The beginning of a file."""
    shorter = path.with_stem("cut")
    data = path.read_bytes()
    shorter.write_bytes(data[: int(len(data) * share)])
    return shorter


def test_what_a_video_says_of_itself(video: Video) -> None:
    path = video("in.mp4", frames=50, width=96, height=64, aspect=Fraction(4, 3), rotation=-90, matrix=9, transfer=16)
    with open_video(path) as opened:
        info = opened.info
        picture = next(opened.pictures())
    assert (info.width, info.height, info.frames, info.rate) == (96, 64, 50, 25)
    assert (info.sample_aspect, info.time_base) == (Fraction(4, 3), Fraction(1, 12800))
    assert (info.colour.matrix, info.colour.range, info.colour.primaries, info.colour.transfer) == (9, 1, 1, 16)
    assert info.display_matrix is not None
    assert info.display_matrix[:2] == (0, 65536)  # 16.16 fixed point
    assert not info.interlaced
    assert (picture.pixels.shape, picture.pixels.dtype, picture.pts, picture.duration) == (
        (64, 96, 3),
        np.float32,
        0,
        512,
    )


@pytest.mark.parametrize(
    ("name", "options"), [("in.mp4", {"movflags": "faststart"}), ("in.mkv", {}), ("in.mov", {"movflags": "faststart"})]
)
@pytest.mark.parametrize("tone", [False, True])
def test_a_file_that_is_cut_off(video: Video, name: str, options: dict[str, str], tone: bool) -> None:
    path = video(name, frames=100, tone=tone, container_options=options)
    times, ending = read(path)
    assert len(times) == 100
    assert ending.whole, ending
    assert ending.sentence() == "it is whole, 100 frames"
    some, ending = read(cut(path, 0.6))
    assert 20 < len(some) < 90
    assert some == times[: len(some)]
    assert ending.cut
    assert ending.frames == len(some)
    assert ending.declared_s == pytest.approx(4, abs=0.06)
    assert ending.end_s == pytest.approx(len(some) / 25, abs=0.002)
    assert f"it is cut off after {len(some)} frames, at {ending.end_s:.3f} s of 4.0" in ending.sentence()


def test_the_last_frame_alone_is_missed(video: Video) -> None:
    """Two frames less than the header says are noticed."""
    path = video("in.mp4", frames=40, container_options={"movflags": "faststart"}, options={"crf": "0"}, gop=1)
    with av.open(str(path)) as container:
        sizes = [packet.size for packet in container.demux(video=0) if packet.size]
    shorter = path.with_stem("cut")
    shorter.write_bytes(path.read_bytes()[: -sum(sizes[-2:]) - 1])
    some, ending = read(shorter)
    assert len(some) in (37, 38)
    assert ending.cut


@pytest.mark.parametrize(("encoder", "given"), [("ffv1", 29), ("libx264", 30), ("mpeg4", 30)])
def test_a_damaged_middle(video: Video, encoder: str, given: int) -> None:
    """One decoder gives nothing for a damaged packet, others conceal it: all are counted, the rest is there."""
    path = video("in.mkv", encoder=encoder, options={}, frames=30, gop=1 if encoder == "ffv1" else 10)
    with av.open(str(path)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    data, victim = path.read_bytes(), packets[10]
    at, keep = data.index(victim), len(victim) // 4
    path.write_bytes(data[: at + keep] + bytes(len(victim) - keep) + data[at + len(victim) :])
    times, ending = read(path)
    assert len(times) == given
    assert (ending.damaged, ending.cut, ending.whole) == (1, False, False)
    assert ending.sentence() == "1 frame is damaged or missing"


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "cannot be opened as a video"), (b"no video" * 100, "cannot be opened as a video")],
    ids=["empty", "text"],
)
def test_what_is_no_video(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "in.mp4"
    path.write_bytes(content)
    with pytest.raises(PictureError, match=words):
        open_video(path)


def test_an_index_that_is_cut_off(video: Video) -> None:
    """MP4 keeps what is needed to read it at its end, if nothing else is asked for: then nothing is left to give."""
    path = video("in.mp4", frames=50)
    with pytest.raises(PictureError, match="cannot be opened as a video"):
        open_video(cut(path, 0.7))


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "in.mp4"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("aac", rate=48000)
        frame = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), format="fltp", layout="stereo")
        frame.sample_rate = 48000
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    with pytest.raises(PictureError, match="there is no video stream"):
        open_video(path)


def test_a_cover_picture_is_not_the_video(video: Video) -> None:
    path = video("in.mp4", tone=True)
    with open_video(path) as opened:
        assert opened.info.width == 64


def test_a_stream_without_times(video: Video) -> None:
    """A raw stream says nothing of time: the rate in its header is taken, and that is counted."""
    path = video("in.mp4", frames=9, options={"crf": "12", "bf": "0", "x264-params": "annexb=1"})
    raw = path.with_suffix(".h264")
    with av.open(str(path)) as source, av.open(str(raw), "w", format="h264") as output:
        stream = output.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                output.mux(packet)
    with open_video(raw) as opened:
        times = [picture.pts * opened.info.time_base for picture in opened.pictures()]
        assert len(times) == 9
        assert opened.ending.whole
    steps = {after - before for before, after in pairwise(times)}
    assert len(steps) == 1
    assert steps.pop() > 0


def test_pictures_that_change_size_are_refused(tmp_path: Path, support: Any) -> None:
    path = tmp_path / "in.ts"
    parts = []
    for width in (64, 96):
        part = tmp_path / f"{width}.ts"
        with av.open(str(part), "w", format="mpegts") as output:
            stream = output.add_stream("mpeg2video", rate=25)
            stream.width, stream.height, stream.pix_fmt = width, 64, "yuv420p"
            for index in range(10):
                frame = av.VideoFrame.from_ndarray(support.scene(64, width, index), format="gbrpf32le")
                frame = frame.reformat(format="yuv420p")
                frame.pts = index + (10 if width == 96 else 0)
                output.mux(stream.encode(frame))
            output.mux(stream.encode(None))
        parts.append(part.read_bytes())
    path.write_bytes(b"".join(parts))
    with open_video(path) as opened, pytest.raises(PictureError, match=r"changes at frame 1\d .*expected 64x64"):
        list(opened.pictures())


def test_skipping_and_a_limit(video: Video) -> None:
    path = video("in.mp4", frames=20)
    with open_video(path) as opened:
        assert [picture.pts // 512 for picture in opened.pictures(skip=5)] == list(range(5, 20))
        assert opened.ending.frames == 20
    with open_video(path) as opened:
        assert [picture.pts // 512 for picture in opened.pictures(limit=3)] == [0, 1, 2]


@pytest.mark.parametrize(
    ("container", "end_s", "declared_s", "expected"),
    [
        ("mov,mp4,m4a,3gp,3g2,mj2", 4.0, 4.0, False),
        ("mov,mp4,m4a,3gp,3g2,mj2", 3.95, 4.0, False),  # less than one and a half frames
        ("mov,mp4,m4a,3gp,3g2,mj2", 3.9, 4.0, True),
        ("matroska,webm", 2.0, 4.0, True),
        ("matroska,webm", 2.0, None, False),  # a recording whose length was never written
        ("mpegts", 2.0, 4.0, False),  # its length is a guess
    ],
)
def test_when_an_end_is_too_soon(container: str, end_s: float, declared_s: float | None, expected: bool) -> None:
    assert is_cut(container, end_s=end_s, declared_s=declared_s, frame_s=0.04) is expected
