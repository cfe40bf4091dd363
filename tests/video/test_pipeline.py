"""Three stages at once: order, bounds, errors of every stage, signals, and that nothing waits for ever."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator

import pytest

from edgeir.video import pipeline
from edgeir.video.channel import Channel, Stopped
from edgeir.video.pipeline import WAITING, run_overlapped

pytestmark = pytest.mark.timeout(60)


def stage_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("edgeir-")]


def test_order_and_nothing_left() -> None:
    written: list[int] = []
    assert run_overlapped(range(50), lambda value: value * 2, written.append) == 0
    assert written == [value * 2 for value in range(50)]
    assert stage_threads() == []


def test_nothing_to_do() -> None:
    written: list[int] = []
    run_overlapped([], lambda value: value, written.append)
    assert written == []


def test_only_a_few_are_held() -> None:
    """A slow writer holds the reader up: what is read and not yet written is bounded."""
    read, written, most = 0, 0, 0

    def source() -> Iterator[int]:
        nonlocal read, most
        for value in range(40):
            read += 1
            most = max(most, read - written)
            yield value

    def write(_: int) -> None:
        nonlocal written
        time.sleep(0.002)
        written += 1

    run_overlapped(source(), lambda value: value, write)
    assert written == 40
    assert most <= 2 * WAITING + 3  # two queues, and one frame in the hands of each stage


def test_stages_overlap() -> None:
    """Three stages of 20 ms take the time of one of them, not of all."""

    def source() -> Iterator[int]:
        for value in range(15):
            time.sleep(0.02)
            yield value

    def slow(value: int) -> int:
        time.sleep(0.02)
        return value

    started = time.perf_counter()
    run_overlapped(source(), slow, lambda _: time.sleep(0.02))
    assert time.perf_counter() - started < 15 * 0.06 * 0.8  # one after the other: 0.9 s


@pytest.mark.parametrize("stage", ["read", "restore", "write"])
def test_an_error_of_any_stage_ends_all(stage: str) -> None:
    closed = False

    def source() -> Iterator[int]:
        nonlocal closed
        try:
            for value in range(1000):
                if stage == "read" and value == 7:
                    raise ValueError("read")
                yield value
        finally:
            closed = True

    def restore(value: int) -> int:
        if stage == "restore" and value == 7:
            raise ValueError("restore")
        return value

    written: list[int] = []

    def write(value: int) -> None:
        if stage == "write" and value == 7:
            raise ValueError("write")
        written.append(value)

    with pytest.raises(ValueError, match=stage):
        run_overlapped(source(), restore, write)
    assert closed
    assert written == list(range(len(written)))
    assert len(written) <= 7
    assert stage_threads() == []


def test_ctrl_c_in_the_network_ends_all() -> None:
    def restore(value: int) -> int:
        if value == 3:
            raise KeyboardInterrupt
        return value

    with pytest.raises(KeyboardInterrupt):
        run_overlapped(range(10**6), restore, lambda _: None)
    assert stage_threads() == []


@pytest.mark.parametrize("stage", ["read", "restore"])
def test_what_a_camera_gave_is_written_whatever_fails_then(stage: str) -> None:
    """It will not come again: what is restored when Ctrl-C or an error comes is written all the same."""
    restored: list[int] = []
    written: list[int] = []

    def source() -> Iterator[int]:
        for value in range(4):
            yield value
            while len(restored) <= value:  # none is dropped
                time.sleep(0.001)
        if stage == "read":
            raise ValueError("unplugged")
        yield 4

    def restore(value: int) -> int:
        if value == 4:
            raise KeyboardInterrupt
        restored.append(value)
        return value

    def write(value: int) -> None:
        time.sleep(0.05)
        written.append(value)

    with pytest.raises((ValueError, KeyboardInterrupt)):
        run_overlapped(source(), restore, write, drop_oldest=True)
    assert restored == [0, 1, 2, 3]
    assert written == restored
    assert stage_threads() == []


def test_a_camera_whose_writer_fails_ends_all() -> None:
    def write(value: int) -> None:
        raise ValueError("write")

    with pytest.raises(ValueError, match="write"):
        run_overlapped(itertools.count(), lambda value: value, write, drop_oldest=True)
    assert stage_threads() == []


def test_a_camera_is_waited_for_longer_than_it_may_be_silent() -> None:
    pytest.importorskip("av", reason="PyAV is not installed: pip install 'edgeir[video]'")
    from edgeir.video.camera import _TIMEOUT_S

    assert pipeline._ENDING_S > _TIMEOUT_S


def test_what_waits_longest_is_dropped() -> None:
    """A camera does not wait: the network gets the newest picture."""
    given = threading.Event()

    def source() -> Iterator[int]:
        yield 0
        given.wait(5)
        yield from range(1, 20)

    def restore(value: int) -> int:
        if value == 0:
            given.set()
            time.sleep(0.3)
        return value

    written: list[int] = []
    dropped = run_overlapped(source(), restore, written.append, drop_oldest=True)
    assert written[0] == 0
    assert written[-1] == 19
    assert len(written) + dropped == 20
    assert dropped >= 15


def test_a_stopped_channel_lets_everybody_go() -> None:
    channel: Channel[int] = Channel(1)
    channel.put(1)
    ended: list[str] = []

    def waiting() -> None:
        try:
            channel.put(2)
        except Stopped:
            ended.append("put")

    thread = threading.Thread(target=waiting)
    thread.start()
    time.sleep(0.02)
    channel.stop()
    thread.join(5)
    assert ended == ["put"]
    with pytest.raises(Stopped):
        channel.get()


def test_a_closed_channel_gives_what_it_holds() -> None:
    channel: Channel[int] = Channel(3)
    channel.put(1)
    channel.put(2)
    channel.close()
    assert [channel.get(), channel.get()] == [1, 2]
    with pytest.raises(Stopped):
        channel.get()
