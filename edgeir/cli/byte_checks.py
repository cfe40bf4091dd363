"""Whether a graph of bytes gives what the graph of floats is rounded to: measured at export, judged in the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeir.cli.measuring import PARITY_PICTURE, parity_sizes
from edgeir.export.byte_io import front_of
from edgeir.imaging.byte_formats import ByteFormat
from edgeir.imaging.colour import to_uint8
from edgeir.imaging.measuring import measuring_crop
from edgeir.imaging.yuv import nv12_from_rgb, rgb_from_nv12
from edgeir.report.value import Check, Table
from edgeir.runtime.byte_session import ByteGraph, Bytes
from edgeir.runtime.ort_session import OrtSession
from edgeir.runtime.restore import GraphInput
from edgeir.spec import INPUT_NAME, ModelSpec

# A sum in another order may carry a value over the middle between two bytes, and then it is one step.
MOST_STEPS = 1
# Of FP32 beside float64: a few products below 2.2 and their sum, each rounded by 6e-8 of itself, in steps of 1/255.
MOST_INPUT_STEPS = 1e-3


@dataclass(frozen=True, slots=True)
class ByteAgreement:
    """A graph of bytes beside the graph of floats that it was made from, on one picture.

    Attributes:
        graph: file name of the graph of bytes.
        height, width: of the picture in pixels.
        input_steps: largest difference of the pixels that reach the network to the formula in float64, in 255ths.
        differing: bytes of the output that differ from rounding what the graph of floats makes of those pixels.
        total: bytes of the output.
        largest_step: largest difference, 0 to 255.
    """

    graph: str
    height: int
    width: int
    input_steps: float
    differing: int
    total: int
    largest_step: int


def check_bytes(graphs: Mapping[str, Path], io: ByteFormat | None, graph: GraphInput) -> list[ByteAgreement]:
    """Compare every graph of bytes with rounding what its graph of floats gives, both in ONNX Runtime.

    The graph of floats gets the very pixels that the front of the graph of bytes makes: what a network makes of their
    last places is not the conversion's doing. Those pixels are held against the formula.

    Args:
        graphs: graphs of floats that run here, by name; their twins of bytes lie beside them.
        io: the format of the bytes; nothing is compared for ``None``.
        graph: the batches that the graphs accept.
    """
    if io is None:
        return []
    rows = []
    for name, path in graphs.items():
        twin = path.with_name(io.graph_name(name))
        front = _open(ir.to_proto(front_of(ir.load(twin))).SerializeToString())
        floats, in_bytes = _open(path), ByteGraph(_open(twin), io)
        for height, width in parity_sizes(graph):
            given, formula = byte_sample(to_uint8(measuring_crop(PARITY_PICTURE, height, width)), io)
            batch = np.repeat(given[None], graph.batch, axis=0)
            (made,) = front.run_values({INPUT_NAME: batch}).values()
            pixels = made.astype(np.float32, copy=False)
            expected = to_uint8(floats.run(pixels).transpose(0, 2, 3, 1))
            found = in_bytes.run_bytes(batch)
            if io.kind == "bgr":
                found = found[..., ::-1]
            steps = np.abs(found.astype(np.int16) - expected)
            off = float(np.abs(pixels.transpose(0, 2, 3, 1) - formula).max()) * 255
            differing = int(np.count_nonzero(steps))
            rows.append(ByteAgreement(twin.name, height, width, off, differing, steps.size, int(steps.max())))
    return rows


def _open(graph: Path | bytes) -> OrtSession:
    return OrtSession(graph, arena=False, integer_kernels=False)


def byte_sample(picture: Bytes, io: ByteFormat) -> tuple[Bytes, NDArray[np.float64]]:
    """A picture as a graph of bytes takes it, and what its network is to get.

    Args:
        picture: ``(H, W, 3) uint8``, RGB.
        io: the format of the bytes.

    Returns:
        ``(H, W, 3)`` or ``(3H/2, W, 1) uint8``, and ``(H, W, 3) float64`` in [0, 1], RGB.
    """
    if io.yuv is not None:
        frame = nv12_from_rgb(picture, io.yuv)
        return frame[..., None], rgb_from_nv12(frame, io.yuv)
    return (picture[..., ::-1] if io.kind == "bgr" else picture), picture / 255.0


def byte_checks(rows: Sequence[ByteAgreement], spec: ModelSpec) -> list[Check]:
    """The conversion against the formula, and the largest difference of the output against one step.

    The second not for a network that chooses neighbours: there a choice may turn on the last place of a number.
    """
    if not rows:
        return []
    advice = "Report it: the conversion inside the graph is to give what it gives outside."
    first = max(rows, key=lambda row: row.input_steps)
    worst = max(rows, key=lambda row: row.largest_step)
    of_input = Check(f"input beside float64, {first.graph}", first.input_steps, MOST_INPUT_STEPS, "/255", "max", advice)
    of_output = Check(f"bytes beside floats, {worst.graph}", worst.largest_step, MOST_STEPS, "/255", "max", advice)
    return [of_input] if spec.chooses_neighbours else [of_input, of_output]


def byte_tables(rows: Sequence[ByteAgreement]) -> tuple[Table, ...]:
    """One row per graph and size; no table without any."""
    if not rows:
        return ()
    return (
        Table(
            title="Bytes in, bytes out",
            columns=("graph", "size", "input error /255", "bytes that differ", "of", "largest step"),
            rows=tuple(
                (
                    row.graph,
                    f"{row.height}x{row.width}",
                    float(f"{row.input_steps:.2g}"),
                    row.differing,
                    row.total,
                    row.largest_step,
                )
                for row in rows
            ),
            note="Input error: of the pixels that reach the network, beside the formula in float64. Bytes: beside "
            "rounding what the graph of floats makes of the same pixels in ONNX Runtime; half to even, after clipping "
            "to [0, 1]. A host copies 3 bytes per pixel each way (1.5 in for NV12) in place of 12.",
        ),
    )
