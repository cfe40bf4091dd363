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
from edgeir.video.ending import DECLARES_LENGTH, Ending, is_cut  # noqa: E402
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


PLAIN = {"crf": "12", "bf": "0", "preset": "ultrafast"}
B_FRAMES = {"crf": "12", "bf": "3", "b-adapt": "0", "preset": "ultrafast"}
KINDS = [
    ("in.mp4", "libx264", PLAIN),
    ("in.mp4", "libx264", B_FRAMES),
    ("in.mov", "libx264", B_FRAMES),
    ("in.3gp", "libx264", B_FRAMES),
    ("in.mkv", "libx264", PLAIN),
    ("in.mkv", "libx264", B_FRAMES),
    ("in.webm", "libvpx", {"deadline": "realtime", "cpu-used": "16", "b": "200k"}),
    ("in.avi", "mpeg4", {}),
    ("in.avi", "libx264", B_FRAMES),
    ("in.flv", "libx264", PLAIN),
    ("in.flv", "libx264", B_FRAMES),
    ("in.wmv", "wmv2", {}),
]


def written(video: Video, name: str, encoder: str, options: dict[str, str], *, tone: bool, late: int) -> Path:
    """Forty frames, the first of which is shown after ``late`` of them, with its header in front."""
    if encoder not in av.codecs_available:
        pytest.skip(f"this PyAV has no encoder {encoder}")
    beginning = {} if name.endswith("flv") else {"avoid_negative_ts": "disabled"}
    return video(
        name,
        encoder=encoder,
        options=options,
        pts=range(late, late + 40),
        time_base=Fraction(1, 25),
        tone=tone,
        tone_from=Fraction(late, 25),
        container_options=beginning | ({"movflags": "faststart"} if name.endswith(("mp4", "mov", "3gp")) else {}),
    )


@pytest.mark.parametrize("tone", [False, True])
@pytest.mark.parametrize(("name", "encoder", "options"), KINDS)
@pytest.mark.parametrize("late", [0, 10])
def test_a_whole_file_is_whole(
    video: Video, name: str, encoder: str, options: dict[str, str], tone: bool, late: int
) -> None:
    """In every container whose header says how long it is, also where nothing begins at zero."""
    path = written(video, name, encoder, options, tone=tone, late=late)
    with open_video(path) as opened:
        assert DECLARES_LENGTH & set(opened._container.format.name.split(","))
        times = [picture.pts * opened.info.time_base for picture in opened.pictures()]
        ending, total = opened.ending, opened.info.frames
    assert len(times) == 40
    assert ending.whole, ending
    if name.endswith("avi") and late:
        return  # its muxer writes the first frame at zero and fills up behind it
    assert {after - before for before, after in pairwise(times)} == {Fraction(1, 25)}
    assert total is not None
    assert 40 <= total <= 42  # the sound may last longer, and a muxer count the delay of B-frames


@pytest.mark.parametrize("late", [0, 10])
@pytest.mark.parametrize("flags", ["frag_keyframe", "frag_keyframe+empty_moov", "dash", "frag_every_frame+empty_moov"])
def test_a_whole_file_in_fragments_is_whole(video: Video, flags: str, late: int) -> None:
    """Its header knows its first fragment at most, and its boxes count from here or from there."""
    path = video(
        frames=60,
        options=B_FRAMES,
        gop=10,
        pts=range(late, late + 60),
        time_base=Fraction(1, 25),
        container_options={"movflags": flags},
    )
    times, ending = read(path)
    assert len(times) == 60
    assert ending.whole, ending


@pytest.mark.parametrize("tone", [False, True])
@pytest.mark.parametrize(("name", "encoder", "options"), [kind for kind in KINDS if not kind[0].endswith("wmv")])
def test_a_file_without_its_second_half(
    video: Video, name: str, encoder: str, options: dict[str, str], tone: bool
) -> None:
    """Of ASF, FFmpeg gives no length once a twentieth of it is missing."""
    path = written(video, name, encoder, options, tone=tone, late=0)
    with av.open(str(path)) as container:
        middle = [packet.pos for packet in container.demux(video=0) if packet.size][20]
    path.write_bytes(path.read_bytes()[:middle])
    times, ending = read(path)
    assert 10 < len(times) <= 20
    assert ending.cut, ending


@pytest.mark.parametrize("lost", [3, 8])
def test_a_cut_where_the_sound_lies_first(video: Video, lost: int) -> None:
    """At a packet's border, after the sound: nothing is damaged, and only the pictures end too soon.

    Telephones write so: a second of sound, then the pictures of that second.
    """
    source = video("in.mp4", frames=60, tone=True, gop=1)
    path = source.with_name("first.mp4")
    faststart = {"movflags": "faststart"}
    with (
        av.open(str(source)) as opened,
        av.open(str(path), "w", options={"max_interleave_delta": "1"}, container_options=faststart) as output,
    ):
        copies = [output.add_stream_from_template(stream) for stream in opened.streams]
        packets = [packet for packet in opened.demux() if packet.size]
        for packet in sorted(packets, key=lambda packet: (int(packet.dts * packet.time_base), packet.stream.type)):
            packet.stream = copies[packet.stream.index]
            output.mux(packet)
    assert read(path)[1].whole
    with av.open(str(path)) as container:
        positions = [packet.pos for packet in container.demux(video=0) if packet.size]
    with av.open(str(path)) as container:
        sound = [packet for packet in container.demux(audio=0) if packet.size and packet.pos < positions[-lost]]
    assert sound[-1].pts * sound[-1].time_base > 2.3, "the sound lies before the cut, to its end"
    path.write_bytes(path.read_bytes()[: positions[-lost]])
    some, ending = read(path)
    assert len(some) == 60 - lost
    assert (ending.cut, ending.damaged) == (True, 0)
    assert f"cut off after {60 - lost} frames, at {(60 - lost) / 25:.3f} s of 2.400 s" in ending.sentence()


def test_two_recordings_in_one_file(video: Video) -> None:
    """The clock of a transport stream jumps back where two were joined byte by byte: the second follows the first."""
    part = video("part.ts", frames=40, time_base=Fraction(1, 90000))
    both = part.with_name("both.ts")
    both.write_bytes(part.read_bytes() * 2)
    with open_video(both) as opened:
        times = [picture.pts for picture in opened.pictures()]
        assert (len(opened.shifts), opened.irregular) == (1, 0)
    assert [after - before for before, after in pairwise(times)] == [3600] * 79


def test_frames_that_are_stored_out_of_order_without_times(video: Video) -> None:
    """AVI numbers frames as they are decoded: with B-frames they are shown evenly all the same."""
    path = video("in.avi", frames=30, options=B_FRAMES, pts=range(30), time_base=Fraction(1, 25))
    with open_video(path) as opened:
        times = [picture.pts for picture in opened.pictures()]
        assert opened.irregular == 0
    assert times == list(range(30))


def test_two_frames_less_are_noticed(video: Video) -> None:
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


@pytest.mark.parametrize("bf", ["0", "3"])
def test_a_damaged_end_takes_no_other_frames_with_it(video: Video, bf: str) -> None:
    path = video("in.mkv", options={"crf": "12", "bf": bf, "b-adapt": "0"}, frames=30, gop=10)
    with av.open(str(path)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    data, victim = path.read_bytes(), packets[-1]
    at, keep = data.index(victim), len(victim) // 4
    path.write_bytes(data[: at + keep] + bytes(len(victim) - keep) + data[at + len(victim) :])
    times, ending = read(path)
    assert len(times) == 29
    assert (ending.damaged, ending.cut) == (1, False)


def test_samples_that_are_not_read_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "in.mkv"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("ffv1", rate=25, options={"strict": "experimental"})
        stream.width, stream.height, stream.pix_fmt = 16, 16, "gbrpf32le"
        try:
            output.mux(stream.encode(av.VideoFrame(16, 16, "gbrpf32le")))
        except av.FFmpegError as error:
            pytest.skip(f"this PyAV writes no floats: {error}")
        output.mux(stream.encode(None))
    with pytest.raises(PictureError, match=r"does not read this kind of samples .* at most 16 bits, got gbrpf32le"):
        open_video(path)


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
