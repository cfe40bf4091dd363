"""A bounded queue between two threads that can be stopped from either end, so that nothing waits for ever."""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")

# A wait without an end cannot be interrupted by Ctrl-C everywhere; this is how long one step of it takes.
_STEP_S = 0.1


class Stopped(Exception):
    """The other side wants no more, or gives none."""


class Channel(Generic[T]):
    """Items in order from one thread to another.

    Args:
        capacity: how many items may wait.
        drop_oldest: when full, drop the item that waits longest rather than wait for room.
    """

    def __init__(self, capacity: int, *, drop_oldest: bool = False) -> None:
        self._items: deque[T] = deque()
        self._capacity = capacity
        self._drop_oldest = drop_oldest
        self._changed = threading.Condition()
        self._closed = False
        self._stopped = False
        self._dropped = 0

    @property
    def dropped(self) -> int:
        """How many items were dropped."""
        return self._dropped

    def put(self, item: T) -> None:
        """Add an item, waiting for room; raises `Stopped` once the other side has stopped."""
        with self._changed:
            while len(self._items) >= self._capacity and not self._stopped:
                if self._drop_oldest:
                    self._items.popleft()
                    self._dropped += 1
                else:
                    self._changed.wait(_STEP_S)
            if self._stopped:
                raise Stopped
            self._items.append(item)
            self._changed.notify_all()

    def get(self) -> T:
        """The next item, waiting for one; raises `Stopped` when there will be none."""
        with self._changed:
            while not self._items and not self._closed and not self._stopped:
                self._changed.wait(_STEP_S)
            if self._stopped or not self._items:
                raise Stopped
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    def close(self) -> None:
        """No more items come; those that wait are still given."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def stop(self) -> None:
        """Give and take nothing any more."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
