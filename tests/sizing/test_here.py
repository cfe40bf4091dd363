"""This machine as a device: plausible, and of its own memory."""

from __future__ import annotations

import dataclasses

import pytest

from edgeir.errors import MissingDependency
from edgeir.runtime.board import board_state
from edgeir.sizing import here
from edgeir.sizing.here import this_machine


def test_this_machine() -> None:
    found = this_machine()
    (mode,) = found.modes
    assert 0 < found.memory_bytes <= (board_state().memory_bytes or 0)
    assert 1e8 < mode.rates.fp32 == mode.rates.fp16 == mode.rates.int8 < 1e14
    assert 1e8 < mode.bandwidth < 1e13


def test_a_container_leaves_less(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(here, "_ROUNDS", 1)
    monkeypatch.setattr(here, "memory_limit_bytes", lambda: 1 << 28)
    assert this_machine().memory_bytes == 1 << 28
    monkeypatch.setattr(here, "memory_limit_bytes", lambda: 1 << 59)
    assert this_machine().memory_bytes == board_state().memory_bytes


def test_unknown_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    unknown = dataclasses.replace(board_state(), memory_bytes=None)
    monkeypatch.setattr(here, "board_state", lambda: unknown)
    with pytest.raises(MissingDependency, match=r"memory of this machine is not known.*--for orin-nx-8gb"):
        this_machine()
