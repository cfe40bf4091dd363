"""What bench, a contract and a sweep time: backends in turn on a real picture, and where one picture's time goes."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeir.errors import MissingDependency
from edgeir.imaging.layout import nchw_from_hwc
from edgeir.imaging.measuring import measuring_crop
from edgeir.imaging.reading import read_picture
from edgeir.imaging.writing import png_bytes
from edgeir.runtime.restore import GraphInput, restore_pixels
from edgeir.runtime.session import Pictures, Session
from edgeir.runtime.timing import Timing, WarmUp, time_together, warm_up

Pixels = NDArray[np.float32]
TIMING_PICTURE = "astronaut"


@dataclass(frozen=True, slots=True)
class Timed:
    """Backends that were timed in turn.

    Attributes:
        timings: of the counted rounds, by backend.
        outputs: what each made of the batch, ``(N, 3, s*H, s*W) float32``.
        warm: what happened before.
    """

    timings: Mapping[str, Timing]
    outputs: Mapping[str, Pictures]
    warm: WarmUp


@dataclass(frozen=True, slots=True)
class Stages:
    """Milliseconds of one picture on its way, medians: a file of PNG in, a file of PNG out."""

    decode_ms: float
    prepare_ms: float
    execute_ms: float
    encode_ms: float


def timing_picture(graph: GraphInput) -> Pixels:
    """``(H, W, 3)`` at the optimum: a measuring picture, or noise on a device that has none, which times alike."""
    height, width = graph.optimum
    try:
        return measuring_crop(TIMING_PICTURE, height, width)
    except MissingDependency:
        return np.random.default_rng(0).random((height, width, 3), dtype=np.float32)


def timing_batch(graph: GraphInput) -> Pictures:
    """`timing_picture` as often as a batch holds, ``(N, 3, H, W)``."""
    return np.repeat(nchw_from_hwc(timing_picture(graph)), graph.batch, axis=0)


def time_sessions(
    sessions: Mapping[str, Session], graph: GraphInput, *, rounds: int, warmup: int | None = None
) -> Timed:
    """Time sessions in turn on one batch at the optimum.

    Args:
        sessions: what to time, by backend.
        graph: the batches they accept.
        rounds: counted ones.
        warmup: rounds before that; ``None`` for as many as it takes latencies to settle.
    """
    batch = timing_batch(graph)
    runners = {name: partial(session.run, batch) for name, session in sessions.items()}
    warm = warm_up(runners, rounds=warmup)
    timings = time_together(runners, rounds=rounds)
    return Timed(timings, {name: session.run(batch) for name, session in sessions.items()}, warm)


def time_stages(session: Session, graph: GraphInput, *, rounds: int) -> Stages:
    """Take one picture of the optimum's size from file to file, and its time apart.

    Execution is the runtime's own; what stands around it in `restore_pixels` (layout, padding, blending) is prepare.
    """
    watched = _Watched(session)
    samples = []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "picture.png"
        file.write_bytes(png_bytes(timing_picture(graph)))
        for _ in range(rounds):
            started = time.perf_counter()
            pixels = read_picture(file).pixels
            decoded = time.perf_counter()
            watched.seconds = 0.0
            restored = restore_pixels(watched, graph, pixels)
            finished = time.perf_counter()
            png_bytes(restored)
            encoded = time.perf_counter()
            around = finished - decoded - watched.seconds
            samples.append((decoded - started, around, watched.seconds, encoded - finished))
    return Stages(*(float(value) * 1e3 for value in np.median(np.asarray(samples), axis=0)))


class _Watched:
    """A session, and the seconds it ran."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.seconds = 0.0

    @property
    def name(self) -> str:
        return self._session.name

    def run(self, pictures: Pictures) -> Pictures:
        started = time.perf_counter()
        output = self._session.run(pictures)
        self.seconds += time.perf_counter() - started
        return output
