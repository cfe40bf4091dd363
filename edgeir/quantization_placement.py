"""Which layers run in INT8, and why each of the others does not: one function for training and for export.

Quantisation-aware training (`edgeir.train`) describes the layers of a module, the Q/DQ writer (`edgeir.calibrate`) the
nodes of a graph. Both describe a layer by the path of its module and by its weights, and both ask `place`: a network is
fine-tuned for exactly the quantisation that its graph gets.

A quantised layer gets both, because TensorRT runs a layer in INT8 only where both inputs are (facts: tensorrt.md 4.1):

* its input activation per tensor, its weight per output channel; symmetric, so that the zero point is 0;
* ``scale = max(amax / 127, SMALLEST_SCALE)`` and ``clamp(round_half_even(x / scale), -128, 127) * scale``; a weight
  never reaches -128, because its amax is its own. The bias stays as it is.

Only layers with weights are ever described, so softmax, norms, gates, resizing, and the additions of the residual
stream stay in higher precision without a rule.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Literal

from edgeir.errors import GraphError, UsageError, nearest

Kind = Literal["conv", "depthwise", "pointwise", "linear", "matmul"]
"""What a layer is; a pointwise convolution is 1x1, a matmul multiplies two activations."""

QMIN, QMAX = -128, 127
# Scales are at least this, the smallest positive FP16: a scale takes the type of its tensor in a typed graph.
SMALLEST_SCALE = 2.0**-24

# Tensor cores multiply INT8 in steps of 16 channels; kernels for 8 exist for some convolutions (`RULES`).
FULL_STEP = 16
HALF_STEP = 8
SMALLEST_GROUPED_KERNEL = 3


@dataclass(frozen=True, slots=True)
class QuantizableLayer:
    """One layer that could run in INT8; make it with `convolution`, `linear` or `matmul`.

    Attributes:
        name: path of its module (``latent.0.ffn.project_in``), which `edgeir.precision.module_of` gives for a node.
        kind: what it is.
        in_channels: channels summed over by a dense layer, K of a matrix product.
        out_channels: channels it makes, N of a matrix product.
        groups: groups of a convolution.
        kernel: sides of a convolution's kernel, (rows, columns).
        rows: M of a linear layer's product, for one picture or window; ``None`` where unknown, and no rule reads it.
        is_first: it is the first of all layers to run.
        is_last: it is the last of all layers to run.
    """

    name: str
    kind: Kind
    in_channels: int
    out_channels: int
    groups: int = 1
    kernel: tuple[int, ...] = (1, 1)
    rows: int | None = None
    is_first: bool = False
    is_last: bool = False

    @property
    def group_channels(self) -> int:
        """Input channels that one output channel sums over."""
        return self.in_channels // self.groups


def convolution(
    name: str, weight_shape: Sequence[int], groups: int, *, is_first: bool = False, is_last: bool = False
) -> QuantizableLayer:
    """Describe a convolution by its weight, ``(C_out, C_in / groups, kH, kW)`` in PyTorch and ONNX alike."""
    out_channels, group_channels, *kernel = weight_shape
    kind: Kind = "conv"
    if groups > 1 and group_channels == 1:
        kind = "depthwise"
    elif all(side == 1 for side in kernel):
        kind = "pointwise"
    return QuantizableLayer(
        name,
        kind,
        group_channels * groups,
        out_channels,
        groups=groups,
        kernel=tuple(kernel),
        is_first=is_first,
        is_last=is_last,
    )


def linear(
    name: str,
    in_channels: int,
    out_channels: int,
    *,
    rows: int | None = None,
    is_first: bool = False,
    is_last: bool = False,
) -> QuantizableLayer:
    """Describe a product with a constant matrix: ``(..., rows, in_channels) -> (..., rows, out_channels)``."""
    return QuantizableLayer(name, "linear", in_channels, out_channels, rows=rows, is_first=is_first, is_last=is_last)


def matmul(name: str, in_channels: int, out_channels: int) -> QuantizableLayer:
    """Describe a product of two activations by its node's full name; modules have no such layers."""
    return QuantizableLayer(name, "matmul", in_channels, out_channels)


@dataclass(frozen=True, slots=True)
class Rule:
    """Why a layer stays in higher precision.

    Attributes:
        name: one word or two, for tests and reports.
        applies: whether the rule speaks about a layer.
        reason: the text for `PlacedLayer.reason`; ``{layer.…}`` is filled in.
        source: where the rule comes from. "ModelOpt" is NVIDIA Model Optimizer 0.47's choice of nodes for INT8
            (``modelopt.onnx.quantization``), "facts" the project's notes on TensorRT, tensorrt.md.
    """

    name: str
    applies: Callable[[QuantizableLayer], bool]
    reason: str
    source: str


def _small_groups(layer: QuantizableLayer) -> bool:
    if layer.groups == 1 or min(layer.group_channels, layer.out_channels) >= FULL_STEP:
        return False
    return layer.out_channels % HALF_STEP != 0 or min(layer.kernel) < SMALLEST_GROUPED_KERNEL


def _few_channels(layer: QuantizableLayer) -> bool:
    channels = (layer.in_channels, layer.out_channels)
    if layer.kind not in ("conv", "pointwise") or layer.groups > 1 or min(channels) >= FULL_STEP:
        return False
    has_kernel = any(count % HALF_STEP == 0 for count in channels) and max(channels) >= FULL_STEP
    return not (has_kernel and len(set(layer.kernel)) == 1)


# The first rule that applies decides; a layer without one is quantised.
RULES = (
    Rule(
        "activations",
        lambda layer: layer.kind == "matmul",
        "product of two activations: heads are too narrow for INT8 to win, and attention weights need the range",
        "facts 4.2: channel attention, MHA both or none",
    ),
    Rule(
        "first",
        lambda layer: layer.is_first,
        "first layer: it reads the picture itself",
        "facts 4.2: first and last conv",
    ),
    Rule(
        "last",
        lambda layer: layer.is_last,
        "last layer: it writes the picture itself",
        "facts 4.2: first and last conv",
    ),
    Rule(
        "tokens",
        lambda layer: layer.name.rpartition(".")[2] == "gst_proj",
        "makes the GST tokens, which are logits of a softmax over the whole picture",
        "facts, models.md 7: GST; facts 4.2: softmax",
    ),
    Rule(
        "groups",
        _small_groups,
        "{layer.out_channels} channels in {layer.groups} groups, kernel {layer.kernel}: in narrow groups INT8 wants"
        " a multiple of 8 channels and a kernel of at least 3x3",
        "facts 4.2: ModelOpt, grouped convolutions",
    ),
    Rule(
        "channels",
        _few_channels,
        "{layer.in_channels} to {layer.out_channels} channels: INT8 kernels want 16 on one side and a multiple of 8",
        "facts 4.2: ModelOpt, C_in or C_out < 16",
    ),
    Rule(
        "product",
        lambda layer: layer.kind == "linear" and min(layer.in_channels, layer.out_channels) < FULL_STEP,
        "small matrix product, {layer.in_channels} to {layer.out_channels} channels: INT8 wants 16 on both sides",
        "facts 4.2: ModelOpt, K or N < 16",
    ),
    Rule(
        "rows",
        lambda layer: layer.rows is not None and layer.rows < FULL_STEP,
        "small matrix product, {layer.rows} rows: INT8 wants 16",
        "facts 4.2: small GEMMs, GEMV; the limit is that of K and N",
    ),
)


@dataclass(frozen=True, slots=True)
class PlacedLayer:
    """A layer and what was decided; ``reason`` is empty where input and weight are quantised."""

    layer: QuantizableLayer
    reason: str = ""

    @property
    def quantized(self) -> bool:
        """Whether the input (per tensor) and the weight (per output channel) are quantised; it is both or none."""
        return not self.reason


@dataclass(frozen=True)
class Placement:
    """What `place` decided, in the order of the descriptions."""

    layers: tuple[PlacedLayer, ...]

    @cached_property
    def quantized(self) -> tuple[str, ...]:
        """Names of the quantised layers."""
        return tuple(placed.layer.name for placed in self.layers if placed.quantized)

    @cached_property
    def left(self) -> dict[str, str]:
        """Name to reason of the layers that stay in higher precision."""
        return {placed.layer.name: placed.reason for placed in self.layers if not placed.quantized}


def place(layers: Iterable[QuantizableLayer], *, keep: Iterable[str] = ()) -> Placement:
    """Decide for each layer whether it is quantised; a layer's fate depends on its own description only.

    Args:
        layers: descriptions with names of their own.
        keep: layers to leave in higher precision, see `covers`; they win over `RULES`.

    Raises:
        UsageError: a pattern of ``keep`` covers none of the layers.
        GraphError: two layers have one name.
    """
    described = tuple(layers)
    patterns = tuple(keep)
    names = [layer.name for layer in described]
    for name, count in Counter(names).items():
        if count > 1:
            raise GraphError("two layers have one name", where="INT8 placement", got=name)
    for pattern in patterns:
        if not any(covers(pattern, name) for name in names):
            known = {path for name in names for path in _paths(name)}
            raise UsageError(
                f"'{pattern}' covers no layer that could be quantised",
                where="INT8 placement",
                fix=nearest(pattern, known),
            )
    return Placement(tuple(PlacedLayer(layer, _reason(layer, patterns)) for layer in described))


def covers(pattern: str, name: str) -> bool:
    """Whether ``pattern`` speaks about the layer ``name``: it matches the name or that of a module around it.

    ``*`` and ``?`` match anything, dots included; without them a pattern is a module's path, and covers what is inside.

    >>> covers("latent", "latent.0.attn.qkv"), covers("*.attn", "latent.0.attn.qkv"), covers("late", "latent.0")
    (True, True, False)
    """
    return any(fnmatchcase(path, pattern) for path in _paths(name))


def _reason(layer: QuantizableLayer, keep: tuple[str, ...]) -> str:
    for pattern in keep:
        if covers(pattern, layer.name):
            return f"asked for: '{pattern}'"
    for rule in RULES:
        if rule.applies(layer):
            return rule.reason.format(layer=layer)
    return ""


def _paths(name: str) -> Iterator[str]:
    """``"a.b.c"`` gives ``"a.b.c"``, ``"a.b"`` and ``"a"``."""
    while name:
        yield name
        name = name.rpartition(".")[0]
