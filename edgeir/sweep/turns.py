"""Whose turn it is on this machine: preparing goes side by side, measuring goes alone.

The locks are files of this user that every sweep here shares, so that two sweeps do not slow each other's latencies.
Who waits to measure stands in the gate meanwhile, so that nobody else begins to prepare: otherwise two that prepare in
turn would keep it waiting for ever.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from edgeir.storage import writing
from edgeir.sweep.isolation import Stopped

_LOOK_S = 0.05


@contextlib.contextmanager
def turn(*, alone: bool, stop: threading.Event | None = None) -> Iterator[None]:
    """Wait until nobody measures, and with ``alone`` until nobody prepares either; hold that for the block.

    Raises:
        Stopped: ``stop`` was set while waiting.
    """
    if sys.platform == "win32":
        yield
        return
    import fcntl

    def take(name: str, kind: int) -> int:
        path = Path(tempfile.gettempdir()) / f"edgeir-{name}-{os.getuid()}.lock"
        with writing(path):
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            while True:
                try:
                    fcntl.flock(handle, kind | fcntl.LOCK_NB)
                    return handle
                except BlockingIOError:
                    if stop is not None and stop.is_set():
                        raise Stopped from None
                    time.sleep(_LOOK_S)
        except BaseException:
            os.close(handle)
            raise

    gate = take("gate", fcntl.LOCK_EX)
    try:
        handle = take("measuring", fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
    finally:
        os.close(gate)
    try:
        yield
    finally:
        os.close(handle)
