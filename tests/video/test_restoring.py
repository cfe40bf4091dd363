"""A video from end to end with a network that changes nothing or little: what is kept, refused and said."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

av = pytest.importorskip("av", reason="PyAV is not installed: pip install 'edgeir[video]'")

from edgeir.errors import OutputError, PictureError, UsageError  # noqa: E402
from edgeir.video.source import open_video  # noqa: E402

pytestmark = pytest.mark.timeout(120)

Video = Callable[..., Path]


def test_a_hundred_frames(video: Video, tmp_path: Path, support: Any) -> None:
    """640x360: frame count, times, audio and what the containers say come out as they went in."""
    aspect = Fraction(4, 3)
    metadata = {"title": "A title", "comment": "said"}
    settings = {"frames": 100, "width": 640, "height": 360, "tone": True, "subtitles": True, "metadata": metadata}
    source = video("in.mp4", rotation=90, aspect=aspect, **settings)
    output = tmp_path / "out.mp4"
    result = support.run(source, output)
    assert (result.frames, result.resumed_from, result.dropped, result.left_out) == (100, 0, 0, ())
    assert result.ending.whole
    assert support.times_of(output) == support.times_of(source)
    assert len(support.times_of(output)) == 100
    assert support.packets_of(output, "audio") == support.packets_of(source, "audio")
    assert support.packets_of(output, "subtitle") == support.packets_of(source, "subtitle")
    with av.open(str(output)) as container, av.open(str(source)) as original:
        assert container.metadata["title"] == "A title"
        assert container.metadata["comment"] == "said"
        ours, theirs = container.streams, original.streams
        assert [stream.type for stream in ours] == [stream.type for stream in theirs]
        assert [stream.metadata.get("language") for stream in ours] == ["deu", "fra", "und"]
        assert [stream.disposition for stream in ours] == [stream.disposition for stream in theirs]
        assert ours.video[0].duration * ours.video[0].time_base == theirs.video[0].duration * theirs.video[0].time_base
        assert ours.video[0].sample_aspect_ratio == aspect
        assert ours.video[0].time_base == theirs.video[0].time_base
        assert ours.video[0].average_rate == 25
        frame = next(container.decode(video=0))
        assert (frame.width, frame.height, frame.rotation) == (640, 360, 90)
    # CRF 18 loses little of a smooth picture: 3 steps on average would be 38 dB, as would a wrong colour space.
    for before, after in zip(support.planes_of(source)[::33], support.planes_of(output)[::33], strict=True):
        for one, other in zip(before, after, strict=True):
            assert np.abs(one - other).mean() < 1.5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4", "out.mp4"]


@pytest.mark.parametrize(("matrix", "range_"), [(1, 1), (1, 2), (6, 1), (6, 2), (9, 1), (2, 0)])
def test_colours_are_the_videos_own(video: Video, tmp_path: Path, support: Any, matrix: int, range_: int) -> None:
    """Without loss in between, a frame comes back bit for bit, and says of its colours what it said."""
    source = video("in.mkv", encoder="ffv1", options={}, frames=4, matrix=matrix, range=range_, primaries=9, transfer=6)
    output = tmp_path / "out.mkv"
    seen: list[np.ndarray] = []
    support.run(source, output, lambda pixels: seen.append(pixels) or pixels, codec="ffv1")
    for before, after in zip(support.planes_of(source), support.planes_of(output), strict=True):
        for one, other in zip(before, after, strict=True):
            np.testing.assert_array_equal(one, other)
    if matrix != 9:  # swscale of PyAV 17, which makes the test's video, knows no BT.2020; test_colour.py does
        # The network saw the scene itself: within what 8 bits and half the chroma resolution leave.
        assert np.abs(seen[0] - support.scene(48, 64, 0)).mean() < 0.01
    with av.open(str(output)) as container:
        frame = next(container.decode(video=0))
        found = (frame.colorspace, frame.color_range, frame.color_primaries, frame.color_trc)
        assert found == (matrix, range_, 9, 6)


LOSSY = [(codec, name) for codec in ("h264", "hevc", "mpeg4") for name in ("out.mp4", "out.mov", "out.mkv")]


@pytest.mark.parametrize(("codec", "name"), LOSSY)
@pytest.mark.parametrize(
    "colours", [(2, 2, 2, 2), (1, 2, 1, 1), (9, 2, 2, 2), (9, 1, 2, 2), (1, 1, 2, 2), (2, 0, 2, 2)]
)
def test_what_is_read_back_has_the_same_colours(
    video: Video, tmp_path: Path, support: Any, codec: str, name: str, colours: tuple[int, int, int, int]
) -> None:
    """Whatever a container has no field for: matrix and range decide what the stored numbers mean to a reader."""
    matrix, range_, primaries, transfer = colours
    named = {"matrix": matrix, "range": range_, "primaries": primaries, "transfer": transfer}
    source, output = video("in.mkv", encoder="ffv1", options={}, frames=2, **named), tmp_path / name
    said: list[str] = []
    support.run(source, output, codec=codec, said=said)
    with open_video(source) as one, open_video(output) as other:
        before, after = next(one.pictures()).pixels, next(other.pictures()).pixels
    # Means of 8x8 pixels, of which codecs lose less than a step: another matrix or range moves them by 4 or more.
    blocks = (before - after).reshape(6, 8, 8, 8, 3).mean((1, 3))
    assert np.abs(blocks).mean() * 255 < 1.5
    assert any("cannot say that black is 0" in sentence for sentence in said) == (
        codec == "mpeg4" and range_ == 2 and not name.endswith("mkv")
    )


@pytest.mark.parametrize("range_", [0, 1, 2])
@pytest.mark.parametrize(("codec", "name"), [("ffv1", "out.mkv"), ("h264", "out.mp4"), ("mpeg4", "out.mp4")])
def test_grey_keeps_its_contrast(
    video: Video, tmp_path: Path, support: Any, codec: str, name: str, range_: int
) -> None:
    source = video("in.mkv", encoder="ffv1", options={}, format="gray", frames=2, range=range_)
    support.run(source, tmp_path / name, codec=codec)
    stored = support.planes_of(source)[0][0]
    with open_video(tmp_path / name) as opened:
        pixels = next(opened.pictures()).pixels
        range_written = opened.info.colour.range
    if codec != "mpeg4":
        assert range_written == (range_ or 2)
    expected = (stored - 16) / 219 if range_ == 1 else stored / 255
    assert abs(pixels.mean() - expected.clip(0, 1).mean()) * 255 < 1
    assert abs(pixels.std() - expected.clip(0, 1).std()) * 255 < 1


@pytest.mark.parametrize("aspect", [Fraction(4, 3), Fraction(16, 11), Fraction(32, 27)])
@pytest.mark.parametrize(("codec", "name"), [*LOSSY, ("ffv1", "out.mkv")])
def test_the_shape_of_pixels_is_kept_or_said(
    video: Video, tmp_path: Path, support: Any, codec: str, name: str, aspect: Fraction
) -> None:
    said: list[str] = []
    support.run(video("in.mp4", frames=2, aspect=aspect), tmp_path / name, codec=codec, said=said)
    with open_video(tmp_path / name) as opened:
        kept = opened.info.sample_aspect == aspect
    assert kept == (codec != "ffv1")
    assert any(f"does not keep the shape of pixels ({aspect})" in sentence for sentence in said) == (not kept)


def test_an_error_of_the_network_ends_the_run(video: Video, tmp_path: Path, support: Any) -> None:
    source, output = video("in.mp4"), tmp_path / "out.mp4"
    for restore, error in (
        (lambda pixels: pixels * np.nan, "are not finite numbers"),
        (lambda pixels: pixels[:10], "a picture of another size"),
    ):
        with pytest.raises((PictureError, OutputError), match=error):
            support.run(source, output, restore)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4"]


def test_enlarging(video: Video, tmp_path: Path, support: Any) -> None:
    """A network that doubles the size: twice the pixels, the same shape of each; an unnamed matrix is named then."""
    source, output = video("in.mp4", matrix=2, rotation=90, aspect=Fraction(4, 3)), tmp_path / "out.mkv"
    support.run(source, output, lambda pixels: pixels.repeat(2, 0).repeat(2, 1), scale=2)
    with av.open(str(output)) as container:
        frame = next(container.decode(video=0))
        assert (frame.width, frame.height, frame.rotation) == (128, 96, 90)
        assert frame.colorspace == 6
        assert container.streams.video[0].sample_aspect_ratio == Fraction(4, 3)


@pytest.mark.parametrize(
    ("codec", "name", "format"),
    [("h264", "o.mp4", "yuv444p"), ("mpeg4", "o.mp4", "yuv420p"), ("ffv1", "o.mkv", "yuv420p")],
)
def test_odd_sizes(video: Video, tmp_path: Path, support: Any, codec: str, name: str, format: str) -> None:
    """The size stays; where the codec needs even sizes for 4:2:0, colour is stored at full resolution."""
    source, output, said = video("in.mkv", encoder="ffv1", options={}, width=63, height=47), tmp_path / name, []
    result = support.run(source, output, codec=codec, said=said)
    assert result.format == format
    assert any("is odd" in sentence for sentence in said) == (codec == "h264")
    with av.open(str(output)) as container:
        frame = next(container.decode(video=0))
        assert (frame.width, frame.height, frame.format.name) == (63, 47, format)


@pytest.mark.parametrize(("codec", "name"), [("h264", "o.mp4"), ("hevc", "o.mp4"), ("ffv1", "o.mkv")])
def test_ten_bits_stay(video: Video, tmp_path: Path, support: Any, codec: str, name: str) -> None:
    source, output = video("in.mkv", encoder="ffv1", options={}, format="yuv420p10le", frames=6), tmp_path / name
    said: list[str] = []
    assert support.run(source, output, codec=codec, said=said).format == "yuv420p10le"
    assert said == []
    before, after = support.planes_of(source), support.planes_of(output)
    assert len(np.unique(after[0][0] % 4)) == 4, "ten bits that are eight bits shifted"
    for one, other in zip(before[0], after[0], strict=True):
        assert np.abs(one - other).max() <= (0 if codec == "ffv1" else 24)
    with pytest.raises(UsageError, match=r"mpeg4 would lose bits of this video .* Choose --codec h264 or hevc or ffv1"):
        support.run(source, tmp_path / "p.mp4", codec="mpeg4")


def test_what_is_stored_otherwise_is_said(video: Video, tmp_path: Path, support: Any) -> None:
    for format, words in (
        ("yuva420p", "Transparency is not kept"),
        ("bgr0", "stores it as luma and chroma"),
        ("gray", "The source is grey"),
        ("yuv422p", None),
    ):
        rgb = format == "bgr0"
        source = video("in.mkv", encoder="ffv1", options={}, format=format, matrix=0 if rgb else 1, frames=3)
        said: list[str] = []
        result = support.run(source, tmp_path / "out.mp4", said=said)
        assert result.format == ("yuv422p" if format == "yuv422p" else "yuv420p")
        assert [words in sentence for sentence in said] == ([True] if words else []), said
    with open_video(tmp_path / "out.mp4") as again:
        assert again.info.layout.subsampling == "422"


def test_rgb_without_loss(video: Video, tmp_path: Path, support: Any) -> None:
    source = video("in.mkv", encoder="ffv1", options={}, format="bgr0", matrix=0, range=2, frames=3)
    support.run(source, tmp_path / "out.mkv", codec="ffv1")
    with av.open(str(source)) as one, av.open(str(tmp_path / "out.mkv")) as other:
        for before, after in zip(one.decode(video=0), other.decode(video=0), strict=True):
            assert after.format.name == "bgr0"
            np.testing.assert_array_equal(before.to_ndarray(format="rgb24"), after.to_ndarray(format="rgb24"))


def test_what_is_held_is_bounded(video: Video, tmp_path: Path, support: Any) -> None:
    """However long the video, only a few pictures are in memory at once."""
    source = video("in.mp4", frames=60)
    given: list[weakref.ref[np.ndarray]] = []
    most = 0

    def restore(pixels: np.ndarray) -> np.ndarray:
        nonlocal most
        restored = pixels.copy()
        given.append(weakref.ref(restored))
        most = max(most, sum(one() is not None for one in given))
        return restored

    support.run(source, tmp_path / "out.mp4", restore)
    assert len(given) == 60
    assert 0 < most <= 6  # one here, two that wait, one that is encoded, and the last of each stage


def test_what_a_reader_should_know_is_said(video: Video, tmp_path: Path, support: Any) -> None:
    """Interlaced and HDR videos go through, and nobody is left to find out alone."""
    fields = {"crf": "12", "flags": "+ildct+ilme"}
    light = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1)"
    params = f"log-level=none:hdr10=1:max-cll=1000,400:master-display={light}"
    hdr = {
        "encoder": "libx265",
        "format": "yuv420p10le",
        "options": {"x265-params": params},
        "matrix": 9,
        "primaries": 9,
    }
    for settings, words in (
        ({"options": fields}, ["The video is interlaced"]),
        ({"transfer": 18}, ["The video is HDR (HLG)"]),
        ({**hdr, "transfer": 16}, ["The video is HDR (PQ)", "Metadata for HDR displays is not kept"]),
    ):
        if settings.get("encoder", "libx264") not in av.codecs_available:
            continue
        said: list[str] = []
        support.run(video("in.mkv", frames=3, **settings), tmp_path / "out.mkv", said=said)
        assert [sentence[: len(start)] for sentence, start in zip(said, words, strict=True)] == words


def test_encoders_say_nothing_by_themselves(
    video: Video, tmp_path: Path, support: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    """Progress is edgeir's own: x265 and FFmpeg would write to stderr as well."""
    source = video("in.mp4", frames=3, container_options={"movflags": "faststart"})
    (tmp_path / "cut.mp4").write_bytes(source.read_bytes()[:-200])
    for name, codec in (("a.mp4", "h264"), ("b.mp4", "hevc"), ("c.mp4", "mpeg4"), ("d.mkv", "ffv1")):
        support.run(source, tmp_path / name, codec=codec)
    support.run(tmp_path / "cut.mp4", tmp_path / "e.mp4")
    assert capfd.readouterr() == ("", "")
