"""What the rules ask of constants and convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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


def has_computed_bias(conv: ir.Node) -> bool:
    """Whether a Conv has a bias that is no constant."""
    return len(conv.inputs) > 2 and conv.inputs[2] is not None and constant(conv.inputs[2]) is None


def attributes_of(node: ir.Node) -> dict[str, Any]:
    """Name to value, as a rule's ``op`` takes them for a copy of the node."""
    return {name: attribute.value for name, attribute in node.attributes.items()}


def numbers_of(conv: ir.Node) -> list[NDArray[np.generic]]:
    """Weight of a Conv, and its bias where there is one; all of them constants."""
    found: list[NDArray[np.generic]] = []
    for source in conv.inputs[1:]:
        if source is None:
            continue
        numbers = constant(source)
        assert numbers is not None
        found.append(numbers)
    return found


def conv_like(op: Any, x: ir.Value, like: ir.Node, numbers: Sequence[NDArray[np.generic]], name: str) -> ir.Value:
    """A Conv with the attributes of ``like`` on ``x``, with other weights.

    Args:
        op: what a rule builds nodes with.
        x: its input.
        like: the convolution it stands for.
        numbers: weight, and a bias if wanted; with more or fewer outputs than ``like`` the groups keep their size.
        name: of the node.
    """
    roles = zip(("weight", "bias"), numbers, strict=False)
    inputs = [op.initializer(ir.tensor(array, name=f"{name}.{role}")) for role, array in roles]
    attributes = attributes_of(like)
    if attributes.get("group", 1) != 1:
        attributes["group"] = attributes["group"] * numbers[0].shape[0] // numbers_of(like)[0].shape[0]
    value: ir.Value = op.Conv(x, *inputs, **attributes)
    producer = value.producer()
    assert producer is not None
    producer.name = name
    return value
