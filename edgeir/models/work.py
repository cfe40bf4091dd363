"""What a network moves and holds, counted without computing anything: what a device spends time and memory on."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from edgeir.models.cost import count_gmac

_VALUE_BYTES = 4

# What a fusing compiler still runs as a kernel of its own; everything else is computed where it is read or written.
_KERNELS = frozenset(
    {
        "_adaptive_avg_pool2d",
        "_softmax",
        "addmm",
        "amax",
        "avg_pool2d",
        "baddbmm",
        "bmm",
        "convolution",
        "gather",
        "index",
        "linalg_vector_norm",
        "mean",
        "mm",
        "native_layer_norm",
        "sum",
        "topk",
        "upsample_bilinear2d",
        "var_mean",
    }
)


@dataclass(frozen=True, slots=True)
class Work:
    """One run of a network; a value is one number of an activation, weights are not counted.

    Attributes:
        macs: multiply-accumulates of convolutions and matrix products.
        least_values: values read and written if everything is fused into convolutions, products, reductions, sorting
            and resizing.
        most_values: values read and written if nothing is fused: each operator reads its inputs and writes its outputs.
        live_values: most values that exist at one time, input and output included.
        kernels: operators that remain if everything else is fused into them; the same at any size.
        operators: all that compute or copy.
    """

    macs: float
    least_values: float
    most_values: float
    live_values: float
    kernels: int
    operators: int


def count_work(module: nn.Module, height: int, width: int) -> Work:
    """Count one run on a picture of ``height`` x ``width`` pixels, on tensors of the meta device as `count_gmac` does.

    A mask counts a quarter of a value per element and an index two: what they take beside FP32.
    """
    meta = {
        name: torch.empty_like(tensor, device="meta")
        for tensors in (module.named_parameters(), module.named_buffers())
        for name, tensor in tensors
    }
    dtype = next(module.parameters()).dtype
    was_training = module.training
    module.eval()
    moved = _Moved(meta.values())
    try:
        with torch.no_grad():
            image = torch.empty(1, 3, height, width, device="meta", dtype=dtype)
            moved.hold([image])
            with moved:
                functional_call(module, meta, (image,))
    finally:
        module.train(was_training)
    return Work(
        macs=count_gmac(module, height, width) * 1e9,
        least_values=moved.least / _VALUE_BYTES,
        most_values=moved.most / _VALUE_BYTES,
        live_values=moved.peak / _VALUE_BYTES,
        kernels=moved.kernels,
        operators=moved.operators,
    )


class _Moved(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up bytes while a network runs, and follows which storages are alive."""

    def __init__(self, weights: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._weights = {_storage(tensor) for tensor in weights}
        self.least = 0
        self.most = 0
        self.peak = 0
        self.kernels = 0
        self.operators = 0
        self._alive: dict[StorageWeakRef, int] = {}

    def hold(self, tensors: Iterable[Tensor]) -> None:
        """Count ``tensors`` as alive until nobody holds their storage."""
        self._alive = {key: size for key, size in self._alive.items() if not key.expired()}  # type: ignore[no-untyped-call]
        for tensor in tensors:
            storage = tensor.untyped_storage()
            self._alive[StorageWeakRef(storage)] = storage.nbytes()  # type: ignore[no-untyped-call]
        self.peak = max(self.peak, sum(self._alive.values()))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        inputs = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        outputs = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        known = {_storage(tensor) for tensor in inputs}
        fresh = [tensor for tensor in outputs if _storage(tensor) not in known]
        self.hold(fresh)
        written = any(argument.alias_info and argument.alias_info.is_write for argument in func._schema.arguments)
        if not fresh and not written:  # a view moves nothing
            return result
        size = sum(_bytes(tensor) for tensor in (*inputs, *outputs) if _storage(tensor) not in self._weights)
        self.most += size
        self.operators += 1
        if func.overloadpacket.__name__ in _KERNELS:
            self.least += size
            self.kernels += 1
        return result


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _bytes(tensor: Tensor) -> int:
    return math.prod(tensor.shape) * tensor.element_size()
