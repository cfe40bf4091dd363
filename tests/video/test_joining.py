"""Segments and the source's other streams in one file: times, sound, subtitles, chapters, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
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
