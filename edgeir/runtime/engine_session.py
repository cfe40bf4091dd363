"""Engines of TensorRT and TensorRT-RTX as sessions: no torch, no ONNX, cuda-python and the runtime alone.

Nothing of this has run on a GPU yet: it is exercised against a stand-in for the driver and the runtimes
(``tests/runtime/fake_gpu.py``). `docs/engines.md` says how to run it on one.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeir.bundle import Bundle
from edgeir.errors import PictureError, UsageError
from edgeir.imaging.byte_formats import MEAN_NAME, ByteFormat
from edgeir.runtime.cuda_driver import CudaError
from edgeir.runtime.engine_choice import Ends
from edgeir.runtime.engine_contexts import EngineContexts
from edgeir.runtime.engine_lane import DeviceTimes, Lane, Values
from edgeir.runtime.engine_lanes import STREAMS, EngineLanes
from edgeir.runtime.engine_loading import load_engine
from edgeir.runtime.engine_runtimes import ENGINE_RUNTIMES
from edgeir.runtime.engine_tensors import read_tensors
from edgeir.runtime.gpu_device import DeviceFault, Gpu
from edgeir.runtime.runtime_cache import open_cache
from edgeir.runtime.session import Bytes, Pictures
from edgeir.spec import INPUT_NAME, OUTPUT_NAME, STATISTICS_INPUT


class EngineSession:
    """The engine of a bundle, opened on the first GPU. One thread at a time; context manager.

    Args:
        bundle: an opened bundle.
        backend: ``"rtx"`` or ``"tensorrt"``.
        plugins: libraries of plugins that the user listed.
        ends: the engine that takes this, where the bundle has several kinds.
        frames: whether an engine that takes NV12 will do: it takes whole frames (`run_bytes`), and no pictures.
        say: told what the user should know and no error is, such as that no CUDA graph could be captured.

    Raises:
        see `edgeir.runtime.engine_loading.load_engine`; `MissingDependency` where there is no GPU.
    """

    def __init__(
        self,
        bundle: Bundle,
        backend: str,
        *,
        plugins: Sequence[Path] = (),
        ends: Ends = "floats",
        frames: bool = True,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        runtime = ENGINE_RUNTIMES[backend]
        with ExitStack() as stack:
            self._gpu = stack.enter_context(Gpu())
            free = self._gpu.free_bytes
            loaded = load_engine(bundle, runtime, self._gpu, plugins=plugins, ends=ends, frames=frames, say=say)
            stack.callback(loaded.close)
            self._tensors = read_tensors(loaded.trt, loaded.engine, where=loaded.chosen.path)
            self._weights_bytes = max(free - self._gpu.free_bytes, 0)
            self.name = f"{runtime.title} {loaded.version} {self._gpu.name} ({self._gpu.architecture})"
            self.engine = loaded.chosen.path
            self._form = loaded.chosen.form
            cache = None
            if runtime.name == "rtx":
                key = (loaded.digest, loaded.version, self._gpu.architecture, self._gpu.name, self._gpu.cuda_version)
                cache = open_cache(key, say)
            contexts = EngineContexts(loaded, cache, say)
            stack.callback(contexts.close)
            self._lanes = EngineLanes(self._gpu, loaded, contexts, self._tensors, say)
            stack.callback(self._lanes.close)
            self._last: Lane | None = None
            self._running = False
            # At the latest when the interpreter ends, before CUDA does: an engine that outlives it brings it down.
            self._finalizer = weakref.finalize(self, stack.pop_all().close)

    def __enter__(self) -> EngineSession:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Wait for what is under way and give everything back. The session cannot be used any more."""
        self._last = None
        self._finalizer()

    @property
    def takes_bytes(self) -> bool:
        """Whether the engine itself takes and gives bytes."""
        return self._tensors.takes_bytes

    @property
    def shares_statistics(self) -> bool:
        """Whether tiles can be given the statistics of their picture (`edgeir.runtime.tile_statistics`)."""
        return STATISTICS_INPUT in self.input_shapes()

    def input_shapes(self) -> dict[str, tuple[int, ...]]:
        """The largest sides of every input by name."""
        return {INPUT_NAME: self._tensors.maximum} | {name: sides for name, _, sides in self._tensors.more_in}

    @property
    def form(self) -> ByteFormat:
        """How pictures lie in the bytes of an engine of bytes.

        Raises:
            UsageError: it is an engine of floats.
        """
        if not self._tensors.takes_bytes:
            raise UsageError("the engine takes floats", where=self.engine, fix="Export with --io uint8.")
        return self._form or ByteFormat("uint8")

    @property
    def device_bytes(self) -> int:
        """Memory of the GPU: what opening the engine took of what was free, and the most that buffers ever took."""
        return self._weights_bytes + self._gpu.peak_bytes

    def run(self, pictures: Pictures) -> Pictures:
        """Restore a batch, see `edgeir.runtime.session.Session.run`.

        An engine of bytes gets the pictures rounded to 8 bits, and what it gives is divided by 255; a picture whose
        mean it calls not finite is NaN throughout.

        Raises:
            OutOfDeviceMemory: this size needs more than there is.
            FixedScratch: so would any smaller one.
            DeviceFault: the GPU failed at it.
            UsageError: the engine does not take this size.
        """
        (restored,) = self.run_many([pictures])
        return restored

    def run_many(self, batches: Iterable[Pictures]) -> Iterator[Pictures]:
        """Restore batch after batch, the next one copied in while one executes; as many outputs, in order.

        Each output lies in memory of its own. At most two batches are under way, and a third is taken from ``batches``
        before the first is given. See `run` for the errors; the iterator ends with them.
        """
        for outputs in self.run_values_many(self._from_pictures(pictures) for pictures in batches):
            yield self._to_pictures(outputs)

    def run_bytes(self, pictures: Bytes) -> Bytes:
        """Restore a batch of bytes, see `edgeir.runtime.byte_session.ByteSession`; it raises what `run` does too."""
        (restored,) = self.run_bytes_many([pictures])
        return restored

    def run_bytes_many(self, batches: Iterable[Bytes]) -> Iterator[Bytes]:
        """As `run_many`, for bytes."""
        if not self.takes_bytes:
            raise UsageError("the engine takes floats", where=self.engine, fix="Export with --io uint8.")
        for outputs in self.run_values_many(_as_bytes(pictures) for pictures in batches):
            self._require_finite(outputs)
            yield outputs[OUTPUT_NAME]

    def run_values(self, values: Values) -> dict[str, NDArray[Any]]:
        """Every output of the engine by name, for inputs of the engine's own types and layouts.

        Of an engine for tiles that know their picture (`edgeir.export.tile_statistics`), statistics that are not given
        are not used.
        """
        (outputs,) = self.run_values_many([values])
        return outputs

    def run_values_many(self, batches: Iterable[Values]) -> Iterator[dict[str, NDArray[Any]]]:
        """What the other calls rest on: inputs by name to outputs by name, two batches under way."""
        if not self._finalizer.alive:
            raise RuntimeError("the session was closed")
        if self._running:
            raise RuntimeError("the session is in the middle of other batches: take all of them first")
        self._running = True
        underway: deque[Lane] = deque()
        turn = 0
        try:
            for given in batches:
                self._gpu.use()
                values = self._tensors.with_defaults(given)
                shape = tuple(values[INPUT_NAME].shape)
                while len(underway) == STREAMS or (underway and not self._lanes.ready(shape, turn)):
                    yield self._finish(underway)
                    self._gpu.use()
                lane = self._lanes.get(shape, turn)
                after = underway[-1].ran if underway else None
                underway.append(lane)  # before it starts: one that fails halfway has to be waited for as well
                lane.start(values, after=after)
                turn = (turn + 1) % STREAMS
            while underway:
                yield self._finish(underway)
        except CudaError as error:
            raise DeviceFault(
                "the GPU failed while it ran the engine",
                where=self.engine,
                got=error.what,
                fix="Run it again; if it fails again, build the engine again (edgeir build --force), or take another "
                "--backend.",
            ) from error
        finally:  # also where whoever takes the outputs stops early
            self._running = False
            if underway:
                with suppress(CudaError):  # after a fault every call fails: who takes the outputs is told of the first
                    self._gpu.use()
                    self._lanes.synchronize()

    def device_times(self) -> DeviceTimes | None:
        """Of the batch that was finished last, by the device's own clock; ``None`` where that is not known any more."""
        if self._last is None:
            return None
        self._gpu.use()
        return self._last.times()

    def _finish(self, underway: deque[Lane]) -> dict[str, NDArray[Any]]:
        self._gpu.use()
        self._last = underway.popleft()
        return self._last.finish()

    def _from_pictures(self, pictures: Pictures) -> Values:
        if not self._tensors.takes_bytes:
            return {INPUT_NAME: pictures}
        if self.form.yuv is not None:
            raise UsageError(
                "the engine takes NV12", where=self.engine, fix="'edgeir build --floats' makes one for pictures."
            )
        picked = pictures[:, ::-1] if self.form.kind == "bgr" else pictures
        return {INPUT_NAME: np.rint(np.clip(picked, 0, 1) * 255).astype(np.uint8).transpose(0, 2, 3, 1)}

    def _to_pictures(self, outputs: dict[str, NDArray[Any]]) -> Pictures:
        restored = outputs[OUTPUT_NAME]
        if not self._tensors.takes_bytes:
            return restored.astype(np.float32, copy=False)
        picked = restored[..., ::-1] if self.form.kind == "bgr" else restored
        pictures = np.ascontiguousarray(picked.transpose(0, 3, 1, 2), np.float32) / np.float32(255)
        if MEAN_NAME in outputs:  # floats can say what bytes cannot
            pictures[~np.isfinite(outputs[MEAN_NAME])] = np.nan
        return pictures

    def _require_finite(self, outputs: dict[str, NDArray[Any]]) -> None:
        if MEAN_NAME in outputs and not np.isfinite(outputs[MEAN_NAME]).all():
            raise PictureError(
                "the network gave pixels that are not finite numbers",
                where=self.engine,
                fix="It overflowed: run it in a higher precision.",
            )


def _as_bytes(pictures: Bytes) -> Values:
    if pictures.dtype != np.uint8:
        raise UsageError("this engine takes bytes", expected="uint8", got=str(pictures.dtype))
    return {INPUT_NAME: pictures}
