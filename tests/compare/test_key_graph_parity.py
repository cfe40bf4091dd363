"""Parity of micro networks with PyTorch, with and without a choice of neighbours in them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from edgeir.cli.measuring import check_parity
from edgeir.cli.verdicts import parity_table
from edgeir.imaging.measuring import measuring_crop
from edgeir.models import fused
from edgeir.runtime.restore import GraphInput
from edgeir.runtime.torch_session import TorchSession


def graph_of(micro: Any) -> GraphInput:
    size = (micro.shape.height, micro.shape.width)
    return GraphInput(1, size, size, size, micro.loaded.spec.size)


def test_parity_of_a_network_without_key_graph(micro: Callable[..., Any]) -> None:
    exda = micro("exda")
    (row,) = check_parity({"reference.onnx": exda.path}, TorchSession(exda.loaded), graph_of(exda))
    assert row.key_graph_overlap is None
    # Float32 rounding of a few hundred operations on values of order 1: about 1e-6 each.
    assert row.fidelity_db >= 100 and row.max_abs <= 1e-4


def test_parity_of_a_network_that_chooses_neighbours(micro: Callable[..., Any]) -> None:
    kgt = micro("kgt")
    (row,) = check_parity({"reference.onnx": kgt.path}, TorchSession(kgt.loaded), graph_of(kgt))
    assert row.key_graph_overlap is not None and row.key_graph_overlap >= 0.99
    assert row.free_fidelity_db is not None
    assert row.fidelity_db >= 100 and row.max_abs <= 1e-4
    assert "key graph overlap" in parity_table([row]).columns


def test_another_choice_of_neighbours_is_found(micro: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a choice that is not its own, PyTorch follows it, and the overlap says so."""
    kgt = micro("kgt")
    session = TorchSession(kgt.loaded)
    picture = measuring_crop("astronaut", kgt.shape.height, kgt.shape.width).transpose(2, 0, 1)[None]
    own: list[np.ndarray] = []
    original = fused.key_graph

    def recorded(tokens: torch.Tensor, k: int) -> torch.Tensor:
        own.append(original(tokens, k).numpy())
        return original(tokens, k)

    monkeypatch.setattr(fused, "key_graph", recorded)
    kgt.loaded.module.set_form("fast")
    with torch.inference_mode():
        kgt.loaded.module(torch.from_numpy(picture.copy()))
    monkeypatch.undo()
    same, overlap = session.run_with_key_graphs(picture, own)
    assert overlap == 1.0
    other, less = session.run_with_key_graphs(picture, [np.ones_like(graph) for graph in own])
    assert less < 0.9
    assert np.abs(same - other).max() > 1e-4
