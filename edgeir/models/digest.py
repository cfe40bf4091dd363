"""One hash over a set of weights: the identity that specs, manifests and reports quote."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor


def weights_digest(state_dict: Mapping[str, Tensor]) -> str:
    """SHA-256 (hex) over the sorted names with each tensor's dtype, shape and bytes (C order, as stored here).

    Two state dicts have the same digest exactly if they hold the same tensors bit for bit, in any order, on any device.
    """
    digest = hashlib.sha256()
    for name in sorted(state_dict):
        tensor = state_dict[name].detach().cpu().contiguous()
        shape = ",".join(map(str, tensor.shape))
        digest.update(f"{name}\n{str(tensor.dtype).removeprefix('torch.')}\n{shape}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
