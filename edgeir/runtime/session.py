"""What every runtime offers: batches of pictures in, batches of pictures out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Pictures = NDArray[np.float32]
Bytes = NDArray[np.uint8]


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
        """`Session.run` of each batch, in order; a batch is taken before the one ahead of it is given."""
        ...


@runtime_checkable
class ClosableSession(Session, Protocol):
    """A session that holds what has to be given back, such as memory of a GPU."""

    def close(self) -> None:
        """Give everything back; the session cannot be used any more."""
        ...


def run_many(session: Session, batches: Iterable[Pictures]) -> Iterator[Pictures]:
    """Restore batch after batch, overlapped where the session can: as many outputs, in order.

    Args:
        session: any.
        batches: ``(N, 3, H, W) float32`` each; sizes may differ. Taken one by one, up to one ahead of what was given.
    """
    if isinstance(session, OverlappingSession):
        yield from session.run_many(batches)
    else:
        for pictures in batches:
            yield session.run(pictures)


@contextmanager
def closing(session: Session) -> Iterator[Session]:
    """Close a session at the end of a block, where it has anything to close."""
    try:
        yield session
    finally:
        if isinstance(session, ClosableSession):
            session.close()
