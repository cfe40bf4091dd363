"""What every runtime offers: batches of pictures in, batches of pictures out."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Pictures = NDArray[np.float32]
Bytes = NDArray[np.uint8]
Filled = tuple[Pictures, int]
"""A batch, and how many pictures at its beginning are real."""


class Session(Protocol):
    """An opened network, ready to run."""

    @property
    def name(self) -> str:
        """Runtime, version and device, for reports: ``"onnxruntime 1.31.1 CPU"``."""
        ...

    def run(self, pictures: Pictures) -> Pictures:
        """Restore a batch: ``(N, 3, H, W) float32 in [0, 1], RGB -> (N, 3, s*H, s*W) float32``, not clipped."""
        ...


@runtime_checkable
class OverlappingSession(Session, Protocol):
    """A session that copies one batch while it executes another."""

    def run_many(self, batches: Iterable[Pictures]) -> Iterator[Pictures]:
        """`Session.run` of each batch, in order; at most two are taken before the one ahead of them is given."""
        ...


@runtime_checkable
class FilledSession(Session, Protocol):
    """A session that wants to know how many pictures of a batch are real, and how many only fill it up."""

    def run_filled(self, batches: Iterable[Filled]) -> Iterator[Pictures]:
        """What `run_filled` gives for this session."""
        ...


@runtime_checkable
class ClosableSession(Session, Protocol):
    """A session that holds what has to be given back, such as memory of a GPU."""

    def close(self) -> None:
        """Give everything back; the session cannot be used any more."""
        ...


def run_many(session: Session, batches: Iterable[Pictures]) -> Generator[Pictures]:
    """Restore batch after batch, overlapped where the session can: as many outputs, in order.

    Args:
        session: any.
        batches: ``(N, 3, H, W) float32`` each; sizes may differ. Taken one by one, up to two ahead of what is given.
    """
    if isinstance(session, OverlappingSession):
        yield from session.run_many(batches)
    else:
        for pictures in batches:
            yield session.run(pictures)


def run_filled(session: Session, batches: Iterable[Filled]) -> Generator[Pictures]:
    """As `run_many`, for batches of a fixed size that pictures may only fill up: the real ones alone come back.

    Args:
        session: any.
        batches: ``(N, 3, H, W) float32`` and the real ones among them, 1 to N, each.

    Yields:
        ``(real, 3, s*H, s*W) float32``.
    """
    if isinstance(session, FilledSession):
        yield from session.run_filled(batches)
        return
    real: deque[int] = deque()

    def remembered() -> Iterator[Pictures]:
        for pictures, count in batches:
            real.append(count)
            yield pictures

    for restored in run_many(session, remembered()):
        yield restored[: real.popleft()]


@contextmanager
def closing(session: Session) -> Iterator[Session]:
    """Close a session at the end of a block, where it has anything to close."""
    try:
        yield session
    finally:
        if isinstance(session, ClosableSession):
            session.close()
