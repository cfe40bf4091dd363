"""Engines as sessions, on stand-ins for the driver and the runtimes that check order, sizes and lifetimes."""

from __future__ import annotations

import gc
import itertools
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeir.errors import PictureError, UsageError
from edgeir.runtime.engine_lanes import SHAPES_KEPT
from edgeir.runtime.engine_session import EngineSession
from edgeir.runtime.gpu_device import Gpu
from edgeir.runtime.gpu_stream import Stream

BACKENDS = ("rtx", "tensorrt")


def batch(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


def expected(pictures: np.ndarray) -> np.ndarray:
    return np.asarray(1 - pictures / 2, np.float32)


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_batch_after_another(fakes: Any, device: Any, tmp_path: Path, backend: str) -> None:
    bundle = device.make_bundle(tmp_path / "b", {backend: device.plan((1, 3, 8, 8), scratch=64)})
    with EngineSession(bundle, backend) as session:
        title = {"rtx": "TensorRT-RTX 1.7.1.116", "tensorrt": "TensorRT 10.13.3"}[backend]
        assert session.name == f"{title} FAKE 40 (sm89)"
        for seed in range(5):
            pictures = batch(seed, 1, 3, 8, 8)
            restored = session.run(pictures)
            assert restored.dtype == np.float32
            np.testing.assert_array_equal(restored, expected(pictures))
    assert len(fakes.deserialized) == 1


@pytest.mark.parametrize("backend", BACKENDS)
def test_batches_overlap_and_come_out_in_order(fakes: Any, device: Any, tmp_path: Path, backend: str) -> None:
    bundle = device.make_bundle(tmp_path / "b", {backend: device.plan((2, 3, 8, 12), scratch=8)})
    batches = [batch(seed, 2, 3, 8, 12) for seed in range(7)]
    with EngineSession(bundle, backend) as session:
        for given, restored in zip(batches, session.run_many(iter(batches)), strict=True):
            np.testing.assert_array_equal(restored, expected(given))
        copies = fakes.cuda.ran("copy in")
        runs = sorted([*fakes.cuda.ran("execute"), *fakes.cuda.ran("execute in a graph")], key=lambda work: work.began)
        assert len(copies) == len(runs) == len(fakes.cuda.ran("copy out")) == 7
        # The next batch is copied in while one executes, and no two execute at once: they share scratch memory.
        # Only the second batch waits: its lane is made then.
        assert [copies[i + 1].began < runs[i].ended for i in range(6)] == [False] + [True] * 5
        assert all(first.ended <= second.began for first, second in itertools.pairwise(runs))
        assert runs[-1].ended < 7 * 7, "seven batches one by one would take 49 ms of the stand-in"


def test_what_comes_out_stays_what_it_was(fakes: Any, device: Any, tmp_path: Path) -> None:
    bundle = device.make_bundle(tmp_path / "b", {"rtx": device.plan((1, 3, 8, 8))})
    with EngineSession(bundle, "rtx") as session:
        first = session.run(batch(1, 1, 3, 8, 8))
        kept = first.copy()
        session.run(batch(2, 1, 3, 8, 8))
    np.testing.assert_array_equal(first, kept)


def test_a_graph_per_shape_is_captured_at_first_use(fakes: Any, device: Any, tmp_path: Path) -> None:
    said: list[str] = []
    bundle = device.make_bundle(
        tmp_path / "b", {"tensorrt": device.plan((1, 3, 8, 8), (1, 3, 16, 16))}, largest=(16, 16)
    )
    with EngineSession(bundle, "tensorrt", say=said.append) as session:
        for seed in range(4):
            for side in (8, 16):
                pictures = batch(seed, 1, 3, side, side)
                np.testing.assert_array_equal(session.run(pictures), expected(pictures))
        assert len(fakes.cuda.ran("execute")) == 2, "the first batch of each shape is enqueued"
        assert len(fakes.cuda.ran("execute in a graph")) == 6
        assert sum(name == "cuGraphInstantiate" for name, _ in fakes.cuda.calls) == 2
        assert not fakes.cuda.graphs, "what was captured is kept once, as what is launched"
    assert said == []


def test_rtx_captures_itself_and_compiles_before_it_runs(fakes: Any, device: Any, tmp_path: Path) -> None:
    bundle = device.make_bundle(tmp_path / "b", {"rtx": device.plan((1, 3, 8, 8))})
    with EngineSession(bundle, "rtx") as session:
        session.run(batch(0, 1, 3, 8, 8))
        (config,) = fakes.rtx.configs
        assert config.cuda_graph_strategy.name == "WHOLE_GRAPH_CAPTURE"
        assert config.dynamic_shapes_kernel_specialization_strategy.name == "EAGER"
    assert not any(name == "cuStreamBeginCapture" for name, _ in fakes.cuda.calls)


@pytest.mark.parametrize("how", ["spoilt", "not begun", "not ended", "not instantiated"])
def test_without_a_graph_it_is_enqueued_and_said(fakes: Any, device: Any, tmp_path: Path, how: str) -> None:
    status = device.fake_cuda.CUresult.CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED
    call = {"not begun": "cuStreamBeginCapture", "not ended": "cuStreamEndCapture"}.get(how)
    if how == "spoilt":
        fakes.cuda.refuse_capture = True
    else:
        fakes.cuda.fail[call or "cuGraphInstantiate"] = status
    said: list[str] = []
    bundle = device.make_bundle(tmp_path / "b", {"tensorrt": device.plan((1, 3, 8, 8))})
    with EngineSession(bundle, "tensorrt", say=said.append) as session:
        batches = [batch(seed, 1, 3, 8, 8) for seed in range(4)]
        for given, restored in zip(batches, session.run_many(batches), strict=True):
            np.testing.assert_array_equal(restored, expected(given))
    (sentence,) = said  # once, for two lanes
    assert sentence.startswith("No CUDA graph for this engine, it is enqueued kernel by kernel: ")
    assert "capture" in sentence.lower() or "instantiate" in sentence.lower()


@pytest.mark.parametrize("call", ["cuStreamBeginCapture", "cuStreamEndCapture", "cuGraphInstantiate"])
def test_memory_that_runs_out_for_a_graph_costs_the_graph_alone(
    fakes: Any, device: Any, tmp_path: Path, call: str
) -> None:
    fakes.cuda.fail[call] = device.fake_cuda.CUresult.CUDA_ERROR_OUT_OF_MEMORY
    said: list[str] = []
    bundle = device.make_bundle(tmp_path / "b", {"tensorrt": device.plan((1, 3, 8, 8))})
    with EngineSession(bundle, "tensorrt", say=said.append) as session:
        for seed in range(3):
            pictures = batch(seed, 1, 3, 8, 8)
            np.testing.assert_array_equal(session.run(pictures), expected(pictures))
        assert len(fakes.cuda.ran("execute")) == 3, "each batch once"
    (sentence,) = said
    assert sentence == (
        f"No CUDA graph for this engine, it is enqueued kernel by kernel: {call}: the GPU has not enough memory left "
        "(got 256 MiB free)."
    )


def test_memory_that_runs_out_at_a_launch_costs_the_graph_alone(fakes: Any, device: Any, tmp_path: Path) -> None:
    said: list[str] = []
    bundle = device.make_bundle(tmp_path / "b", {"tensorrt": device.plan((1, 3, 8, 8))})
    with EngineSession(bundle, "tensorrt", say=said.append) as session:
        session.run(batch(0, 1, 3, 8, 8))
        fakes.cuda.fail["cuGraphLaunch"] = device.fake_cuda.CUresult.CUDA_ERROR_OUT_OF_MEMORY
        for seed in range(2):
            pictures = batch(seed, 1, 3, 8, 8)
            np.testing.assert_array_equal(session.run(pictures), expected(pictures))
        assert not fakes.cuda.executables
    assert len(said) == 1
    assert "enqueued kernel by kernel: cuGraphLaunch: the GPU has not enough memory left" in said[0]


def test_an_error_within_a_capture_leaves_nothing(fakes: Any) -> None:
    with Gpu() as gpu:
        stream = Stream(gpu)
        with pytest.raises(IndexError):
            stream.capture(lambda: bool([].pop()))
        assert not fakes.cuda.graphs
        stream.synchronize()  # usable again
        stream.close()


def test_an_rtx_without_its_own_graphs_is_asked_first(
    fakes: Any, device: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.delattr(sys.modules["tensorrt_rtx"], "CudaGraphStrategy")
    fakes.rtx.not_capturable = True
    said: list[str] = []
    bundle = device.make_bundle(tmp_path / "b", {"rtx": device.plan((1, 3, 8, 8))})
    with EngineSession(bundle, "rtx", say=said.append) as session:
        session.run(batch(0, 1, 3, 8, 8))
    assert "cannot be captured" in said[0]
    assert not any(name == "cuStreamBeginCapture" for name, _ in fakes.cuda.calls)


def test_many_shapes_keep_few_buffers(fakes: Any, device: Any, tmp_path: Path) -> None:
    plan = device.plan((1, 3, 4, 4), (1, 3, 64, 64), scratch=16)
    bundle = device.make_bundle(tmp_path / "b", {"tensorrt": plan}, size=(4, 4), largest=(64, 64))
    sides = [4, 8, 4, 8, 12, 16, 20, 64, 4, 8, 64, 24, 28]  # larger ones need more scratch memory, smaller ones use it
    with EngineSession(bundle, "tensorrt") as session:
        most = 0
        batches = [batch(side, 1, 3, side, 8) for side in sides]
        for given, restored in zip(batches, session.run_many(batches), strict=True):
            np.testing.assert_array_equal(restored, expected(given))
            most = max(most, sum(memory.kind == "host" for memory in fakes.cuda.blocks.values()))
        assert most <= SHAPES_KEPT * 2 * 2  # shapes, lanes, input and output
        largest = 64 * 8 * 16
        assert max(memory.size for memory in fakes.cuda.blocks.values() if memory.kind == "device") >= largest


def test_who_stops_early_leaves_nothing_under_way(fakes: Any, device: Any, tmp_path: Path) -> None:
    bundle = device.make_bundle(tmp_path / "b", {"rtx": device.plan((1, 3, 8, 8))})
    with EngineSession(bundle, "rtx") as session:
        outputs = session.run_many(batch(seed, 1, 3, 8, 8) for seed in range(9))
        next(outputs)
        with pytest.raises(RuntimeError, match="in the middle of other batches"):
            session.run(batch(0, 1, 3, 8, 8))
        outputs.close()  # type: ignore[attr-defined]
        assert all(work.waited_for for work in fakes.cuda.history)
        pictures = batch(5, 1, 3, 8, 8)
        np.testing.assert_array_equal(session.run(pictures), expected(pictures))


def test_a_source_that_fails_leaves_nothing_under_way(fakes: Any, device: Any, tmp_path: Path) -> None:
    def source() -> Iterator[np.ndarray]:
        yield batch(0, 1, 3, 8, 8)
        yield batch(1, 1, 3, 8, 8)
        raise PictureError("the film is torn")

    bundle = device.make_bundle(tmp_path / "b", {"rtx": device.plan((1, 3, 8, 8))})
    with EngineSession(bundle, "rtx") as session:
        with pytest.raises(PictureError, match="torn"):
            list(session.run_many(source()))
        assert all(work.waited_for for work in fakes.cuda.history)


def test_a_session_nobody_closed_closes_itself(fakes: Any, device: Any, tmp_path: Path) -> None:
    bundle = device.make_bundle(tmp_path / "b", {"rtx": device.plan((1, 3, 8, 8))})
    session = EngineSession(bundle, "rtx")
    session.run(batch(0, 1, 3, 8, 8))
    del session
    gc.collect()
    fakes.assert_nothing_left()


def test_another_thread_may_run_it(fakes: Any, device: Any, tmp_path: Path) -> None:
    bundle = device.make_bundle(tmp_path / "b", {"rtx": device.plan((1, 3, 8, 8))})
    found: list[np.ndarray] = []
    with EngineSession(bundle, "rtx") as session:
        thread = threading.Thread(target=lambda: found.append(session.run(batch(3, 1, 3, 8, 8))))
        thread.start()
        thread.join()
    np.testing.assert_array_equal(found[0], expected(batch(3, 1, 3, 8, 8)))


def test_another_thread_may_close_it(fakes: Any, device: Any, tmp_path: Path) -> None:
    bundle = device.make_bundle(tmp_path / "b", {"rtx": device.plan((1, 3, 8, 8))})
    session = EngineSession(bundle, "rtx")
    session.run(batch(0, 1, 3, 8, 8))
    fakes.cuda.current.clear()
    thread = threading.Thread(target=session.close)
    thread.start()
    thread.join()
    fakes.assert_nothing_left()


def test_a_closed_session_is_not_used(fakes: Any, device: Any, tmp_path: Path) -> None:
    bundle = device.make_bundle(tmp_path / "b", {"rtx": device.plan((1, 3, 8, 8))})
    with EngineSession(bundle, "rtx") as session:
        session.run(batch(0, 1, 3, 8, 8))
    session.close()  # once more does nothing
    calls = len(fakes.cuda.calls)
    with pytest.raises(RuntimeError, match="the session was closed"):
        session.run(batch(0, 1, 3, 8, 8))
    assert session.device_times() is None
    assert len(fakes.cuda.calls) == calls


def test_half_precision_ends_and_a_scale(fakes: Any, device: Any, tmp_path: Path) -> None:
    bundle = device.make_bundle(tmp_path / "b", {"rtx": device.plan((1, 3, 8, 8), dtype="HALF", scale=2)}, scale=2)
    pictures = batch(0, 1, 3, 8, 8)
    with EngineSession(bundle, "rtx") as session:
        restored = session.run(pictures)
    assert (restored.shape, restored.dtype) == ((1, 3, 16, 16), np.float32)
    np.testing.assert_allclose(restored[:, :, ::2, ::2], expected(pictures), atol=1e-3)  # 11 bits of FP16


def test_times_of_the_device(fakes: Any, device: Any, tmp_path: Path) -> None:
    bundle = device.make_bundle(tmp_path / "b", {"rtx": device.plan((1, 3, 8, 8))})
    with EngineSession(bundle, "rtx") as session:
        assert session.device_times() is None
        session.run(batch(0, 1, 3, 8, 8))
        times = session.device_times()
        assert times is not None
        assert (times.copy_in_ms, times.execute_ms, times.copy_out_ms) == (1.0, 5.0, 1.0)  # as the stand-in takes


def test_memory_is_counted(fakes: Any, device: Any, tmp_path: Path) -> None:
    bundle = device.make_bundle(tmp_path / "b", {"rtx": device.plan((1, 3, 8, 8), weights=10_000, scratch=4)})
    with EngineSession(bundle, "rtx") as session:
        assert session.device_bytes == 10_000
        session.run(batch(0, 1, 3, 8, 8))
        assert session.device_bytes == 10_000 + 2 * 3 * 8 * 8 * 4 + 8 * 8 * 4


def test_tiles_that_know_their_picture(fakes: Any, device: Any, tmp_path: Path) -> None:
    plan = device.plan((1, 3, 8, 8), statistics=True)
    bundle = device.make_bundle(tmp_path / "b", {"tensorrt": plan})
    pictures = batch(0, 1, 3, 8, 8)
    with EngineSession(bundle, "tensorrt") as session:
        np.testing.assert_array_equal(session.run(pictures), expected(pictures))  # with its own statistics
        outputs = session.run_values({"image": pictures})
        np.testing.assert_allclose(outputs["own_statistics"], pictures.mean(axis=(0, 2, 3)), rtol=1e-6)
        given = {"statistics": np.asarray([1, 2, 3], np.float32), "use_statistics": np.asarray([True])}
        for _ in range(3):  # also where it is launched as a graph
            restored = session.run_values({"image": pictures, **given})["restored"]
            np.testing.assert_array_equal(restored[0, 2], expected(pictures)[0, 2] + 3)
        with pytest.raises(UsageError, match=r"'statistics' has another shape \(expected \(3,\), got \(4,\)\)"):
            session.run_values({"image": pictures, "statistics": np.zeros(4, np.float32)})
        with pytest.raises(UsageError, match="has no input 'noise'"):
            session.run_values({"image": pictures, "noise": pictures})


class TestBytes:
    @pytest.mark.parametrize("mean", [False, True])
    def test_bytes_in_bytes_out(self, fakes: Any, device: Any, tmp_path: Path, mean: bool) -> None:
        plan = device.plan((2, 8, 12, 3), dtype="UINT8", mean=mean)
        parents = ("model.uint8.onnx",)
        files = {"model.uint8.onnx": ("bytes", b"graph")}
        bundle = device.make_bundle(tmp_path / "b", {"rtx": plan}, parents=parents, files=files, batch=2)
        given = np.random.default_rng(0).integers(0, 256, (2, 8, 12, 3), np.uint8)
        with EngineSession(bundle, "rtx") as session:
            assert session.takes_bytes
            assert session.form.name == "uint8"
            np.testing.assert_array_equal(session.run_bytes(given), 255 - given // 2)
            floats = given.transpose(0, 3, 1, 2).astype(np.float32) / 255
            np.testing.assert_array_equal(
                session.run(floats), (255 - given // 2).transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
            )
            several = list(session.run_bytes_many([given, given]))
            assert len(several) == 2
            with pytest.raises(UsageError, match=r"takes bytes \(expected uint8, got float32\)"):
                session.run_bytes(floats)  # type: ignore[arg-type]

    def test_bgr_is_turned_for_floats(self, fakes: Any, device: Any, tmp_path: Path) -> None:
        plan = device.plan((1, 8, 8, 3), dtype="UINT8", scale=2)
        files = {"model.bgr.onnx": ("bytes", b"graph")}
        bundle = device.make_bundle(tmp_path / "b", {"rtx": plan}, parents=("model.bgr.onnx",), files=files)
        red = np.zeros((1, 3, 8, 8), np.float32)
        red[:, 0] = 1
        with EngineSession(bundle, "rtx") as session:
            assert session.form.kind == "bgr"
            restored = session.run(red)
        assert restored.shape == (1, 3, 16, 16)
        assert np.allclose(restored[:, 0], 128 / 255)
        assert np.allclose(restored[:, 1:], 1)

    def test_a_mean_that_is_no_number(self, fakes: Any, device: Any, tmp_path: Path) -> None:
        plan = device.plan((1, 8, 8, 3), dtype="UINT8", mean=True, behaviour="nan")
        bundle = device.make_bundle(tmp_path / "b", {"rtx": plan})
        with EngineSession(bundle, "rtx") as session:
            with pytest.raises(PictureError, match="not finite numbers"):
                session.run_bytes(np.zeros((1, 8, 8, 3), np.uint8))
            assert np.isnan(session.run(np.zeros((1, 3, 8, 8), np.float32))).all()

    def test_floats_are_no_bytes(self, fakes: Any, device: Any, tmp_path: Path) -> None:
        bundle = device.make_bundle(tmp_path / "b", {"rtx": device.plan((1, 3, 8, 8))})
        with EngineSession(bundle, "rtx") as session:
            assert not session.takes_bytes
            for use in (lambda: session.run_bytes(np.zeros((1, 8, 8, 3), np.uint8)), lambda: session.form):
                with pytest.raises(UsageError, match=r"takes floats.*--io uint8"):
                    use()
