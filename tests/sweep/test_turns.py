"""Turns: preparing side by side, measuring alone, and nobody waits for ever."""

from __future__ import annotations

import threading
import time

import pytest

from edgeir.sweep.isolation import Stopped
from edgeir.sweep.turns import turn


def test_preparing_goes_side_by_side() -> None:
    with turn(alone=False), turn(alone=False):
        pass


def test_who_waits_to_measure_goes_before_who_comes_later() -> None:
    order: list[str] = []

    def enter(name: str, alone: bool) -> None:
        with turn(alone=alone):
            order.append(name)
            time.sleep(0.1)

    first = [threading.Thread(target=enter, args=("measure", True))]
    later = [threading.Thread(target=enter, args=("prepare", False)) for _ in range(3)]
    with turn(alone=False):
        first[0].start()
        time.sleep(0.3)
        for thread in later:
            thread.start()
        time.sleep(0.3)
        assert order == []
    for thread in first + later:
        thread.join(20)
    assert order == ["measure", "prepare", "prepare", "prepare"]


@pytest.mark.parametrize("alone", [True, False])
def test_waiting_can_be_stopped(alone: bool) -> None:
    stop = threading.Event()
    with turn(alone=True):
        threading.Timer(0.2, stop.set).start()
        with pytest.raises(Stopped), turn(alone=alone, stop=stop):
            pass
    with turn(alone=True):
        pass
