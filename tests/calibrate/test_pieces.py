"""A graph cut into pieces gives what the whole graph gives, and no value is kept longer than it is read."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from edgeir.calibrate.fp16 import plan_fp16
from edgeir.calibrate.pieces import Piece, cut, run_pieces
from edgeir.calibrate.rounded import rounded
from edgeir.calibrate.typed import apply_plan
from edgeir.runtime.ort_session import OrtSession
from edgeir.spec import OUTPUT_NAME


def run(pieces: list[Piece], picture: np.ndarray) -> np.ndarray:
    values = run_pieces(pieces, picture, threads=1)
    assert list(values) == [OUTPUT_NAME]
    return values[OUTPUT_NAME]


@pytest.mark.parametrize("pieces", [1, 7, 10**6])
def test_pieces_give_what_the_whole_gives(pieces: int, micro: Any) -> None:
    graph = micro("exda").graph()
    apply_plan(graph, plan_fp16(graph))
    typed = rounded(ir.to_proto(graph).SerializeToString())
    picture = micro("exda").picture()
    whole = OrtSession(typed, threads=1, integer_kernels=False).run(picture)
    # ONNX Runtime sums a fused piece in another order: a result may round to the next FP16 number, 2^-10 below 2.
    np.testing.assert_allclose(run(cut(typed, pieces=pieces), picture), whole, rtol=0, atol=2**-10)


@pytest.mark.parametrize("architecture", ["exda", "cea", "kgt"])
def test_functions_are_inlined(architecture: str, micro: Any) -> None:
    network = micro(architecture)
    model = ir.to_proto(network.graph()).SerializeToString()
    whole = OrtSession(model, threads=1, integer_kernels=False).run(network.picture())
    pieces = cut(model, pieces=5)
    assert len(pieces) == 5
    assert not any(piece.model.functions for piece in pieces)
    assert bool(onnx.load_model_from_string(model).functions) == (architecture != "cea")  # it has no fused op
    # float32 sums in another order; a key graph chooses otherwise on a tie.
    atol = 0.05 if architecture == "kgt" else 1e-4
    np.testing.assert_allclose(run(pieces, network.picture()), whole, rtol=0, atol=atol)


def test_every_value_is_given_back_after_its_last_reader(micro: Any) -> None:
    pieces = cut(ir.to_proto(micro("exda").graph()).SerializeToString(), pieces=9)
    for place, piece in enumerate(pieces):
        later = {name for behind in pieces[place + 1 :] for name in behind.reads}
        assert set(piece.last) <= set(piece.reads)
        assert not later & set(piece.last)
        assert set(piece.reads) - set(piece.last) <= later
