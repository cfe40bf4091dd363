"""Three stages at once: a thread that reads, the caller's thread that restores, a thread that writes.

PyAV, NumPy and ONNX Runtime let go of Python's lock while they work, so that threads overlap. The network runs in the
caller's thread, which is where Python delivers signals.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from edgeir.video.channel import Channel, Stopped

In = TypeVar("In")
Out = TypeVar("Out")

# Frames that wait between two stages. One hides the jitter of the stages; more would only hold memory.
WAITING = 2
# A stage that was told to stop ends after the frame it works on; a camera that gives none is given up after 10 s.
_ENDING_S = 15.0


def run_overlapped(
    read: Iterable[In],
    restore: Callable[[In], Out],
    write: Callable[[Out], None],
    *,
    drop_oldest: bool = False,
) -> int:
    """Pass every item of ``read`` through ``restore`` into ``write``, in order.

    Args:
        read: iterated in a thread of its own, and closed there if it is a generator.
        restore: called in this thread.
        write: called in a thread of its own.
        drop_oldest: for a camera. What waits for ``restore`` longest is dropped when more comes, and what is restored
            is written even if something else fails then: it will not come again.

    Returns:
        How many items were dropped.

    Raises:
        BaseException: the first that any stage raised, after all of them have ended, or 15 s later.
    """
    incoming: Channel[In] = Channel(1 if drop_oldest else WAITING, drop_oldest=drop_oldest)
    outgoing: Channel[Out] = Channel(WAITING)
    failures: list[BaseException] = []

    def stop() -> None:
        incoming.stop()
        outgoing.stop()

    @contextmanager
    def stage(fail: Callable[[], None]) -> Iterator[None]:
        try:
            yield
        except Stopped:
            pass
        except BaseException as error:
            failures.append(error)
            fail()

    def reader() -> None:
        items = iter(read)
        ending = incoming.close if drop_oldest else stop
        try:
            with stage(ending):
                for item in items:
                    incoming.put(item)
                incoming.close()
        finally:
            with stage(ending):
                close = getattr(items, "close", None)
                if close is not None:
                    close()

    def writer() -> None:
        with stage(stop):
            while True:
                write(outgoing.get())

    # Daemons: a camera that never answers again must not keep the process alive.
    threads = [
        threading.Thread(target=target, name=f"edgeir-{target.__name__}", daemon=True) for target in (reader, writer)
    ]
    try:
        for thread in threads:
            thread.start()
        try:
            while True:
                outgoing.put(restore(incoming.get()))
        except Stopped:
            outgoing.close()
        _join(threads)
    except BaseException as error:
        failures.insert(0, error)
        incoming.stop()
        if drop_oldest:
            outgoing.close()
        else:
            outgoing.stop()
        try:
            _join([thread for thread in threads if thread.ident is not None], at_most_s=_ENDING_S)
        finally:
            outgoing.stop()
    if failures:
        raise failures[0]
    return incoming.dropped


def _join(threads: list[threading.Thread], at_most_s: float = math.inf) -> None:
    end = time.monotonic() + at_most_s
    while any(thread.is_alive() for thread in threads) and time.monotonic() < end:
        for thread in threads:
            thread.join(0.1)  # in steps, so that Ctrl-C is heard meanwhile
