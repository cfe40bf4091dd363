"""What engine sessions refuse, and what a GPU that fails or runs out of memory leaves behind, on stand-ins."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeir.errors import MissingDependency, UsageError
from edgeir.runtime.engine_lanes import FixedScratch
from edgeir.runtime.engine_session import EngineSession
from edgeir.runtime.gpu_device import DeviceFault, OutOfDeviceMemory, OutOfPinnedMemory


def batch(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


def expected(pictures: np.ndarray) -> np.ndarray:
    return np.asarray(1 - pictures / 2, np.float32)


def test_a_shape_outside_the_profile(fakes: Any, device: Any, tmp_path: Path) -> None:
    plan = device.plan((1, 3, 8, 8), (1, 3, 16, 16))
    bundle = device.make_bundle(tmp_path / "b", {"rtx": plan}, largest=(16, 16))
    with EngineSession(bundle, "rtx") as session:
        for shape in ((1, 3, 8, 20), (2, 3, 8, 8), (1, 3, 8)):
            with pytest.raises(UsageError, match="expected 1x3x8x8 to 1x3x16x16"):
                session.run(batch(0, *shape))


@pytest.mark.parametrize("call", ["set_input_shape", "create_execution_context", "execute_async_v3"])
def test_a_runtime_that_refuses(fakes: Any, device: Any, tmp_path: Path, call: str) -> None:
    bundle = device.make_bundle(tmp_path / "b", {"rtx": device.plan((1, 3, 8, 8))})
    fakes.rtx.refuse[call] = "the tensors\nare unhappy"
    with EngineSession(bundle, "rtx") as session:
        with pytest.raises(MissingDependency, match=r"engines/rtx\.plan: the runtime ") as caught:
            session.run(batch(0, 1, 3, 8, 8))
        if call != "set_input_shape":
            assert "the tensors are unhappy" in str(caught.value)
        assert all(work.waited_for for work in fakes.cuda.history), "its copy may still be under way"
        del fakes.rtx.refuse[call]
        np.testing.assert_array_equal(session.run(batch(0, 1, 3, 8, 8)), expected(batch(0, 1, 3, 8, 8)))


def test_a_fault_of_the_device_is_passed_on(fakes: Any, device: Any, tmp_path: Path) -> None:
    bundle = device.make_bundle(tmp_path / "b", {"rtx": device.plan((1, 3, 8, 8))})
    with EngineSession(bundle, "rtx") as session:
        fakes.cuda.fail["cuEventSynchronize"] = device.fake_cuda.CUresult.CUDA_ERROR_LAUNCH_FAILED
        with pytest.raises(
            DeviceFault,
            match=r"engines/rtx\.plan: the GPU failed while it ran the engine \(got cuEventSynchronize gave 719 "
            r"\(cuda_error_launch_failed\)\)\. Run it again",
        ) as caught:
            session.run(batch(0, 1, 3, 8, 8))
        assert caught.value.exit_code == 3
        del fakes.cuda.fail["cuEventSynchronize"]


def test_after_a_fault_every_call_fails_and_closing_says_nothing(fakes: Any, device: Any, tmp_path: Path) -> None:
    bundle = device.make_bundle(tmp_path / "b", {"tensorrt": device.plan((1, 3, 8, 8))})
    calls = [name for name in dir(fakes.cuda) if name.startswith("cu") and name[2].isupper()]
    with EngineSession(bundle, "tensorrt") as session:
        session.run(batch(0, 1, 3, 8, 8))
        outputs = session.run_many([batch(0, 1, 3, 8, 8)] * 3)
        next(outputs)
        fakes.cuda.fail |= dict.fromkeys(
            set(calls) - {"cuGetErrorString"}, device.fake_cuda.CUresult.CUDA_ERROR_LAUNCH_FAILED
        )
        with pytest.raises(DeviceFault, match=r"gave 719 \(cuda_error_launch_failed\)"):
            next(outputs)
    for table in ("blocks", "streams", "events", "graphs", "executables", "history"):
        getattr(fakes.cuda, table).clear()  # what a driver does with a context that is broken
    fakes.cuda.retained = 0
    fakes.trt.problems.clear()  # of a context that goes under its work, which can never end
    del outputs
    gc.collect()
    fakes.trt.assert_nothing_left()


def test_shapes_that_cannot_be_inferred(
    fakes: Any, device: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gives_up(self: Any) -> list[str]:
        raise RuntimeError("shape\ninference failed")

    monkeypatch.setattr(device.fake_tensorrt.Context, "infer_shapes", gives_up)
    bundle = device.make_bundle(tmp_path / "b", {"rtx": device.plan((1, 3, 8, 8))})
    with (
        EngineSession(bundle, "rtx") as session,
        pytest.raises(MissingDependency, match=r"rtx\.plan: the runtime cannot infer the shapes: shape inference"),
    ):
        session.run(batch(0, 1, 3, 8, 8))


@pytest.mark.parametrize("words", ["skipping tactic 3 due to out of memory", "something else"])
def test_what_a_runtime_said_before_is_not_the_reason(fakes: Any, device: Any, tmp_path: Path, words: str) -> None:
    import sys

    fakes.cuda.refuse_capture = True
    bundle = device.make_bundle(tmp_path / "b", {"tensorrt": device.plan((1, 3, 8, 8))})
    with EngineSession(bundle, "tensorrt") as session:
        session.run(batch(0, 1, 3, 8, 8))
        severity = sys.modules["tensorrt"].ILogger.Severity
        session._lanes._loaded._logger.log(severity.ERROR, words)  # as builders of kernels do on their way
        fakes.trt.refuse["execute_async_v3"] = "the tensors are unhappy"
        with pytest.raises(MissingDependency, match=r"refuses to execute.*the tensors are unhappy") as caught:
            session.run(batch(0, 1, 3, 8, 8))
        assert not isinstance(caught.value, OutOfDeviceMemory)


def test_memory_of_the_host_runs_out(fakes: Any, device: Any, tmp_path: Path) -> None:
    bundle = device.make_bundle(tmp_path / "b", {"rtx": device.plan((1, 3, 8, 8))})
    with EngineSession(bundle, "rtx") as session:
        fakes.cuda.fail["cuMemHostAlloc"] = device.fake_cuda.CUresult.CUDA_ERROR_OUT_OF_MEMORY
        with pytest.raises(OutOfPinnedMemory, match=r"the host has not enough memory left that it can lock"):
            session.run(batch(0, 1, 3, 8, 8))
        del fakes.cuda.fail["cuMemHostAlloc"]


def test_scratch_memory_that_does_not_shrink(
    fakes: Any, device: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As engines ask that were built without RUNTIME_ACTIVATION_RESIZE_10_10."""
    monkeypatch.setattr(device.fake_tensorrt.Context, "update_device_memory_size_for_shapes", lambda self: 300_000)
    plan = device.plan((1, 3, 8, 8), (1, 3, 64, 64))
    bundle = device.make_bundle(tmp_path / "b", {"rtx": plan}, largest=(64, 64))
    fakes.cuda.memory = 200_000
    with EngineSession(bundle, "rtx") as session:
        with pytest.raises(OutOfDeviceMemory):
            session.run(batch(0, 1, 3, 48, 48))
        with pytest.raises(OutOfDeviceMemory):
            session.run(batch(0, 1, 3, 64, 64))  # a larger one says nothing
        with pytest.raises(FixedScratch, match=r"as much scratch memory for smaller tiles.*expected 0\.3 MiB") as end:
            session.run(batch(0, 1, 3, 16, 16))
        assert not isinstance(end.value, OutOfDeviceMemory), "no smaller tile is tried"
        assert fakes.cuda.used() == 0


def test_scratch_memory_of_a_larger_shape_makes_room(fakes: Any, device: Any, tmp_path: Path) -> None:
    plan = device.plan((1, 3, 8, 8), (1, 3, 64, 64), scratch=1)
    bundle = device.make_bundle(tmp_path / "b", {"tensorrt": plan}, largest=(64, 64))
    with EngineSession(bundle, "tensorrt") as session:
        session.run(batch(0, 1, 3, 64, 64))
        session._lanes._drop((1, 3, 64, 64))
        assert fakes.cuda.used() == 64 * 64
        fakes.cuda.memory = 2 * 3 * 32 * 32 * 4 + 32 * 32  # to the last byte
        pictures = batch(0, 1, 3, 32, 32)
        np.testing.assert_array_equal(session.run(pictures), expected(pictures))


def test_memory_for_buffers_runs_out(fakes: Any, device: Any, tmp_path: Path) -> None:
    plan = device.plan((1, 3, 8, 8), (1, 3, 64, 64), scratch=100, weights=100_000)
    bundle = device.make_bundle(tmp_path / "b", {"rtx": plan}, largest=(64, 64))
    fakes.cuda.memory = 400_000
    with EngineSession(bundle, "rtx") as session:
        with pytest.raises(OutOfDeviceMemory, match=r"not enough memory left \(expected 0\.4 MiB, got 0 MiB free\)"):
            session.run(batch(0, 1, 3, 64, 64))
        assert fakes.cuda.used() == 0, "what was begun is given back"
        np.testing.assert_array_equal(session.run(batch(0, 1, 3, 8, 8)), expected(batch(0, 1, 3, 8, 8)))


def test_other_shapes_make_room(fakes: Any, device: Any, tmp_path: Path) -> None:
    bundle = device.make_bundle(tmp_path / "b", {"rtx": device.plan((1, 3, 8, 8), (1, 3, 64, 64))}, largest=(64, 64))
    fakes.cuda.memory = 120_000  # one of 64x64 and its output take 98,304
    with EngineSession(bundle, "rtx") as session:
        for side in (48, 64, 48):
            pictures = batch(side, 1, 3, side, side)
            np.testing.assert_array_equal(session.run(pictures), expected(pictures))
