"""What bench, a contract and a sweep time: backends in turn on a real picture, and where one picture's time goes."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeir.errors import MissingDependency
from edgeir.imaging.layout import nchw_from_hwc
from edgeir.imaging.measuring import measuring_crop
from edgeir.imaging.reading import read_picture
from edgeir.imaging.writing import png_bytes
from edgeir.runtime.engine_lane import DeviceTimes
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
    """Milliseconds of one picture on its way, medians: a file of PNG in, a file of PNG out.

    Attributes:
        decode_ms, prepare_ms, execute_ms, encode_ms: by the host's clock.
        device: what of ``execute_ms`` the GPU spent on copies and on the network, by its own events; ``None`` for a
            session that has none.
    """

    decode_ms: float
    prepare_ms: float
    execute_ms: float
    encode_ms: float
    device: DeviceTimes | None = None


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
    decode, prepare, execute, encode = (float(value) * 1e3 for value in np.median(np.asarray(samples), axis=0))
    return Stages(decode, prepare, execute, encode, watched.device())


class _Watched:
    """A session, and the seconds it ran."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._device_times = getattr(session, "device_times", None)
        self._on_device: list[DeviceTimes] = []
        self.seconds = 0.0

    @property
    def name(self) -> str:
        return self._session.name

    def run(self, pictures: Pictures) -> Pictures:
        started = time.perf_counter()
        output = self._session.run(pictures)
        self.seconds += time.perf_counter() - started
        times = None if self._device_times is None else self._device_times()
        if times is not None:
            self._on_device.append(times)
        return output

    def device(self) -> DeviceTimes | None:
        """Medians of the device's own times; ``None`` where it tells none."""
        if not self._on_device:
            return None
        return DeviceTimes(*(float(value) for value in np.median([astuple(one) for one in self._on_device], axis=0)))
