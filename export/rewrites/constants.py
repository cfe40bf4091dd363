"""What the rules ask of constants and convolutions."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray


def constant(value: ir.Value | None) -> NDArray[np.generic] | None:
    """The numbers of a constant, ``None`` where the value is computed or absent."""
    if value is None or value.const_value is None:
        return None
    numbers: NDArray[np.generic] = value.const_value.numpy()
    return numbers


def per_channel(value: ir.Value | None) -> NDArray[np.generic] | None:
    """A constant of one number per channel, ``(C, 1, 1)`` or ``(1, C, 1, 1)``, as ``(C,)``."""
    numbers = constant(value)
    if numbers is None or numbers.ndim not in (3, 4) or numbers.shape[-2:] != (1, 1):
        return None
    if numbers.ndim == 4 and numbers.shape[0] != 1:
        return None
    return numbers.reshape(-1)


def is_pointwise(conv: ir.Node) -> bool:
    """Whether a Conv looks at one pixel: kernel 1x1, stride 1, no padding."""
    weight = constant(conv.inputs[1])
    if weight is None or weight.ndim != 4 or weight.shape[2:] != (1, 1):
        return False
    pads = conv.attributes.get_ints("pads", [0, 0, 0, 0])
    strides = conv.attributes.get_ints("strides", [1, 1])
    return (
        not any(pads)
        and all(stride == 1 for stride in strides)
        and conv.attributes.get_string("auto_pad", "NOTSET") in ("NOTSET", "VALID")
    )
