"""``config.pbtxt`` of one Triton model: what the server must know about a file, as protobuf text.

The schema is ``model_config.proto`` of triton-inference-server/common; the tests parse every text against it. Writing
the few fields that edgeir uses is simpler than bringing protobuf to a device.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Backend = Literal["onnxruntime", "tensorrt"]

MARK = "# edgeir: inputs and outputs "
"""Begins the line that tells whether a later file fits this configuration, whatever else somebody changed in it."""

_TYPES = {"float32": "TYPE_FP32", "uint8": "TYPE_UINT8"}
# Warm-up requests: the second one no longer lays memory out, and sees what clients will see.
_WARM_UP_REQUESTS = 2
_QUEUE_DELAY_US = 1000
"""How long a picture may wait for others to share a run with, where batches are dynamic."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """One input or output.

    Attributes:
        name: in the graph.
        dtype: ``"float32"`` or ``"uint8"``.
        shape: whole, batch included; -1 for a side that a request chooses.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TritonModel:
    """One model of a repository.

    Attributes:
        name: of its folder and in requests.
        backend: which of Triton's runs it.
        file: name of the file in a version's folder.
        inputs, outputs: see `Tensor`.
        warm_up: whole shape of the request that Triton sends itself when it loads the model.
        max_batch: most pictures per run where requests may be put together, 0 where the batch is fixed.
        best_batch: pictures per run that it was tuned for.
        facts: what else a client may ask for: the meaning of the numbers, and the sizes that Triton does not check.
    """

    name: str
    backend: Backend
    file: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    warm_up: tuple[int, ...]
    max_batch: int
    best_batch: int
    facts: Mapping[str, str]

    @property
    def interface(self) -> str:
        """A hash over all that a configuration says for good: equal where a kept one stays true of a later file.

        Backend, file name, batch, inputs, outputs and `facts`; not what somebody tunes, and not the warm-up.
        """
        seen: list[object] = [self.backend, self.file, self.max_batch]
        seen += [(each.name, each.dtype, each.shape) for each in (*self.inputs, *self.outputs)]
        seen += sorted(self.facts.items())
        return hashlib.sha256(json.dumps(seen).encode()).hexdigest()[:16]


def to_pbtxt(model: TritonModel) -> str:
    """The whole file."""
    lines = [
        f"{MARK}{model.interface}",
        "# Change what you like but that line, names, types and dims: a later 'edgeir triton' keeps this file.",
        f"name: {_quoted(model.name)}",
        f"backend: {_quoted(model.backend)}",
        f"default_model_filename: {_quoted(model.file)}",
        f"max_batch_size: {model.max_batch}",
    ]
    for field, tensors in (("input", model.inputs), ("output", model.outputs)):
        for tensor in tensors:
            lines += _tensor(field, tensor, model.max_batch)
    lines += ["version_policy { latest { num_versions: 1 } }"]
    # A TensorRT engine runs on a GPU only; ONNX Runtime takes one where there is one.
    kind = "KIND_GPU" if model.backend == "tensorrt" else "KIND_AUTO"
    lines += [f"instance_group [ {{ count: 1 kind: {kind} }} ]"]
    if model.max_batch:
        lines += [
            f"dynamic_batching {{ preferred_batch_size: [ {model.best_batch} ] "
            f"max_queue_delay_microseconds: {_QUEUE_DELAY_US} }}"
        ]
    lines += _warm_up(model)
    for key, value in model.facts.items():
        lines += [f"parameters {{ key: {_quoted(key)} value {{ string_value: {_quoted(value)} }} }}"]
    return "\n".join(lines) + "\n"


def interface_in(text: str) -> str | None:
    """`TritonModel.interface` that a ``config.pbtxt`` was written for, ``None`` where edgeir did not write it."""
    for line in text.splitlines():
        if line.startswith(MARK):
            return line.removeprefix(MARK).strip()
    return None


def _tensor(field: str, tensor: Tensor, max_batch: int) -> list[str]:
    """Where requests may be put together, the batch is Triton's and stands in no shape."""
    dims = tensor.shape[1:] if max_batch else tensor.shape
    # One number per picture: a shape may not be empty, so that it is told as one and given without.
    reshape = "" if dims else " reshape { shape: [ ] }"
    kind = f"name: {_quoted(tensor.name)} data_type: {_TYPES[tensor.dtype]}"
    return [f"{field} {{ {kind} dims: {_list(dims or (1,))}{reshape} }}"]


def _warm_up(model: TritonModel) -> list[str]:
    """A request of the size that the model was made for; Triton wants a batch of one where it may not batch."""
    (tensor,) = model.inputs
    dims = model.warm_up[1:] if model.max_batch else model.warm_up
    batch = model.best_batch if model.max_batch else 1
    return [
        "model_warmup {",
        f'  name: "real size" batch_size: {batch} count: {_WARM_UP_REQUESTS}',
        f"  inputs {{ key: {_quoted(tensor.name)} value {{ data_type: {_TYPES[tensor.dtype]} dims: {_list(dims)} "
        "random_data: true } }",
        "}",
    ]


def _list(numbers: tuple[int, ...]) -> str:
    return f"[ {', '.join(map(str, numbers))} ]"


def _quoted(text: str) -> str:
    """Protobuf's text takes the escapes of JSON but for those of half characters, which no name here has."""
    return json.dumps(text)
