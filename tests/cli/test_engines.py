"""``edgeir run``, ``bench`` and ``doctor`` with engines, on stand-ins for the GPU and its runtimes."""

from __future__ import annotations

import gc
import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image


def _device() -> Any:
    name = "edgeir_tests_fake_device"
    if name not in sys.modules:
        path = Path(__file__).parents[1] / "runtime" / "fake_device.py"
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


device = _device()


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """A machine with a GPU; whatever a command leaves on it fails the test."""
    machine = device.install(monkeypatch, tmp_path / "cache")
    yield machine
    gc.collect()
    machine.assert_nothing_left()


@pytest.fixture
def picture(scene: Any, tmp_path: Path) -> Path:
    path = tmp_path / "a.png"
    scene(40, 52).save(path)
    return path


def expected(picture: Path) -> np.ndarray:
    pixels = np.asarray(Image.open(picture), np.float32) / 255
    return np.asarray(np.rint((1 - pixels / 2) * 255), np.uint8)


def written(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


STATIC = (1, 3, 32, 32)


@pytest.mark.parametrize("backend", ["rtx", "tensorrt"])
def test_run(cli: Any, fakes: Any, picture: Path, tmp_path: Path, backend: str) -> None:
    bundle = device.make_bundle(tmp_path / "b", {backend: device.plan(STATIC)}, size=(32, 32))
    out = tmp_path / "out.png"
    value = json.loads(
        cli("run", bundle.path, picture, "-o", out, "--backend", backend, "--overlap", 0, "--json").done().out
    )
    np.testing.assert_array_equal(written(out), expected(picture))
    assert value["backend"] == backend
    assert "FAKE 40 (sm89)" in value["runtime"]
    assert value["sentry"] == {
        "mode": "retry", "checked": 4, "not_finite": 0, "flat": 0, "restored_in_fp32": 0, "flat_in_fp32_too": 0,
    }  # fmt: skip
    assert value["smaller_tiles"] == []


TILES = {"model.tiles.onnx": ("tiles", b"of tiles")}


def sharing(folder: Path, *, engines: tuple[str, ...] = ("rtx-tiles",), shares: bool = True) -> Any:
    """A bundle with an engine whose tiles share the mean colour, which the stand-in adds to what it restores."""
    plans = {name: device.plan(STATIC, statistics="tiles" in name) for name in engines}
    return device.make_bundle(folder, plans, size=(32, 32), files=TILES, parents=("model.tiles.onnx",), shares=shares)


def test_tiles_of_an_engine_share_statistics(cli: Any, fakes: Any, tmp_path: Path) -> None:
    Image.fromarray(np.repeat(np.array([[[20], [60]]], np.uint8), 32, 0).repeat(32, 1).repeat(3, 2)).save(
        tmp_path / "a.png"
    )  # two tiles side by side
    opened = sharing(tmp_path / "b")
    found = {}
    for way in ("usual", "shared", "own"):
        options = () if way == "usual" else ("--tile-statistics", way)
        arguments = ("run", opened.path, tmp_path / "a.png", "-o", tmp_path / f"{way}.png", "--backend", "rtx")
        value = json.loads(cli(*arguments, *options, "--json").done().out)
        assert value["tile_statistics"] == ("own" if way == "own" else "shared")
        found[way] = written(tmp_path / f"{way}.png")
    np.testing.assert_array_equal(found["usual"], found["shared"])
    np.testing.assert_array_equal(found["own"], expected(tmp_path / "a.png"))
    with_mean = np.clip(1 - np.array([20, 60]) / 510 + 40 / 255, 0, 1)  # 40: of both tiles
    np.testing.assert_array_equal(found["shared"][0, ::32, 0], np.rint(with_mean * 255))


def test_what_shares_is_built_first(cli: Any, fakes: Any, picture: Path, tmp_path: Path) -> None:
    arguments = (picture, "-o", tmp_path / "o.png", "--backend", "rtx")
    plan = device.plan(STATIC)
    plain = device.make_bundle(tmp_path / "plain", {"rtx": plan}, size=(32, 32), files=TILES, shares=True)
    outcome = cli("run", plain.path, *arguments).done()
    assert "an engine of 'edgeir build --target rtx --tiles' does" in outcome.err
    cli("run", plain.path, *arguments, "--tile-statistics", "shared").sentence(
        2, "tiles cannot share statistics", "no engine for that", "--target rtx --tiles"
    )
    older = {"rtx-tiles": ("rtx", "1.0.0", "sm86-sm89-sm120")}
    plans = {"rtx-tiles": device.plan(STATIC, statistics=True)}
    of_old = device.make_bundle(
        tmp_path / "old", plans, size=(32, 32), files=TILES, parents=("model.tiles.onnx",), notes=older, shares=True
    )
    cli("run", of_old.path, *arguments, "--tile-statistics", "shared").sentence(3, "1.0.0")


def test_run_through_bytes(cli: Any, fakes: Any, picture: Path, tmp_path: Path, scene: Any) -> None:
    plan = device.plan((1, 64, 64, 3), dtype="UINT8", mean=True)
    bundle = device.make_bundle(tmp_path / "b", {"rtx": plan}, size=(64, 64))
    cli("run", bundle.path, picture, "-o", tmp_path / "out.png", "--backend", "rtx").done()
    np.testing.assert_array_equal(written(tmp_path / "out.png"), 255 - written(picture) // 2)
    scene(40, 52, "RGBA").save(tmp_path / "clear.png")  # bytes do not say all of it
    cli("run", bundle.path, tmp_path / "clear.png", "-o", tmp_path / "out2.png", "--backend", "rtx").done()
    colours = written(tmp_path / "clear.png")[..., :3]
    np.testing.assert_array_equal(written(tmp_path / "out2.png")[..., :3], 255 - colours // 2)


def test_a_bad_output_is_restored_in_fp32_and_said(cli: Any, fakes: Any, picture: Path, tmp_path: Path) -> None:
    plan = device.plan((1, 3, 64, 64), behaviour="nan-once")
    bundle = device.make_bundle(tmp_path / "b", {"rtx": plan}, size=(64, 64))
    outcome = cli("run", bundle.path, picture, "-o", tmp_path / "out.png", "--backend", "rtx", "--json").done()
    np.testing.assert_array_equal(written(tmp_path / "out.png"), expected(picture))
    assert "Output 1 is bad: NaN or infinity. It is restored once more in FP32." in outcome.err
    assert "1 of 1 outputs were bad (1 not finite, 0 flat): 1 were restored once more in FP32." in outcome.err
    sentry = json.loads(outcome.out)["sentry"]
    assert (sentry["not_finite"], sentry["restored_in_fp32"]) == (1, 1)


@pytest.mark.parametrize("behaviour", ["nan", "flat"])
def test_or_it_stops(cli: Any, fakes: Any, picture: Path, tmp_path: Path, behaviour: str) -> None:
    bundle = device.make_bundle(
        tmp_path / "b", {"rtx": device.plan((1, 3, 64, 64), behaviour=behaviour)}, size=(64, 64)
    )
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        (folder / name).write_bytes(picture.read_bytes())
    options = ("--backend", "rtx", "--on-bad-output", "stop", "--json")
    outcome = cli("run", bundle.path, folder, "-o", tmp_path / "out", *options)
    outcome.sentence(1, "the output is bad", "--on-bad-output retry")
    value = json.loads(outcome.out)
    assert value["restored"] == []
    assert len(value["failed"]) == 1, "what comes after it is not tried"
    assert value["sentry"]["not_finite" if behaviour == "nan" else "flat"] == 1
    assert list((tmp_path / "out").iterdir()) == []


def test_bytes_that_are_bad(cli: Any, fakes: Any, picture: Path, tmp_path: Path) -> None:
    plan = device.plan((1, 64, 64, 3), dtype="UINT8", mean=True, behaviour="nan")
    bundle = device.make_bundle(tmp_path / "b", {"rtx": plan}, size=(64, 64))
    outcome = cli("run", bundle.path, picture, "-o", tmp_path / "out.png", "--backend", "rtx").done()
    assert np.abs(written(tmp_path / "out.png").astype(int) - expected(picture)).max() <= 1  # rounded twice
    assert "1 were restored once more in FP32" in outcome.err


def test_smaller_tiles_when_memory_runs_out(cli: Any, fakes: Any, picture: Path, tmp_path: Path) -> None:
    plan = device.plan((1, 3, 16, 16), (1, 3, 128, 128), scratch=100)
    bundle = device.make_bundle(tmp_path / "b", {"rtx": plan}, size=(16, 16), largest=(128, 128))
    fakes.cuda.memory = 200_000  # 40x52 takes 258,000
    out = tmp_path / "out.png"
    outcome = cli("run", bundle.path, picture, "-o", out, "--backend", "rtx", "--overlap", 0, "--json").done()
    np.testing.assert_array_equal(written(out), expected(picture))
    assert "The GPU's memory is not enough for tiles of 40x52: going on with 32x32." in outcome.err
    assert json.loads(outcome.out)["smaller_tiles"] == [{"tile": [40, 52], "smaller": [32, 32]}]


def test_a_static_graph_that_does_not_fit(cli: Any, fakes: Any, picture: Path, tmp_path: Path) -> None:
    bundle = device.make_bundle(tmp_path / "b", {"rtx": device.plan((1, 3, 64, 64), scratch=100)}, size=(64, 64))
    fakes.cuda.memory = 200_000
    outcome = cli("run", bundle.path, picture, "-o", tmp_path / "out.png", "--backend", "rtx")
    outcome.sentence(3, "not enough for tiles of 64x64", "Export again with a smaller --size")
    assert not (tmp_path / "out.png").exists()


def test_scratch_memory_that_does_not_shrink_ends_at_once(
    cli: Any, fakes: Any, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = device.fake_tensorrt.Context
    monkeypatch.setattr(context, "update_device_memory_size_for_shapes", lambda self: 1_600_000)
    plan = device.plan((1, 3, 16, 16), (1, 3, 128, 128))
    bundle = device.make_bundle(tmp_path / "b", {"rtx": plan}, size=(16, 16), largest=(128, 128))
    fakes.cuda.memory = 1_000_000
    outcome = cli("run", bundle.path, picture, "-o", tmp_path / "out.png", "--backend", "rtx", "--overlap", 0)
    assert outcome.code == 3
    assert outcome.err.count("going on with") == 1
    assert "as much scratch memory for smaller tiles as for larger ones" in outcome.err


def test_a_fault_of_the_gpu_is_no_defect_of_edgeir(cli: Any, fakes: Any, picture: Path, tmp_path: Path) -> None:
    bundle = device.make_bundle(tmp_path / "b", {"rtx": device.plan((1, 3, 64, 64))}, size=(64, 64))
    fakes.cuda.fail["cuEventSynchronize"] = device.fake_cuda.CUresult.CUDA_ERROR_LAUNCH_FAILED
    outcome = cli("run", bundle.path, picture, "-o", tmp_path / "out.png", "--backend", "rtx")
    outcome.sentence(3, "engines/rtx.plan: the GPU failed while it ran the engine", "cuEventSynchronize gave 719")
    del fakes.cuda.fail["cuEventSynchronize"]
    fakes.cuda.fail["cuDevicePrimaryCtxRetain"] = device.fake_cuda.CUresult.CUDA_ERROR_LAUNCH_FAILED
    reasons = json.loads(cli("doctor", "--json").done().out)["backends"]
    assert reasons["rtx"].startswith("CUDA: the GPU cannot be used (got cuDevicePrimaryCtxRetain gave 719")
    del fakes.cuda.fail["cuDevicePrimaryCtxRetain"]


def test_an_engine_of_nv12_is_refused_once(cli: Any, fakes: Any, picture: Path, tmp_path: Path) -> None:
    name = "model.nv12-bt709-limited.onnx"
    plan = device.plan((1, 96, 64, 1), dtype="UINT8", mean=True)
    files = {name: ("bytes", b"graph")}
    bundle = device.make_bundle(tmp_path / "b", {"rtx": plan}, size=(64, 64), parents=(name,), files=files)
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        (folder / name).write_bytes(picture.read_bytes())
    outcome = cli("run", bundle.path, folder, "-o", tmp_path / "out", "--backend", "rtx")
    outcome.sentence(2, "the engine takes NV12", "edgeir build", "--target rtx --floats")
    assert "skipped" not in outcome.err
    assert fakes.deserialized == []


def test_refusals_are_one_sentence(cli: Any, fakes: Any, picture: Path, tmp_path: Path) -> None:
    bundle = device.make_bundle(
        tmp_path / "b", {"rtx": device.plan(STATIC)}, notes={"rtx": ("rtx", "1.6.0", "sm89")}, size=(32, 32)
    )
    options = ("-o", tmp_path / "out.png", "--backend")
    cli("run", bundle.path, picture, *options, "rtx").sentence(3, "another version", "edgeir build", "--target rtx")
    cli("run", bundle.path, picture, *options, "tensorrt").sentence(2, "no engine for TensorRT", "--target tensorrt")
    relative = ("tensorrt", "--plugins", "x.so")
    cli("run", bundle.path, picture, *options, *relative).sentence(2, "--plugins", "must be absolute")
    assert fakes.deserialized == []


def test_bench(cli: Any, fakes: Any, tmp_path: Path) -> None:
    plan = device.plan((1, 3, 64, 64), weights=3 << 20)
    bundle = device.make_bundle(tmp_path / "b", {"rtx": plan}, size=(64, 64))
    options = ("--backend", "rtx", "--against", "ort", "--rounds", 2, "--no-memory", "--no-power")
    value = json.loads(cli("bench", bundle.path, *options, "--json").done().out)
    (latency,) = [table for table in value["tables"] if table["title"] == "Latency"]
    assert [row[0] for row in latency["rows"]] == ["rtx", "ort"]
    assert "FAKE 40" in latency["rows"][0][1]
    (stages,) = [table for table in value["tables"] if table["title"] == "Where one picture's time goes"]
    rows = {row[0]: row[1] for row in stages["rows"]}
    assert list(rows) == [
        "decode the file", "pad, lay out, blend", "copy to the GPU", "execute on the GPU", "copy from the GPU",
        "call it and wait", "encode the file",
    ]  # fmt: skip
    assert [rows[name] for name in list(rows)[2:5]] == [1.0, 5.0, 1.0]  # as the stand-in takes
    facts = {fact["label"]: fact["value"] for fact in value["facts"]}
    assert facts["GPU memory MiB"] == 3
    assert not any("not timed" in note for note in value["notes"])


def test_bench_refusals(cli: Any, fakes: Any, tmp_path: Path) -> None:
    bundle = device.make_bundle(tmp_path / "b", {"rtx": device.plan(STATIC)}, size=(32, 32))
    cli("bench", bundle.path, "--backend", "rtx", "--layers").sentence(2, "--layers", "--backend rtx")
    cli("bench", bundle.path, "--backend", "rtq").sentence(2, "'rtq'", "Did you mean 'rtx'?")
    cli("bench", bundle.path, "--plugins", "/x.so").sentence(2, "--plugins", "'tensorrt'")


def test_bench_of_onnx_runtime_is_as_it_was(cli: Any, tmp_path: Path) -> None:
    bundle = device.make_bundle(tmp_path / "b", {}, size=(32, 32))
    options = ("--against", "none", "--rounds", 1, "--no-memory", "--no-power", "--json")
    value = json.loads(cli("bench", bundle.path, *options).done().out)
    (stages,) = [table for table in value["tables"] if table["title"] == "Where one picture's time goes"]
    assert [row[0] for row in stages["rows"]] == [
        "decode the file",
        "pad, lay out, blend",
        "execute",
        "encode the file",
    ]
    assert "GPU memory MiB" not in {fact["label"] for fact in value["facts"]}
    assert any("Engines in the bundle were not timed" in note for note in value["notes"])


def test_doctor_says_which_backends_run(cli: Any, fakes: Any) -> None:
    reasons = json.loads(cli("doctor", "--json").done().out)["backends"]
    assert reasons["ort"] is reasons["rtx"] is reasons["tensorrt"] is None
    fakes.cuda.fail["cuDeviceGet"] = device.fake_cuda.CUresult.CUDA_ERROR_NO_DEVICE
    reasons = json.loads(cli("doctor", "--json").done().out)["backends"]
    assert reasons["ort"] is None
    assert reasons["rtx"].startswith("CUDA: there is no GPU to use (got cuDeviceGet gave 100")
    text = cli("doctor").done().out
    assert "backends that run on this machine: ort, ort-reference," in text
    assert "there is no GPU to use" in " ".join(text.split())


def test_validate_measures_an_engine_that_runs_here(cli: Any, fakes: Any, tmp_path: Path) -> None:
    plans = {"rtx": device.plan((1, 3, 64, 64)), "tensorrt": device.plan((1, 3, 64, 64))}
    notes = {"tensorrt": ("tensorrt", "10.3.0", "sm89")}
    bundle = device.make_bundle(tmp_path / "b", plans, notes=notes, size=(64, 64))
    options = ("--pictures", 1, "--reference", "onnx", "--json")
    outcome = cli("validate", bundle.path, *options)
    value = json.loads(outcome.out)
    facts = {fact["label"]: fact["value"] for fact in value["facts"]}
    assert "engine of TensorRT-RTX: TensorRT-RTX 1.7.1.116 FAKE 40 (sm89)" in facts["engines"]
    assert "not measured: engines/tensorrt.plan: the engine is for another version of TensorRT" in outcome.err
    checks = {check["name"]: check["value"] for check in value["checks"]}
    assert any(name.endswith("engine of TensorRT-RTX") for name in checks), checks


@pytest.fixture
def of_bytes(tmp_path: Path) -> Path:
    """A bundle for ONNX Runtime whose graph of bytes gives other values than that of floats, to tell them apart."""
    import onnx_ir as ir

    from edgeir.bundle import Bundle
    from edgeir.export.byte_io import with_bytes
    from edgeir.imaging.byte_formats import ByteFormat

    path = tmp_path / "other.onnx"
    path.write_bytes(device.onnx_bytes(value=0.25))
    graph = ir.to_proto(with_bytes(ir.load(path), ByteFormat("uint8"))).SerializeToString()
    made = device.make_bundle(tmp_path / "b", {}, size=(64, 64), files={"model.uint8.onnx": ("bytes", graph)})
    assert isinstance(made, Bundle)
    return made.path


def test_pictures_in_one_piece_take_the_graph_of_bytes(
    cli: Any, of_bytes: Path, scene: Any, picture: Path, tmp_path: Path
) -> None:
    def factor(name: str, *options: object) -> float:
        cli("run", of_bytes, tmp_path / name, "-o", tmp_path / "out.png", *options).done()
        source, out = (np.asarray(Image.open(path), np.float64) for path in (tmp_path / name, tmp_path / "out.png"))
        return round(float(np.mean((255 - out[..., :3]) / source[..., :3])), 2)

    scene(40, 52, "RGBA").save(tmp_path / "clear.png")
    scene(100, 52).save(tmp_path / "large.png")
    assert factor("a.png") == 0.25  # the graph of bytes
    assert factor("clear.png") == 0.5  # the graph of floats: transparency
    assert factor("large.png", "--overlap", 8) == 0.5  # tiles are better blended before they are rounded


def test_bytes_of_onnx_runtime_that_are_not_finite(
    cli: Any, of_bytes: Path, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgeir.errors import PictureError
    from edgeir.runtime.byte_session import ByteGraph

    def overflow(self: Any, pictures: np.ndarray) -> np.ndarray:
        raise PictureError("the network gave pixels that are not finite numbers")

    monkeypatch.setattr(ByteGraph, "run_bytes", overflow)
    outcome = cli("run", of_bytes, picture, "-o", tmp_path / "out.png", "--json").done()
    assert json.loads(outcome.out)["sentry"]["restored_in_fp32"] == 1
    assert np.abs(written(tmp_path / "out.png").astype(int) - expected(picture)).max() <= 1
    stopped = cli("run", of_bytes, picture, "-o", tmp_path / "out2.png", "--on-bad-output", "stop")
    stopped.sentence(1, "the output is bad: NaN or infinity")
    assert not (tmp_path / "out2.png").exists()
