"""The measurements that export and validate share: parity on a real picture, drift on the measuring pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgeir.cli.console import Console
from edgeir.compare.drift import PictureDrift, degraded_samples, measure_drifts, worst_sample
from edgeir.compare.parity import Parity, Run, compare_outputs
from edgeir.errors import MissingDependency
from edgeir.imaging.conditions import VALIDATION_CONDITIONS
from edgeir.imaging.layout import middle_of, nchw_from_hwc
from edgeir.imaging.look import to_lay_over
from edgeir.imaging.measuring import measuring_crop, measuring_pictures
from edgeir.imaging.padding import pad_to_at_least
from edgeir.imaging.writing import png_bytes
from edgeir.report.comparison import Comparison
from edgeir.runtime.ort_session import OrtSession
from edgeir.runtime.restore import GraphInput
from edgeir.runtime.session import Session
from edgeir.runtime.timing import time_together
from edgeir.spec import INPUT_NAME, OUTPUT_NAME, STATISTICS_INPUT, USE_STATISTICS_INPUT

if TYPE_CHECKING:
    from edgeir.runtime.torch_session import TorchSession

Pixels = NDArray[np.float32]

PARITY_PICTURE = "astronaut"
EXPORT_PICTURES = 2  # an export looks at the first pictures of the set; validate at all of them
# A dynamic graph is compared up to this area: PyTorch's reference form of a network with a key graph takes gigabytes.
_LARGEST_PARITY_PX = 512 * 320
_FORM_ROUNDS = 3
_RATIO_ROUNDS = 5


def check_parity(graphs: Mapping[str, Path], torch: TorchSession, graph: GraphInput) -> list[Parity]:
    """Compare graphs with PyTorch on a real picture, at every size worth a look.

    A static graph is compared at its size; a dynamic one at its smallest, at a size in between that was not traced and
    is not square, and at its greatest height, as wide as `_LARGEST_PARITY_PX` allows.

    A network with a key graph is compared given the engine's choice of neighbours, and by the overlap of the choices:
    two exact runtimes choose differently where two neighbours are almost equally near.

    Args:
        graphs: ONNX files by the name they have in the report; one with functions before one without.
        torch: the reference.
        graph: the batches that the graphs accept.
    """
    from edgeir.calibrate.rounded import rounded
    from edgeir.export.graph import expose_key_graphs

    pictures = {size: _batch_of(measuring_crop(PARITY_PICTURE, *size), graph.batch) for size in parity_sizes(graph)}
    expected = {size: torch.run(batch) for size, batch in pictures.items()}
    rows = []
    chosen: list[str] = []
    for name, path in graphs.items():  # one session at a time: each keeps its working memory for itself
        model, chosen = expose_key_graphs(path, chosen)
        session = OrtSession(rounded(model), arena=False, integer_kernels=False)
        for size, batch in pictures.items():
            outputs = session.run_values({INPUT_NAME: batch} | _of_its_own(session))
            choice = [outputs[key].astype(bool) for key in chosen]
            output = outputs[OUTPUT_NAME].astype(np.float32)
            row = compare_outputs(name, output, expected[size], height=size[0], width=size[1])
            if choice:
                given, overlap = torch.run_with_key_graphs(batch, choice)
                free_db = row.fidelity_db
                row = compare_outputs(name, output, given, height=size[0], width=size[1])
                row = replace(row, key_graph_overlap=overlap, free_fidelity_db=free_db)
            rows.append(row)
        del session
    order = list(pictures)
    return sorted(rows, key=lambda row: order.index((row.height, row.width)))


def _of_its_own(session: OrtSession) -> dict[str, NDArray[np.generic]]:
    """What makes a graph of tiles take its own statistics; nothing for a graph of pictures alone."""
    size = session.input_shapes().get(STATISTICS_INPUT)
    if size is None:
        return {}
    return {STATISTICS_INPUT: np.zeros(size, np.float32), USE_STATISTICS_INPUT: np.array([False])}


def _batch_of(picture: Pixels, batch: int) -> Pixels:
    return np.repeat(nchw_from_hwc(picture), batch, axis=0)


NOT_ROUNDED = "Not rounded as a device does: that takes the ONNX tools. Figures of FP16 are kinder than a GPU's."
"""For a report whose sessions are not `rounding_session`'s."""


def rounding_session(path: Path) -> OrtSession:
    """A session for measuring: every FP16 result is rounded, which ONNX Runtime by itself leaves out on a CPU.

    Raises:
        MissingDependency: the ONNX tools that rewrite the graph for that are not installed.
    """
    try:
        from edgeir.calibrate.rounded import rounded
    except ModuleNotFoundError as error:
        raise MissingDependency(
            "rounding as a device does needs the ONNX tools", fix="Run: pip install 'edgeir[export]'"
        ) from error
    return OrtSession(rounded(path.read_bytes()), arena=False, integer_kernels=False)


def time_forms(forms: Sequence[bytes], graph: GraphInput) -> list[float]:
    """Latency of FP32 graphs in ONNX Runtime on this machine, ms per batch at the optimum: medians of rounds in turn.

    Empty where a picture has more than `_LARGEST_PARITY_PX` pixels: dozens of runs would take minutes.
    """
    if graph.optimum[0] * graph.optimum[1] > _LARGEST_PARITY_PX:
        return []
    return _medians_ms([OrtSession(form, arena=False) for form in forms], graph, _FORM_ROUNDS)


def time_ratio(model: Path, plain: bytes, graph: GraphInput, *, integer_kernels: bool) -> float | None:
    """Time of a file in ONNX Runtime, as it would be run, divided by that of a graph in FP32.

    Medians of rounds in turn; ``None`` where a picture is too large to be timed during an export, as in `time_forms`.
    """
    if graph.optimum[0] * graph.optimum[1] > _LARGEST_PARITY_PX:
        return None
    sessions = [OrtSession(model, arena=False, integer_kernels=integer_kernels), OrtSession(plain, arena=False)]
    of_model, of_plain = _medians_ms(sessions, graph, _RATIO_ROUNDS)
    return of_model / of_plain


def _medians_ms(sessions: Sequence[Session], graph: GraphInput, rounds: int) -> list[float]:
    """Milliseconds per batch at the optimum, of rounds in turn."""
    batch = _batch_of(measuring_crop(PARITY_PICTURE, *graph.optimum), graph.batch)
    runners = {str(index): partial(session.run, batch) for index, session in enumerate(sessions)}
    return [timing.percentile_ms(50) for timing in time_together(runners, rounds=rounds).values()]


def parity_sizes(graph: GraphInput) -> list[tuple[int, int]]:
    """Sizes (H, W) in pixels to compare at."""
    if graph.static:
        return [graph.optimum]
    height = (graph.minimum[0] + graph.optimum[0]) // 2
    width = (graph.optimum[1] + graph.maximum[1]) // 2
    between = (graph.rule.near(height), graph.rule.near(width))
    tallest, widest = graph.maximum
    multiple = graph.rule.multiple
    fitting = max(_LARGEST_PARITY_PX // tallest // multiple * multiple, graph.minimum[1])
    return list(dict.fromkeys((graph.minimum, between, (tallest, min(widest, fitting)))))


def check_drift(
    typed: Session,
    reference: Session,
    graph: GraphInput,
    *,
    pictures: int,
    console: Console,
    own: list[tuple[str, Pixels]] | None = None,
) -> list[PictureDrift]:
    """Drift of ``typed`` against ``reference`` for every validation condition, see `check_drifts`."""
    return check_drifts({"": typed}, reference, graph, pictures=pictures, console=console, own=own)[""]


def check_drifts(
    engines: Mapping[str, Session],
    reference: Session,
    graph: GraphInput,
    *,
    pictures: int,
    console: Console,
    own: list[tuple[str, Pixels]] | None = None,
) -> dict[str, list[PictureDrift]]:
    """Drift of engines against one reference for every validation condition, by the engine's name.

    Args:
        pictures: how many measuring pictures, from the first.
        own: the user's clean pictures instead, of the graph's size times its scale.
    """
    if own is None:
        own = [_measuring_picture(picture.name, graph) for picture in measuring_pictures(pictures)]
    samples = list(degraded_samples(own, VALIDATION_CONDITIONS, scale=graph.scale))
    with console.bar("pictures restored", len(samples)) as advance:
        runs = {name: on_one(session, graph) for name, session in engines.items()}
        return measure_drifts(samples, on_one(reference, graph), runs, on_sample=advance)


def _measuring_picture(name: str, graph: GraphInput) -> tuple[str, Pixels]:
    height, width = graph.optimum
    return name, measuring_crop(name, height * graph.scale, width * graph.scale)


def worst_picture(
    typed: Session,
    reference: Session,
    graph: GraphInput,
    drift: Sequence[PictureDrift],
    *,
    own: Sequence[tuple[str, Pixels]] | None = None,
) -> Comparison:
    """The picture that loses most: its input, what the reference and ``typed`` make of it, and the difference.

    Args:
        typed, reference, graph, own: as `check_drift` had them.
        drift: what it found.
    """
    row = worst_sample(drift)
    clean = dict(own)[row.picture] if own is not None else _measuring_picture(row.picture, graph)[1]
    conditions = [one for one in VALIDATION_CONDITIONS if one.name == row.condition]
    (sample,) = degraded_samples([(row.picture, clean)], conditions, scale=graph.scale)
    batch = sample.batch()
    outputs = [on_one(session, graph)(batch)[0].transpose(1, 2, 0) for session in (reference, typed)]
    return Comparison(
        f"The picture that loses most, {row.picture} under {row.condition} ({row.drift_db:.4f} dB)",
        {name: png_bytes(pixels) for name, pixels in to_lay_over(sample.degraded, *outputs).items()},
    )


def on_one(session: Session, graph: GraphInput) -> Run:
    """A session of a fixed batch as one that takes a single picture."""

    def run(picture: Pixels) -> Pixels:
        return session.run(np.repeat(picture, graph.batch, axis=0))[:1]

    return run


def fit_crop(pixels: Pixels, height: int, width: int) -> Pixels:
    """``(height, width, 3)`` from the middle of the user's picture, mirrored outwards where it is too small."""
    padded = pad_to_at_least(pixels, height, width)
    return middle_of(padded, height, width)
