"""Segments and the source's other streams in one file: times, sound, subtitles, chapters, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

av = pytest.importorskip("av", reason="PyAV is not installed: pip install 'edgeir[video]'")


pytestmark = pytest.mark.timeout(120)

Video = Callable[..., Path]


def test_variable_frame_rate(video: Video, tmp_path: Path, support: Any) -> None:
    times = [0, 512, 600, 1700, 1701, 2900, 9000, 9100, 12345, 20000]
    source = video("in.mp4", pts=times)
    for name in ("out.mp4", "out.mov"):
        support.run(source, tmp_path / name)
        assert support.times_of(tmp_path / name) == support.times_of(source) == [Fraction(t, 12800) for t in times]
    said: list[str] = []
    support.run(source, tmp_path / "out.mkv", said=said)
    rounded = [math.floor(Fraction(t, 12800) * 1000 + Fraction(1, 2)) for t in times]
    assert [time * 1000 for time in support.times_of(tmp_path / "out.mkv")] == rounded
    assert any("milliseconds" in sentence for sentence in said)


@pytest.mark.parametrize("codec", ["h264", "hevc", "mpeg4"])
def test_a_clock_that_a_codec_has_no_room_for(video: Video, tmp_path: Path, support: Any, codec: str) -> None:
    """MPEG-4 counts at most 65535 ticks in a second; the container counts 90000."""
    times = [0, 3003, 6006, 9000, 12345, 12346, 20000]
    source = video("in.mp4", pts=times, time_base=Fraction(1, 90000))
    support.run(source, tmp_path / "out.mp4", codec=codec)
    assert support.times_of(tmp_path / "out.mp4") == [Fraction(time, 90000) for time in times]


def test_a_clock_that_does_not_begin_at_zero(video: Video, tmp_path: Path, support: Any) -> None:
    """The offset between streams is kept, be it of a file or of a transport stream, whose clock begins anywhere."""
    source = video("in.mp4", pts=[3000 + 512 * index for index in range(8)], tone=True)
    support.run(source, tmp_path / "out.mp4")
    assert support.times_of(tmp_path / "out.mp4") == support.times_of(source)
    assert support.packets_of(tmp_path / "out.mp4", "audio") == support.packets_of(source, "audio")
    late = {"output_ts_offset": "5"}
    stream = video("in.ts", tone=True, time_base=Fraction(1, 90000), container_options=late)
    said: list[str] = []
    support.run(stream, tmp_path / "from-ts.mp4", said=said)
    before, after = support.times_of(stream), support.times_of(tmp_path / "from-ts.mp4")
    assert before[0] > 1
    assert "begins at 0" in said[0]
    assert [time - after[0] for time in after] == [time - before[0] for time in before]
    sound, copied = support.packets_of(stream, "audio"), support.packets_of(tmp_path / "from-ts.mp4", "audio")
    assert len(sound) == len(copied)
    assert abs((copied[0][0] - after[0]) - (sound[0][0] - before[0])) < Fraction(1, 1000)


def test_a_stream_that_the_container_refuses_is_left_out(video: Video, tmp_path: Path, support: Any) -> None:
    source = video("in.mkv", tone=True, subtitles=True)
    said: list[str] = []
    result = support.run(source, tmp_path / "out.mp4", said=said)
    assert len(result.left_out) == 1
    assert result.left_out[0].startswith("Stream 2 (subtitle, srt) is left out: ")
    assert said == list(result.left_out)
    assert [bytes_ for _, bytes_ in support.packets_of(tmp_path / "out.mp4", "audio")] == [
        bytes_ for _, bytes_ in support.packets_of(source, "audio")
    ]
    assert support.run(source, tmp_path / "out.mkv").left_out == ()
    assert support.packets_of(tmp_path / "out.mkv", "subtitle") == support.packets_of(source, "subtitle")


@pytest.mark.parametrize("when", ["stream", "header", "packet"])
def test_a_stream_that_is_refused_late_is_left_out(
    video: Video, tmp_path: Path, support: Any, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """Packets are seen at the end, after hours: a muxer that refuses one must not cost the pictures."""
    from edgeir.video import joining

    source, output, said = video("in.mkv", tone=True, subtitles=True), tmp_path / "out.mp4", list[str]()
    if when == "stream":
        monkeypatch.setattr("edgeir.video.streams._refusal", lambda stream, format: None)
    elif when == "packet":
        output = tmp_path / "out.mkv"
        others = joining._other_packets

        def spoiled(*arguments: Any) -> Any:
            for number, (time, packet) in enumerate(others(*arguments)):
                if number == 9 and packet.stream.type == "audio":
                    packet.dts = packet.pts = -(10**6)  # no muxer takes a time that runs backwards
                yield time, packet

        monkeypatch.setattr(joining, "_other_packets", spoiled)
    else:
        add = joining.add_copy

        def untagged(target: Any, stream: Any) -> Any:
            copy = add(target, stream)
            if stream.type == "audio":
                copy.codec_context.sample_rate = 0  # seen when the header is written
            return copy

        monkeypatch.setattr(joining, "add_copy", untagged)
    result = support.run(source, output, said=said)
    assert result.frames == 12
    assert support.times_of(output) == support.times_of(source)
    assert said == list(result.left_out)
    kinds = {"stream": "subtitle", "header": "audio", "packet": "audio"}
    assert any(f"({kinds[when]}, " in sentence for sentence in said), said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mkv", output.name]


def test_chapters_covers_and_attachments(video: Video, tmp_path: Path, support: Any) -> None:
    plain, full = video("in.mkv", frames=30, tone=True), tmp_path / "full.mkv"
    with av.open(str(plain)) as source, av.open(str(full), "w") as output:
        copies = [output.add_stream_from_template(stream, opaque=True) for stream in source.streams]
        chapter = {"id": 1, "start": 200, "end": 900, "time_base": Fraction(1, 1000), "metadata": {"title": "One"}}
        output.set_chapters([chapter])
        output.add_attachment("font.ttf", "application/x-truetype-font", b"letters")
        for packet in source.demux():
            if packet.size:
                packet.stream = copies[packet.stream.index]
                output.mux(packet)
    said: list[str] = []
    support.run(full, tmp_path / "out.mkv", said=said)
    support.run(full, tmp_path / "out.mp4", said=said)
    assert [sentence for sentence in said if "attachment" not in sentence] == []
    with av.open(str(tmp_path / "out.mkv")) as container:
        kept = container.chapters()[0]
        assert (kept["start"] * kept["time_base"], kept["metadata"]) == (Fraction(1, 5), {"title": "One"})
        assert container.streams[2].name == "font.ttf"
        assert container.streams[2].data == b"letters"
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.chapters()[0]["metadata"] == {"title": "One"}
        assert [stream.type for stream in container.streams][:2] == ["video", "audio"]


def test_two_recordings_in_one_file_keep_their_sound(video: Video, tmp_path: Path, support: Any) -> None:
    """Where the clock of a transport stream jumps back, sound goes on with the pictures, and is said once."""
    part = video("part.ts", frames=40, tone=True, time_base=Fraction(1, 90000))
    both, output = tmp_path / "both.ts", tmp_path / "out.mp4"
    both.write_bytes(part.read_bytes() * 2)
    said: list[str] = []
    result = support.run(both, output, said=said)
    assert (result.frames, result.left_out) == (80, ())
    assert [sentence for sentence in said if "jumps back at a place" in sentence] == said[-1:]
    times = support.times_of(output)
    assert {after - before for before, after in pairwise(times)} == {Fraction(1, 25)}
    one, sound = support.packets_of(part, "audio"), support.packets_of(output, "audio")
    assert 2 * len(one) - 2 <= len(sound) <= 2 * len(one)  # what overlaps at the joint is left out
    stamps = [time for time, _ in sound]
    assert stamps == sorted(set(stamps))
    # The second half lies as far from its pictures as the first.
    first = stamps[0] - times[0]
    again = min(time for time in stamps if time > times[40] + first - Fraction(1, 90))
    assert abs(again - times[40] - first) < Fraction(1, 47), "within a packet of sound"
    assert abs(stamps[-1] - times[-1] - (one[-1][0] - support.times_of(part)[-1])) < Fraction(1, 1000)


def trimmed(source: Path, path: Path) -> Path:
    """The same packets from 0.42 s on, by an edit list: what is before stays in the file and is not played."""
    with (
        av.open(str(source)) as original,
        av.open(str(path), "w", container_options={"avoid_negative_ts": "disabled", "use_editlist": "1"}) as output,
    ):
        copies = [output.add_stream_from_template(stream) for stream in original.streams]
        for packet in original.demux():
            if packet.size:
                shift = round(Fraction(42, 100) / packet.time_base)
                packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                packet.stream = copies[packet.stream.index]
                output.mux(packet)
    return path


def heard(path: Path) -> tuple[Fraction, int]:
    """When sound begins, and how many samples of it there are."""
    with av.open(str(path)) as container:
        frames = list(container.decode(audio=0))
    return frames[0].pts * frames[0].time_base, sum(frame.samples for frame in frames)


@pytest.mark.parametrize("name", ["out.mp4", "out.mkv"])
def test_what_was_trimmed_stays_away(video: Video, tmp_path: Path, support: Any, name: str) -> None:
    source = trimmed(video("whole.mp4", frames=40, tone=True, gop=20), tmp_path / "in.mp4")
    support.run(source, tmp_path / name)
    begins, samples = heard(source)
    assert begins == 0
    now, kept = heard(tmp_path / name)
    if name == "out.mp4":
        assert (now, kept) == (begins, samples)
    else:  # the one packet that a decoder needs before the first, and a part of it that an edit list can trim
        assert -Fraction(2048, 48000) <= now <= 0
        assert samples <= kept <= samples + 2 * 1024


def test_priming_of_sound_is_copied_to_matroska(video: Video, tmp_path: Path, support: Any) -> None:
    source = video("in.mp4", tone=True)
    support.run(source, tmp_path / "out.mkv")
    assert [data for _, data in support.packets_of(tmp_path / "out.mkv", "audio")] == [
        data for _, data in support.packets_of(source, "audio")
    ]


def test_a_timecode_is_written_once(video: Video, tmp_path: Path, support: Any) -> None:
    """MOV and MP4 make its track of the video's metadata: the source's track is neither copied nor said to be lost."""
    source = video("in.mov", timecode="01:00:00:00")
    for name in ("out.mov", "out.mp4"):
        said: list[str] = []
        result = support.run(source, tmp_path / name, said=said)
        assert (result.left_out, said) == ((), [])
        with av.open(str(tmp_path / name)) as container:
            assert [stream.type for stream in container.streams] == ["video", "data"]
            assert container.streams[1].metadata["timecode"] == "01:00:00:00"
    assert len(support.run(source, tmp_path / "out.mkv").left_out) == 1


def test_a_kill_while_joining_leaves_nothing_beside_the_folder(
    video: Video, tmp_path: Path, support: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was written lies in the working folder, under one name, and is written over by the next run."""
    from edgeir.video import joining

    source, output = video("in.mp4", tone=True), tmp_path / "out.mp4"
    monkeypatch.setattr(Path, "unlink", lambda self, missing_ok=False: None)  # as if nobody were there to clean up

    def killed(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(joining, "_mux", killed)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            support.run(source, output)
        assert sorted(path.name for path in tmp_path.iterdir()) == [".out.mp4.edgeir-work", "in.mp4"]
        files = sorted(path.name for path in (tmp_path / ".out.mp4.edgeir-work").iterdir())
        assert files == ["000000.json", "000000.nut", "job.json", "joined.part"]
    monkeypatch.undo()
    support.run(source, output)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4", "out.mp4"]


def test_errors_of_joining_name_the_output(
    video: Video, tmp_path: Path, support: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgeir.errors import OutOfSpace
    from edgeir.video import joining

    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(joining, "_mux", full)
    source, output = video("in.mp4"), tmp_path / "out.mp4"
    with pytest.raises(OutOfSpace) as raised:
        support.run(source, output)
    assert str(raised.value).startswith(f"{output}: ")


def test_an_output_that_is_a_link(video: Video, tmp_path: Path, support: Any) -> None:
    """The folder lies on the disk that the file goes to, and the link stays one."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "out.mp4").symlink_to(tmp_path / "disk" / "film.mp4")
    with pytest.raises(KeyboardInterrupt):
        support.run(video("in.mp4", frames=70), tmp_path / "out.mp4", support.Counting(stop_at=65))
    assert [path.name for path in (tmp_path / "disk").iterdir()] == [".film.mp4.edgeir-work"]
    assert support.run(tmp_path / "in.mp4", tmp_path / "out.mp4", support.Counting()).resumed_from == 60
    assert (tmp_path / "out.mp4").is_symlink()
    assert [path.name for path in (tmp_path / "disk").iterdir()] == ["film.mp4"]
