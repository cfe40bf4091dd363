"""config.pbtxt against Triton's own schema, and against what its server refuses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from google.protobuf import text_format

from edgeir.serving.triton_config import MARK, Tensor, TritonModel, interface_in, to_pbtxt

FIXED = TritonModel(
    name="a-model_1.0",
    backend="onnxruntime",
    file="model.onnx",
    inputs=(Tensor("image", "float32", (1, 3, 64, 96)),),
    outputs=(Tensor("restored", "float32", (1, 3, 128, 192)),),
    warm_up=(1, 3, 64, 96),
    max_batch=0,
    best_batch=1,
    facts={"edgeir_pictures": 'RGB, "0 to 1"\\'},
)
FREE = replace(
    FIXED,
    backend="tensorrt",
    file="model.plan",
    inputs=(Tensor("image", "uint8", (-1, -1, -1, 3)),),
    outputs=(Tensor("restored", "uint8", (-1, -1, -1, 3)), Tensor("restored_mean", "float32", (-1,))),
    warm_up=(4, 64, 96, 3),
    max_batch=8,
    best_batch=4,
)


def require_accepted(config: Any) -> None:
    """What ValidateModelConfig, ValidateIOShape and GenerateWarmupData of triton-inference-server/core refuse."""
    assert config.name
    assert config.backend in ("onnxruntime", "tensorrt")
    assert config.max_batch_size >= 0
    assert config.WhichOneof("scheduling_choice") in (None, "dynamic_batching")
    assert config.version_policy.WhichOneof("policy_choice")
    assert all(0 < size <= config.max_batch_size for size in config.dynamic_batching.preferred_batch_size)
    assert not config.HasField("dynamic_batching") or config.max_batch_size
    for tensor in (*config.input, *config.output):
        assert tensor.name
        assert tensor.data_type
        assert tensor.dims
        assert all(side >= 1 or side == -1 for side in tensor.dims)
        if tensor.HasField("reshape"):
            assert config.max_batch_size or tensor.reshape.shape
    for request in config.model_warmup:
        assert request.batch_size >= 1
        assert request.batch_size == 1 or config.max_batch_size >= request.batch_size
        assert set(request.inputs) == {tensor.name for tensor in config.input}
        for tensor in config.input:
            given = request.inputs[tensor.name]
            assert given.data_type == tensor.data_type
            assert len(given.dims) == len(tensor.dims)
            assert all(side >= 1 for side in given.dims)
            assert all(wanted in (-1, side) for wanted, side in zip(tensor.dims, given.dims, strict=True))


@pytest.mark.parametrize("model", [FIXED, FREE], ids=["fixed", "free"])
def test_the_server_would_take_it(parse: Callable[[str], Any], model: TritonModel) -> None:
    config = parse(to_pbtxt(model))
    require_accepted(config)
    assert config.name == model.name
    assert config.backend == model.backend
    assert config.default_model_filename == model.file
    assert {key: value.string_value for key, value in config.parameters.items()} == model.facts
    assert [tensor.name for tensor in config.output] == [tensor.name for tensor in model.outputs]


def test_a_fixed_batch_is_part_of_the_shape(parse: Callable[[str], Any]) -> None:
    config = parse(to_pbtxt(FIXED))
    assert config.max_batch_size == 0
    assert not config.HasField("dynamic_batching")
    assert list(config.input[0].dims) == [1, 3, 64, 96]
    assert list(config.output[0].dims) == [1, 3, 128, 192]
    assert list(config.model_warmup[0].inputs["image"].dims) == [1, 3, 64, 96]
    assert config.instance_group[0].Kind.Name(config.instance_group[0].kind) == "KIND_AUTO"


def test_a_free_batch_is_tritons(parse: Callable[[str], Any]) -> None:
    config = parse(to_pbtxt(FREE))
    assert config.max_batch_size == 8
    assert list(config.dynamic_batching.preferred_batch_size) == [4]
    assert list(config.input[0].dims) == [-1, -1, 3]
    assert list(config.output[1].dims) == [1]
    assert list(config.output[1].reshape.shape) == []
    assert config.output[1].HasField("reshape")
    assert config.model_warmup[0].batch_size == 4
    assert list(config.model_warmup[0].inputs["image"].dims) == [64, 96, 3]
    assert config.instance_group[0].Kind.Name(config.instance_group[0].kind) == "KIND_GPU"


def test_the_check_can_fail(parse: Callable[[str], Any]) -> None:
    with pytest.raises(text_format.ParseError, match="no field named"):
        parse(to_pbtxt(FIXED) + "max_batch: 1\n")
    with pytest.raises(text_format.ParseError):
        parse(to_pbtxt(FIXED).replace("TYPE_FP32", "TYPE_FLOAT"))
    with pytest.raises(AssertionError):
        require_accepted(parse(to_pbtxt(replace(FIXED, warm_up=(1, 3, 64, 64)))))
    with pytest.raises(AssertionError):
        require_accepted(parse(to_pbtxt(replace(FREE, best_batch=9))))


def test_the_interface_is_what_a_client_sees() -> None:
    text = to_pbtxt(FIXED)
    assert interface_in(text) == FIXED.interface
    assert interface_in("name: 'theirs'") is None
    assert interface_in(text.replace(MARK, "#")) is None
    assert replace(FIXED, warm_up=(1, 3, 8, 8)).interface == FIXED.interface
    assert interface_in(text.replace("count: 1", "count: 4")) == FIXED.interface
    for other in (
        replace(FIXED, facts=FIXED.facts | {"edgeir_pictures": "BGR"}),
        replace(FIXED, facts=FIXED.facts | {"edgeir_range_H": "64 64 512"}),
        replace(FIXED, max_batch=4),
        replace(FIXED, backend="tensorrt"),
        replace(FIXED, inputs=(Tensor("image", "uint8", (1, 3, 64, 96)),)),
        replace(FIXED, outputs=(Tensor("restored", "float32", (1, 3, 64, 96)),)),
    ):
        assert other.interface != FIXED.interface
