"""Memory that the processes of a server share: a row of numbers for each, which it alone writes and all may read.

A row is claimed by a lock on one byte of a file without a name. The lock ends with its process, whatever ends that; the
next process takes the row over and counts on from there, so that no sum ever falls. (prometheus-client's own way for
several processes leaves a file behind for each that ends, needs to be told of its end, and is chosen by an environment
variable before it is imported.)
"""

from __future__ import annotations

import fcntl
import mmap
import os
import sys
import tempfile
import threading
from collections.abc import Collection, Iterator

import structlog

log = structlog.get_logger("wallet")

PROCESSES_MAX = 128
_NUMBER_BYTES = 8


class Rows:
    """The rows, made before the server forks. The first number of a row is the id of the process that claimed it."""

    def __init__(self, width: int, *, passing: Collection[int]) -> None:
        """`passing` are the places of what a new process does not take over from the one that ended."""
        self._width = width
        self._passing = passing
        self._file = _nameless_file()
        os.ftruncate(self._file, PROCESSES_MAX * width * _NUMBER_BYTES)
        self._all = memoryview(mmap.mmap(self._file, 0)).cast("d")
        self._claimed_by = 0
        self._own_at: int | None = None
        self._own = self._row(0)
        self.guard = threading.Lock()
        """Held by whoever writes into this process's row."""
        os.register_at_fork(after_in_child=self._free_guard)

    def own(self) -> memoryview[float]:
        """Return this process's row, claimed with the first call after a fork."""
        if self._claimed_by != os.getpid():
            self._claim()
        return self._own

    def all(self) -> Iterator[tuple[int, memoryview[float], int | None]]:
        """Yield the number of each row that is or was claimed, the row, and the id of its process if that lives."""
        for at in range(PROCESSES_MAX):
            row = self._row(at)
            if row[0]:
                yield at, row, int(row[0]) if self._is_claimed(at) else None

    def _claim(self) -> None:
        self._claimed_by, self._own_at = os.getpid(), None
        for at in range(PROCESSES_MAX):
            if self._lock(at):
                self._own_at, self._own = at, self._row(at)
                break
        else:
            log.warning("too_many_processes_to_count", processes_max=PROCESSES_MAX)
            self._own = memoryview(bytearray(self._width * _NUMBER_BYTES)).cast("d")
        for place in self._passing:
            self._own[place] = 0
        self._own[0] = self._claimed_by

    def _free_guard(self) -> None:
        # The thread that held it in the parent is not here.
        self.guard = threading.Lock()

    def _is_claimed(self, at: int) -> bool:
        # A process's locks are no obstacle to itself.
        if at == self._own_at and self._claimed_by == os.getpid():
            return True
        if not self._lock(at):
            return True
        fcntl.lockf(self._file, fcntl.LOCK_UN, 1, at)
        return False

    def _lock(self, at: int) -> bool:
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, at)
        except OSError:
            return False
        return True

    def _row(self, at: int) -> memoryview[float]:
        return self._all[at * self._width : (at + 1) * self._width]


def _nameless_file() -> int:
    if sys.platform == "linux":
        return os.memfd_create("wallet-metrics")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
