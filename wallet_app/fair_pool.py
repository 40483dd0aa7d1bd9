"""A pool of connections that lends them in the order in which they were asked for.

SQLAlchemy's own wakes who has waited longest, but lets whoever comes by before that one runs take the connection: with
all connections busy, some of those who waited were overtaken until their time ran out.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool


class FairPool(QueuePool):
    """A QueuePool of a fixed size, in which nobody is overtaken; it waits `timeout` seconds at most, as that does."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._turns = _Turns(self.size())

    def _do_get(self) -> ConnectionPoolEntry:
        if not self._turns.take(self._timeout):
            raise PoolTimeoutError(f"None of {self.size()} connections was free within {self._timeout} seconds.")
        try:
            return super()._do_get()
        except BaseException:
            self._turns.give()
            raise

    def _do_return_conn(self, record: ConnectionPoolEntry) -> None:
        try:
            super()._do_return_conn(record)
        finally:
            self._turns.give()


class _Turns:
    """So many may have a turn at once; who waits longest is next, and gets the turn from the hand that gives it."""

    def __init__(self, free: int) -> None:
        self._free = free
        self._waiting: deque[threading.Lock] = deque()
        # The garbage collector gives connections back that somebody lost, at any moment and also in here.
        self._lock = threading.RLock()

    def take(self, seconds: float) -> bool:
        """Wait for a turn; return whether there was one in time."""
        mine = threading.Lock()
        mine.acquire()
        with self._lock:
            self._waiting.append(mine)
            self._hand_out()
        try:
            return mine.acquire(timeout=seconds) or not self._leave(mine)
        except BaseException:
            # A greenlet that is ended while it waits.
            if not self._leave(mine):
                self.give()
            raise

    def give(self) -> None:
        """End a turn."""
        with self._lock:
            self._free += 1
            self._hand_out()

    def _hand_out(self) -> None:
        while self._free and self._waiting:
            self._free -= 1
            self._waiting.popleft().release()

    def _leave(self, mine: threading.Lock) -> bool:
        """Wait no longer; return False if the turn came in that very moment."""
        with self._lock:
            if mine not in self._waiting:
                return False
            self._waiting.remove(mine)
            return True
