"""Watching a graph run on pictures: from tensors to ranges, in bounded memory."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeir.calibrate.observers import Magnitudes, Observer, make_observer
from edgeir.calibrate.ranges import Ranges, TensorRange
from edgeir.errors import CheckFailed, GraphError, UsageError, nearest
from edgeir.runtime.ort_session import OrtSession

Pictures = NDArray[np.float32]


def _physical_bytes() -> int:
    """Memory of this machine; 0 where it does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return 0


MOST_MEMORY = max(512 * 2**20, _physical_bytes() // 16)
"""Bytes of activations that one pass keeps at a time; more tensors take more passes over the pictures."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What a graph did on some pictures.

    Attributes:
        ranges: of its tensors.
        seen: the magnitudes that they were found on, by the tensor's name.
        extremes: by the tensor's name, which batch held its largest magnitude, counted from 0; the first of several. A
            tensor of zeros has none.
    """

    ranges: Ranges
    seen: Mapping[str, Magnitudes]
    extremes: Mapping[str, int]


def observe(
    model: ir.Model,
    tensors: Sequence[str],
    pictures: Callable[[], Iterable[Pictures]],
    *,
    method: str = "entropy",
    most_memory: int = MOST_MEMORY,
    on_picture: Callable[[], None] = lambda: None,
) -> Observation:
    """Run an FP32 graph on pictures and find the range of each tensor.

    Args:
        model: with one input; left as it is.
        tensors: names of values of the graph.
        pictures: gives the batches, ``(N, 3, H, W) float32``, anew at every call and in the same order.
        method: key of `edgeir.calibrate.observers.OBSERVERS`.
        most_memory: bytes of the outputs of one run; a tensor of unknown size counts as the largest known one.
        on_picture: called after every run, for progress.

    Returns:
        the ranges and what was seen, in the order of ``tensors``.

    Raises:
        GraphError: the graph has no such tensor, or ONNX Runtime refuses it.
        UsageError: unknown method, or no pictures.
        CheckFailed: an activation is NaN or infinite.
    """
    observers = {name: make_observer(method) for name in dict.fromkeys(tensors)}
    extremes: dict[str, int] = {}
    seen: dict[int, int] = {}
    for index, pictures_in, values in _runs(model, list(observers), pictures, most_memory, on_picture):
        seen[index] = pictures_in
        for name, numbers in values.items():
            before = observers[name].magnitudes.largest
            observers[name].observe(numbers)
            if observers[name].magnitudes.largest > before:
                extremes[name] = index
    found = {name: _range(observer) for name, observer in observers.items()}
    ranges = Ranges(method, sum(seen.values()), found)
    return Observation(ranges, {name: observer.magnitudes for name, observer in observers.items()}, extremes)


def channel_magnitudes(
    model: ir.Model,
    tensors: Sequence[str],
    pictures: Callable[[], Iterable[Pictures]],
    *,
    most_memory: int = MOST_MEMORY,
    on_picture: Callable[[], None] = lambda: None,
) -> dict[str, NDArray[np.float32]]:
    """Run an FP32 graph on pictures and find the largest magnitude of every channel; arguments as of `observe`.

    Returns:
        by the tensor's name ``(C,) float32``; axis 1 is the channels.

    Raises:
        GraphError: the graph has no such tensor, or ONNX Runtime refuses it.
        UsageError: no pictures.
        CheckFailed: an activation is NaN or infinite.
    """
    loudest: dict[str, NDArray[np.float32]] = {}
    for _, _, values in _runs(model, list(dict.fromkeys(tensors)), pictures, most_memory, on_picture):
        for name, numbers in values.items():
            others = tuple(axis for axis in range(numbers.ndim) if axis != 1)
            found = np.maximum(numbers.max(axis=others), -numbers.min(axis=others))
            if not np.isfinite(found).all():
                raise CheckFailed(
                    "an activation is NaN or infinite", where=f"calibration, tensor {name}", expected="finite values"
                )
            loudest[name] = np.maximum(loudest[name], found) if name in loudest else found
    return loudest


def passes(model: ir.Model, tensors: Sequence[str], most_memory: int = MOST_MEMORY) -> int:
    """How often `observe` would look at every picture."""
    values = _values(model.graph)
    return len(_groups({name: values[name] for name in dict.fromkeys(tensors) if name in values}, most_memory))


def _runs(
    model: ir.Model,
    tensors: Sequence[str],
    pictures: Callable[[], Iterable[Pictures]],
    most_memory: int,
    on_picture: Callable[[], None],
) -> Iterator[tuple[int, int, dict[str, NDArray[Any]]]]:
    """Run ``model`` on every batch, once for each group of ``tensors`` that fits into memory.

    Yields:
        the batch's place, how many pictures it has, and the tensors of this group.
    """
    values = _values(model.graph)
    for name in tensors:
        if name not in values:
            raise GraphError(f"the graph has no tensor '{name}'", where="calibration", fix=nearest(name, values))
    for group in _groups({name: values[name] for name in tensors}, most_memory):
        session = OrtSession(exposed(model, group), arena=False)
        index = -1
        for index, batch in enumerate(pictures()):
            outputs = session.run_all(batch)
            yield index, len(batch), {name: outputs.get(name, batch) for name in group}  # its input is no output
            del outputs
            on_picture()
        if index < 0:
            raise UsageError("there is no picture to calibrate with", where="calibration")
        del session


def _values(graph: ir.Graph) -> dict[str, ir.Value]:
    """Inputs and results of nodes, by name."""
    made = (value for node in graph for value in node.outputs)
    return {value.name or "": value for value in (*graph.inputs, *made)}


def _groups(values: Mapping[str, ir.Value], most_memory: int) -> list[list[str]]:
    """Names in order, cut where the tensors of a group would take more than ``most_memory``."""
    sizes = {name: _bytes(value) for name, value in values.items()}
    largest = max((size for size in sizes.values() if size is not None), default=most_memory)
    groups: list[list[str]] = []
    held = 0
    for name, size in sizes.items():
        needed = largest if size is None else size
        if not groups or held + needed > most_memory:
            groups.append([])
            held = 0
        groups[-1].append(name)
        held += needed
    return groups


def _bytes(value: ir.Value) -> int | None:
    if value.shape is None or not value.shape.is_static():
        return None
    return 4 * math.prod(value.shape.numpy())


def exposed(model: ir.Model, names: Sequence[str]) -> bytes:
    """The graph with these values as further outputs; an input of the graph is known without."""
    copy = ir.from_proto(ir.to_proto(model))
    outputs = {value.name for value in copy.graph.outputs}
    made = {value.name: value for node in copy.graph for value in node.outputs}
    copy.graph.outputs.extend(made[name] for name in names if name in made and name not in outputs)
    return bytes(ir.to_proto(copy).SerializeToString())


def _range(observer: Observer) -> TensorRange:
    amax, seen = observer.amax(), observer.magnitudes
    return TensorRange(amax, seen.largest, seen.share_above(amax))
