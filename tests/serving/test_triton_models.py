"""What of a bundle becomes a model of the server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeir.bundle import Bundle, BundleWriter
from edgeir.errors import BundleError
from edgeir.manifest import AxisRange, EngineNote, Manifest
from edgeir.provenance import collect
from edgeir.serving.triton_config import to_pbtxt
from edgeir.serving.triton_models import servable
from edgeir.spec import INPUT_NAME, TensorSpec

MakeBundle = Callable[..., Bundle]
ANY_SIZE = {"H": AxisRange(32, 64, 128), "W": AxisRange(48, 96, 192)}


def engine(runtime: str, version: str, architecture: str, mark: str = "") -> EngineNote:
    path = f"engines/{runtime}-{version}-{architecture}{mark}.plan"
    return EngineNote(runtime, version, architecture, path, "Built somewhere.")


def test_one_graph_of_one_size(make_bundle: MakeBundle) -> None:
    (served,) = servable(make_bundle(scale=2, batch=4, shape=(4, 3, 64, 96))).models
    model = served.model
    assert (model.name, model.backend, model.file) == ("made-up-fp16-64x96", "onnxruntime", "model.onnx")
    assert (model.max_batch, model.inputs[0].shape, model.outputs[0].shape) == (0, (4, 3, 64, 96), (4, 3, 128, 192))
    assert model.warm_up == (4, 3, 64, 96)
    assert served.artifact.path == "model.onnx"


def test_sides_that_a_request_chooses(make_bundle: MakeBundle) -> None:
    (served,) = servable(make_bundle(shape=(1, 3, "H", "W"), ranges=ANY_SIZE, scale=3)).models
    assert served.model.name == "made-up-fp16-64x96-dynamic"
    assert served.model.inputs[0].shape == (1, 3, -1, -1)
    assert served.model.outputs[0].shape == (1, 3, -1, -1)
    assert served.model.warm_up == (1, 3, 64, 96)
    assert served.model.facts["edgeir_range_H"] == "32 64 128"


def test_only_a_free_batch_is_put_together(make_bundle: MakeBundle) -> None:
    ranges = {"N": AxisRange(1, 4, 8)}
    (served,) = servable(make_bundle(shape=("N", 3, 64, 96), ranges=ranges, batch=4)).models
    assert (served.model.max_batch, served.model.best_batch) == (8, 4)
    assert served.model.inputs[0].shape == (-1, 3, 64, 96)
    assert served.model.warm_up == (4, 3, 64, 96)


def test_graphs_of_bytes(make_bundle: MakeBundle, parse: Callable[[str], Any]) -> None:
    files = ("model.uint8.onnx", "model.nv12-bt709-limited.onnx")
    found = servable(make_bundle(byte_graphs=files, scale=2)).models
    assert [served.model.name for served in found] == [
        "made-up-fp16-64x96",
        "made-up-fp16-64x96-uint8",
        "made-up-fp16-64x96-nv12-bt709-limited",
    ]
    _, rgb, nv12 = (parse(to_pbtxt(served.model)) for served in found)
    assert [list(tensor.dims) for tensor in (*rgb.input, *rgb.output)] == [[1, 64, 96, 3], [1, 128, 192, 3], [1]]
    assert list(nv12.input[0].dims) == [1, 96, 96, 1]
    assert nv12.input[0].data_type == nv12.output[0].data_type != rgb.output[1].data_type


def test_graphs_of_bytes_of_any_size(make_bundle: MakeBundle) -> None:
    made = make_bundle(
        byte_graphs=("model.bgr.onnx", "model.nv12-bt601-full.onnx"), shape=(1, 3, "H", "W"), ranges=ANY_SIZE
    )
    _, bgr, nv12 = (served.model for served in servable(made).models)
    assert bgr.inputs[0].shape == (1, -1, -1, 3)
    assert bgr.warm_up == (1, 64, 96, 3)
    assert nv12.inputs[0].shape == (1, -1, -1, 1)
    assert nv12.warm_up == (1, 96, 96, 1)


def test_engines(make_bundle: MakeBundle) -> None:
    notes = (
        engine("tensorrt", "10.3.0", "sm87"),
        engine("tensorrt", "10.16.1", "sm87"),
        engine("tensorrt", "10.16.1", "sm110"),
        engine("tensorrt", "10.16.1", "sm87", "-uint8"),
        engine("rtx", "1.7.1", "sm86-sm89"),
        EngineNote("tensorrt", "", "", None, "TensorRT is not installed here."),
        engine("tensorrt", "10.16.1", "sm120", "-plugins"),
        EngineNote("ort", "1.31.1", "native", "engines/ort-1.31.1-native.ort", "Optimised."),
    )
    made = make_bundle(
        byte_graphs=("model.uint8.onnx",),
        engines=notes,
        parents={notes[3].path: "model.uint8.onnx"},  # type: ignore[dict-item]
    )
    found = servable(made)
    plans = {served.model.name: served for served in found.models if served.model.backend == "tensorrt"}
    assert plans.keys() == {
        "made-up-fp16-64x96-tensorrt-sm87",
        "made-up-fp16-64x96-tensorrt-sm110",
        "made-up-fp16-64x96-tensorrt-sm87-uint8",
        "made-up-fp16-64x96-tensorrt-sm120",
    }
    assert "--backend-config=tensorrt,plugins=LIBRARY" in plans["made-up-fp16-64x96-tensorrt-sm120"].note
    newest = plans["made-up-fp16-64x96-tensorrt-sm87"]
    assert newest.artifact.path == "engines/tensorrt-10.16.1-sm87.plan"
    assert newest.note == "Built somewhere."
    assert plans["made-up-fp16-64x96-tensorrt-sm87-uint8"].model.inputs[0].dtype == "uint8"
    left = " ".join(found.left_out)
    assert "engines/tensorrt-10.3.0-sm87.plan: there is one of a newer TensorRT" in left
    assert "engines/rtx-1.7.1-sm86-sm89.plan: Triton's TensorRT backend does not run engines of TensorRT-RTX" in left
    assert "engines/ort-1.31.1-native.ort: ONNX Runtime's own format" in left
    assert len(found.left_out) == 3


@pytest.mark.parametrize("turned", [False, True])
def test_of_two_engines_the_one_that_needs_no_plugins(make_bundle: MakeBundle, turned: bool) -> None:
    pair = [engine("tensorrt", "10.16.1", "sm87"), engine("tensorrt", "10.16.1", "sm87", "-plugins")]
    found = servable(make_bundle(engines=tuple(reversed(pair) if turned else pair)))
    _, served = found.models
    assert (served.artifact.path, served.architecture) == ("engines/tensorrt-10.16.1-sm87.plan", "sm87")
    assert served.note == "Built somewhere."
    assert found.left_out == (
        "engines/tensorrt-10.16.1-sm87-plugins.plan: there is one of the same TensorRT for the same GPU that needs "
        "no plugins.",
    )


@pytest.mark.parametrize("turned", [False, True])
def test_a_newer_engine_before_one_without_plugins(make_bundle: MakeBundle, turned: bool) -> None:
    pair = [engine("tensorrt", "10.3.0", "sm87"), engine("tensorrt", "10.16.1", "sm87", "-plugins")]
    found = servable(make_bundle(engines=tuple(reversed(pair) if turned else pair)))
    assert found.models[1].artifact.path == "engines/tensorrt-10.16.1-sm87-plugins.plan"
    assert found.left_out == ("engines/tensorrt-10.3.0-sm87.plan: there is one of a newer TensorRT for the same GPU.",)


def test_a_bundle_without_a_graph(make_bundle: MakeBundle, tmp_path: Path) -> None:
    manifest = make_bundle().manifest
    with BundleWriter(tmp_path / "empty.edgeir") as writer:
        path = writer.commit(manifest)
    with pytest.raises(BundleError, match=r"no graph to serve.*expected model\.onnx"):
        servable(Bundle.open(path))


def test_the_graph_takes_what_the_configuration_says(
    micro: Callable[..., Any], parse: Callable[[str], Any], tmp_path: Path
) -> None:
    import onnxruntime as ort

    made = micro("exda", dynamic=True)
    spec, shape = made.loaded.spec, made.shape
    low, high = shape.dynamic.minimum, shape.dynamic.maximum
    with BundleWriter(tmp_path / "micro.edgeir") as writer:
        writer.path("model.onnx").write_bytes(made.path.read_bytes())
        writer.add("model.onnx", "model")
        path = writer.commit(
            Manifest(
                name=spec.name,
                precision="fp32",
                input=TensorSpec(INPUT_NAME, (1, 3, "H", "W")),
                ranges={"H": AxisRange(low[0], shape.height, high[0]), "W": AxisRange(low[1], shape.width, high[1])},
                batch=1,
                model=spec,
                provenance=collect(seconds=0.0),
            )
        )
    (served,) = servable(Bundle.open(path)).models
    config = parse(to_pbtxt(served.model))
    session = ort.InferenceSession(str(path / "model.onnx"), providers=["CPUExecutionProvider"])
    for told, real in zip(
        (*config.input, *config.output), (*session.get_inputs(), *session.get_outputs()), strict=True
    ):
        assert told.name == real.name
        assert real.type == "tensor(float)"
        assert config.input[0].data_type == told.data_type
        assert [side if isinstance(side, int) else -1 for side in real.shape] == list(told.dims)
    request = np.zeros(tuple(config.model_warmup[0].inputs[INPUT_NAME].dims), np.float32)
    (restored,) = session.run(None, {INPUT_NAME: request})
    assert restored.shape == request.shape
