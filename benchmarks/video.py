"""What decoding, converting and encoding cost beside the network, overlapped and not.

    python -m benchmarks.video BUNDLE --out benchmarks/results/video-cpu.json

A test pattern of FFmpeg of the size and number of frames asked for, in H.264, goes through `edgeir.video` three times:
through a network that gives its input back (all that is not the network), through the bundle (what a user waits for),
and its frames through the bundle alone, without any file (the network). With perfect overlap the second takes as long
as the longer of the others, without any as long as both together: `hidden` is the share of the shorter that it saves.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import av

from benchmarks.result_files import write_result
from edgeir.bundle import Bundle
from edgeir.imaging.colour import Pixels
from edgeir.runtime.opening import graph_input, open_session
from edgeir.runtime.restore import overlap_to_run, restore_pixels
from edgeir.video.codecs import choose_codec
from edgeir.video.restoring import Request, restore_file
from edgeir.video.source import open_video

WARM_UP_FRAMES = 2


def make_pattern(path: Path, frames: int, size: str) -> Path:
    """A clip of FFmpeg's ``testsrc2`` at 25 frames per second."""
    with av.open(f"testsrc2=size={size}:rate=25", format="lavfi") as source, av.open(str(path), "w") as output:
        pattern = source.streams.video[0]
        video = output.add_stream("libx264", rate=25, options={"crf": "18"})
        video.width, video.height, video.pix_fmt = pattern.width, pattern.height, "yuv420p"
        for number, frame in enumerate(source.decode(pattern)):
            if number == frames:
                break
            stored = frame.reformat(format="yuv420p")
            stored.pts = number
            output.mux(video.encode(stored))
        output.mux(video.encode(None))
    return path


def through_files(source: Path, output: Path, restore: Callable[[Pixels], Pixels], scale: int) -> float:
    """Seconds that a run from file to file takes."""
    request = Request(output, choose_codec(None, None, output), None, scale, {})
    started = time.perf_counter()
    restore_file(source, request, restore, progress=lambda done, total: None, say=print)
    return time.perf_counter() - started


def main() -> None:
    """Measure, print, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--size", default="640x360", help="WIDTHxHEIGHT of the clip")
    parser.add_argument("--frames", type=int, default=50)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    began = time.perf_counter()
    opened = Bundle.open(arguments.bundle)
    graph = graph_input(opened.manifest)
    session = open_session(opened, "ort")
    overlap_px = overlap_to_run(graph, opened.manifest.tiling).px

    def restore(pixels: Pixels) -> Pixels:
        return restore_pixels(session, graph, pixels, overlap_px=overlap_px)

    def same(pixels: Pixels) -> Pixels:
        return pixels.repeat(graph.scale, 0).repeat(graph.scale, 1)

    with TemporaryDirectory() as folder:
        source = make_pattern(Path(folder) / "in.mp4", arguments.frames, arguments.size)
        files_s = through_files(source, Path(folder) / "same.mp4", same, graph.scale)
        with open_video(source) as video:
            for picture in video.pictures(limit=WARM_UP_FRAMES):
                restore(picture.pixels)
        both_s = through_files(source, Path(folder) / "out.mp4", restore, graph.scale)
        network_s = 0.0
        with open_video(source) as video:
            for picture in video.pictures():
                started = time.perf_counter()
                restore(picture.pixels)
                network_s += time.perf_counter() - started
    count = arguments.frames
    row = {
        "bundle": opened.manifest.name,
        "runtime": session.name,
        "size": arguments.size,
        "frames": count,
        "files_ms": round(files_s / count * 1e3, 2),
        "network_ms": round(network_s / count * 1e3, 2),
        "both_ms": round(both_s / count * 1e3, 2),
        "files_by_network": round(files_s / network_s, 4),
        "overhead": round(both_s / network_s - 1, 4),
        "hidden": round((files_s + network_s - both_s) / min(files_s, network_s), 3),
    }
    for name, value in row.items():
        print(f"{name:17} {value}")
    write_result(arguments.out, {"rows": [row]}, started=began)


if __name__ == "__main__":
    main()
