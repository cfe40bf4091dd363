"""``edgeir validate --video``: the report in every format, its figures, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

av = pytest.importorskip("av", reason="PyAV is not installed: pip install 'edgeir[video]'")


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """Six frames of 64x48."""
    path = tmp_path / "film.mp4"
    y, x = np.mgrid[0:48, 0:64].astype(np.float32)
    with av.open(str(path), "w") as output:
        video = output.add_stream("libx264", rate=25, options={"crf": "12", "preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        for index in range(6):
            wave = (0.5 + 0.4 * np.sin((x + 3 * index) / 9 + y / 23)) * 255
            frame = av.VideoFrame.from_ndarray(np.stack([wave, 255 - wave, wave], 2).astype(np.uint8), format="rgb24")
            frame.pts = index
            output.mux(video.encode(frame))
        output.mux(video.encode(None))
    return path


def table(report: dict[str, Any], title: str) -> list[dict[str, Any]]:
    found = next(one for one in report["tables"] if one["title"] == title)
    return [dict(zip(found["columns"], row, strict=True)) for row in found["rows"]]


def test_json(cli: Any, made_static: Path, film: Path) -> None:
    report = json.loads(cli("validate", made_static, "--video", film, "--frames", "4", "--json").done().out)
    assert report["passed"] is True
    assert "(UNTRAINED) in fp16 on 4 consecutive frames" in report["summary"]
    engines = table(report, "Flicker against the reference")
    assert engines[0]["engine"] == "model.onnx"
    assert len(engines) == 2
    frames = table(report, "Frame by frame")
    assert [row["frame"] for row in frames] == [0, 1, 2, 3]
    assert [row["time s"] for row in frames] == [0, 0.04, 0.08, 0.12]
    assert frames[0]["flicker of 255"] is None
    assert all(row["flicker of 255"] > 0 for row in frames[1:]), "FP16 differs from FP32, and otherwise in each frame"
    assert max(row["flicker of 255"] for row in frames[1:]) == engines[0]["worst of 255"]
    assert engines[0]["worst fidelity dB"] == min(row["fidelity dB"] for row in frames)
    names = [check["name"] for check in report["checks"]]
    assert names[:2] == ["NaN or Inf in any frame, model.onnx", "fidelity of the worst frame, model.onnx"]
    assert report["checks"][1]["limit"] == 55
    assert not any("flicker" in name.lower() for name in names), "flicker is stated, not judged"


def test_formats(cli: Any, made_static: Path, film: Path) -> None:
    text = cli("validate", made_static, "--video", film).done().out
    assert "Flicker against the reference" in text
    assert "The video has 6 frames, fewer than the 16 that were asked for." in text
    page = cli("validate", made_static, "--video", film, "--frames", "2", "--format", "html").done().out
    assert "Flicker over the clip" in page


def test_damage_is_said_where_enough_frames_were_there(cli: Any, made_static: Path, film: Path) -> None:
    """A frame that the decoder conceals is no fault of an engine."""
    with av.open(str(film)) as container:
        victim = [bytes(packet) for packet in container.demux(video=0) if packet.size][1]
    data = film.read_bytes()
    at, keep = data.index(victim), len(victim) // 4
    film.write_bytes(data[: at + keep] + bytes(len(victim) - keep) + data[at + len(victim) :])
    text = cli("validate", made_static, "--video", film, "--frames", "4").done().out
    assert "Of what was read, 1 frame is damaged or missing" in text


def test_one_frame_has_no_flicker(cli: Any, made_static: Path, one_frame: Path) -> None:
    outcome = cli("validate", made_static, "--video", one_frame)
    outcome.sentence(2, str(one_frame), "flicker is between frames", "expected two or more", "it is whole, 1 frame)")


def test_a_failed_check_is_exit_code_1(
    cli: Any, made_static: Path, film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgeir.runtime.ort_session import OrtSession

    rounding = OrtSession.run

    def shaky(self: Any, pictures: Any) -> Any:
        shaky.runs += 1  # type: ignore[attr-defined]
        return rounding(self, pictures) + (0.02 if shaky.runs % 3 == 2 else 0)  # type: ignore[attr-defined]

    shaky.runs = 0  # type: ignore[attr-defined]
    monkeypatch.setattr(OrtSession, "run", shaky)
    outcome = cli("validate", made_static, "--video", film, "--frames", "2")
    outcome.sentence(1, "fidelity of the worst frame, model.onnx")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--frames", "4"), ("this option is for --video", "--frames")),
        (("--video", "FILM", "--frames", "1"), ("flicker is between frames", "expected 2 or more, got 1")),
        (("--video", "FILM", "--images", "FILM"), ("--images", "does not go with --video")),
        (("--video", "missing.mp4"), ("cannot be read", "No such file")),
        (("--video", "TEXT"), ("cannot be opened as a video",)),
    ],
)
def test_refused(
    cli: Any, made_static: Path, film: Path, tmp_path: Path, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    (tmp_path / "text").write_text("no video")
    given = [{"FILM": film, "TEXT": tmp_path / "text"}.get(word, word) for word in arguments]
    cli("validate", made_static, *given).sentence(2, *words)
