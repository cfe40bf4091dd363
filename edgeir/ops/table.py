"""The fused ops, stated once: names, inputs, outputs, attributes.

ONNX bodies (`edgeir.ops.functions`), NumPy twins (`edgeir.ops.reference`) and the torch side (`edgeir.models.fused`)
are checked against this table. Op types carry the prefix and are globally unique because TensorRT's parser looks local
functions up by op type alone: one name is one body.

Type letters: T is float16 or float32, the same for all T of one node; "bool" is one byte per element.
"""

from __future__ import annotations

from dataclasses import dataclass

DOMAIN = "edgeir"
VERSION = 1

# A finite stand-in for minus infinity: exp() of it is 0 in every type, and FP16 holds it.
MASKED_LOGIT = -1e4

# What torch.nn.functional.normalize divides by at least, which keeps a row of zeros zero. It only ever meets float32.
LEAST_NORM = 1e-12


@dataclass(frozen=True, slots=True)
class Field:
    """An input or output: its name, its axes (letters, or sizes) and its type letter."""

    name: str
    axes: tuple[str, ...]
    dtype: str


@dataclass(frozen=True, slots=True)
class Attribute:
    """An integer attribute that a kernel needs and a body may read off shapes instead."""

    name: str
    doc: str


@dataclass(frozen=True, slots=True)
class FusedOp:
    """One fused op: what a node of this type takes, gives and means."""

    name: str
    doc: str
    inputs: tuple[Field, ...]
    outputs: tuple[Field, ...]
    attributes: tuple[Attribute, ...] = ()

    @property
    def qualified_name(self) -> str:
        """``"edgeir::EdgeirKeyGraph"``."""
        return f"{DOMAIN}::{self.name}"


KEY_GRAPH = FusedOp(
    name="EdgeirKeyGraph",
    doc="Per window, the k nearest tokens of each token by raw dot product (FP32 sums), rows directed, ties all kept.",
    inputs=(Field("tokens", ("windows", "n", "c"), "T"),),
    outputs=(Field("keep", ("windows", "n", "n"), "bool"),),
    attributes=(Attribute("k", "tokens kept per row, 1 to n"),),
)

KEY_GRAPH_ATTENTION = FusedOp(
    name="EdgeirKeyGraphAttention",
    doc="Softmax attention restricted to the key graph: cosine similarity times scale plus bias, FP32 softmax.",
    inputs=(
        Field("query", ("windows", "heads", "n", "d"), "T"),
        Field("key", ("windows", "heads", "n", "d"), "T"),
        Field("value", ("windows", "heads", "n", "d"), "T"),
        Field("keep", ("windows", "n", "n"), "bool"),
        Field("bias", ("heads", "n", "n"), "T"),
        Field("scale", ("heads", "1", "1"), "T"),
    ),
    outputs=(Field("output", ("windows", "heads", "n", "d"), "T"),),
)

GST_ATTENTION = FusedOp(
    name="EdgeirGstAttention",
    doc="ExDA's channel attention over [Q;G], [K;G], [V';G]: rows combined before the value product, token values kept "
    "at low resolution.",
    inputs=(
        Field("query", ("N", "C", "H", "W"), "T"),
        Field("key", ("N", "C", "H", "W"), "T"),
        Field("value", ("N", "C", "H", "W"), "T"),
        Field("tokens", ("N", "C", "H/stride", "W/stride"), "T"),
        Field("temperature", ("heads", "1", "1"), "T"),
        Field("alpha", ("1",), "T"),
    ),
    outputs=(Field("output", ("N", "C", "H", "W"), "T"),),
    attributes=(
        Attribute("heads", "number of heads"),
        Attribute("stride", "pooling stride of the tokens"),
    ),
)

FUSED_OPS: tuple[FusedOp, ...] = (KEY_GRAPH, KEY_GRAPH_ATTENTION, GST_ATTENTION)


def fused_op(name: str) -> FusedOp | None:
    """The fused op of that type, or ``None``."""
    return next((op for op in FUSED_OPS if op.name == name), None)


def plugin_attributes() -> dict[str, str]:
    """Node attributes that make TensorRT's parser (10.7 and later) take the plugin where one is registered."""
    return {"plugin_namespace": DOMAIN, "plugin_version": str(VERSION)}
