"""The table of codecs: what is chosen, what is refused, and how each kind of frame is stored."""

from __future__ import annotations

from pathlib import Path

import pytest

av = pytest.importorskip("av", reason="PyAV is not installed: pip install 'edgeir[video]'")

from edgeir.errors import EdgeIRError, MissingDependency, UsageError  # noqa: E402
from edgeir.video import codecs  # noqa: E402
from edgeir.video.codecs import CODECS, CONTAINERS, DEFAULTS, Layout, choose_codec, storage_for  # noqa: E402


def test_every_row_is_what_ffmpeg_knows() -> None:
    """Formats exist, hold the bits they stand for, and are ones that the encoder takes; containers exist."""
    for codec in CODECS.values():
        assert set(codec.containers) <= set(CONTAINERS.values()) <= av.formats_available
        if codec.encoder not in av.codecs_available:
            continue
        taken = {format.name for format in av.codec.Codec(codec.encoder, "w").video_formats or []}
        for bits, formats in codec.formats.items():
            for subsampling, name in formats.items():
                assert Layout.of(av.VideoFormat(name)) == Layout(bits, subsampling, False, False, False)
                assert name in taken, (codec.name, name)
        assert codec.rgb is None or codec.rgb in taken


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("yuv420p", Layout(8, "420", rgb=False, alpha=False, grey=False)),
        ("yuvj422p", Layout(8, "422", rgb=False, alpha=False, grey=False)),
        ("nv12", Layout(8, "420", rgb=False, alpha=False, grey=False)),
        ("yuyv422", Layout(8, "422", rgb=False, alpha=False, grey=False)),
        ("p010le", Layout(10, "420", rgb=False, alpha=False, grey=False)),
        ("yuva444p", Layout(8, "444", rgb=False, alpha=True, grey=False)),
        ("yuv440p", Layout(8, "444", rgb=False, alpha=False, grey=False)),
        ("gray10le", Layout(10, "420", rgb=False, alpha=False, grey=True)),
        ("ya8", Layout(8, "420", rgb=False, alpha=True, grey=True)),
        ("rgb24", Layout(8, "444", rgb=True, alpha=False, grey=False)),
        ("rgba", Layout(8, "444", rgb=True, alpha=True, grey=False)),
        ("gbrp12le", Layout(12, "444", rgb=True, alpha=False, grey=False)),
        ("pal8", Layout(8, "444", rgb=True, alpha=False, grey=False)),
    ],
)
def test_layouts(name: str, expected: Layout) -> None:
    assert Layout.of(av.VideoFormat(name, 1, 1)) == expected


def test_the_default_is_the_first_that_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_codec(None, None, Path("a.mp4")).name == DEFAULTS[0] == "h264"
    monkeypatch.setattr(codecs, "codecs_available", {"mpeg4", "ffv1"})
    assert choose_codec(None, None, Path("a.mp4")).name == "mpeg4"
    with pytest.raises(MissingDependency, match=r"no encoder 'libx264'. .* --codec mpeg4 or ffv1"):
        choose_codec("h264", None, Path("a.mp4"))


@pytest.mark.parametrize(
    ("codec", "crf", "output", "words"),
    [
        (None, None, "a.webm", "edgeir writes no video with this suffix"),
        (None, None, "a", "edgeir writes no video with this suffix"),
        ("h256", None, "a.mp4", "unknown codec 'h256'.* Did you mean 'h264'"),
        ("ffv1", None, "a.mov", r"ffv1 cannot go into this container \(expected .mkv, got .mov\)"),
        ("ffv1", 3, "a.mkv", "ffv1 has no rate factor"),
        ("hevc", 52, "a.mkv", r"no such rate factor \(expected 0 to 51, got 52\)"),
        ("h264", -1, "a.mkv", "no such rate factor"),
    ],
)
def test_refused(codec: str | None, crf: int | None, output: str, words: str) -> None:
    with pytest.raises(EdgeIRError, match=words):
        choose_codec(codec, crf, Path(output))


def test_storage() -> None:
    def stored(codec: str, bits: int = 8, subsampling: str = "420", size: tuple[int, int] = (64, 48)) -> str:
        return storage_for(CODECS[codec], Layout(bits, subsampling, False, False, False), *size).format

    assert stored("h264") == "yuv420p"
    assert stored("h264", 9) == stored("h264", 10) == "yuv420p10le"
    assert stored("hevc", 12, "422") == "yuv422p12le"
    assert stored("ffv1", 14, "444") == "yuv444p16le"
    assert stored("mpeg4", 8, "444") == "yuv420p"
    assert stored("h264", size=(63, 48)) == stored("hevc", size=(64, 47)) == "yuv444p"
    assert stored("h264", 8, "422", (63, 48)) == stored("hevc", 8, "422", (63, 48)) == "yuv444p"
    assert stored("h264", 8, "422", (64, 47)) == stored("ffv1", 8, "422", (63, 47)) == "yuv422p"
    assert stored("mpeg4", 8, "422", (63, 47)) == "yuv420p"
    assert stored("ffv1", size=(63, 47)) == stored("mpeg4", size=(63, 47)) == "yuv420p"
    with pytest.raises(
        UsageError, match=r"h264 would lose bits of this video \(expected at most 10 bits, got 12 bits\)"
    ):
        stored("h264", 12)


def test_remarks_do_not_contradict_each_other() -> None:
    rgb = Layout(8, "444", rgb=True, alpha=False, grey=False)
    even, odd = (storage_for(CODECS["h264"], rgb, *size).remarks for size in ((64, 48), (63, 48)))
    assert even == ("The source is RGB; h264 stores it as luma and chroma with half the colour resolution (4:2:0).",)
    assert len(odd) == 2
    assert odd[0] == "The source is RGB; h264 stores it as luma and chroma."
    assert "full colour resolution (4:4:4)" in odd[1]
