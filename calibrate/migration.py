"""Scale migration: the channels of a tensor made alike before it is quantised; the graph computes the same.

One scale for a whole tensor has to hold its loudest channel, and the others lose their lowest bits. Where a convolution
makes the channels and another one reads them, a factor per channel can move from one weight into the other (Xiao et al.
2023, SmoothQuant, arXiv 2211.10438, equation 4; for convolutions Nagel et al. 2019, arXiv 1906.04721, section 4.1):

    conv ---------------------------> conv
    conv -> Split -> ( Gelu ) * ( ) -> conv      the half that is not bent carries the factor through the product

Factors are powers of two, so that nothing is rounded: the graph gives the same bits before and after, in FP32 and, as
far as its exponents reach, in FP16. The weight that makes the channels does not notice in eight bits either, because it
has a scale per output channel. The columns of the weight that reads share one: there the factor is split between what
the activation and what the weight loses. Depth-wise convolutions that read are left out: it was tried, and their
channels are alike already (docs/precision.md).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeir.calibrate.layers import graph_layers
from edgeir.calibrate.observe import MOST_MEMORY, Pictures, channel_magnitudes
from edgeir.calibrate.ranges import FARTHEST
from edgeir.errors import GraphError

Exponents = Mapping[str, Sequence[int]]
"""By the layer that reads: the power of two that each of its input channels is multiplied by."""

ACTIVATIONS_SHARE = 0.5
"""How much of the difference between channels the weight takes over: the paper's alpha."""


@dataclass(frozen=True, slots=True)
class Seam:
    """Where a factor can move.

    Attributes:
        layer: name of the layer that reads.
        reader: its Conv, dense.
        maker: the Conv that makes the channels, linearly.
        first: the first of ``maker``'s output channels that arrive.
        channels: how many do.
    """

    layer: str
    reader: ir.Node
    maker: ir.Node
    first: int
    channels: int

    @property
    def tensor(self) -> str:
        """Name of what is quantised."""
        value = self.reader.inputs[0]
        assert value is not None and value.name is not None
        return value.name


def seams(graph: ir.Graph, layers: Collection[str] | None = None) -> dict[str, Seam]:
    """Every place of ``graph`` where a factor can move, by the layer that reads, in the order of the graph.

    Args:
        graph: FP32, rewritten.
        layers: those that may be in eight bits: only where one of them reads is anything gained. ``None``: all.
    """
    found = {}
    for entry in graph_layers(graph):
        node = entry.node
        if node.op_type != "Conv" or entry.weight_index is None or not (layers is None or entry.layer.name in layers):
            continue
        if node.attributes.get_int("group", 1) > 1:
            continue
        maker = _maker(node.inputs[0])
        if maker is not None:
            found[entry.layer.name] = Seam(entry.layer.name, node, *maker)
    return found


def find_exponents(
    model: ir.Model,
    open_seams: Mapping[str, Seam],
    pictures: Callable[[], Iterable[Pictures]],
    *,
    most_memory: int = MOST_MEMORY,
    on_picture: Callable[[], None] = lambda: None,
) -> dict[str, tuple[int, ...]]:
    """Look at pictures and decide by how much each channel is raised or lowered.

    Args:
        model: FP32, rewritten; left as it is.
        open_seams: of ``model``, see `seams`.
        pictures: as in `edgeir.calibrate.observe.observe`.
        most_memory: as there.
        on_picture: called after every run, for progress.

    Returns:
        for each seam that gains something, one exponent per channel.
    """
    tensors = [seam.tensor for seam in open_seams.values()]
    loudest = channel_magnitudes(model, tensors, pictures, most_memory=most_memory, on_picture=on_picture)
    found = {}
    for name, seam in open_seams.items():
        exponents = exponents_for(loudest[seam.tensor], _weight(seam.reader))
        if exponents.any():
            found[name] = tuple(int(one) for one in exponents)
    return found


def exponents_for(loudest: NDArray[np.floating], weight: NDArray[np.floating]) -> NDArray[np.int64]:
    """By which powers of two the channels of a tensor are multiplied.

    Args:
        loudest: ``(C,)``, the largest magnitude of each channel.
        weight: ``(C_out, C, ...)`` of the layer that reads them.

    Returns:
        ``(C,)``, at most `FARTHEST` apart from 0; no channel becomes louder than the loudest was.
    """
    top = float(loudest.max(initial=0.0))
    if top == 0:
        return np.zeros(len(loudest), np.int64)
    heard = np.where(loudest > 0, loudest, top) / top  # a silent channel is left alone
    rows = np.abs(weight).reshape(weight.shape[0], weight.shape[1], -1).max(axis=2)
    rows = rows / np.maximum(rows.max(axis=1, keepdims=True), np.finfo(rows.dtype).tiny)  # each has its own scale
    columns = rows.max(axis=0)
    columns = np.where(columns > 0, columns, 1.0)
    wanted = -ACTIVATIONS_SHARE * np.log2(heard) + (1 - ACTIVATIONS_SHARE) * np.log2(columns)
    wanted -= (wanted + np.log2(heard)).max()
    found: NDArray[np.int64] = np.clip(np.floor(wanted), -FARTHEST, FARTHEST).astype(np.int64)
    return found


def migrate(model: ir.Model, exponents: Exponents) -> None:
    """Move the factors, in place: what the graph computes stays the same, bit by bit.

    Args:
        model: FP32, rewritten.
        exponents: see `find_exponents`.

    Raises:
        GraphError: the graph has no seam at a layer, or one of another width.
    """
    known = seams(model.graph)
    for name, powers in exponents.items():
        seam = known.get(name)
        if seam is None or seam.channels != len(powers):
            raise GraphError(
                "the scales of channels cannot move here",
                where=f"layer {name}",
                expected="a convolution that reads what another one makes"
                if seam is None
                else f"{seam.channels} channels",
                got="none" if seam is None else str(len(powers)),
                fix="Calibrate again, for this network and its rewrites.",
            )
        factors, inverse = (np.exp2(sign * np.asarray(powers, np.float32)) for sign in (1, -1))
        made = slice(seam.first, seam.first + seam.channels)
        for index in range(1, len(seam.maker.inputs)):
            _scale(model.graph, seam.maker, index, factors, made)
        _scale(model.graph, seam.reader, 1, inverse, slice(None), axis=1)


def _maker(value: ir.Value | None) -> tuple[ir.Node, int, int] | None:
    """The convolution that makes the channels of ``value`` linearly, which of its channels, and how many."""
    if value is None or not _read_once(value):
        return None
    node = value.producer()
    assert node is not None
    if node.op_type == "Mul":
        sides = [_linear(side) for side in node.inputs]
        whole = [found for found in sides if found is not None and found[2] == _channels(value)]
        return whole[-1] if whole else None
    return _linear(value)


def _linear(value: ir.Value | None) -> tuple[ir.Node, int, int] | None:
    """As `_maker`, without a product between."""
    if value is None or not _read_once(value):
        return None
    node = value.producer()
    assert node is not None
    first = 0
    channels = _channels(value)
    if node.op_type == "Split" and node.attributes.get_int("axis", 0) == 1:
        widths = [_channels(half) for half in node.outputs]
        if None in widths:
            return None
        place = list(node.outputs).index(value)
        first = sum(width for width in widths[:place] if width is not None)
        if node.inputs[0] is None or not _read_once(node.inputs[0]):
            return None
        source = node.inputs[0].producer()
    else:
        source = node
    if source is None or source.op_type != "Conv" or channels is None:
        return None
    if any(numbers is None or numbers.const_value is None for numbers in source.inputs[1:]):
        return None
    return source, first, channels


def _read_once(value: ir.Value) -> bool:
    return value.producer() is not None and len(value.uses()) == 1 and not value.is_graph_output()


def _channels(value: ir.Value) -> int | None:
    if value.shape is None or len(value.shape) != 4 or not isinstance(value.shape[1], int):
        return None
    return value.shape[1]


def _weight(node: ir.Node) -> NDArray[np.float32]:
    value = node.inputs[1]
    assert value is not None and value.const_value is not None
    return value.const_value.numpy()


def _scale(
    graph: ir.Graph, node: ir.Node, index: int, factors: NDArray[np.float32], where: slice, *, axis: int = 0
) -> None:
    """Multiply part of one of ``node``'s constants along an axis; others that read the constant keep the old one."""
    value = node.inputs[index]
    assert value is not None and value.const_value is not None
    numbers = value.const_value.numpy().copy()
    shape = [1] * numbers.ndim
    shape[axis] = -1
    numbers[(slice(None),) * axis + (where,)] *= factors.astype(numbers.dtype).reshape(shape)
    if len(value.uses()) == 1:
        value.const_value = ir.tensor(numbers, name=value.name)
        return
    name = f"{value.name}.{node.name}"
    own = ir.val(name, const_value=ir.tensor(numbers, name=name))
    graph.register_initializer(own)
    node.replace_input_with(index, own)
