"""A graph cut into pieces gives what the whole graph gives, and keeps no value longer than it is read."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from benchmarks.segments import run_in_segments, segments
from edgeir.calibrate.fp16 import plan_fp16
from edgeir.calibrate.rounded import rounded
from edgeir.calibrate.typed import apply_plan
from edgeir.runtime.ort_session import OrtSession


@pytest.fixture(scope="module")
def typed(micro: Callable[..., object]) -> bytes:
    graph = micro("exda").graph()  # type: ignore[attr-defined]
    apply_plan(graph, plan_fp16(graph))
    return rounded(ir.to_proto(graph).SerializeToString())


@pytest.mark.parametrize("nodes", [1, 7, 10**6])
def test_pieces_give_what_the_whole_gives(typed: bytes, micro: Callable[..., object], nodes: int) -> None:
    picture = micro("exda").picture()  # type: ignore[attr-defined]
    whole = OrtSession(typed, integer_kernels=False).run(picture)
    output = run_in_segments(list(segments(typed, nodes=nodes)), picture, threads=1)
    # ONNX Runtime sums a fused piece in another order: a result may round to the next FP16 number, 2^-10 below 2.
    np.testing.assert_allclose(output, whole, rtol=0, atol=2**-10)


def test_every_value_is_given_back_after_its_last_reader(typed: bytes) -> None:
    pieces = list(segments(typed, nodes=20))
    assert len(pieces) == -(-len(onnx.load_model_from_string(typed).graph.node) // 20)
    for place, piece in enumerate(pieces):
        assert set(piece.last) <= set(piece.reads)
        later = {name for after in pieces[place + 1 :] for name in after.reads}
        assert not later & set(piece.last)
        assert set(piece.reads) - set(piece.last) <= later
